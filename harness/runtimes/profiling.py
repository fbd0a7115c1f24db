"""Sessions that ONNX Runtime's profiler watches: how long each node takes.

The profiler disturbs what it measures, most where nodes are small, so its times are of a separate
run and tell shares only: what is slower is judged by duets.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.domain.regression import NodeTime
from harness.domain.session import SessionConfig, SessionFacts
from harness.domain.values import Values
from harness.runtimes.launchers import Launcher
from harness.runtimes.registry import Runtime
from harness.runtimes.sessions import Session, open_session

#: Calls that are not counted, beside the first one of each set: profiling starts with the session,
#: so what warms it up is in the profile and is left out by number.
WARM_CALLS = 5
#: From this length on, one call more warms up enough.
LONG_CALL_NS = 100_000_000


class Profiled:
    """A profiled session with bound inputs that take turns.

    Args:
        session: Opened for profiling, not run yet.
        sets: The inputs.
        limit_s: Seconds for each request.
    """

    def __init__(self, session: Session, sets: Sequence[Values], *, limit_s: float) -> None:
        self._session = session
        self._limit_s = limit_s
        session.bind(sets, limit_s=limit_s)
        self._done = len(sets)
        self._counted: list[int] = []

    @property
    def facts(self) -> SessionFacts:
        """Return what the session really is."""
        return self._session.facts

    def warm(self) -> float:
        """Run without counting; return the median call, ns."""
        call_ns = self._slot(1)
        return call_ns if call_ns >= LONG_CALL_NS else self._slot(WARM_CALLS)

    def run(self, calls: int) -> None:
        """Run `calls` times, after one call that does not count."""
        first = self._done + 1
        self._slot(calls)
        self._counted.extend(range(first, first + calls))

    def nodes(self) -> tuple[NodeTime, ...]:
        """End profiling and return the nodes of the runs that count."""
        return self._session.profile(self._counted, limit_s=self._limit_s)

    def _slot(self, calls: int) -> float:
        slot = self._session.time(calls, limit_s=self._limit_s)
        self._done += calls + 1
        return float(statistics.median(slot.own_ns.tolist()))


@contextmanager
def open_profiled(
    launcher: Launcher,
    runtime: Runtime,
    config: SessionConfig,
    model: Path,
    sets: Sequence[Values],
    *,
    fork: bool,
    limit_s: float,
    cores: Sequence[int] = (),
) -> Iterator[Profiled]:
    """Open a profiled session in a worker of its own, and bind the inputs.

    Args:
        launcher: Where workers are started.
        runtime: The interpreter with its ONNX Runtime build.
        config: Provider, options, threads, optimisation.
        model: File of the model.
        sets: Inputs that take turns.
        fork: Whether the provider allows forked workers.
        limit_s: Seconds for each request before the worker is killed.
        cores: Processor numbers that the worker may use; empty for all.

    Raises:
        RunFailed: If ONNX Runtime refused the model, or an input cannot be bound.
        WorkerDied: If the worker crashed or was too slow.
        EnvironmentProblem: If the runtime is broken.
    """
    with (
        tempfile.TemporaryDirectory(prefix="onnx-harness-") as folder,
        open_session(
            launcher,
            runtime,
            config,
            model,
            fork=fork,
            limit_s=limit_s,
            cores=cores,
            profile_prefix=f"{folder}/p",
        ) as session,
    ):
        yield Profiled(session, sets, limit_s=limit_s)
