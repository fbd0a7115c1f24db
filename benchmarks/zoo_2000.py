"""2,000 tiny models in model-zoo layout through the gate, against onnx's own backend tests.

The models are the node cases of `onnx.backend.test` that ONNX Runtime's CPU provider passes, each
written as `model.onnx` with its data set; copies under new names fill up to the wanted number.
The harness judges contract and parity of each in a fresh worker. The peer runs the same cases,
and the same number of them, through `onnxruntime.backend` under pytest, in its own process. Both
are whole pytest runs from start to end.
"""

from __future__ import annotations

import importlib
import json
import operator
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import side_by_side as bench
from onnx.backend.test import loader

from harness.domain.values import Value
from harness.domain.verdict import Verdict
from harness.files.zoo import MODEL_FILE, to_array
from harness.results.record import read_record
from harness.testing import write_sets

GOAL = "2,000 models with a fresh worker each take at most the time of onnx.backend.test"
#: Modules of onnx's node cases that `--quick` makes do with: importing all of them takes seconds.
FEW = ("abs", "add", "gemm", "relu", "sequenceinsert", "softmax")
PEER_TESTS = """
import importlib
import json
import pathlib
import unittest
import onnx.backend.test
import onnxruntime.backend
from onnx.backend.test import loader

few = {few}
if few:
    loader.import_recursive = lambda package: [
        importlib.import_module(f"{{package.__name__}}.{{name}}") for name in few
    ]
chosen = json.loads(pathlib.Path(__file__).with_name("chosen.json").read_text())
classes = onnx.backend.test.BackendTest(onnxruntime.backend, __name__).test_cases
functions = {{name: made for each in classes.values() for name, made in vars(each).items()}}
TestBackend = type("TestBackend", (unittest.TestCase,), {{
    name: functions[f"{{source}}_cpu"] for name, source in chosen.items()
}})
"""


def main() -> None:
    """Run the benchmark."""
    parser = bench.parser(__doc__, rounds=3)
    parser.add_argument("--models", type=int, default=2000, help="default: 2000")
    options = parser.parse_args()
    models, rounds = (24, 1) if options.quick else (options.models, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        arms = Arms(Path(folder), models, few=FEW if options.quick else ())
        times = bench.alternate({"gate": arms.gate, "peer": arms.peer}, rounds)
    ratio = bench.median_of_pairs(times, "gate", "peer", operator.truediv)
    figures = {
        "models": models,
        "distinct_cases": arms.distinct,
        "rounds": rounds,
        **bench.medians(times, 2),
        "ratio": round(ratio, 3),
    }
    bench.report("zoo_2000", figures=figures, goal=GOAL, met=ratio <= 1)


class Arms:
    """The two runs that are compared, over the same cases.

    Both run once before anything is timed, to find the cases that both pass.
    """

    def __init__(self, folder: Path, models: int, few: Sequence[str] = ()) -> None:
        self._gate = bench.foreign_project(folder / "gate")
        self._peer = bench.foreign_project(folder / "peer")
        tests = PEER_TESTS.format(few=list(few))
        (self._peer / "test_backend.py").write_text(tests, encoding="utf-8")
        sources = write_models(self._gate / "models", node_cases(few), limit=models)
        self._choose({name: name for name in sources}, sources)
        passed = self._passed_by_both()
        self.distinct = len(passed)
        for name in set(sources) - set(passed):
            shutil.rmtree(self._gate / "models" / name)
        names = dict(islice(numbered(passed), models))
        for name, original in names.items():
            if name != original:
                shutil.copytree(self._gate / "models" / original, self._gate / "models" / name)
        self._choose(names, sources)

    def gate(self, *arguments: str | Path, failing: bool = False) -> None:
        """Judge contract and parity of every model."""
        asked = ["-m", "contract or parity", *arguments]
        environment = bench.gate_environment(self._gate / "cache")
        command = bench.gate_command(self._gate / "models", *asked)
        bench.run(command, cwd=self._gate, env=environment, failing=failing)

    def peer(self, *arguments: str | Path, failing: bool = False) -> None:
        """Run every case through the backend."""
        command = bench.pytest_command("-p", "no:harness.plugin", "test_backend.py", *arguments)
        bench.run(command, cwd=self._peer, failing=failing)

    def _choose(self, names: dict[str, str], sources: dict[str, str]) -> None:
        """Tell the peer which of onnx's cases to run under which names."""
        chosen = {f"test_{name}": sources[original] for name, original in names.items()}
        (self._peer / "chosen.json").write_text(json.dumps(chosen), encoding="utf-8")

    def _passed_by_both(self) -> list[str]:
        record, junit = self._gate / "record.json", self._peer / "junit.xml"
        self.gate("--harness-json", record, failing=True)
        self.peer(f"--junitxml={junit}", failing=True)
        items = read_record(record).items
        bad = {item.cell.split("/")[0] for item in items if item.verdict is not Verdict.PASS}
        judged = {item.cell.split("/")[0] for item in items if item.question == "parity"}
        cases = ElementTree.parse(junit).iter("testcase")  # noqa: S314 - our own run wrote it
        good = [case for case in cases if not len(case)]
        return sorted((judged - bad) & {case.attrib["name"][len("test_") :] for case in good})


def write_models(folder: Path, cases: Sequence[Any], *, limit: int) -> dict[str, str]:
    """Write onnx's node cases as model folders; return their names with onnx's own."""
    sources: dict[str, str] = {}
    for case in cases[:limit]:
        name = case.name.lower()
        if name in sources:
            continue  # two names that differ by case alone
        target = folder / name
        target.mkdir(parents=True)
        (target / MODEL_FILE).write_bytes(case.model.SerializeToString())
        sets = [(values(given), values(expected)) for given, expected in case.data_sets]
        write_sets(target, case.model, sets)
        sources[name] = case.name
    return sources


def node_cases(few: Sequence[str]) -> list[Any]:
    """Return onnx's own cases, one node or function each; all, or those of a few modules."""
    if few:
        vars(loader)["import_recursive"] = lambda package: [
            importlib.import_module(f"{package.__name__}.{name}") for name in few
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and divisions that the cases are about
        return list(loader.load_model_tests(kind="node"))


def values(given: Sequence[Any]) -> list[Value]:
    """Return the values of a data set as the harness holds them."""
    return [value(item) for item in given]


def value(item: Any) -> Value:
    """Return one value: onnx's cases hold arrays, tensors as protobuf, and lists of them."""
    if isinstance(item, list | tuple):
        return tuple(value(part) for part in item)
    return to_array(item) if isinstance(item, onnx.TensorProto) else item


def numbered(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with itself, then again and again under new names."""
    yield from ((name, name) for name in names)
    for number in count(2):
        yield from ((f"{name}.{number}", name) for name in names)


if __name__ == "__main__":
    main()
