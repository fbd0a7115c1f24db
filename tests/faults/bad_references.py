"""Bad input: references and converters."""

from __future__ import annotations

from harness.testing import MiniProject, file_spec, linear_model
from tests.faults.table import Maker

GOOD: bytes = linear_model().SerializeToString()
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


def code(
    text: str, *, entry: str = "reference.py:build", more: str = "", tables: str = ""
) -> Maker:
    """Return the maker of the linear model with this file as its PyTorch reference."""
    spec = file_spec(reference=f'torch = "{entry}"\n{more}', more=tables)
    files: dict[str, str | bytes] = {
        "model.onnx": GOOD,
        "reference.py": text,
        "secret.txt": "not declared",
    }

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


MAKERS: dict[str, Maker] = {
    "reference-raises": forward('raise RuntimeError("no weights")'),
    "reference-build-raises": build('raise RuntimeError("no weights")'),
    "reference-syntax": code("def build(:\n"),
    "reference-import": code("import no_such_module\n"),
    "reference-hangs": forward("time.sleep(60)", QUICK),
    "reference-build-hangs": build("time.sleep(60)", QUICK),
    "reference-exits": forward("sys.exit(3)"),
    "reference-aborts": forward("os.abort()"),
    "reference-count": forward("return x[:, :2], x"),
    "reference-names": forward('return {"z": x[:, :2]}'),
    "reference-nothing": forward("return None"),
    "reference-shape": forward("return x"),
    "reference-broadcast": forward("return x[:0, :2]"),
    "reference-dtype": forward("return x[:, :2].double()"),
    "reference-nan": forward("return x[:, :2] * torch.nan"),
    "reference-text": forward('return "y"'),
    "reference-number": forward("return 3.0"),
    "reference-nested": forward("return [[x[:, :2]]]"),
    "reference-no-module": code("def build():\n    return 3\n"),
    "reference-no-function": code("", entry="reference.py:make"),
    "reference-no-file": code("", entry="other.py:build"),
    "reference-no-archive": code("", entry="secret.txt"),
    "reference-depends": code("", more='depends = ["weights.bin"]'),
    "reference-undeclared": forward(PEEK),
    "reference-noisy": forward(NOISE),
    "reference-colours": forward(COLOURS),
    "methods-missing": estimator(LINE, "{ y = 'predict' }"),
    "methods-unknown": estimator(LINE, "{ variable = 'foretell' }"),
    "converter-endless": estimator(FOREST),
    "converter-refuses": estimator(ODD),
}
