"""Fillings: arrays from a few numbers, within type and range."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain.dtypes import DType
from harness.domain.fillings import KINDS, Filling, Special, ends, fill, marks
from harness.domain.inputs import hash_values
from harness.domain.spec import InputSpec, Kind
from harness.domain.values import Value

NUMBERS = tuple(
    dtype for dtype in DType if dtype not in {DType.STRING, DType.BOOL, DType.FLOAT8E8M0}
)


def spec(dtype: DType, low: float = -1.0, high: float = 1.0) -> InputSpec:
    """Return an input with a range, from 0 for unsigned types."""
    return InputSpec(dtype=dtype, range=(0.0 if dtype.value.startswith("u") else low, high))


def in_float64(array: object) -> object:
    """Return the real part as float64."""
    return np.asarray(array).astype(np.complex128).real


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_kind_stays_in_range(dtype: DType, kind: Kind) -> None:
    """No element leaves [low, high), and the type is the declared one."""
    array = fill(Filling(kind=kind, seed=1), spec(dtype), (3, 50), key="x")
    assert array.dtype == dtype.numpy
    assert array.shape == (3, 50)
    values = np.asarray(in_float64(array))
    assert (values >= -1).all()
    assert (values < 1).all()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_special_values_are_the_type_s_own(dtype: DType) -> None:
    """Each mark can be set, at a position modulo the size, and stays in range if finite."""
    port = spec(dtype)
    allowed = marks(port, non_finite=False)
    assert {"low", "high"} <= set(allowed)
    for mark in allowed:
        filling = Filling(kind="zeros", specials=(Special(position=7, mark=mark),))
        value = float(np.asarray(in_float64(fill(filling, port, (5,), key="x")))[2])
        assert -1 <= value < 1
        if mark == "denormal":
            assert 0 < value <= 0.5


def test_the_ends_are_the_last_elements_of_the_range() -> None:
    """The upper end does not belong to the range."""
    low, high = ends(InputSpec(dtype=DType.FLOAT32, range=(-0.13, 0.2)))
    assert float(low) >= -0.13
    assert np.nextafter(high, np.float32(1)) == np.float32(0.2)
    widest = ends(InputSpec(dtype=DType.INT64, range=(-(2**63), 2**63)))
    assert [each.item() for each in widest] == [-(2**63), 2**63 - 1]
    unsigned = ends(InputSpec(dtype=DType.UINT64, range=(0, 2**64)))
    assert [each.item() for each in unsigned] == [0, 2**64 - 1]
    extremes = fill(Filling(kind="extremes"), InputSpec(dtype=DType.INT64, range=(-(2**63), 2**63)),
                    (40,), key="x")  # fmt: skip
    assert set(extremes.tolist()) == {-(2**63), 2**63 - 1}


def test_non_finite_values_need_leave() -> None:
    """NaN and infinity are offered where all outputs allow them, and where the type has them."""
    assert {"nan", "inf", "-inf"} & set(marks(spec(DType.FLOAT32), non_finite=False)) == set()
    assert {"nan", "inf", "-inf"} <= set(marks(spec(DType.FLOAT32), non_finite=True))
    assert {"inf", "-inf"} & set(marks(spec(DType.FLOAT4E2M1), non_finite=True)) == set()
    assert marks(spec(DType.INT32), non_finite=True) == ("low", "high")


def test_negative_zero_keeps_its_sign() -> None:
    """The mark says which zero."""
    filling = Filling(kind="ones", specials=(Special(position=0, mark="-0"),))
    assert np.signbit(fill(filling, spec(DType.FLOAT32), (1,), key="x")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_lists_booleans_and_texts_are_filled_too(kind: Kind) -> None:
    """Values come from the list, from two booleans, or are texts of the one length."""
    filling = Filling(kind=kind, seed=4)
    listed = fill(filling, InputSpec(dtype=DType.STRING, values=("a", "b")), (30,), key="x")
    assert set(listed.tolist()) <= {"a", "b"}
    assert fill(filling, InputSpec(dtype=DType.BOOL), (30,), key="x").dtype == bool
    texts = fill(filling, InputSpec(dtype=DType.STRING), (30,), key="x")
    assert {(type(text), len(text)) for text in texts.tolist()} == {(str, 14)}


def test_values_are_the_same_on_every_machine() -> None:
    """They come from raw words of Philox: this hash holds everywhere."""
    arrays: dict[str, Value] = {}
    for kind in KINDS:
        arrays[kind] = fill(Filling(kind=kind, seed=9), spec(DType.FLOAT32), (4, 6), key="x")
    assert hash_values(arrays)[:16] == "69dea1b863ae2679"


def test_seed_and_key_choose_the_values() -> None:
    """Another seed or another input gives another array; the same ones give the same."""

    def one(seed: int, key: str) -> str:
        return hash_values({"x": fill(Filling(seed=seed), spec(DType.FLOAT32), (9,), key=key)})

    assert one(0, "x") == one(0, "x")
    assert len({one(0, "x"), one(1, "x"), one(0, "y")}) == 3


def test_sparse_is_mostly_zero() -> None:
    """One element in ten differs, also where zero is not the least value."""
    array = fill(Filling(kind="sparse"), spec(DType.FLOAT32), (1000,), key="x")
    assert 50 < np.count_nonzero(array) < 200
