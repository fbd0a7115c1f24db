"""An ONNX Runtime session as the harness sees it: opened in a worker, fed with values."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.domain.encoding import decode_all, encode, encode_all
from harness.domain.regression import NodeTime
from harness.domain.session import NodeInfo, Port, SessionConfig, SessionFacts
from harness.domain.values import Value, Values
from harness.errors import RunFailed
from harness.runtimes.launchers import INFERENCE, Launcher
from harness.runtimes.registry import Runtime
from harness.runtimes.workers import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What one run gave."""

    outputs: dict[str, Value]
    """By output name, in the model's order."""
    run_ms: float
    """Wall time inside the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Timed calls that followed each other."""

    wall_ns: npt.NDArray[np.int64]
    """Wall time of each, shape [calls]."""
    waited_ns: npt.NDArray[np.int64]
    """How long of that the calling thread was ready to run but another process had the core; zero
    where the kernel does not tell."""

    @property
    def own_ns(self) -> npt.NDArray[np.int64]:
        """Return the wall time without the waiting."""
        return np.where(self.waited_ns < self.wall_ns, self.wall_ns - self.waited_ns, self.wall_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What callers at once did."""

    calls_ns: npt.NDArray[np.int64]
    """Wall time of every call, one caller's after the other's, shape [calls]."""
    per_s: float
    """Calls per second, summed over callers, each over its own time."""


class Session:
    """One session in a worker of its own."""

    def __init__(self, worker: Worker, facts: SessionFacts) -> None:
        self._worker = worker
        self.facts = facts

    @property
    def alive(self) -> bool:
        """Return whether the worker still answers."""
        return self._worker.alive

    @property
    def pid(self) -> int:
        """Return the worker's process number."""
        return self._worker.pid

    def run(self, feeds: Values, *, limit_s: float) -> RunResult:
        """Run the session once.

        Args:
            feeds: Input values by name.
            limit_s: Seconds before the worker is killed.

        Raises:
            RunFailed: If ONNX Runtime refused, or changed its providers in the middle.
            WorkerDied: If the worker crashed or was too slow.
        """
        described, buffers = encode_all(feeds)
        reply, data = self._worker.request(
            "run", {"feeds": described}, buffers, limit_s=limit_s, doing="running the model"
        )
        if tuple(reply["providers"]) != self.facts.providers:
            msg = "ONNX Runtime re-created the session on other providers in the middle of a run"
            raise RunFailed(
                msg,
                code="session.fallback",
                expected=str(list(self.facts.providers)),
                got=str(reply["providers"]),
            )
        return RunResult(outputs=_decoded(reply, data), run_ms=reply["run_ns"] / 1e6)

    def bind(
        self, sets: Sequence[Values], *, limit_s: float, device: tuple[str, int] | None = None
    ) -> float:
        """Bind sets of inputs for timed runs; each is run once. Return what the first took, ms.

        Args:
            sets: Inputs that take turns.
            limit_s: Seconds before the worker is killed.
            device: Kind and number of the device whose memory holds inputs and outputs, as ONNX
                Runtime's `OrtValue` names it; None for the host's.

        Raises:
            RunFailed: If ONNX Runtime refused, or an input cannot be bound.
            WorkerDied: If the worker crashed or was too slow.
        """
        described, buffers = _described(sets)
        doing = "binding inputs for timed runs"
        reply, _ = self._worker.request(
            "bind",
            {"sets": described, "device": device},
            buffers,
            limit_s=limit_s,
            doing=doing,
        )
        return float(reply["first_ns"]) / 1e6

    def time(self, calls: int, *, limit_s: float, drops_first: bool = True) -> Slot:
        """Run `calls` times on the bound sets in turn, after one call that does not count.

        Args:
            calls: How many are timed.
            limit_s: Seconds before the worker is killed.
            drops_first: Whether there is that call: another process ran before it, and has left
                its data in the caches.

        Raises:
            RunFailed: If ONNX Runtime refused.
            WorkerDied: If the worker crashed or was too slow.
        """
        fields = {"calls": calls, "drops": int(drops_first)}
        _, data = self._worker.request("time", fields, [], limit_s=limit_s, doing="timed runs")
        wall, waited = (np.frombuffer(part, dtype=np.int64) for part in data)
        return Slot(wall_ns=wall, waited_ns=waited)

    def timed_outputs(self, which: int, *, limit_s: float) -> dict[str, Value]:
        """Return the tensors that the last timed run of a bound set gave."""
        fields = {"set": which}
        reply, data = self._worker.request(
            "timed_outputs", fields, [], limit_s=limit_s, doing="reading outputs of timed runs"
        )
        return _decoded(reply, data)

    def memory_bytes(self, *, limit_s: float) -> int:
        """Return the worker's greatest resident memory so far, above that before the session.

        Zero where the system does not tell.
        """
        reply, _ = self._worker.request(
            "memory", {}, [], limit_s=limit_s, doing="asking for memory"
        )
        return int(reply["grown_bytes"])

    def crowd(
        self,
        sets: Sequence[Values],
        *,
        callers: int,
        sessions: int,
        window_s: float,
        limit_s: float,
    ) -> Crowd:
        """Let callers run at once, each in a thread and with inputs bound for it alone.

        Args:
            sets: Inputs that take turns, the same for each caller.
            callers: How many.
            sessions: How many sessions they share in turn: this one and others made like it.
            window_s: How long they call; calls that began in time are finished.
            limit_s: Seconds before the worker is killed.

        Raises:
            RunFailed: If ONNX Runtime refused, or an input cannot be bound.
            WorkerDied: If the worker crashed or was too slow.
        """
        described, buffers = _described(sets)
        fields = {
            "sets": described,
            "callers": callers,
            "sessions": sessions,
            "window_ns": round(window_s * 1e9),
        }
        reply, data = self._worker.request(
            "crowd", fields, buffers, limit_s=limit_s, doing=f"{callers} callers at once"
        )
        rates = [calls / took_ns * 1e9 for calls, took_ns in reply["callers"]]
        return Crowd(calls_ns=np.frombuffer(data[0], dtype=np.int64), per_s=sum(rates))

    def cycle(self, sets: Sequence[Values], *, limit_s: float) -> int:
        """Make another session like this one, run it on every set and delete it.

        Returns the worker's resident memory afterwards, bytes; 0 where the system does not tell.

        Raises:
            RunFailed: If ONNX Runtime refused, or an input cannot be bound.
            WorkerDied: If the worker crashed or was too slow.
        """
        described, buffers = _described(sets)
        reply, _ = self._worker.request(
            "cycle", {"sets": described}, buffers, limit_s=limit_s, doing="making a session again"
        )
        return int(reply["resident_bytes"])

    def profile(self, counted: Sequence[int] | None, *, limit_s: float) -> tuple[NodeTime, ...]:
        """End profiling and return the time of every node that ran.

        Args:
            counted: Numbers of the runs that count, from 0; None for all.
            limit_s: Seconds before the worker is killed.

        Raises:
            RunFailed: If the profile cannot be read, or holds none of these runs.
            WorkerDied: If the worker crashed or was too slow.
        """
        fields = {} if counted is None else {"counted": list(counted)}
        reply, _ = self._worker.request("profile", fields, [], limit_s=limit_s, doing="profiling")
        return tuple(_node_time(row) for row in reply["nodes"])

    def log_tail(self) -> str:
        """Return the last lines of the worker's log."""
        return self._worker.log_tail()

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def end(self) -> None:
        """End the worker, and wait until its memory is free."""
        self._worker.end()

    def __enter__(self) -> Session:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def _described(sets: Sequence[Values]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return wire values of sets of inputs, and the buffers that they point at."""
    buffers: list[Any] = []
    described = [{name: encode(value, buffers) for name, value in feeds.items()} for feeds in sets]
    return described, buffers


def open_session(
    launcher: Launcher,
    runtime: Runtime,
    config: SessionConfig,
    model: Path,
    *,
    fork: bool,
    limit_s: float,
    optimized_file: Path | None = None,
    cores: Sequence[int] = (),
    layout: int | None = None,
    profile_prefix: str = "",
) -> Session:
    """Open `model` in a new worker of `runtime`.

    Args:
        launcher: Where workers are started.
        runtime: The interpreter with its ONNX Runtime build.
        config: Provider, options, threads, optimisation.
        model: File; opened by path, so that models above 2 GB work.
        fork: Whether the provider allows forked workers.
        limit_s: Seconds before the worker is killed.
        optimized_file: Where ONNX Runtime writes the graph as it optimised it; the facts then
            name the optimisers that changed it.
        cores: Processor numbers that the worker may use; empty for all.
        layout: Seed of where the worker's memory lies; None leaves it where the fork server's is.
        profile_prefix: How the file begins that ONNX Runtime's profiler writes; empty for none.

    Raises:
        RunFailed: If ONNX Runtime refused the model or the options.
        WorkerDied: If opening crashed or took too long.
        EnvironmentProblem: If the runtime is broken.
    """
    worker = launcher.launch(runtime.python, INFERENCE, fork=fork)
    files = {"optimized_file": str(optimized_file)} if optimized_file else {}
    files |= {"profile_prefix": profile_prefix} if profile_prefix else {}
    try:
        reply, _ = worker.request(
            "open",
            {
                "model": str(model),
                **_fields(config),
                **files,
                "cores": list(cores),
                "layout": layout,
            },
            [],
            limit_s=limit_s,
            doing="opening a session",
        )
    except BaseException:  # Ctrl-C too must not leave the worker behind
        worker.close()
        raise
    launcher.prepare(runtime.python, INFERENCE)  # while this session is used
    return Session(worker, _facts(runtime, worker, reply))


def profile_placement(
    launcher: Launcher,
    runtime: Runtime,
    config: SessionConfig,
    model: Path,
    feeds: Values,
    *,
    fork: bool,
    limit_s: float,
) -> dict[str, tuple[NodeInfo, ...]]:
    """Return provider to nodes as the profiler saw one run.

    For ONNX Runtime builds that do not record the assignment. Only nodes that ran are seen, and
    a compiling provider shows one node per fused subgraph.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        open_session(
            launcher,
            runtime,
            config,
            model,
            fork=fork,
            limit_s=limit_s,
            profile_prefix=f"{folder}/p",
        ) as session,
    ):
        session.run(feeds, limit_s=limit_s)
        nodes = session.profile(None, limit_s=limit_s)
    return _grouped([[node.provider, [[node.name, "", node.op]]] for node in nodes])


def _decoded(reply: dict[str, Any], data: list[memoryview]) -> dict[str, Value]:
    try:
        return decode_all(reply["outputs"], data)
    except (KeyError, ValueError) as error:
        msg = f"Worker broke the protocol while running the model: {error}"
        raise RunFailed(msg, code="worker.protocol") from None


def _fields(config: SessionConfig) -> dict[str, Any]:
    return {
        "providers": config.provider_list(),
        "plugin": _plugin(config),
        "threads": config.threads,
        "optimization": config.optimization,
        "custom_ops": list(config.custom_ops),
        "config": config.config,
        "preload": config.preload,
    }


def _plugin(config: SessionConfig) -> dict[str, Any] | None:
    if config.plugin is None:
        return None
    return {**dataclasses.asdict(config.plugin), "options": config.options}


def _facts(runtime: Runtime, worker: Worker, reply: dict[str, Any]) -> SessionFacts:
    placement = reply["placement"]
    return SessionFacts(
        runtime=runtime.name,
        version=str(reply["version"]),
        providers=tuple(reply["providers"]),
        inputs=tuple(_port(port) for port in reply["inputs"]),
        outputs=tuple(_port(port) for port in reply["outputs"]),
        placement=None if placement is None else _grouped(placement),
        load_ms=reply["load_ns"] / 1e6,
        start_method=worker.start_method,
        optimizers=tuple(reply.get("optimizers", ())),
    )


def _node_time(row: list[Any]) -> NodeTime:
    provider, name, op, total_us, error_us, calls, named = row
    return NodeTime(
        provider=provider,
        name=name,
        op=op,
        total_us=total_us,
        error_us=error_us,
        calls=calls,
        is_named=named,
    )


def _port(port: list[Any]) -> Port:
    name, kind, shape = port
    return Port(name=name, type=kind, shape=None if shape is None else tuple(shape))


def _grouped(parts: list[Any]) -> dict[str, tuple[NodeInfo, ...]]:
    nodes: dict[str, tuple[NodeInfo, ...]] = {}
    for provider, members in parts:
        found = tuple(NodeInfo(name=name, domain=domain, op=op) for name, domain, op in members)
        nodes[provider] = (*nodes.get(provider, ()), *found)
    return nodes
