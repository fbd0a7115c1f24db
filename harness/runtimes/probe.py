"""Whether a provider really works: a small model is opened on it in a worker, and run."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness.domain.placement import Placement
from harness.domain.session import SessionConfig, SessionFacts
from harness.domain.values import Values
from harness.errors import EnvironmentProblem, HarnessError
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import open_session, profile_placement

OPEN_S = 120.0
RUN_S = 60.0
_MISSING_LIBRARY = re.compile(r"(lib[\w+-]+\.so[\w.]*): cannot open shared object file")
#: A plugin library that was registered, yet finds no device of its kind.
NO_DEVICE = "provider.no-device"
_NO_DEVICE_HINT = (
    "the library found no hardware of its kind: check the machine and its drivers against what "
    "the plugin supports, or leave this provider out"
)
#: Opset and IR version that every supported ONNX Runtime (from 1.20) reads.
_OPSET, _IR_VERSION = 17, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """What opening a session on a provider showed."""

    facts: SessionFacts
    placed: int
    """Nodes of the small model on the provider: as recorded, else as one profiled run shows."""
    total: int


def session_config(resolved: Resolved) -> SessionConfig:
    """Return the plain config of a provider, without any model's settings."""
    provider = resolved.provider
    return SessionConfig(
        provider=provider.ep,
        options=provider.options,
        plugin=provider.plugin,
        preload=provider.preload,
    )


def check_provider(launcher: Launcher, resolved: Resolved) -> ProviderStatus:
    """Open and run a small model on the provider.

    Raises:
        HarnessError: If the session did not get the provider, or could not be opened or run;
            code `provider.unavailable` with the cause as the worker's log tells it.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "probe.onnx"
        onnx.save(small_model(), model)
        return _check(launcher, resolved, model)


def _check(launcher: Launcher, resolved: Resolved, model: Path) -> ProviderStatus:
    provider = resolved.provider
    try:
        session = open_session(
            launcher,
            resolved.runtime,
            session_config(resolved),
            model,
            fork=provider.forks,
            limit_s=OPEN_S,
        )
    except HarnessError as error:
        raise _unusable(resolved, error.what, error.got, code=error.code) from None
    feeds: Values = {"x": np.ones((2, 4), dtype=np.float32)}
    with session:
        facts, log = session.facts, session.log_tail()
        if provider.ep not in facts.providers:
            raise _unusable(resolved, f"the session got {list(facts.providers)}", log)
        session.run(feeds, limit_s=RUN_S)
    nodes = facts.placement
    if nodes is None:
        config, fork = session_config(resolved), provider.forks
        nodes = profile_placement(
            launcher, resolved.runtime, config, model, feeds, fork=fork, limit_s=OPEN_S
        )
    placement = Placement(provider=provider.ep, nodes=nodes)
    return ProviderStatus(facts=facts, placed=placement.placed, total=placement.total)


def small_model() -> onnx.ModelProto:
    """Return a model of two operators that every provider with kernels should take."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.ones(12, dtype=np.float32))
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="matmul"),
            helper.make_node("Relu", ["h"], ["y"], name="relu"),
        ],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [weight],
    )
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)


def missing_library(log: str) -> str:
    """Return the library that a worker's log says could not be loaded, or nothing."""
    missing = _MISSING_LIBRARY.search(log)
    return missing[1] if missing else ""


def _unusable(resolved: Resolved, cause: str, log: str, code: str = "") -> EnvironmentProblem:
    provider, runtime = resolved.provider, resolved.runtime
    msg = f"{provider.ep} was requested but is not usable: {cause}"
    return EnvironmentProblem(
        msg,
        code=code if code == NO_DEVICE else "provider.unavailable",
        where=f"provider '{resolved.name}', runtime '{runtime.name}' ({runtime.python})",
        expected=f"a session on {provider.ep}",
        got=log,
        next_step=_NO_DEVICE_HINT if code == NO_DEVICE else _advice(provider.hint, log),
    )


def _advice(hint: str, log: str) -> str:
    missing = missing_library(log)
    if missing:
        return (
            f"library '{missing}' is missing: install it (for CUDA and cuDNN: "
            'pip install "onnxruntime-gpu[cuda,cudnn]"), or leave this provider out'
        )
    return hint or "see docs/providers.md"
