"""Samples: what stands for a recorded tensor that is too large to be kept.

A sample holds the SHA-256 of the whole tensor and `COUNT` of its elements. The tensor is cut into
`COUNT` stretches of equal length, and one element is drawn from each, so that no stretch of twice
that length is left out. Positions depend on model, case, output and step only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from harness.domain import dtypes
from harness.domain.dtypes import DType
from harness.domain.encoding import to_raw
from harness.domain.inputs import raw_words
from harness.domain.spec import OutputSpec
from harness.domain.values import Array, Positions, SampledTensor, Value, Values
from harness.domain.walk import Walk

#: Elements of a sample.
COUNT = 1000
#: Tensors with more bytes than this are sampled: a recording is meant to lie in a repository.
LARGEST_WHOLE = 10_000_000


def needs_whole(output: str, outputs: Mapping[str, OutputSpec]) -> bool:
    """Return whether an output is judged by more than its elements, each in its place.

    Args:
        output: Its name.
        outputs: How each output is compared; one may be ranked by another's scores.
    """
    rule = outputs.get(output, OutputSpec())
    if rule.compare == "set" or rule.measures is not None or rule.scores is not None:
        return True
    return any(other.scores == output for other in outputs.values())


def sample(array: Array, key: tuple[str, ...]) -> SampledTensor:
    """Return the sample of a tensor of at least `COUNT` elements.

    Args:
        array: The whole tensor.
        key: Model, case, output and step.
    """
    positions = draw_positions(array.size, key)
    return SampledTensor(
        shape=array.shape,
        sha256=hash_tensor(array),
        positions=positions,
        elements=array.reshape(-1)[positions],
    )


def draw_positions(size: int, key: tuple[str, ...]) -> Positions:
    """Return one position from each of `COUNT` stretches of `size` elements, ascending."""
    edges = np.array([size * index // COUNT for index in range(COUNT + 1)], dtype=np.int64)
    words = raw_words(("sample", *key), COUNT)
    inside = (words % np.diff(edges).astype(np.uint64)).astype(np.int64)
    return edges[:-1] + inside


def hash_tensor(array: Array) -> str:
    """Return the SHA-256 of a tensor: its type, its shape, its data as ONNX lays it out."""
    dtype = dtypes.of_array(array)
    digest = hashlib.sha256(f"{dtype}\0{list(array.shape)}\0".encode())
    digest.update(to_raw(array, dtype))
    return digest.hexdigest()


def size_bytes(value: Value) -> int:
    """Return the bytes of all tensors in a value."""
    match value:
        case None:
            return 0
        case tuple():
            return sum(map(size_bytes, value))
        case dict():
            return sum(map(size_bytes, value.values()))
        case SampledTensor():
            return size_bytes(value.elements)
        case _:
            return _tensor_bytes(value)


def _tensor_bytes(array: Array) -> int:
    dtype = dtypes.of_array(array)
    if dtype is DType.STRING:
        return sum(len(str(text).encode()) for text in array.ravel().tolist())
    return -(-array.size * dtype.bits // 8)


def compare_sample(
    walk: Walk,
    rule: OutputSpec,
    path: str,
    *,
    reference: SampledTensor,
    candidate: Array,
    compare_tensors: Callable[..., None],
) -> None:
    """Compare a whole tensor with the sample of its reference, and say so in every finding.

    Args:
        walk: Collects findings and counts: elements of the sample are what is counted.
        rule: How the output is compared.
        path: Of the value in its output.
        reference: The sample.
        candidate: The whole tensor.
        compare_tensors: Compares two arrays of one shape: the sample, and the same elements.
    """
    if reference.shape != candidate.shape:
        walk.fail(
            "parity.shape",
            f"Output '{path}' has shape {list(candidate.shape)} instead of {list(reference.shape)}",
            where=f"output '{path}'",
            expected=f"{list(reference.shape)}; nothing is broadcast",
            got=str(list(candidate.shape)),
        )
        return
    if rule.compare == "set" or rule.measures is not None:
        _refuse_sample(walk, rule, path, reference)
        return
    before, walk.sampled = len(walk.findings), reference
    elements = candidate.reshape(-1)[reference.positions]
    compare_tensors(reference=reference.elements, candidate=elements)
    walk.sampled = None
    told = walk.findings[before:]
    note = f"a sample of {reference.elements.size} of {whole_size(reference)} elements"
    walk.findings[before:] = [replace(each, where=f"{each.where}, {note}") for each in told]
    if rule.finite == "required" and not any(each.code == "parity.finite" for each in told):
        _refuse_infinite(walk, path, candidate)


def _refuse_sample(walk: Walk, rule: OutputSpec, path: str, reference: SampledTensor) -> None:
    key = f"outputs.{walk.output}.{'compare' if rule.compare == 'set' else 'measures'}"
    walk.fail(
        "reference.recorded",
        f"Output '{path}' is recorded as a sample, which is not enough for {key}",
        where=f"output '{path}'",
        expected=f"all {whole_size(reference)} elements",
        got=f"{reference.elements.size} elements",
        next_step=f"record it again with this spec, which keeps it whole, or drop {key}",
    )


def _refuse_infinite(walk: Walk, path: str, candidate: Array) -> None:
    """Hold the elements outside the sample to the one rule that needs no reference."""
    if not dtypes.of_array(candidate).is_floating:
        return
    broken = ~np.isfinite(candidate)
    if broken.any():
        first = [int(index) for index in np.argwhere(broken)[0]]
        walk.fail(
            "parity.finite",
            f"{int(broken.sum())} of {broken.size} elements of output '{path}' are not finite",
            where=f"output '{path}', first at {first}, outside the recorded sample",
            expected=f"finite values only (outputs.{walk.output}.finite = 'required')",
            got=f"{candidate[tuple(first)]}",
            next_step=f"find the first node that makes it, or set outputs.{walk.output}.finite",
        )


def facts(*, reference: Values, candidate: Values) -> dict[str, str]:
    """Return the receipt's facts on outputs of which only a sample was recorded."""
    return {
        key: text
        for name, expected in reference.items()
        if isinstance(expected, SampledTensor)
        for key, text in _facts(name, expected, candidate.get(name))
    }


def _facts(name: str, reference: SampledTensor, candidate: Value) -> Iterator[tuple[str, str]]:
    kept, size = reference.elements.size, whole_size(reference)
    yield f"sampled {name}", f"{kept} of {size} elements"
    if isinstance(candidate, np.ndarray):
        got = hash_tensor(candidate)
        same = "unchanged by hash" if got == reference.sha256 else "changed"
        yield f"sha256 {name}", f"{same}: reference {reference.sha256}, candidate {got}"


def whole_size(reference: SampledTensor) -> int:
    """Return the number of elements of the whole tensor."""
    return int(np.prod(reference.shape, dtype=np.int64))
