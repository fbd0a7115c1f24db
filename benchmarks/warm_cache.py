"""A second run with warm caches imports no torch.

The suites run over this repository's models with live PyTorch references, first with an empty
cache, then again. Every process of both runs, also one that is started with `python -I`, carries
an import hook that writes down who imports torch: the runs use an environment of their own that
holds nothing but the hook and a pointer to this interpreter's packages.
"""

from __future__ import annotations

import operator
import shutil
import site
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import side_by_side as bench

GOAL = "a second run with warm caches imports no torch"
MODELS = Path(__file__).resolve().parents[1] / "models"
#: Models with a live PyTorch reference that need no package besides torch.
CHOSEN = ("mnist", "rnn-mnist-rows")
HOOK = """
import os
import sys


class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            with open({log!r}, "a", encoding="utf-8") as file:
                file.write(f"{{os.getpid()}} {{sys.argv}}\\n")
        return None


sys.meta_path.insert(0, Watcher())
sys.prefix = sys.exec_prefix = {prefix!r}
"""


def main() -> None:
    """Run the benchmark."""
    options = bench.parser(__doc__, rounds=3).parse_args()
    chosen, rounds = (CHOSEN[:1], 1) if options.quick else (CHOSEN, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), chosen)
        if not options.quick:
            runs.first()  # compiles bytecode
        times = bench.alternate({"first": runs.first, "second": runs.second}, rounds)
    imported = runs.importers
    figures = {
        "models": list(chosen),
        "rounds": rounds,
        "first_imports_torch": min(imported["first"]),
        "second_imports_torch": max(imported["second"]),
        **bench.medians(times, 2),
        "ratio": round(bench.median_of_pairs(times, "second", "first", operator.truediv), 3),
    }
    met = min(imported["first"]) > 0 and max(imported["second"]) == 0
    bench.report("warm_cache", figures=figures, goal=GOAL, met=met)


class Runs:
    """Gate runs with an empty and with a filled cache, and who imported torch in each."""

    def __init__(self, folder: Path, chosen: tuple[str, ...]) -> None:
        self._project = bench.foreign_project(folder / "project")
        for name in chosen:
            shutil.copytree(MODELS / name, self._project / "models" / name)
        self._cache = folder / "cache"
        self._log = folder / "imports.txt"
        self._python = watching_interpreter(folder / "environment", self._log)
        self.importers: dict[str, list[int]] = {"first": [], "second": []}

    def first(self) -> None:
        """Run with an empty cache."""
        shutil.rmtree(self._cache, ignore_errors=True)
        self._run("first")

    def second(self) -> None:
        """Run with the cache as the run before left it."""
        self._run("second")

    def _run(self, which: str) -> None:
        self._log.write_text("", encoding="utf-8")
        command = [self._python, *bench.gate_command(self._project / "models")[1:]]
        bench.run(command, cwd=self._project, env=bench.gate_environment(self._cache))
        self.importers[which].append(len(self._log.read_text(encoding="utf-8").splitlines()))


def watching_interpreter(folder: Path, log: Path) -> Path:
    """Return an interpreter that passes for this one, and writes down imports of torch."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    hook = HOOK.format(log=str(log), prefix=sys.prefix)
    (packages / "watch_torch.py").write_text(hook, encoding="utf-8")
    ours = "".join(f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    (packages / "watch.pth").write_text(f"{ours}import watch_torch\n", encoding="utf-8")
    return folder / "bin" / "python"


if __name__ == "__main__":
    main()
