"""2,000 tiny models in model-zoo layout through the gate, against onnx's own backend tests.

The models are the node cases of `onnx.backend.test`, each written as `model.onnx` with its data
set; copies under new names fill up to the wanted number. The harness judges contract and parity of
each in a fresh worker. The peer runs the same cases, and the same number of them, through
`onnxruntime.backend` under pytest, in its own process. Both are whole pytest runs from start to
end, and both are timed twice: over all cases as they come, with those that ONNX Runtime refuses or
computes differently, which is what the goal is about; and over the cases that both pass, where the
peer has no tracebacks to write. The gate does not search where its failures begin: the peer has
nothing like it.
"""

from __future__ import annotations

import importlib
import json
import operator
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
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

GOAL = "2,000 models with a fresh worker each take at most the time of 2,000 of onnx's cases"
#: What `numbered` adds to the name of a copy.
_NUMBERED = re.compile(r"\.\d+$")
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
    few = FEW if options.quick else ()
    with tempfile.TemporaryDirectory() as folder:
        sources = write_models(Path(folder) / "sources", node_cases(few)[:models])
        whole = Runs(Path(folder) / "whole", sources, list(sources), models, few=few, failing=True)
        passed = whole.passed_by_both()
        sound = Runs(Path(folder) / "sound", sources, passed, models, few=few, failing=False)
        arms = {
            "gate": whole.gate,
            "peer": whole.peer,
            "gate_passing": sound.gate,
            "peer_passing": sound.peer,
        }
        times = bench.alternate(arms, rounds)
    ratio, ratio_passing = (
        bench.median_of_pairs(times, f"gate{which}", f"peer{which}", operator.truediv)
        for which in ("", "_passing")
    )
    figures = {
        "models": models,
        "distinct_cases": len(sources),
        "distinct_cases_passing": len(passed),
        "rounds": rounds,
        **bench.medians(times, 2),
        "ratio": round(ratio, 3),
        "ratio_passing": round(ratio_passing, 3),
    }
    bench.report("zoo_2000", figures=figures, goal=GOAL, met=ratio <= 1)


class Runs:
    """The two runs that are compared, over the same cases.

    Args:
        folder: Where both projects are made.
        sources: Model folders by name, with the name of onnx's case.
        names: Those to take.
        count: Models to make of them.
        few: Modules of onnx's node cases to import; all if empty.
        failing: Whether some may fail.
    """

    def __init__(
        self,
        folder: Path,
        sources: Mapping[str, tuple[Path, str]],
        names: Sequence[str],
        count: int,
        *,
        few: Sequence[str],
        failing: bool,
    ) -> None:
        self._failing = failing
        self._gate = bench.foreign_project(folder / "gate")
        self._peer = bench.foreign_project(folder / "peer")
        chosen = {}
        for name, original in islice(numbered(names), count):
            path, case = sources[original]
            shutil.copytree(path, self._gate / "models" / name)
            chosen[f"test_{name}"] = case
        (self._peer / "chosen.json").write_text(json.dumps(chosen), encoding="utf-8")
        tests = PEER_TESTS.format(few=list(few))
        (self._peer / "test_backend.py").write_text(tests, encoding="utf-8")

    def gate(self, *arguments: str | Path) -> None:
        """Judge contract and parity of every model."""
        asked = ["-m", "contract or parity", "--no-localise", *arguments]
        environment = bench.gate_environment(self._gate / "cache")
        command = bench.gate_command(self._gate / "models", *asked)
        bench.run(command, cwd=self._gate, env=environment, failing=self._failing)

    def peer(self, *arguments: str | Path) -> None:
        """Run every case through the backend."""
        command = bench.pytest_command("-p", "no:harness.plugin", "test_backend.py", *arguments)
        bench.run(command, cwd=self._peer, failing=self._failing)

    def passed_by_both(self) -> list[str]:
        """Run both once, and return the models that pass here and there."""
        record, junit = self._gate / "record.json", self._peer / "junit.xml"
        self.gate("--harness-json", record)
        self.peer(f"--junitxml={junit}")
        items = read_record(record).items
        bad = {item.cell.split("/")[0] for item in items if item.verdict is not Verdict.PASS}
        judged = {item.cell.split("/")[0] for item in items if item.question == "parity"}
        cases = ElementTree.parse(junit).iter("testcase")  # noqa: S314 - our own run wrote it
        good = {case.attrib["name"][len("test_") :] for case in cases if not len(case)}
        return sorted(name for name in (judged - bad) & good if not _NUMBERED.search(name))


def write_models(folder: Path, cases: Sequence[Any]) -> dict[str, tuple[Path, str]]:
    """Write onnx's node cases as model folders; return them by name, with onnx's own names."""
    sources: dict[str, tuple[Path, str]] = {}
    for case in cases:
        name = case.name.lower()
        if name in sources:
            continue  # two names that differ by case alone
        target = folder / name
        target.mkdir(parents=True)
        (target / MODEL_FILE).write_bytes(case.model.SerializeToString())
        sets = [(values(given), values(expected)) for given, expected in case.data_sets]
        write_sets(target, case.model, sets)
        sources[name] = (target, case.name)
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
