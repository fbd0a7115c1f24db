"""The properties suite on the MNIST model, against the same work in one process.

Batches of 1 to 8, with the laws of the shipped spec. Three arms take turns: the gate with
references in its cache, the gate with live references (PyTorch in a worker of its own), and the
same examples filled, run once and compared by numpy inside this process: no workers, receipts, laws
or cache. Beside them stands what hypothesis' own `arrays()` draws in a second at 1x1x28x28, which
is why examples are drawn as recipes. Needs torch.
"""

from __future__ import annotations

import operator
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side as bench

from harness.domain.cells import Cell
from harness.domain.examples import Example, Space
from harness.domain.project import ProjectSettings
from harness.domain.questions import PROPERTIES
from harness.domain.receipts import Receipt
from harness.domain.verdict import Verdict
from harness.evidence import Selection
from harness.files.models import Model, load_models
from harness.pipeline import Gate
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.search import Plan, smallest_counterexample

EXAMPLES, QUICK = 200, 20
LEAST_PER_SECOND = 50
GOAL = (
    f"at least {LEAST_PER_SECOND} examples a second at batch 1 to 8, with cached and with live "
    "references, worker border included"
)
CELL = Cell("mnist", "fp32", "cpu")
MODEL = Path(__file__).parents[1] / "models" / CELL.model
#: What is changed in the shipped spec.
DIMS, BATCHES = "batch = { min = 1, max = 64 }", "batch = { min = 1, max = 8 }"


def main() -> None:
    """Run the benchmark."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    options = bench.parser(__doc__, rounds=5).parse_args()
    examples, rounds = (QUICK, 1) if options.quick else (EXAMPLES, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        project = bench.foreign_project(Path(folder) / "project")
        write_model(project / "models" / CELL.model, examples)
        judged, times = time_arms(project, rounds)
        arrays = arrays_per_second(project, examples)
    figures: dict[str, Any] = {
        "examples": judged,
        "rounds": rounds,
        **{f"{arm}_per_s": round(judged / statistics.median(each), 1)
           for arm, each in times.items()},
        "cached_times_inside": round(
            bench.median_of_pairs(times, "cached", "inside", operator.truediv), 2
        ),
        "hypothesis_arrays_per_s": round(arrays, 1),
    }  # fmt: skip
    slowest = min(figures["cached_per_s"], figures["live_per_s"])
    bench.report("properties", figures=figures, goal=GOAL, met=slowest >= LEAST_PER_SECOND)


def time_arms(project: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Return how many examples each arm judged, and the times of all arms."""
    model = load_models(project / "models")[CELL.model]
    if not isinstance(model, Model):
        sys.exit(str(model.problem))
    with Search(project, "ci") as cached, Search(project, "nightly") as live:
        judged = cached.judge().counts["examples_judged"]  # fills the cache, forks the workers
        live.judge()
        inside = Inside(model, cached.file(), project)
        if inside.judge() != judged:
            sys.exit("the arms did not judge the same examples")
        arms: dict[str, Callable[[], object]] = {
            "cached": cached.judge,
            "live": live.judge,
            "inside": inside.judge,
        }
        return judged, bench.alternate(arms, rounds)


class Search:
    """The suite's question, put to a gate again and again."""

    def __init__(self, project: Path, profile: str) -> None:
        self._launcher = LocalLauncher()
        runtimes = Runtimes(ProjectSettings(), project, project / "runtimes", self._launcher)
        selection = Selection(models=load_models(project / "models"), profile=profile)
        self._cache = project / "cache"
        self._gate = Gate(selection, runtimes=runtimes, launcher=self._launcher, cache=self._cache)

    def judge(self) -> Receipt:
        """Search once; return the receipt."""
        judgement = self._gate.check(PROPERTIES, CELL)
        if judgement.verdict is not Verdict.PASS:
            sys.exit(f"{judgement.findings}")
        return judgement.receipt

    def file(self) -> Path:
        """Return the exported candidate."""
        return next(self._cache.rglob("*.onnx"))

    def __enter__(self) -> Search:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self._gate.close()
        self._launcher.close()


class Inside:
    """The same examples without gate: drawn before, filled, run and compared here."""

    def __init__(self, model: Model, file: Path, project: Path) -> None:
        import hashlib

        import onnxruntime

        self._space = Space(spec=model.spec)
        digest = hashlib.sha256(f":{CELL.model}".encode()).digest()
        self._plan = Plan(
            examples=model.spec.properties.count("ci"),
            seed=int.from_bytes(digest[:8], "little"),
            home=project / "hypothesis",
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(file, options, providers=providers)
        self._known: dict[str, Any] = {}

    def judge(self) -> int:
        """Judge all examples against the first answers; return how many there were."""
        judged = 0

        def fails(example: Example) -> bool:
            nonlocal judged
            judged += 1
            (feeds,) = self._space.fill(example)
            (got,) = self._session.run(None, dict(feeds))
            expected = self._known.setdefault(repr(example), got)
            return not np.allclose(got, expected, rtol=1e-4, atol=1e-5)

        if smallest_counterexample(self._space, fails, self._plan) is not None:
            sys.exit("the model does not repeat itself")
        return judged


def arrays_per_second(project: Path, count: int) -> float:
    """Return how many arrays of 1x1x28x28 hypothesis' own strategy draws in a second."""
    from hypothesis import HealthCheck, Phase, configuration, given, settings
    from hypothesis.extra import numpy as arrays
    from hypothesis.strategies import floats, nothing

    configuration.set_hypothesis_home_dir(project / "hypothesis")
    elements = floats(0, 1, width=32)
    strategy = arrays.arrays(np.float32, (1, 1, 28, 28), elements=elements, fill=nothing())
    drawn = 0

    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def draw(_: object) -> None:
        nonlocal drawn
        drawn += 1

    started = time.perf_counter()
    draw()
    return drawn / (time.perf_counter() - started)


def write_model(folder: Path, examples: int) -> None:
    """Copy the shipped model; its batches end at 8, and its cases are one."""
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    spec = (MODEL / "model.toml").read_text(encoding="utf-8")
    head, _, tail = spec.partition("[[case]]")
    outputs = tail[tail.index("[outputs") : tail.index("[latency]")]
    case = '[[case]]\nname = "one"\ndims = { batch = 1 }\n\n'
    head = head.replace(DIMS, BATCHES).replace(
        "[properties]\n", f"[properties]\nexamples = {examples}\n"
    )
    (folder / "model.toml").write_text(head + case + outputs, encoding="utf-8")


if __name__ == "__main__":
    main()
