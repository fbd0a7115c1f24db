"""Edited graphs, and the sessions that run them, inside one budget of time."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.domain import dtypes
from harness.domain.session import Port, SessionConfig
from harness.domain.values import Value, Values
from harness.errors import HarnessError
from harness.evidence import Tools
from harness.files.taps import SIZE
from harness.localise.graph import Block, Outline, suffix
from harness.runtimes.registry import Resolved
from harness.runtimes.sessions import Session, open_session

#: Kinds of values that taps and cuts can carry.
_TENSOR, _TEXT = "tensor(", "tensor(string)"
#: Values that are counted in one run, where their shapes do not tell their sizes.
COUNTED_AT_ONCE = 16
_WEIGHTS = "session.model_external_initializers_file_folder_path"
_OFF = "optimization.disable_specified_optimizers"
#: Operator, inputs and outputs of a node of an optimised graph.
Optimised = tuple[str, list[str], list[str]]
#: Sizes and names of dimensions; None where even the rank is open.
Shape = Sequence[int | str | None] | None


class OutOfTime(Exception):
    """The budget of the search is spent."""


class Deadline:
    """Counts down from a budget, seconds."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self._end = time.monotonic() + budget_s

    @property
    def is_over(self) -> bool:
        """Return whether nothing is left."""
        return time.monotonic() >= self._end

    def limit(self, wanted_s: float) -> float:
        """Return a limit that ends with the budget at the latest.

        Raises:
            OutOfTime: If nothing is left.
        """
        if self.is_over:
            raise OutOfTime
        return min(wanted_s, self._end - time.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a graph is run: where, and with which session."""

    resolved: Resolved
    config: SessionConfig

    def with_entry(self, key: str, value: str) -> Setup:
        """Return the same with one more session configuration entry."""
        entries = {**self.config.config, key: value}
        return replace(self, config=replace(self.config, config=entries))

    def at(self, level: str, disabled: Sequence[str] = ()) -> Setup:
        """Return the same with another optimisation level, without some optimisers."""
        setup = replace(self, config=replace(self.config, optimization=level))
        names = [*filter(None, self.config.config.get(_OFF, "").split(";")), *disabled]
        return setup.with_entry(_OFF, ";".join(names)) if names else setup


class Workbench:
    """Edits one model's graph and runs what came of it.

    Args:
        tools: Launcher, inspector and the like.
        path: The model.
        limits_s: Seconds for loading a file, and for one run.
        deadline: When the search ends.
        folder: Temporary folder for edited files.
    """

    def __init__(
        self,
        tools: Tools,
        path: Path,
        *,
        limits_s: tuple[float, float],
        deadline: Deadline,
        folder: Path,
    ) -> None:
        self.path = path
        self.deadline = deadline
        self._tools = tools
        self._load_s, self._run_s = limits_s
        self._folder = folder
        self._made = 0
        self._external: tuple[str, ...] = ()
        self._copied = False

    def outline(self) -> Outline:
        """Return the model's graph."""
        outline = Outline.of(self._edit("outline", self.path))
        self._external = outline.external
        return outline

    def tapped(self, names: Collection[str], *, sizes: bool = False) -> Path:
        """Return the model with these values, or their sizes, as further outputs."""
        target = self.fresh("tapped")
        fields = {"target": str(target), "names": list(names), "sizes": sizes}
        self._edit("tap", self.path, fields)
        return target

    def cut(
        self,
        found: Sequence[Block],
        feeds: Values,
        shapes: Mapping[str, Shape],
        *,
        target: Path | None = None,
    ) -> Path:
        """Return a model of blocks side by side; into `target` goes one block that stands alone.

        Args:
            found: The blocks.
            feeds: Values of their inputs, for the element types.
            shapes: What the model knows of the shapes of its values.
            target: File for a block with weights and names of its own.
        """
        target, alone = target or self.fresh("cut"), target is not None
        parts = [
            block.as_json("" if alone else suffix(number)) for number, block in enumerate(found)
        ]
        types = {name: (_number(value), shapes.get(name)) for name, value in feeds.items()}
        fields = {"target": str(target), "blocks": parts, "types": types, "embed": alone}
        self._edit("cut", self.path, fields)
        return target

    def structure(self, path: Path) -> tuple[str, list[Optimised]]:
        """Return an optimised graph's hash, and operator, inputs and outputs of its nodes."""
        told = self._edit("structure", path)
        return told["hash"], [(op, read, given) for op, read, given in told["nodes"]]

    def open(self, setup: Setup, path: Path, *, optimized_file: Path | None = None) -> Session:
        """Open a session on a file; the caller closes it.

        An edited file leaves its external data in the model's folder. ONNX Runtime can be told
        so; one too old for it gets a copy.
        """
        if path == self.path or not self._external:
            return self._opened(setup, path, optimized_file)
        if not self._copied:
            try:
                return self._opened(setup.with_entry(_WEIGHTS, str(self.path.parent)), path, None)
            except HarnessError:
                self._copy_weights()
        return self._opened(setup, path, optimized_file)

    def run(self, setup: Setup, path: Path, feeds: Values) -> Values:
        """Return the outputs of one run in a session of its own."""
        session = self.open(setup, path)
        try:
            wanted = {port.name for port in session.facts.inputs}
            given = {name: value for name, value in feeds.items() if name in wanted}
            return self._timed(session, given)
        finally:
            session.end()  # the next batch must not meet this one's memory

    def run_session(self, session: Session, feeds: Values) -> Values:
        """Return the outputs of one run in an open session."""
        return self._timed(session, feeds)

    def evaluate(self, path: Path, feeds: Values) -> Values:
        """Return the outputs of one run of the ONNX reference evaluator."""
        limit_s = self._limit(self._run_s)
        weights = self.path.parent
        return self._tools.inspector.evaluate(path, feeds, weights=weights, limit_s=limit_s)

    def fresh(self, stem: str) -> Path:
        """Return the path of a new file; edited models are deleted with the folder."""
        self._made += 1
        return self._folder / f"{stem}-{self._made}.onnx"

    def _opened(self, setup: Setup, path: Path, optimized_file: Path | None) -> Session:
        return open_session(
            self._tools.launcher,
            setup.resolved.runtime,
            setup.config,
            path,
            fork=setup.resolved.provider.forks,
            limit_s=self._limit(self._load_s),
            optimized_file=optimized_file,
        )

    def _copy_weights(self) -> None:
        for location in self._external:
            target = self._folder / location
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path.parent / location, target)
        self._copied = True

    def _timed(self, session: Session, feeds: Values) -> Values:
        try:
            return session.run(feeds, limit_s=self._limit(self._run_s)).outputs
        except HarnessError:
            if self.deadline.is_over:
                raise OutOfTime from None
            raise

    def _edit(self, op: str, path: Path, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        limit_s = self._limit(self._load_s)
        return self._tools.inspector.edit(op, path, fields or {}, limit_s=limit_s)

    def _limit(self, wanted_s: float) -> float:
        return self.deadline.limit(wanted_s)


class Trusted:
    """Trusted arithmetic: ONNX Runtime on the CPU with every optimisation off.

    Where that cannot run a graph, the ONNX reference evaluator does from then on.
    """

    def __init__(self, bench: Workbench, setup: Setup) -> None:
        self._bench = bench
        self.setup = setup
        self.evaluates = False

    @property
    def name(self) -> str:
        """Return what messages call it."""
        if self.evaluates:
            return "the ONNX reference evaluator"
        return "ONNX Runtime on the CPU with every optimisation off"

    def prefer_evaluator(self, path: Path, feeds: Values) -> None:
        """Let the evaluator run every graph from now on, if it can run this one.

        ONNX Runtime's CPU provider computes float16 nodes in float32 and takes out the casts
        around them, at every optimisation level: rounding that the graph asks for is not seen.
        """
        with contextlib.suppress(HarnessError):
            self._bench.evaluate(path, feeds)
            self.evaluates = True

    def run(self, path: Path, feeds: Values) -> Values:
        """Return the outputs of a graph by name."""
        if not self.evaluates:
            try:
                return self._bench.run(self.setup, path, feeds)
            except HarnessError:
                self.evaluates = True
        return self._bench.evaluate(path, feeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The values of a graph that can be tapped, and those that cannot."""

    sizes: dict[str, int]
    """Bytes of each tensor in this run."""
    shapes: Mapping[str, Shape]
    """What the model knows of the shapes of its values, with names for free dimensions."""
    outside: dict[str, str]
    """Other values with their types: sequences, optionals, maps, text."""


def measure(bench: Workbench, trusted: Trusted, names: Sequence[str], feeds: Values) -> Measured:
    """Return the size of every value in this run, keeping none of them.

    ONNX Runtime tells types and shapes of all values when a session is opened, with names for
    free dimensions, which the inputs give numbers. Where a shape depends on the data, a run gives
    the number of elements, of a few values at a time: what waits to be counted stays in memory.
    """
    if not names:
        return Measured(sizes={}, shapes={}, outside={})
    ports = _ports(bench, trusted, names)
    types = {name: ports[name].type for name in names if name in ports}
    tensors = [name for name in names if _is_number(types.get(name, ""))]
    free = _free_sizes(ports, feeds)
    counts = {name: _elements(ports[name].shape, free) for name in tensors}
    open_ones = [name for name, count in counts.items() if count is None]
    for start in range(0, len(open_ones), COUNTED_AT_ONCE):
        part = open_ones[start : start + COUNTED_AT_ONCE]
        told = trusted.run(bench.tapped(part, sizes=True), feeds)
        counts.update({name: _count(told[name + SIZE]) for name in part if name + SIZE in told})
    return Measured(
        sizes={
            name: count * _bits(types[name]) // 8
            for name, count in counts.items()
            if count is not None
        },
        shapes={name: port.shape for name, port in ports.items()},
        outside={name: kind for name, kind in types.items() if name not in counts},
    )


def _free_sizes(ports: Mapping[str, Port], feeds: Values) -> dict[str, int]:
    """Return the sizes that this run gives to named dimensions."""
    found: dict[str, int] = {}
    for name, value in feeds.items():
        shape = ports[name].shape if name in ports else None
        if shape is not None and isinstance(value, np.ndarray) and len(shape) == value.ndim:
            pairs = zip(shape, value.shape, strict=True)
            found.update({size: real for size, real in pairs if isinstance(size, str)})
    return found


def _elements(shape: Shape, free: Mapping[str, int]) -> int | None:
    """Return the number of elements; None if the shape leaves it open."""
    if shape is None:
        return None
    sizes = [free.get(size) if isinstance(size, str) else size for size in shape]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _ports(bench: Workbench, trusted: Trusted, names: Sequence[str]) -> dict[str, Port]:
    """Return types and shapes of values and inputs, as ONNX Runtime infers them."""
    if trusted.evaluates:  # which tells no types beforehand
        return {name: Port(name=name, type="tensor(float)", shape=None) for name in names}
    with bench.open(trusted.setup, bench.tapped(names)) as session:
        facts = session.facts
    return {port.name: port for port in (*facts.inputs, *facts.outputs)}


def _is_number(kind: str) -> bool:
    return kind.startswith(_TENSOR) and kind != _TEXT


def _bits(kind: str) -> int:
    return dtypes.from_type_name(kind.removeprefix(_TENSOR).removesuffix(")")).bits


def _count(value: Value) -> int:
    return int(np.asarray(value))


def _number(value: Value) -> int:
    if not isinstance(value, np.ndarray):
        msg = f"a value of kind {type(value).__name__} cannot be fed to a block"
        raise TypeError(msg)
    return dtypes.of_array(value).onnx_number
