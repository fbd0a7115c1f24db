"""TOML files into values: every fault of a file at once, each under its dotted key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.domain.dtypes import DType
from harness.domain.project import ProjectSettings
from harness.domain.spec import InputSpec, ModelSpec
from harness.errors import SpecError
from harness.files import toml
from harness.testing import file_spec

BASE = """schema_version = 1
[candidate]
file = "m.onnx"
[reference]
onnx = true
"""
*FIRST, LAST = (f"'{dtype}'" for dtype in DType)
DTYPES = f"{', '.join(FIRST)} or {LAST}"
NEXT = "mend the keys above; `onnx-harness model schema` prints the format"


def validated(text: str, path: Path = Path("model.toml")) -> ModelSpec:
    """Validate the text of a spec."""
    return toml.validate(ModelSpec, tomllib.loads(text), path=path, title="Model spec 'm'")


def faults(text: str) -> list[str]:
    """Return the faults of a spec, one line each."""
    with pytest.raises(SpecError) as caught:
        validated(text)
    assert caught.value.code == "spec.invalid"
    return caught.value.got.splitlines()


def test_a_good_spec() -> None:
    """Arrays become tuples, tables become values."""
    spec = validated(file_spec())
    assert spec.inputs["x"].shape == ("batch", 3)
    assert spec.case[0].dims == {"batch": 1}


def test_all_faults_at_once_in_full() -> None:
    """One run of the reader shows everything that is wrong."""
    text = """schema_version = 1
sumary = "x"
[candidate]
file = "m.onnx"
[reference]
onnx = true
[session]
threads = "3"
[[case]]
dims = { batch = true }
[outputs.y]
compare = "clos"
tolerance.cpu = { atol = 1.0, rtol = 0.0, reason = "" }
"""
    with pytest.raises(SpecError) as caught:
        validated(text)
    assert str(caught.value) == (
        "Model spec 'm' has 6 faults: 'session.threads' must be a valid integer, got \"3\"\n"
        "  where:    model.toml\n"
        "  got:      'session.threads' must be a valid integer, got \"3\"\n"
        "            'case[0].name' is missing\n"
        "            'case[0].dims.batch' must be a valid integer, got true\n"
        "            'outputs.y.compare' must be 'close', 'exact', 'labels' or 'set', "
        'got "clos"\n'
        "            'outputs.y.tolerance.cpu' what loosens a check needs a 'reason'\n"
        "            unknown key 'sumary'; did you mean 'summary'?\n"
        f"  next:     {NEXT}"
    )


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("[session]\nthread = 1", "unknown key 'session.thread'; did you mean 'threads'?"),
        (
            "[limits]\nzzz = 1",
            "unknown key 'limits.zzz'; expected one of load_s, localise_s, reference_s, run_s",
        ),
        (
            '[inputs.x]\ndtype = "float"',
            f"'inputs.x.dtype' must be {DTYPES}, got \"float\"",
        ),
        (
            '[inputs.x]\ndtype = "float32"\nshape = [1.5]',
            "'inputs.x.shape[0]' must be a valid integer or a valid string, got 1.5",
        ),
        (
            '[inputs.x]\ndtype = "float32"\nrange = [1]',
            "'inputs.x.range[1]' is missing",
        ),
        (
            '[inputs.x]\ndtype = "float32"\nrange = [2, 1]',
            "'inputs.x' 'range' must rise, got [2, 1]",
        ),
        ("[dims]\nn = {}", "'dims.n.max' is missing"),
        ("[dims]\nn = { max = 1, mim = 0 }", "unknown key 'dims.n.mim'; did you mean 'min'?"),
        (
            "[variants.half]",
            "'variants.half' needs exactly one of 'file', 'url', 'export', got none",
        ),
        ("[variants]\nhalf = 3", "'variants.half' must be an object, got 3"),
        (
            "[providers.cpu]\noptions = { a = 1 }",
            "'providers.cpu.options.a' must be a valid string, got 1",
        ),
    ],
)
def test_faults_by_kind(more: str, fault: str) -> None:
    """Wrong types, missing and unknown keys, contradictions: each with key and value."""
    assert faults(f"{BASE}{more}\n") == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BASE.replace("= 1", "= 2"), "'schema_version' must be 1, got 2"),
        (
            BASE.replace("onnx = true", "onnx = false"),
            "'reference.onnx' must be true or a valid string, got false",
        ),
        (BASE.replace("schema_version = 1\n", ""), "'schema_version' is missing"),
        (
            BASE.replace("onnx = true", "onnx = 3"),
            "'reference.onnx' must be true or a valid string, got 3",
        ),
    ],
)
def test_faults_of_the_first_tables(text: str, fault: str) -> None:
    """A number is not its text, and `true` is not 1."""
    assert faults(text) == [fault]


def test_one_fault_is_singular() -> None:
    """The first line has the first fault."""
    with pytest.raises(SpecError, match=r"^Model spec 'm' has 1 fault: unknown key 'x'"):
        validated(f"x = 1\n{BASE}")


NOT_TOML = """'model.toml' is not valid TOML: Invalid value (at line 1, column 5)
  where:    {path}
  next:     see https://toml.io"""
NOT_TEXT = """'model.toml' is not UTF-8 text
  where:    {path}
  got:      'utf-8' codec can't decode byte 0xff in position 5: invalid start byte"""
DEEP = """'model.toml' is nested too deeply
  where:    {path}"""
MISSING = """Cannot read 'model.toml': No such file or directory
  where:    {path}"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = \n", NOT_TOML),
        (b"a = '\xff'", NOT_TEXT),
        (b"a = " + b"[" * 5000, DEEP),
        (None, MISSING),
    ],
    ids=["broken", "bytes", "deep", "missing"],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    """Nothing but a SpecError leaves the reader."""
    path = tmp_path / "model.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        toml.read(path)
    assert str(caught.value) == message.format(path=path)


@pytest.mark.parametrize("kind", [ModelSpec, ProjectSettings, InputSpec])
def test_schema(kind: type[object]) -> None:
    """The published schema describes every key and refuses unknown ones."""
    schema = toml.schema(kind)
    tables = [schema, *schema.get("$defs", {}).values()]
    objects = [table for table in tables if "properties" in table]
    assert objects
    for table in objects:
        assert table["additionalProperties"] is False
        assert all("description" in key or "$ref" in key for key in table["properties"].values())
