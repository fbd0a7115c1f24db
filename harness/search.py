"""The search for a counterexample, by hypothesis: the only module that knows it.

hypothesis draws numbers, `Space` makes an example of them, the caller judges it, and a failing one
is made smaller as long as it still fails. No test function of pytest is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.domain.examples import Example, Space
from harness.errors import EnvironmentProblem

if TYPE_CHECKING:
    from hypothesis import strategies

#: Numbers are drawn from here upwards and taken back: hypothesis mixes in constants that it finds
#: in the project's own modules, so that small numbers would depend on what happens to be loaded.
BASE = 1 << 41
#: Examples judged on the way to a smaller one: a fixed number, so that every run ends alike.
MOST_SMALLER = 300
DISTRIBUTION = "hypothesis"


class Unwanted(Exception):
    """Tells hypothesis that an example is a counterexample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a search goes about it."""

    examples: int
    """Examples to judge if none of them fails."""
    seed: int
    """Chooses the examples."""
    home: Path
    """Folder for what hypothesis itself keeps; it would make one in the current folder."""


def version() -> str:
    """Return the version of hypothesis.

    Raises:
        EnvironmentProblem: If it is not installed; code `package.missing`.
    """
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        pass
    msg = "Package 'hypothesis' is not installed: no input can be searched"
    raise EnvironmentProblem(
        msg,
        code="package.missing",
        expected="'hypothesis' beside the harness",
        next_step="pip install 'onnx-harness[properties]'",
    )


def smallest_counterexample(
    space: Space, fails: Callable[[Example], bool], plan: Plan
) -> Example | None:
    """Return the smallest example found that fails, or None if none of them does.

    Args:
        space: What examples are drawn from.
        fails: Judges an example; it is asked no more than once about each.
        plan: How many examples, and which.
    """
    from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: PLC0415 - an extra

    asked = _Asked(fails)

    @seed(plan.seed)
    @settings(
        max_examples=plan.examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(_examples(space))
    def judge(example: Example) -> None:
        if asked(example):
            raise Unwanted

    with _kept_in(plan.home):
        try:
            judge()
        except Unwanted:
            return asked.last
    if asked.ended_by is not None:
        raise asked.ended_by
    return None


class _Asked:
    """Asks about each example once, and stops asking when enough smaller ones were tried."""

    def __init__(self, fails: Callable[[Example], bool]) -> None:
        self._fails = fails
        self._known: dict[str, bool] = {}
        self._smaller = 0
        self.last: Example | None = None
        self.ended_by: Exception | None = None

    def __call__(self, example: Example) -> bool:
        """Return whether it fails; once enough were tried, only known ones still do."""
        text = repr(example)
        if text not in self._known:
            if self.ended_by is not None or self._smaller >= MOST_SMALLER:
                return False
            self._smaller += self.last is not None
            try:
                self._known[text] = self._fails(example)
            except Exception as error:  # noqa: BLE001 - hypothesis would take it for a finding
                self.ended_by = error
                return False
        if self._known[text]:
            self.last = example
        return self._known[text]


def _examples(space: Space) -> strategies.SearchStrategy[Example]:
    from hypothesis import strategies as st  # noqa: PLC0415 - an extra

    @st.composite
    def examples(draw: Any) -> Example:
        def choose(below: int) -> int:
            return int(draw(st.integers(BASE, BASE + below - 1))) - BASE if below > 1 else 0

        return space.draw(choose)

    return examples()


@contextmanager
def _kept_in(home: Path) -> Iterator[None]:
    """Let hypothesis keep its files in `home`, and afterwards where it did before."""
    from hypothesis import configuration  # noqa: PLC0415 - an extra

    before = configuration.storage_directory(intent_to_write=False)
    configuration.set_hypothesis_home_dir(home)
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(_folder(before))


def _folder(storage: Any) -> Path:
    """Return a folder of hypothesis, which older releases give as it is."""
    return Path(getattr(storage, "path", storage))
