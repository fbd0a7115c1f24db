"""The search: examples by seed, counterexamples made small, nothing left in the project."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from harness import search
from harness.domain.dtypes import DType
from harness.domain.examples import Example, Space
from harness.domain.fillings import Filling
from harness.domain.spec import Candidate, DimSpec, InputSpec, ModelSpec, Reference
from harness.errors import EnvironmentProblem
from harness.search import Plan, smallest_counterexample

SPACE = Space(
    spec=ModelSpec(
        schema_version=1,
        candidate=Candidate(file="model.onnx"),
        reference=Reference(onnx=True),
        inputs={"x": InputSpec(dtype=DType.FLOAT32, shape=("batch", 3), range=(-1, 1))},
        dims={"batch": DimSpec(max=64)},
    )
)


def seen(home: Path, seed: int = 5) -> list[Example]:
    """Return the examples of a search that finds nothing."""
    examples: list[Example] = []

    def fails(example: Example) -> bool:
        examples.append(example)
        return False

    assert smallest_counterexample(SPACE, fails, Plan(examples=40, seed=seed, home=home)) is None
    return examples


def test_the_seed_chooses_the_examples(tmp_path: Path) -> None:
    """The same seed gives the same examples, in the same order; another one others."""
    assert seen(tmp_path) == seen(tmp_path)
    assert seen(tmp_path) != seen(tmp_path, seed=6)
    assert len({repr(example) for example in seen(tmp_path)}) == len(seen(tmp_path)) > 25


def test_examples_do_not_depend_on_modules_that_are_loaded(tmp_path: Path) -> None:
    """Hypothesis picks up constants of a project's modules; the examples must not notice."""
    (tmp_path / "full_of_numbers.py").write_text(f"NUMBERS = {list(range(2000))}\n")
    program = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from pathlib import Path\n"
        "{extra}\n"
        "from tests.test_search import seen\n"
        "print([repr(example) for example in seen(Path(sys.argv[1]))])\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program.format(extra=extra), str(tmp_path),
             str(Path(__file__).parents[1])],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        ).stdout
        for extra in ("", "import full_of_numbers")
    }  # fmt: skip
    assert len(printed) == 1


@pytest.mark.parametrize("least", [2, 4, 17, 40])
def test_a_counterexample_is_made_small(tmp_path: Path, least: int) -> None:
    """The smallest size that fails is found, with the plainest filling."""
    plan = Plan(examples=100, seed=1, home=tmp_path)
    found = smallest_counterexample(SPACE, lambda each: each.dims["batch"] >= least, plan)
    assert found == Example(dims={"batch": least}, inputs={"x": Filling()})


def test_a_special_value_that_matters_is_kept(tmp_path: Path) -> None:
    """What makes the example fail stays, all else goes."""
    plan = Plan(examples=200, seed=1, home=tmp_path)
    found = smallest_counterexample(
        SPACE, lambda each: any(s.mark == "denormal" for s in each.inputs["x"].specials), plan
    )
    assert found is not None
    assert found.dims == {"batch": 1}
    (special,) = found.inputs["x"].specials
    assert (special.mark, special.position) == ("denormal", 0)


def test_making_it_small_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fixed number of attempts the smallest one so far is taken."""
    monkeypatch.setattr(search, "MOST_SMALLER", 3)
    asked = 0

    def fails(example: Example) -> bool:
        nonlocal asked
        asked += 1
        return example.dims["batch"] >= 20

    found = smallest_counterexample(SPACE, fails, Plan(examples=50, seed=1, home=tmp_path))
    assert found is not None
    assert found.dims["batch"] >= 20
    assert asked < 60


def test_no_example_is_judged_twice(tmp_path: Path) -> None:
    """Also while a counterexample is made small."""
    asked: list[str] = []

    def fails(example: Example) -> bool:
        asked.append(repr(example))
        return example.dims["batch"] >= 9

    smallest_counterexample(SPACE, fails, Plan(examples=60, seed=2, home=tmp_path))
    assert len(asked) == len(set(asked))


def test_hypothesis_leaves_nothing_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it keeps lies in its home, and afterwards it keeps things where it did before."""
    from hypothesis import configuration

    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    before = search._folder(configuration.storage_directory(intent_to_write=False))
    seen(tmp_path / "home")
    assert list((tmp_path / "project").iterdir()) == []
    assert search._folder(configuration.storage_directory(intent_to_write=False)) == before


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    assert search.version() == metadata.version("hypothesis")
    monkeypatch.setattr(search, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(EnvironmentProblem) as caught:
        search.version()
    assert caught.value.code == "package.missing"
    assert caught.value.next_step == "pip install 'onnx-harness[properties]'"


def test_an_error_ends_the_search(tmp_path: Path) -> None:
    """It comes out as it is, and no further example is judged."""
    asked: list[Example] = []

    def fails(example: Example) -> bool:
        asked.append(example)
        msg = f"number {len(asked)}"
        raise EnvironmentProblem(msg)

    with pytest.raises(EnvironmentProblem, match=r"^number 1$"):
        smallest_counterexample(SPACE, fails, Plan(examples=40, seed=1, home=tmp_path))
    assert len(asked) == 1
