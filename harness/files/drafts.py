"""The draft of a spec for a model file: interface as it is, everything else a marked guess.

Guesses come from element types, names, shapes and what the graph gives away (`files.hints`).
Nothing here reads or runs a model; `onnx-harness model add` tries the draft and asks for the next
set of sizes where the first one does not run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.model_facts import ModelFacts
from harness.domain.session import Port
from harness.domain.spec import PLAIN_NAME
from harness.errors import UsageProblem

IMAGE_CHANNELS = (1, 3, 4)
IMAGE_RANK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a named dimension is guessed to be."""

    min: int
    max: int
    small: int
    """In the first case."""
    large: int
    """In the second case."""
    is_batch: bool = False

    def fixed(self, size: int) -> Size:
        """Return the same dimension with one size only."""
        return replace(self, min=size, max=size, small=size, large=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDraft:
    """One input and the values to draw for it."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    range: tuple[float, float] | None = None
    values: tuple[int | str, ...] | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDraft:
    """What the model is held against."""

    kind: str = "onnx"
    entry: str = ""
    """`file.py:function` of a live reference."""
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A spec to be written."""

    source: str
    """What the file was called."""
    sha256: str
    facts: ModelFacts
    inputs: tuple[InputDraft, ...]
    dims: Mapping[str, Size]
    operators: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    unsupported: str = ""
    """What the ONNX reference evaluator says if it lacks an operator."""
    reference: ReferenceDraft = ReferenceDraft()

    @property
    def cases(self) -> dict[str, dict[str, int]]:
        """Return case name to sizes: the small one, and a larger one if a dimension is free."""
        small = {name: size.small for name, size in self.dims.items() if size.min < size.max}
        if not small:
            return {self._fixed_name(): {}}
        large = {name: self.dims[name].large for name in small}
        batch = next((name for name in small if self.dims[name].is_batch), None)
        if batch is None or small[batch] == large[batch]:
            return {"small": small, "large": large}
        return {f"batch{small[batch]}": small, f"batch{large[batch]}": large}

    def _fixed_name(self) -> str:
        first = {port.shape[0] for port in self.inputs if port.shape}
        sizes = {self.dims[size].min if isinstance(size, str) else size for size in first}
        return f"batch{sizes.pop()}" if len(sizes) == 1 else "fixed"


def draft(
    facts: ModelFacts,
    hints: Mapping[str, object],
    *,
    source: str,
    sha256: str,
    reference: ReferenceDraft,
) -> Draft:
    """Return the first guess for a model.

    Args:
        facts: What inspecting the file told.
        hints: What `harness.files.hints` found in its graph.
        source: The file's name, for the comment.
        sha256: Of the file.
        reference: What the model is held against.

    Raises:
        UsageProblem: If an input is not a tensor: a spec can only draw tensors.
    """
    tables = _counts(hints.get("tables"))
    names = _DimNames(facts.inputs)
    inputs = tuple(_input(port, names, tables) for port in facts.inputs)
    return Draft(
        source=source,
        sha256=sha256,
        facts=facts,
        inputs=inputs,
        dims=_sizes(inputs),
        operators=tuple(_counts(hints.get("operators"))),
        domains=_texts(hints.get("domains")),
        unsupported=str(hints.get("unsupported", "")),
        reference=reference,
    )


def alternatives(first: Draft) -> Iterator[Draft]:
    """Yield `first`, then drafts with other sizes, from likely to desperate.

    No name tells that a window must be long, that a state's second axis is the batch, or that a
    model which was exported with a free batch takes a single sample only. So every other
    dimension goes through `_options`, the fewest changes first, and all of it once more with a
    batch of one.
    """
    batch = next((name for name, size in first.dims.items() if size.is_batch), None)
    others = [name for name in first.dims if name != batch]
    options = [_options(first.dims[name], tied=batch is not None) for name in others]
    choices = sorted(itertools.product(*map(range, map(len, options))), key=sum)
    for single in (False, True) if batch is not None else (False,):
        for choice in choices:
            sizes = {name: options[at][choice[at]] for at, name in enumerate(others)}
            yield _resized(first, sizes, batch=batch, single=single)


def _options(guess: Size, *, tied: bool) -> tuple[Size | None, ...]:
    """Return what to try for one dimension; None ties it to the batch."""
    usual = Size(min=1, max=64, small=8, large=16)
    long = Size(min=512, max=1024, small=512, large=1024)
    fixed = (guess.fixed(guess.small), long.fixed(long.small), guess.fixed(1))
    ties: tuple[Size | None, ...] = (None,) if tied else ()
    return tuple(dict.fromkeys((guess, usual, *ties, long, *fixed)))


def _resized(
    first: Draft, sizes: Mapping[str, Size | None], *, batch: str | None, single: bool
) -> Draft:
    """Return the draft with other sizes; a dimension of None takes the batch's name."""
    dims = {name: size for name, size in sizes.items() if size is not None}
    if batch is not None:
        dims = {batch: first.dims[batch].fixed(1) if single else first.dims[batch], **dims}
    tied = {name for name, size in sizes.items() if size is None}
    inputs = tuple(
        replace(port, shape=tuple(batch if size in tied and batch else size for size in port.shape))
        for port in first.inputs
    )
    return replace(first, inputs=inputs, dims=dims)


def plain_name(text: str) -> str:
    """Return a model name made from a file name; empty if nothing is left of it."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-._")
    return name if PLAIN_NAME.fullmatch(name) else ""


# dimensions


class _DimNames:
    """Names for free dimensions: the model's own where they can be one, else made up."""

    def __init__(self, ports: Iterable[Port]) -> None:
        self._taken: dict[str, str] = {}
        for port in ports:
            for size in port.shape or ():
                if isinstance(size, str) and size:
                    self._name(size)

    def of(self, port: Port, axis: int) -> int | str:
        """Return the size of one axis, or the name of its dimension."""
        size = (port.shape or ())[axis]
        if isinstance(size, int):
            return size
        if size:
            return self._name(size)
        return "batch" if axis == 0 else self._name(f"{port.name}_axis{axis}")

    def _name(self, symbol: str) -> str:
        if symbol not in self._taken:
            plain = re.sub(r"[^A-Za-z0-9_-]+", "_", symbol).strip("_") or "dim"
            while plain in self._taken.values():
                plain += "_"
            self._taken[symbol] = plain
        return self._taken[symbol]


#: Names -> sizes, first match wins. Tried in this order because `past_sequence_length` is a past.
_SIZES: tuple[tuple[re.Pattern[str], Size], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), size)
    for pattern, size in (
        (r"^(n|b|bs)$|batch", Size(min=1, max=16, small=1, large=3, is_batch=True)),
        (r"past|cache", Size(min=1, max=64, small=4, large=8)),
        (r"height|width|^h$|^w$", Size(min=32, max=512, small=224, large=256)),
        (r"sample|audio|wave", Size(min=1600, max=32000, small=4000, large=8000)),
        (r"seq|len|token|time|step|frame|^[tsl]$", Size(min=1, max=128, small=8, large=24)),
    )
)
_FIRST_AXIS = Size(min=1, max=16, small=1, large=3, is_batch=True)
_OTHER_AXIS = Size(min=1, max=64, small=8, large=16)
_IMAGE_AXIS = Size(min=32, max=512, small=224, large=256)


def _sizes(inputs: Sequence[InputDraft]) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    for port in inputs:
        for axis, name in enumerate(port.shape):
            if isinstance(name, str) and name not in sizes:
                sizes[name] = _size(name, axis, port)
    return sizes


def _size(name: str, axis: int, port: InputDraft) -> Size:
    for pattern, size in _SIZES:
        if pattern.search(name):
            return size
    if axis == 0:
        return _FIRST_AXIS
    return _IMAGE_AXIS if _is_image(port.shape) and port.shape[axis] == name else _OTHER_AXIS


def _is_image(shape: tuple[int | str, ...]) -> bool:
    """Return whether a shape is like NCHW or NHWC with 1, 3 or 4 channels."""
    return len(shape) == IMAGE_RANK and (shape[1] in IMAGE_CHANNELS or shape[3] in IMAGE_CHANNELS)


# values


def _input(port: Port, names: _DimNames, tables: Mapping[str, int]) -> InputDraft:
    dtype = _dtype(port)
    rank = len(port.shape) if port.shape is not None else None
    shape = ("batch",) if rank is None else tuple(names.of(port, axis) for axis in range(rank))
    plain = InputDraft(name=port.name, dtype=dtype, shape=shape)
    guessed = _with_values(plain, tables.get(port.name))
    if rank is None:
        return replace(guessed, why=f"{guessed.why}; the model does not say its rank")
    return guessed


def _dtype(port: Port) -> DType:
    inner = re.fullmatch(r"tensor\((.+)\)", port.type)
    try:
        if inner is not None:
            return dtypes.from_type_name(inner[1])
    except ValueError:
        pass
    msg = f"Input '{port.name}' is {port.type}: a spec can only draw tensors"
    raise UsageProblem(
        msg,
        expected="inputs that are tensors",
        next_step="record data sets beside the model instead: test_data_set_0/input_0.pb, "
        "output_0.pb (a folder of this layout needs no model.toml)",
    )


def _with_values(port: InputDraft, rows: int | None) -> InputDraft:
    """Return the input with values that a model of its kind is likely to take."""
    name, dtype = port.name.lower(), port.dtype
    if dtype is DType.STRING:
        return replace(port, values=("a", "b", "c"), why="guess: any text")
    if "mask" in name:
        return replace(port, values=(1,), why="guess: nothing is masked")
    if dtype is DType.BOOL:
        return replace(port, why="both values are drawn")
    if dtype.is_integer:
        return _integers(port, name, rows)
    return _floats(port, name)


def _integers(port: InputDraft, name: str, rows: int | None) -> InputDraft:
    if rows is not None and rows > 0:
        return replace(port, range=(0, rows), why=f"rows of the table that it indexes: {rows}")
    if name in {"sr", "sample_rate", "sampling_rate"}:
        return replace(port, values=(16000,), why="guess: samples per second")
    if re.search(r"len", name):
        return replace(port, values=(1,), why="guess: no longer than the shortest sequence")
    if port.dtype is DType.UINT8 and (_is_image(port.shape) or _names_image(name)):
        return replace(port, range=(0, 256), why="guess: pixels")
    return replace(port, range=(0, 2), why="guess: the narrowest that varies; widen it")


def _floats(port: InputDraft, name: str) -> InputDraft:
    if _is_image(port.shape) or _names_image(name):
        return replace(port, range=(0.0, 1.0), why="guess: an image")
    if port.dtype is DType.FLOAT8E8M0:
        return replace(port, range=(1.0, 2.0), why="guess; this type has no sign")
    return replace(port, range=(-1.0, 1.0), why="guess")


def _names_image(name: str) -> bool:
    return re.search(r"image|pixel|img", name) is not None


def _counts(found: object) -> dict[str, int]:
    return {str(name): int(n) for name, n in found.items()} if isinstance(found, dict) else {}


def _texts(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()
