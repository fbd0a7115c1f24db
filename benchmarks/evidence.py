"""What the bound from float64 costs: parity with it against parity by the tolerance table.

The same models are judged in both arms; one has a tolerance of its own for every output, so that no
float64 run is asked for. Cold means that no reference is cached; exported models are, because both
arms export alike. Cached means the run after that.
"""

from __future__ import annotations

import operator
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import side_by_side as bench

from harness.files.models import SPEC_FILE, Model, load_model

GOAL = "float64 evidence costs at most 3 x the plain parity run when cold and nothing when cached"
MODELS = Path(__file__).resolve().parents[1] / "models"
#: Models with a live reference that runs in float64.
CHOSEN = ("mnist", "rnn-mnist-rows", "forest", "gradient-boosting", "linear")
MOST_TIMES_COLD = 3.0
#: What a run may take longer and still count as the same: less than runs differ by themselves.
SAME = 1.05
OWN_TOLERANCE = """
[outputs.{output}.tolerance.default]
atol = 1e-5
rtol = 1e-4
reason = "what the table allows"
"""


def main() -> None:
    """Run the benchmark."""
    options = bench.parser(__doc__, rounds=7).parse_args()
    chosen, rounds = (CHOSEN[:1], 1) if options.quick else (CHOSEN, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        bound = Runs(Path(folder) / "bound", chosen, by_table=False)
        table = Runs(Path(folder) / "table", chosen, by_table=True)
        arms = {
            "bound_cold": bound.cold,
            "bound_cached": bound.cached,
            "table_cold": table.cold,
            "table_cached": table.cached,
        }
        table.cached()  # exports, and compiles bytecode
        bound.cached()
        times = bench.alternate(arms, rounds)
    cold, cached = (
        bench.median_of_pairs(times, f"bound_{which}", f"table_{which}", operator.truediv)
        for which in ("cold", "cached")
    )
    figures = {
        "models": list(chosen),
        "rounds": rounds,
        **bench.medians(times, 2),
        "times_cold": round(cold, 3),
        "times_cached": round(cached, 3),
    }
    met = cold <= MOST_TIMES_COLD and cached <= SAME
    bench.report("evidence", figures=figures, goal=GOAL, met=met)


class Runs:
    """Parity runs over the same models, with the bound or by the table."""

    def __init__(self, folder: Path, chosen: Sequence[str], *, by_table: bool) -> None:
        self._project = bench.foreign_project(folder)
        self._cache = folder / "cache"
        for name in chosen:
            copy = self._project / "models" / name
            shutil.copytree(MODELS / name, copy)
            if by_table:
                _give_tolerances(copy)

    def cold(self) -> None:
        """Run with no reference in the cache."""
        shutil.rmtree(self._cache / "references")
        self.cached()

    def cached(self) -> None:
        """Run with the cache as the run before left it."""
        command = bench.gate_command(self._project / "models", "-m", "parity")
        bench.run(command, cwd=self._project, env=bench.gate_environment(self._cache))


def _give_tolerances(folder: Path) -> None:
    """Give each close output of a spec a tolerance of its own."""
    model = load_model(folder)
    if not isinstance(model, Model):
        raise model.problem
    close = [name for name, rule in model.spec.outputs.items() if rule.compare == "close"]
    with (folder / SPEC_FILE).open("a", encoding="utf-8") as file:
        file.writelines(OWN_TOLERANCE.format(output=name) for name in close)


if __name__ == "__main__":
    main()
