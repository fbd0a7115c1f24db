"""Bad input: specs, and the names and folders of models."""

from __future__ import annotations

import os

from harness.domain.verdict import Verdict
from harness.testing import MiniProject, file_spec, linear_model
from tests.faults.row import Maker, Row

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


def source(keys: str) -> Maker:
    """Return the maker of a model whose candidate is given by these keys."""
    return spec(file_spec().replace(FILE, keys))


def empty_folder(project: MiniProject, name: str) -> None:
    """Make a folder with nothing in it."""
    project.add_model(name)


def folder_not_utf8(project: MiniProject, _: str) -> None:
    """Make a folder whose name is Latin-1."""
    folder = project.models / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "model.toml").write_text(file_spec(), encoding="utf-8")


ROWS = (
    Row(id="Not_Plain", make=spec(file_spec()), asks="contract"),
    Row(id="name-not-utf8", model="caf\\udce9", make=folder_not_utf8, asks="contract"),
    Row(id="folder-empty", make=empty_folder, asks="contract"),
    Row(id="toml-empty", make=spec(""), asks="contract"),
    Row(id="toml-not-toml", make=spec("schema_version = = 1\n"), asks="contract"),
    Row(id="toml-not-utf8", make=spec(b'summary = "caf\xe9"\n'), asks="contract"),
    Row(id="toml-nested", make=spec("a = " + "[" * 5000), asks="contract"),
    Row(id="toml-date", make=spec("schema_version = 2026-01-01\n"), asks="contract"),
    Row(id="key-unknown", make=more(f"[outputs.y.tolerence]\ncpu = {REASONED}"), asks="contract"),
    Row(id="key-unknown-top", make=spec("colour = 1\n" + file_spec()), asks="contract"),
    Row(id="value-type", make=case('dims = { batch = "1" }'), asks="contract"),
    Row(id="value-infinite", make=inputs(f'{X} = "float32"\nrange = [0.0, inf]'), asks="contract"),
    Row(id="value-not-a-number", make=inputs(f'{X} = "float32"\nrange = [0.0, nan]'), asks="contract"),
    Row(id="value-words", make=inputs(f'{X} = "float32"\nvalues = ["a"]'), asks="contract"),
    Row(id="value-too-wide", make=inputs(f'{X} = "uint8"\nvalues = [300]'), asks="contract"),
    Row(id="range-too-wide", make=inputs(f'{X} = "uint8"\nrange = [0, 300]'), asks="contract"),
    Row(id="case-missing", make=spec(file_spec(case="")), asks="contract"),
    Row(id="case-open", make=case(""), asks="parity"),
    Row(id="dims-huge", make=case("dims = { batch = 1000000000000000 }", 10**15), asks="parity"),
    Row(id="dtype-unknown", make=inputs(f'{X} = "float33"'), asks="contract"),
    Row(id="dtype-wrong", make=inputs(f'{X} = "float64"'), asks="contract"),
    Row(id="dtype-output", make=more('[outputs.y]\ndtype = "float16"'), asks="parity"),
    Row(id="shape-wrong", make=inputs('[inputs.x]\ndtype = "float32"\nshape = ["batch", 4]'), asks="contract"),
    Row(id="input-unused", make=inputs(f'{X} = "float32"\n\n{X.replace("x", "mask")} = "float32"'), asks="contract"),
    Row(id="input-misnamed", make=inputs(f'{X.replace(".x", ".X")} = "float32"'), asks="contract"),
    Row(id="output-misnamed", make=more('[outputs.z]\ncompare = "close"'), asks="contract"),
    Row(id="state-output", make=more('[state]\nfeedback = { z = "x" }\nsteps = 2'), asks="parity"),
    Row(id="session-key", make=more('[session.config]\n"session.disable_prepackin" = "1"'), asks="placement"),
    Row(id="provider-unknown", make=spec(file_spec(providers="cpu = {}\ncpuu = {}")), asks="contract"),
    Row(id="provider-tolerance", make=more(f"[outputs.y.tolerance]\ncpuu = {REASONED}"), asks="contract"),
    Row(id="tolerance-reason", make=more(f"[outputs.y.tolerance]\ncpu = {REASONED.replace('none', '')}"), asks="contract"),
    Row(id="custom-ops-missing", make=more('[session]\ncustom_ops = ["./lib.so"]'), asks="placement"),
    Row(id="custom-ops-broken", make=more('[session]\ncustom_ops = ["./model.toml"]'), asks="placement"),
    Row(id="package-missing", make=spec('requires = ["no-such-distribution"]\n' + file_spec()), asks="contract"),
    Row(id="package-file", make=source(f'package = "numpy"\n{FILE}'), asks="contract"),
    Row(id="url-hash", make=source(f'url = "file:///etc/passwd"\nsha256 = "{"0" * 64}"'), asks="contract"),
    Row(id="url-missing", make=source(f'url = "file:///no/model.onnx"\nsha256 = "{"0" * 64}"'), asks="contract"),
)
