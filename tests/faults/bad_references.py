"""Bad input: references and converters."""

from __future__ import annotations

from harness.domain.verdict import Verdict
from harness.testing import MiniProject, file_spec, linear_model
from tests.faults.row import Maker, Row

GOOD = linear_model().SerializeToString()
QUICK = "[limits]\nreference_s = 1.0"
MODULE = """import os, pathlib, sys, time
import torch

class Module(torch.nn.Module):
    def forward(self, x):
        {forward}

def build():
    {build}
    return Module()
"""
PEEK = 'pathlib.Path(__file__).with_name("secret.txt").read_text(); return x[:, :2]'
NOISE = 'print("noise" * 20_000_000); raise RuntimeError("noise" * 1_000_000)'
COLOURS = r'raise RuntimeError("\n\n\x1b[31mred\nsecond line")'

EXPORT = """schema_version = 1
requires = ["scikit-learn", "skl2onnx"]
[candidate]
export = {{ opset = 20, ml_opset = 3 }}
[reference]
sklearn = "reference.py:build"
methods = {methods}
[inputs.X]
dtype = "float32"
shape = ["batch", 4]
[dims]
batch = {{ max = 8 }}
[[case]]
name = "one"
dims = {{ batch = 2 }}
"""
#: skl2onnx writes a boolean where ONNX wants an integer, and prints the whole forest.
FOREST = """import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

def build():
    rows = np.linspace(-1, 1, 400, dtype=np.float32).reshape(100, 4)
    return HistGradientBoostingClassifier(max_iter=20).fit(rows, np.arange(100) % 2)
"""
LINE = """import numpy as np
from sklearn.linear_model import LinearRegression

def build():
    rows = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    return LinearRegression().fit(rows, np.arange(10))
"""
ODD = """class Odd:
    def predict(self, rows):
        return rows

def build():
    return Odd()
"""


def code(text: str, *, entry: str = "reference.py:build", more: str = "", tables: str = "") -> Maker:
    """Return the maker of the linear model with this file as its PyTorch reference."""
    spec = file_spec(reference=f'torch = "{entry}"\n{more}', more=tables)
    files = {"model.onnx": GOOD, "reference.py": text, "secret.txt": "not declared"}

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, spec, files)

    return make


def forward(statement: str, tables: str = "") -> Maker:
    """Return the maker of the linear model whose reference runs this statement."""
    return code(MODULE.format(forward=statement, build="pass"), tables=tables)


def build(statement: str, tables: str = "") -> Maker:
    """Return the maker of the linear model whose reference is built by this statement."""
    return code(MODULE.format(forward="return x", build=statement), tables=tables)


def estimator(text: str, methods: str = "{ variable = 'predict' }") -> Maker:
    """Return the maker of a model that is exported from scikit-learn."""

    def make(project: MiniProject, name: str) -> None:
        project.add_model(name, EXPORT.format(methods=methods), {"reference.py": text})

    return make


ROWS = (
    Row(id="reference-raises", make=forward('raise RuntimeError("no weights")'), asks="parity"),
    Row(id="reference-build-raises", make=build('raise RuntimeError("no weights")'), asks="parity"),
    Row(id="reference-syntax", make=code("def build(:\n"), asks="parity"),
    Row(id="reference-import", make=code("import no_such_module\n"), asks="parity"),
    Row(id="reference-hangs", make=forward("time.sleep(60)", QUICK), asks="parity"),
    Row(id="reference-build-hangs", make=build("time.sleep(60)", QUICK), asks="parity"),
    Row(id="reference-exits", make=forward("sys.exit(3)"), asks="parity"),
    Row(id="reference-aborts", make=forward("os.abort()"), asks="parity"),
    Row(id="reference-count", make=forward("return x[:, :2], x"), asks="parity"),
    Row(id="reference-names", make=forward('return {"z": x[:, :2]}'), asks="parity"),
    Row(id="reference-nothing", make=forward("return None"), asks="parity"),
    Row(id="reference-shape", make=forward("return x"), asks="parity"),
    Row(id="reference-broadcast", make=forward("return x[:0, :2]"), asks="parity"),
    Row(id="reference-dtype", make=forward("return x[:, :2].double()"), asks="parity"),
    Row(id="reference-nan", make=forward("return x[:, :2] * torch.nan"), asks="parity"),
    Row(id="reference-text", make=forward('return "y"'), asks="parity"),
    Row(id="reference-number", make=forward("return 3.0"), asks="parity"),
    Row(id="reference-nested", make=forward("return [[x[:, :2]]]"), asks="parity"),
    Row(id="reference-no-module", make=code("def build():\n    return 3\n"), asks="parity"),
    Row(id="reference-no-function", make=code("", entry="reference.py:make"), asks="parity"),
    Row(id="reference-no-file", make=code("", entry="other.py:build"), asks="parity"),
    Row(id="reference-no-archive", make=code("", entry="secret.txt"), asks="parity"),
    Row(id="reference-depends", make=code("", more='depends = ["weights.bin"]'), asks="parity"),
    Row(id="reference-undeclared", make=forward(PEEK), asks="parity"),
    Row(id="reference-noisy", make=forward(NOISE), asks="parity"),
    Row(id="reference-colours", make=forward(COLOURS), asks="parity"),
    Row(id="methods-missing", make=estimator(LINE, "{ y = 'predict' }"), asks="parity"),
    Row(id="methods-unknown", make=estimator(LINE, "{ variable = 'foretell' }"), asks="parity"),
    Row(id="converter-endless", make=estimator(FOREST), asks="contract"),
    Row(id="converter-refuses", make=estimator(ODD), asks="contract"),
)
