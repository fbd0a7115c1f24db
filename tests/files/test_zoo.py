"""The model-zoo layout: values of every kind, and what is said about broken data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import helper

from harness.domain.dtypes import DType
from harness.domain.samples import sample
from harness.domain.values import Array, SampledTensor, Value
from harness.errors import ModelFileError
from harness.files import zoo
from harness.testing import identity_model, value_bytes, write_sets
from tests.strategies import DTYPES, TENSORS, array, same

ONE = np.array([1.5, 2], np.float32)
TEXTS = np.array(["a", "ü"], dtype=object)
LARGE = sample(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40), ("m", "c", "y", "0"))


def read(folder: Path, value: Value, kind: str) -> Value:
    """Write a value as others do, and read it."""
    path = folder / "input_0.pb"
    path.write_bytes(value_bytes(value, optional=kind.startswith("optional(")))
    return zoo.read_value(path, kind)


@given(TENSORS)
def test_tensors_as_onnx_writes_them(tensor: Array) -> None:
    """Every type and shape is read as it was written by onnx's own helper."""
    assert same(zoo._read_value(value_bytes(tensor), "tensor(float)"), tensor)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT64, DType.FLOAT16, DType.BFLOAT16])
def test_tensors_in_typed_fields(tmp_path: Path, dtype: DType) -> None:
    """Old files hold `float_data` and its likes instead of raw bytes."""
    proto = helper.make_tensor("x", dtype.onnx_number, [3], [1, 2, 3])
    path = tmp_path / "input_0.pb"
    path.write_bytes(proto.SerializeToString())
    assert same(zoo.read_value(path, "tensor(x)"), np.array([1, 2, 3]).astype(dtype.numpy))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (TEXTS, "tensor(string)"),
        ((ONE, ONE[:1]), "seq(tensor(float))"),
        ((TEXTS,), "seq(tensor(string))"),
        ((), "seq(tensor(float))"),
        (((ONE,), ()), "seq(seq(tensor(float)))"),
        ({1: ONE, 2: ONE}, "map(int64,tensor(float))"),
        ({"a": ONE, "ü": ONE}, "map(string,tensor(float))"),
        (({1: ONE},), "seq(map(int64,tensor(float)))"),
        (None, "optional(tensor(float))"),
        (ONE, "optional(tensor(float))"),
        ((ONE,), "optional(seq(tensor(float)))"),
    ],
    ids=repr,
)
def test_kinds(tmp_path: Path, value: Value, kind: str) -> None:
    """Sequences, maps and optionals are told apart by the declared type."""
    assert same(read(tmp_path, value, kind), value)


def test_an_empty_sequence_without_an_element_type(tmp_path: Path) -> None:
    """Some writers leave the type of nothing open."""
    path = tmp_path / "input_0.pb"
    sequence = onnx.SequenceProto(elem_type=onnx.SequenceProto.UNDEFINED)
    path.write_bytes(sequence.SerializeToString())
    assert zoo.read_value(path, "seq(tensor(float))") == ()


@pytest.mark.parametrize(
    ("content", "kind", "got"),
    [
        (b"\xff\xff\xff", "tensor(float)", "DecodeError: "),
        (value_bytes(ONE)[:-2], "tensor(float)", "DecodeError: "),
        (b"", "tensor(float)", "ValueError: the file is empty"),
        (b"", "seq(tensor(float))", "ValueError: the file is empty"),
        (None, "tensor(float)", "FileNotFoundError: "),
    ],
    ids=["noise", "cut", "empty", "empty sequence", "missing"],
)
def test_broken_values(tmp_path: Path, content: bytes | None, kind: str, got: str) -> None:
    """A value that cannot be read is an error of the recorded data, with its file."""
    path = tmp_path / "input_0.pb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        zoo.read_value(path, kind)
    assert caught.value.code == "reference.recorded"
    assert caught.value.what == f"Recorded value 'input_0.pb' cannot be read as {kind}"
    assert caught.value.where == str(path)
    assert caught.value.got.startswith(got)
    assert caught.value.next_step == "record the data set again"


def test_sets_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Set 10 follows set 9."""
    write_sets(tmp_path, identity_model(), [((ONE,), (ONE,))] * 11)
    (tmp_path / "test_data_set_x").mkdir()
    assert zoo.data_sets(tmp_path) == tuple(f"test_data_set_{n}" for n in range(11))
    assert zoo.data_sets(tmp_path / "none") == ()


def test_read_a_set(tmp_path: Path) -> None:
    """File `i` belongs to the i-th name."""
    write_sets(tmp_path, identity_model(), [((ONE,), (ONE * 2,))])
    folder = tmp_path / "test_data_set_0"
    for side, expected in (("input", ONE), ("output", ONE * 2)):
        got = zoo.read_set(folder, side, names=["a"], types=["tensor(float)"])
        assert list(got) == ["a"]
        assert same(got["a"], expected)


@pytest.mark.parametrize(
    ("files", "expected", "got"),
    [
        ([], "input_0.pb for 'a'", "no such file"),
        (["input_0.pb"], "input_0.pb for 'a', input_1.pb for 'b'", "input_0.pb"),
        (["input_0.pb", "input_1.pb"], "input_0.pb for 'a'", "input_0.pb, input_1.pb"),
        (["input_1.pb"], "input_0.pb for 'a'", "input_1.pb"),
    ],
)
def test_files_that_do_not_match_the_model(
    tmp_path: Path, files: list[str], expected: str, got: str
) -> None:
    """A missing or additional file is an error, never left aside."""
    for file in files:
        (tmp_path / file).write_bytes(value_bytes(ONE))
    names = ["a", "b"] if "'b'" in expected else ["a"]
    with pytest.raises(ModelFileError) as caught:
        zoo.read_set(tmp_path, "input", names=names, types=["tensor(float)"] * len(names))
    assert str(caught.value) == (
        "Recorded inputs do not match the model's inputs\n"
        f"  where:    {tmp_path}\n"
        f"  expected: {expected}\n"
        f"  got:      {got}\n"
        "  next:     record the data set again, with one file for each"
    )


@pytest.mark.parametrize("files", [["model.onnx"], ["test_data_set_0/input_0.pb"], []])
def test_folders_that_are_no_model(tmp_path: Path, files: list[str]) -> None:
    """Both the model and its data must be there."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert not zoo.is_zoo_folder(tmp_path)


@pytest.mark.parametrize("dtype", DType)
def test_every_type_of_tensor(tmp_path: Path, dtype: DType) -> None:
    """The array has the type under which the harness holds it."""
    value = array(dtype, (3,))
    got = read(tmp_path, value, f"tensor({dtype})")
    assert same(got, value)


@given(DTYPES)
def test_samples_keep_every_bit(dtype: DType) -> None:
    """Of every element type; what is read is what was written."""
    held = sample(array(dtype, (30, 40)), ("m", "c", "y", "0"))
    read_back = zoo._read_sample(zoo._sample_bytes(held, "y"))
    assert read_back.shape == held.shape
    assert read_back.sha256 == held.sha256
    assert same(read_back.positions, held.positions)
    assert same(read_back.elements, held.elements)


def test_a_sample_stands_in_a_set_for_its_output(tmp_path: Path) -> None:
    """Under a name of its own, which no other tool takes for the whole tensor."""
    written = zoo.write_value(tmp_path / "output_0.pb", LARGE, name="y")
    zoo.write_value(tmp_path / "output_1.pb", ONE, name="z")
    assert written.name == "output_0.sample.json"
    assert json.loads(written.read_text())["name"] == "y"
    got = zoo.read_set(tmp_path, "output", names=["y", "z"], types=["tensor(float)"] * 2)
    assert isinstance(got["y"], SampledTensor)
    assert same(got["z"], ONE)


def test_a_value_and_its_sample_are_one_too_many(tmp_path: Path) -> None:
    """Nobody could say which of the two holds."""
    zoo.write_value(tmp_path / "output_0.pb", LARGE)
    zoo.write_value(tmp_path / "output_0.pb", ONE)
    with pytest.raises(ModelFileError) as caught:
        zoo.read_set(tmp_path, "output", names=["y"], types=["tensor(float)"])
    assert caught.value.got == "output_0.pb, output_0.sample.json"


POSITIONS = LARGE.positions.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"positions": POSITIONS[:-1]},
        {"positions": [*POSITIONS[:-1], 1200]},
        {"positions": [*POSITIONS[:-2], POSITIONS[-1], POSITIONS[-1]]},
        {"positions": [-1, *POSITIONS[1:]]},
        {"positions": "all"},
        {"shape": [30]},
        {"shape": [-30, -40]},
        {"dtype": "float16"},
        {"dtype": "real"},
        {"sha256": "0"},
        {"elements": "AAAA"},
        {"elements": "?"},
        {"elements": None},
    ],
    ids=repr,
)
def test_broken_samples(tmp_path: Path, change: dict[str, Any]) -> None:
    """Too few positions, wrong ones, data that do not fit: never a weaker check."""
    path = zoo.write_value(tmp_path / "output_0.pb", LARGE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelFileError) as caught:
        zoo.read_value(path, "tensor(float)")
    assert caught.value.code == "reference.recorded"
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"], ids=repr)
def test_samples_that_are_none(tmp_path: Path, content: bytes) -> None:
    """Noise and other JSON are told like every broken value."""
    path = tmp_path / "output_0.sample.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        zoo.read_value(path, "tensor(float)")


def test_a_sample_is_no_part_of_a_value() -> None:
    """A sequence of samples has no file."""
    with pytest.raises(TypeError):
        value_bytes((LARGE,))


def test_names_are_written_for_other_readers() -> None:
    """The tensor carries the name of its input or output; without one the field is absent."""
    assert onnx.TensorProto.FromString(value_bytes(ONE)).name == ""
    assert not onnx.TensorProto.FromString(value_bytes(ONE)).HasField("name")
    assert onnx.TensorProto.FromString(zoo.value_bytes(ONE, name="y")).name == "y"


def test_following_sets() -> None:
    """Steps go by number; a single one may have any name."""
    assert zoo.following_sets("real", 1) == ("real",)
    assert zoo.following_sets("test_data_set_9", 2) == ("test_data_set_9", "test_data_set_10")
    with pytest.raises(ModelFileError) as caught:
        zoo.following_sets("real", 2)
    assert caught.value.what == "Recorded data set 'real' cannot be the first of 2 steps"
