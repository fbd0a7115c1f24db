"""Where an error begins in a 200-node model: batches of taps against all taps at once.

One channel of one node is off by 1 %. Ours: `harness.localise` from the failing cell to the report,
with at most 16 MiB of values held at once; once held against another graph, once against a PyTorch
module, which is exported again for its values. The naive way: all values of candidate and reference
tapped at once, and the first that differs by more than rounding is named; it is given the same
workers. Each search is a process of its own, and its memory is the proportional set size of the
process and its workers, less what the process had before and less the same difference of a search
on values of 1/64 of the size: what is left are the values that the search holds.
"""

from __future__ import annotations

import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import side_by_side as bench
from onnx import helper, numpy_helper

from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings
from harness.evidence import Evidence, Selection
from harness.files.models import load_models
from harness.localise.deviations import deviation
from harness.localise.search import localise
from harness.localise.workbench import Deadline, Setup, Trusted, Workbench
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.testing import file_spec, make_model, tensor_info

NODES, OFF, SIZE, ROWS = 200, 100, 64, 4096
BATCH_BYTES = 16 << 20
MOST_S, MOST_TIMES = 10.0, 4.0
BUDGET_S = 600.0
GOAL = (
    f"one channel that is off in {NODES} nodes is found in at most {MOST_S:g} s, against a graph "
    f"and against PyTorch, with at most {MOST_TIMES:g} x the largest batch of taps as extra memory"
)
CELL = Cell("m", "fp32", "cpu", "one")


def main() -> None:
    """Run the benchmark, or one search for it."""
    parser = bench.parser(__doc__, rounds=3)
    parser.add_argument("--search", nargs=2, metavar=("ARM", "FOLDER"), help="used by itself")
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if options.search:
        arm, folder = options.search
        watches = arm != "torch"  # looking at PyTorch's many mappings takes longer than its search
        print(json.dumps(searched(SEARCHES.get(arm, ours), Path(folder), watches=watches)))
        return
    nodes, rows, rounds = (20, 64, 1) if options.quick else (NODES, ROWS, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "full", Path(folder) / "small"
        module = Path(folder) / "module"
        write(full, nodes, rows)
        write(small, nodes, max(1, rows // 64))
        write_module(module, nodes)
        found = {arm: [run(arm, full) for _ in range(rounds)] for arm in SEARCHES}
        least = {arm: [run(arm, small) for _ in range(rounds)] for arm in SEARCHES}
        torch = [run("torch", module) for _ in range(rounds)]
    report(nodes, rounds, found, least, torch)


def report(
    nodes: int,
    rounds: int,
    found: dict[str, list[dict[str, Any]]],
    least: dict[str, list[dict[str, Any]]],
    torch: list[dict[str, Any]],
) -> None:
    """Print the result."""
    searches = {**found, "torch": torch}
    for arm, each in searches.items():
        expected = f"node_linear_{nodes // 8}" if arm == "torch" else f"n{nodes // 2}"
        if any(one["node"] != expected for one in each):
            sys.exit(f"{arm} named another node than {expected}: {each}")
    times = {
        arm: statistics.median(one["seconds"] for one in each) for arm, each in searches.items()
    }
    extra = {
        arm: statistics.median(one["extra"] for one in each)
        - statistics.median(one["extra"] for one in least[arm])
        for arm, each in found.items()
    }
    batch = found["ours"][0]["largest_batch"]
    figures = {
        "nodes": nodes,
        "rounds": rounds,
        "ours_s": round(times["ours"], 2),
        "torch_s": round(times["torch"], 2),
        "naive_s": round(times["naive"], 2),
        "largest_batch_mib": round(batch / 2**20, 2),
        "batches": found["ours"][0]["batches"],
        "ours_extra_mib": round(extra["ours"] / 2**20, 1),
        "naive_extra_mib": round(extra["naive"] / 2**20, 1),
        "extra_per_batch": round(extra["ours"] / batch, 2),
    }
    met = max(times["ours"], times["torch"]) <= MOST_S and extra["ours"] <= MOST_TIMES * batch
    bench.report("localise", figures=figures, goal=GOAL, met=met)


def run(arm: str, folder: Path) -> dict[str, Any]:
    """Return what one search in a process of its own tells."""
    command = [sys.executable, __file__, "--search", arm, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def searched(
    search: Callable[[Evidence], dict[str, Any]], folder: Path, *, watches: bool
) -> dict[str, Any]:
    """Return what a search found, with its time and, where it is watched, its memory."""
    with LocalLauncher() as launcher:
        runtimes = Runtimes(ProjectSettings(), folder, folder / "runtimes", launcher)
        evidence = Evidence(
            Selection(models=load_models(folder / "models")),
            runtimes=runtimes,
            launcher=launcher,
            cache=folder / "cache",
            say=lambda _: None,
        )
        steps = evidence.inputs(CELL)
        evidence.reference(CELL, steps)  # what the failing item has computed already
        evidence.run(CELL, steps)
        evidence.close()
        memory = Memory() if watches else None
        started = time.perf_counter()
        found = search(evidence)
        seconds = time.perf_counter() - started
        evidence.close()
        return {**found, "seconds": seconds, "extra": memory.stop() if memory else 0}


def ours(evidence: Evidence) -> dict[str, Any]:
    """Search as the harness does."""
    found = localise(evidence, CELL, budget_s=BUDGET_S, batch_bytes=BATCH_BYTES)
    return {
        "node": found.origin.node.strip("'") if found.origin else "",
        "largest_batch": found.largest_batch_bytes,
        "batches": found.batches,
    }


def naive(evidence: Evidence) -> dict[str, Any]:
    """Tap every value of both graphs at once, and name the first that differs."""
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(resolved=evidence.provider(CELL), config=evidence.config(CELL)).at("disabled")
        path, _ = evidence.file(CELL)
        (feeds,) = evidence.inputs(CELL)
        found = []
        for model in (path, path.with_name("right.onnx")):
            part = Path(folder) / model.stem
            part.mkdir()
            taps = Workbench(
                evidence.tools(),
                model,
                limits_s=(60.0, 60.0),
                deadline=Deadline(BUDGET_S),
                folder=part,
            )
            outline = taps.outline()
            names = [name for node in outline.nodes for name in node.outputs]
            found.append(Trusted(taps, setup).run(taps.tapped(names), feeds))
    candidate, reference = found
    last = next(iter(reference))  # outputs come before taps
    for name, value in reference.items():
        if name != last and deviation(reference=value, candidate=candidate[name]).notable_alone:
            return {"node": name.replace("v", "n"), "largest_batch": 0, "batches": 1}
    return {"node": "", "largest_batch": 0, "batches": 1}


SEARCHES = {"ours": ours, "naive": naive}


class Memory:
    """Follows the proportional set size of this process and everything that it started."""

    def __init__(self) -> None:
        self._before = self._peak = proportional_bytes(os.getpid())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the peak in bytes, less what this process had before."""
        self._over.set()
        self._thread.join()
        return self._peak - self._before

    def _follow(self) -> None:
        while not self._over.wait(0.01):
            counted = family()
            used = sum(map(proportional_bytes, counted))
            if family() == counted:  # a fork in between counts what both share twice
                self._peak = max(self._peak, used)


def family() -> list[int]:
    """Return this process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def proportional_bytes(process: int) -> int:
    """Return a process's memory; what several share counts once among them."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def write(folder: Path, nodes: int, rows: int) -> None:
    """Write a model whose middle node has one channel off, held against the right one."""
    target = folder / "models" / "m"
    target.mkdir(parents=True)
    (target / "model.onnx").write_bytes(chain(nodes, nodes // 2).SerializeToString())
    (target / "right.onnx").write_bytes(chain(nodes, None).SerializeToString())
    write_spec(target, 'onnx = "right.onnx"', rows)


def write_spec(target: Path, reference: str, rows: int) -> None:
    """Write the spec of a model with one case."""
    inputs = f"""[inputs.x]
dtype = "float32"
shape = ["batch", {SIZE}]

[dims]
batch = {{ max = {rows} }}"""
    case = f'[[case]]\nname = "one"\ndims = {{ batch = {rows} }}'
    text = file_spec(reference=reference, inputs=inputs, case=case)
    (target / "model.toml").write_text(text, encoding="utf-8")


MODULE = f"""
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm({SIZE})
        self.linear = torch.nn.Linear({SIZE}, {SIZE})

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(*[Block() for _ in range(DEPTH)]).eval()
"""


def write_module(folder: Path, nodes: int) -> None:
    """Write a PyTorch module of four nodes a block, and its export with one channel off."""
    import torch

    target = folder / "models" / "m"
    target.mkdir(parents=True)
    source, depth = target / "reference.py", nodes // 4
    source.write_text(MODULE.replace("DEPTH", str(depth)), encoding="utf-8")
    program = torch.onnx.export(
        runpy.run_path(str(source))["build"](),
        (torch.zeros(2, SIZE),),
        dynamo=True,
        verbose=False,
        input_names=["x"],
        dynamic_shapes=({0: "batch"},),
    )
    model = program.model_proto
    name = f"{depth // 2}.linear.weight"
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    weight = numpy_helper.to_array(tensor).copy()
    weight[3] *= np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(weight, name))
    (target / "model.onnx").write_bytes(model.SerializeToString())
    write_spec(target, 'torch = "reference.py:build"', rows=4)


def chain(count: int, off: int | None) -> onnx.ModelProto:
    """Return products and Tanh in turn; the weight of node `off` has one channel off by 1 %."""
    weights: dict[str, npt.NDArray[np.float32]] = {}
    nodes, last = [], "x"
    for number in range(count):
        if number % 2:
            node = helper.make_node("Tanh", [last], [f"v{number}"], name=f"n{number}")
        else:
            random = np.random.default_rng(number)
            weight = random.normal(size=(SIZE, SIZE)).astype(np.float32) / np.float32(6)
            if number == off:
                weight[:, 3] *= np.float32(1.01)
            weights[f"w{number}"] = weight
            read = [last, f"w{number}"]
            node = helper.make_node("MatMul", read, [f"v{number}"], name=f"n{number}")
        nodes.append(node)
        last = f"v{number}"
    shape: list[int | str] = ["batch", SIZE]
    inputs, outputs = [tensor_info("x", shape=shape)], [tensor_info(last, shape=shape)]
    return make_model(nodes, inputs, outputs, weights)


if __name__ == "__main__":
    main()
