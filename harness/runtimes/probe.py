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
from harness.errors import EnvironmentProblem, HarnessError
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import open_session

OPEN_S = 120.0
RUN_S = 60.0
_MISSING_LIBRARY = re.compile(r"(lib[\w+-]+\.so[\w.]*): cannot open shared object file")
#: Opset and IR version that every supported ONNX Runtime (from 1.20) reads.
_OPSET, _IR_VERSION = 17, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """What opening a session on a provider showed."""

    facts: SessionFacts
    placed: int | None
    """Nodes of the small model on the provider; None if this ONNX Runtime does not tell."""
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
        raise _unusable(resolved, error.what, error.got) from None
    with session:
        facts, log = session.facts, session.log_tail()
        if provider.ep not in facts.providers:
            raise _unusable(resolved, f"the session got {list(facts.providers)}", log)
        session.run({"x": np.ones((2, 4), dtype=np.float32)}, limit_s=RUN_S)
    if facts.placement is None:
        return ProviderStatus(facts=facts, placed=None, total=0)
    placement = Placement(provider=provider.ep, nodes=facts.placement)
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


def _unusable(resolved: Resolved, cause: str, log: str) -> EnvironmentProblem:
    provider, runtime = resolved.provider, resolved.runtime
    msg = f"{provider.ep} was requested but is not usable: {cause}"
    return EnvironmentProblem(
        msg,
        code="provider.unavailable",
        where=f"provider '{resolved.name}', runtime '{runtime.name}' ({runtime.python})",
        expected=f"a session on {provider.ep}",
        got=log,
        next_step=_advice(provider.hint, log),
    )


def _advice(hint: str, log: str) -> str:
    missing = _MISSING_LIBRARY.search(log)
    if missing:
        return (
            f"library '{missing[1]}' is missing: install it (for CUDA and cuDNN: "
            'pip install "onnxruntime-gpu[cuda,cudnn]"), or leave this provider out'
        )
    return hint or "see docs/providers.md"
