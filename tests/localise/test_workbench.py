"""What trusted arithmetic does with graphs that ONNX Runtime's CPU provider cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from harness.domain.project import ProjectSettings
from harness.domain.session import CPU_PROVIDER, SessionConfig
from harness.evidence import Evidence, Selection
from harness.localise.workbench import Deadline, Setup, Trusted, Workbench
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from tests.localise.graphs import SIZE, built

WHOLE = np.arange(SIZE, dtype=np.float32)[None, :]


def in_uint16(operator: str) -> onnx.ModelProto:
    """Return a model that computes in a type for which few kernels exist."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=onnx.TensorProto.UINT16),
        helper.make_node(operator, ["a", "a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    return built(nodes, "y")


def test_reference_evaluator_runs_what_the_cpu_provider_cannot(
    tmp_path: Path, launcher: LocalLauncher
) -> None:
    """Max has no kernel for uint16 there, Add has one; the name tells which arithmetic it was."""
    runtimes = Runtimes(ProjectSettings(), tmp_path, tmp_path / "runtimes", launcher)
    selection = Selection(models={})
    evidence = Evidence(
        selection, runtimes=runtimes, launcher=launcher, cache=tmp_path, say=lambda _: None
    )
    config = SessionConfig(provider=CPU_PROVIDER, optimization="disabled")
    setup = Setup(resolved=runtimes.resolve("cpu"), config=config)
    names = []
    for operator, expected in (("Add", 2 * WHOLE), ("Max", WHOLE)):
        path = tmp_path / f"{operator}.onnx"
        path.write_bytes(in_uint16(operator).SerializeToString())
        bench = Workbench(
            evidence.tools(),
            path,
            limits_s=(60.0, 60.0),
            deadline=Deadline(60.0),
            folder=tmp_path,
        )
        trusted = Trusted(bench, setup)
        np.testing.assert_array_equal(trusted.run(path, {"x": WHOLE})["y"], expected)
        names.append(trusted.name)
    evidence.close()
    assert names == [
        "ONNX Runtime on the CPU with every optimisation off",
        "the ONNX reference evaluator",
    ]
