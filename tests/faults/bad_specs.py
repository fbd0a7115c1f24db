"""Bad input: specs, and the names and folders of models."""

from __future__ import annotations

import os

from harness.testing import MiniProject, file_spec, linear_model
from tests.faults.table import Maker

GOOD = linear_model().SerializeToString()
FILE = 'file = "model.onnx"'
X = '[inputs.x]\nshape = ["batch", 3]\ndtype'
DIMS = "[dims]\nbatch = { max = 8 }"
REASONED = '{ atol = 1.0, rtol = 1.0, reason = "none" }'


def spec(text: str | bytes) -> Maker:
    """Return the maker of the linear model with this spec."""

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, files={"model.onnx": GOOD, "model.toml": text})

    return make


def more(tables: str) -> Maker:
    """Return the maker of the linear model with further tables in its spec."""
    return spec(file_spec(more=tables))


def inputs(tables: str) -> Maker:
    """Return the maker of the linear model with these tables for its inputs."""
    return spec(file_spec(inputs=f"{tables}\n\n{DIMS}"))


def case(keys: str, most: int = 8) -> Maker:
    """Return the maker of the linear model whose only case has these keys."""
    tables = f'{X} = "float32"\n\n[dims]\nbatch = {{ max = {most} }}'
    return spec(file_spec(inputs=tables, case=f'[[case]]\nname = "one"\n{keys}'))


def known(cell: str, code: str) -> str:
    """Return the table of a known failure."""
    where = f'cell = "{cell}"\ncode = "{code}"\n'
    return f'[[known_failure]]\n{where}issue = "https://example.com/7"\nexpires = 2999-01-01\n'


def source(keys: str) -> Maker:
    """Return the maker of a model whose candidate is given by these keys."""
    text = file_spec(reference='torch = "reference.py:build"')
    return spec(text.replace(FILE, keys))


def empty_folder(project: MiniProject, name: str) -> None:
    """Make a folder with nothing in it."""
    project.add_model(name)


def folder_not_utf8(project: MiniProject, _: str) -> None:
    """Make a folder whose name is Latin-1."""
    folder = project.models / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "model.toml").write_text(file_spec(), encoding="utf-8")


MAKERS: dict[str, Maker] = {
    "Not_Plain": spec(file_spec()),
    "name-not-utf8": folder_not_utf8,
    "folder-empty": empty_folder,
    "toml-empty": spec(""),
    "toml-not-toml": spec("schema_version = = 1\n"),
    "toml-not-utf8": spec(b'summary = "caf\xe9"\n'),
    "toml-nested": spec("a = " + "[" * 5000),
    "toml-date": spec("schema_version = 2026-01-01\n"),
    "key-unknown": more(f"[outputs.y.tolerence]\ncpu = {REASONED}"),
    "key-unknown-top": spec("colour = 1\n" + file_spec()),
    "value-type": case('dims = { batch = "1" }'),
    "value-infinite": inputs(f'{X} = "float32"\nrange = [0.0, inf]'),
    "value-not-a-number": inputs(f'{X} = "float32"\nrange = [0.0, nan]'),
    "value-words": inputs(f'{X} = "float32"\nvalues = ["a"]'),
    "value-too-wide": inputs(f'{X} = "uint8"\nvalues = [300]'),
    "range-too-wide": inputs(f'{X} = "uint8"\nrange = [0, 300]'),
    "case-missing": spec(file_spec(case="")),
    "case-open": case(""),
    "dims-huge": case("dims = { batch = 1000000000000000 }", 10**15),
    "dtype-unknown": inputs(f'{X} = "float33"'),
    "dtype-wrong": inputs(f'{X} = "float64"'),
    "dtype-reason": spec(file_spec().replace("[candidate]", '[candidate]\ndtype = "float16"')),
    "dtype-output": more('[outputs.y]\ndtype = "float16"'),
    "shape-wrong": inputs('[inputs.x]\ndtype = "float32"\nshape = ["batch", 4]'),
    "input-unused": inputs(f'{X} = "float32"\n\n{X.replace("x", "mask")} = "float32"'),
    "input-misnamed": inputs(f'{X.replace(".x", ".X")} = "float32"'),
    "output-misnamed": more('[outputs.z]\ncompare = "close"'),
    "state-output": more('[state]\nfeedback = { z = "x" }\nsteps = 2'),
    "relation-impossible": inputs(
        f'{X} = "int64"\nrange = [7, 9]\nrelation = {{ kind = "less-than", dim = "batch" }}'
    ),
    "relation-key": inputs(f'{X} = "float32"\nrelation = {{ kind = "sorted", axis = 1 }}'),
    "property-dimension": more('[properties]\nbatch = "rows"'),
    "property-reason": more('[properties.leave_out]\nkinds = ["ramp"]\nreason = ""'),
    "limit-infinite": more("[limits]\nrun_s = inf"),
    "threads-many": more("[session]\nthreads = 100000"),
    "session-key": more('[session.config]\n"session.disable_prepackin" = "1"'),
    "provider-unknown": spec(file_spec(providers="cpu = {}\ncpuu = {}")),
    "provider-tolerance": more(f"[outputs.y.tolerance]\ncpuu = {REASONED}"),
    "tolerance-reason": more(f"[outputs.y.tolerance]\ncpu = {REASONED.replace('none', '')}"),
    "known-code": more(known("*", "parity.tolerence")),
    "known-dead": more(known("*/fp23", "parity.tolerance")),
    "known-passed": more(known("*", "parity.tolerance")),
    "custom-ops-missing": more('[session]\ncustom_ops = ["./lib.so"]'),
    "custom-ops-broken": more('[session]\ncustom_ops = ["./model.toml"]'),
    "package-missing": spec('requires = ["no-such-distribution"]\n' + file_spec()),
    "package-file": source(f'package = "numpy"\n{FILE}'),
    "url-hash": source(f'url = "file:///etc/passwd"\nsha256 = "{"0" * 64}"'),
    "url-missing": source(f'url = "file:///no/model.onnx"\nsha256 = "{"0" * 64}"'),
}
