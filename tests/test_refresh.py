"""Refreshing baselines: what records propose, what speaks against it, what is written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from harness.domain.baseline import Baseline, Recipe, Timing
from harness.domain.cells import Cell
from harness.domain.environment import Environment
from harness.domain.verdict import Verdict
from harness.errors import ModelFileError, UsageProblem
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.refresh import Required, Written, proposals, write
from harness.results.record import ItemRecord
from harness.testing import linear_model
from tests.baselines import CHANGE, ENVIRONMENT, MODEL, baseline, local, recipe, timing

CELL = "mnist/fp32/cpu/batch1"
PART = Cell("mnist", "fp32", "cpu")
OTHER = "5" * 64
LATER = replace(CHANGE, when="2026-12-01T10:00:00+00:00", reason="faster kernels")


def measured(
    of: Recipe | None = None,
    environment: Environment = ENVIRONMENT,
    point: Timing | None = None,
) -> dict[str, Any]:
    """Return what a latency item measured, as its record holds it."""
    return {
        "recipe": asdict(of or recipe()),
        "file_bytes": 1000,
        "environment": asdict(environment),
        "nodes": {"CPUExecutionProvider": 7},
        "timing": asdict(point or timing()),
    }


def item(
    question: str = "latency",
    cell: str = CELL,
    *codes: str,
    verdict: Verdict = Verdict.PASS,
    of: Mapping[str, Any] | None = None,
    control: str = MODEL,
) -> ItemRecord:
    """Return the record of an item with findings of these codes, held against a control."""
    findings = tuple({"code": code, "what": f"what of {code}"} for code in codes)
    return ItemRecord(
        question=question,
        cell=cell,
        verdict=verdict,
        findings=findings,
        measured=dict(of or {}),
        facts={"control": control} if control else {},
    )


def sound(*timed: ItemRecord) -> list[ItemRecord]:
    """Return a run of these latency items whose contract and parity passed."""
    return [*timed, item("contract", "mnist/fp32"), item("parity", "mnist/fp32/cpu/one")]


class Store:
    """A folder of baselines with its artefacts, and a candidate."""

    def __init__(self, root: Path) -> None:
        self.baselines = Baselines(root / "baselines")
        self.artefacts = Artefacts(root / "baselines" / "artefacts", root / "cache")
        self.model = root / "model.onnx"
        self.model.write_bytes(b"")
        self.here = recipe().model
        self.root = root

    def write(
        self, records: Sequence[ItemRecord], *accepted: str, most_bytes: float | None = None
    ) -> list[Written]:
        """Write what records propose; models are named by `aliases` too."""
        return write(
            proposals(records, accepted=accepted),
            baselines=self.baselines,
            artefacts=self.artefacts,
            model_file=self._file,
            aliases={"mnist": ("digits",)},
            change=LATER,
            most_bytes=most_bytes,
        )

    def _file(self, part: Cell, of: Recipe, size: int) -> Path:
        assert size == measured()["file_bytes"]
        if of.model != self.here:
            msg = f"The model of '{part}' here is not the one that was measured"
            raise ModelFileError(msg, code="baseline.control")
        return self.model

    def portable(self) -> Baseline:
        """Return what is approved of `mnist`."""
        found = self.baselines.portable("mnist", ("digits",))
        assert found is not None
        return found

    def points(self) -> dict[str, Timing]:
        """Return the stored timings of `mnist` in the usual environment."""
        found = self.baselines.local("mnist", ENVIRONMENT.id, ("digits",))
        assert found is not None
        return found.entries["fp32/cpu"].points

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Return content and time of every file."""
        folder = self.baselines.folder
        return {
            str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store with a candidate that can be kept; scope function."""
    made = Store(tmp_path)
    made.model.write_bytes(linear_model().SerializeToString())
    return made


def refusals(records: Sequence[ItemRecord], *accepted: str) -> tuple[str, ...]:
    """Return what speaks against the one proposal of a run."""
    (proposal,) = proposals(records, accepted=accepted)
    return proposal.refusals


# what speaks against it


def test_a_sound_run_has_nothing_against_it() -> None:
    """Also a first one, and one that became better in every way."""
    better = ("latency.faster", "startup.faster", "memory.smaller", "size.smaller", "nodes.fewer")
    for codes in ((), ("baseline.missing",), better):
        assert refusals(sound(item("latency", CELL, *codes, of=measured()))) == ()


@pytest.mark.parametrize(
    "code",
    [
        *("latency.slower", "latency.budget", "startup.slower", "memory.larger", "size.larger"),
        *("nodes.moved", "nodes.more", "baseline.incomparable"),
    ],
)
def test_what_got_worse_needs_its_model_part_or_cell_accepted(code: str) -> None:
    """The name of another model, or of another cell, does not do."""
    run = sound(item("latency", CELL, code, verdict=Verdict.FAIL, of=measured()))
    told = f"{CELL}: {code}; approve it with --accept-regression mnist"
    assert refusals(run) == refusals(run, "other", "mnist/fp32/cpu/batch8") == (told,)
    for name in ("mnist", "mnist/fp32/cpu", CELL):
        assert refusals(run, name) == ()


@pytest.mark.parametrize(
    "code",
    ["latency.undecided", "latency.contaminated", "latency.unstable", "startup.unsettled"],
)
def test_what_is_not_settled_is_never_accepted(code: str) -> None:
    """Its figures are worth nothing, whoever approves them."""
    run = sound(item("latency", CELL, code, verdict=Verdict.SKIP, of=measured()))
    assert refusals(run, "mnist") == (f"{CELL} is not settled: {code}",)


@pytest.mark.parametrize("code", ["baseline.control", "run.failed", "harness.bug", "blocked"])
def test_any_other_finding_speaks_against_it(code: str) -> None:
    """Nobody can accept what went wrong otherwise."""
    run = sound(item("latency", CELL, code, verdict=Verdict.ERROR))
    assert refusals(run, "mnist") == (f"{CELL}: {code}: what of {code}",)


@pytest.mark.parametrize("code", ["latency.not-applicable", "provider.not-applicable"])
def test_what_is_not_applicable_is_neither_proposed_nor_refused(code: str) -> None:
    """The spec says so: a refresh of all models must not fail for it."""
    excused = item("latency", "other/fp32/cpu/one", code, verdict=Verdict.SKIP)
    (proposal,) = proposals([excused, *sound(item(of=measured()))])
    assert (proposal.part, proposal.refusals) == (PART, ())
    assert proposals([excused]) == []


def test_every_accepted_change_is_noted() -> None:
    """Not only the first one of an item, and each with its own words."""
    codes = ("baseline.missing", "latency.slower", "size.larger", "memory.smaller")
    run = sound(item("latency", CELL, *codes, verdict=Verdict.FAIL, of=measured()))
    (proposal,) = proposals(run, accepted=["mnist"])
    assert proposal.notes == tuple(f"{code}: what of {code}" for code in codes[1:])


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("contract", "contract of mnist/fp32/cpu was not judged in this run"),
        ("parity", "parity of mnist/fp32/cpu was not judged in this run"),
    ],
)
def test_what_was_measured_needs_contract_and_parity_of_its_run(lost: str, says: str) -> None:
    """Those of another variant, provider or model vouch for nothing."""
    others = [
        item("contract", "mnist/fp16"),
        item("parity", "mnist/fp32/openvino/one"),
        item("parity", "digits/fp32/cpu/one"),
    ]
    run = [each for each in sound(item(of=measured())) if each.question != lost]
    assert refusals([*run, *others]) == (says,)


@pytest.mark.parametrize("question", ["contract", "parity"])
def test_contract_and_parity_must_pass_or_fail_as_declared(question: str) -> None:
    """Every one of them, and acceptance of a regression excuses none."""
    cell = {"contract": "mnist/fp32", "parity": "mnist/fp32/cpu/two"}[question]
    run = sound(item(of=measured()))
    for verdict in (Verdict.FAIL, Verdict.SKIP, Verdict.ERROR):
        bad = item(question, cell, "blocked", verdict=verdict)
        told = f"{question} of {cell} is {verdict}: blocked: what of blocked"
        assert refusals([*run, bad], "mnist") == (told,)
    excused = item(question, cell, "known-failure", "parity.tolerance", verdict=Verdict.SKIP)
    assert refusals([*run, excused]) == ()


def test_points_of_one_session_must_have_one_recipe_and_one_environment() -> None:
    """A merged record can hold what was measured at different times and places."""
    second = "mnist/fp32/cpu/batch8"
    first = item(of=measured())
    other = item("latency", second, of=measured(recipe(threads=2)))
    assert "different recipes" in " ".join(refusals(sound(first, other)))
    elsewhere = replace(ENVIRONMENT, cores=64)
    away = item("latency", second, of=measured(environment=elsewhere))
    assert "different environments" in " ".join(refusals(sound(first, away)))


@pytest.mark.parametrize(
    "fault",
    [
        {"recipe": None},
        {"recipe": {**asdict(recipe()), "threads": 0}},
        {"recipe": {**asdict(recipe()), "colour": "red"}},
        {"environment": {"cpu": "x"}},
        {"file_bytes": "many"},
        {"file_bytes": 0},
        {"nodes": [1]},
        {"timing": {**asdict(timing()), "p50_ms": float("nan")}},
        {"timing": {**asdict(timing()), "quantiles_ms": {}}},
        {"timing": None},
    ],
    ids=str,
)
def test_a_measurement_that_cannot_be_read_is_told(fault: dict[str, Any]) -> None:
    """Records travel between machines and versions, and are edited by hand."""
    with pytest.raises(UsageProblem, match="What was measured of 'mnist/fp32/cpu'") as caught:
        proposals(sound(item(of=measured() | fault)))
    assert "run record" in caught.value.expected


@pytest.mark.parametrize("cell", ["mnist", "mnist/fp32/cpu/one/two", "", "mnist/fp32/cpu"])
def test_a_latency_item_of_no_cell_is_told(cell: str) -> None:
    """Its id has four places."""
    with pytest.raises(UsageProblem, match="is not the id of a latency item"):
        proposals(sound(item("latency", cell, of=measured())))


def test_every_point_and_case_of_the_spec_must_have_been_judged() -> None:
    """A run with -k, or one that was cut short, approves nothing."""
    required = Required(cases=("one", "two"), points=("batch1", "batch8"))
    (proposal,) = proposals(sound(item(of=measured())), required=lambda _: required)
    assert proposal.refusals == (
        "latency of mnist/fp32/cpu/batch8 was not judged in this run",
        "parity of mnist/fp32/cpu/two was not judged in this run",
    )
    whole = [item("latency", "mnist/fp32/cpu/batch8", of=measured()),
             item("parity", "mnist/fp32/cpu/two")]  # fmt: skip
    (proposal,) = proposals([*sound(item(of=measured())), *whole], required=lambda _: required)
    assert proposal.refusals == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("provider", "CUDAExecutionProvider"), ("threads", 4), ("optimization", "disabled")],
)
def test_the_recipe_must_be_the_one_that_the_spec_describes(name: str, value: object) -> None:
    """Else a recipe that somebody edited would be the next control."""
    required = Required(recipe={name: getattr(recipe(), name)})
    run = sound(item(of=measured(recipe(**{name: value}))))
    (proposal,) = proposals(run, required=lambda _: required)
    says = f"measured with {name} {value}, and its spec here says {getattr(recipe(), name)}"
    assert proposal.refusals == (f"{PART} was {says}",)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.SKIP])
def test_a_verdict_without_a_finding_is_not_believed(verdict: Verdict) -> None:
    """A judged item says why it did not pass."""
    run = sound(item("latency", CELL, verdict=verdict, of=measured()))
    told = f"{CELL} is {verdict.value}, and its record does not say why"
    assert refusals(run, "mnist") == (told,)


def test_an_item_that_stands_twice_is_refused() -> None:
    """Which of the two holds cannot be known."""
    run = sound(item(of=measured()), item(of=measured()))
    assert refusals(run) == (f"{CELL} stands 2 times in this run",)


@pytest.mark.parametrize("code", ["baseline.missing", "baseline.incomparable"])
def test_what_was_not_measured_cannot_be_approved(code: str) -> None:
    """Acceptance does not measure: the run lacked --measure-all."""
    run = sound(item("latency", CELL, code, verdict=Verdict.SKIP))
    assert f"{CELL} was not measured; judge it with --measure-all" in refusals(run, "mnist")


def test_what_was_unchanged_there_and_has_no_baseline_here_is_refused(store: Store) -> None:
    """Nothing was measured, so nothing can be written; another baseline's word does not count."""
    run = sound(item(control=MODEL))
    (told,) = store.write(run)
    assert told.proposal.refusals == (
        "mnist/fp32/cpu was not measured, and has no baseline; judge it with --measure-all",
    )
    store.baselines.write(baseline())
    (told,) = store.write(run)
    assert not told.is_refused
    (told,) = store.write(sound(item(control=OTHER)))
    assert "was not held against the baseline that is here" in told.proposal.refusals[0]


def test_a_finding_without_a_code_is_told() -> None:
    """A record that somebody wrote by hand gives no traceback."""
    bare = replace(item(of=measured()), findings=({"what": "?"},))
    assert refusals(sound(bare)) == (f"{CELL}: a finding without a code: ?",)
    failed = item("parity", "mnist/fp32/cpu/two", verdict=Verdict.FAIL)
    assert refusals([*sound(item(of=measured())), failed]) == (
        "parity of mnist/fp32/cpu/two is FAIL: a finding without a code",
    )


# what is written


def test_a_first_baseline_has_recipe_artefact_and_figures(store: Store) -> None:
    """All of one change, and the control can be fetched."""
    (written,) = store.write(sound(item("latency", CELL, "baseline.missing", of=measured())))
    assert written.is_changed
    entry = store.portable().entries["fp32/cpu"]
    assert (entry.recipe, entry.change) == (recipe(), LATER)
    assert store.artefacts.fetch(entry.artefact).read_bytes() == store.model.read_bytes()
    assert store.points() == {"batch1": timing()}


def test_a_refusal_writes_nothing(store: Store) -> None:
    """Neither baseline nor artefact, and the others of the run are written."""
    bad = item("latency", "mnist/fp16/cpu/batch1", "latency.slower", of=measured())
    found = store.write([*sound(item(of=measured())), bad])
    assert [each.is_refused for each in found] == [False, True]
    assert not found[1].is_changed
    assert list(store.portable().entries) == ["fp32/cpu"]


def test_the_same_again_leaves_every_file_alone(store: Store) -> None:
    """Although clocks told something else: bytes and times of the files are those of before."""
    store.write(sound(item(of=measured())))
    before = store.files()
    again = measured(point=timing(p50_ms=9.0, quantiles_ms={"p50": 9.0}))
    for run in (sound(item(of=again)), [item()]):
        (written,) = store.write(run)
        assert not written.is_changed
        assert store.files() == before


def test_a_new_point_keeps_the_figures_of_the_others(store: Store) -> None:
    """What did not change is not measured again, so nothing else has them."""
    store.write(sound(item(of=measured())))
    second = item("latency", "mnist/fp32/cpu/batch8", of=measured(point=timing(inputs="6" * 64)))
    (written,) = store.write(sound(item(), second))
    assert written.is_changed
    assert list(store.points()) == ["batch1", "batch8"]
    before = store.files()
    store.write(sound(item(), second))
    assert store.files() == before


def test_other_inputs_replace_the_figures_of_their_point_alone(store: Store) -> None:
    """Another range in the spec draws other inputs."""
    second = "mnist/fp32/cpu/batch8"
    store.write(sound(item(of=measured()), item("latency", second, of=measured())))
    new = timing(inputs="7" * 64, p50_ms=3.0)
    store.write(sound(item("latency", second, of=measured(point=new))))
    assert store.points() == {"batch1": timing(), "batch8": new}


def test_another_recipe_replaces_all_figures(store: Store) -> None:
    """Also where only options or threads changed: the model is the same, its times are not."""
    second = "mnist/fp32/cpu/batch8"
    store.write(sound(item(of=measured()), item("latency", second, of=measured())))
    fast = timing(p50_ms=0.5, quantiles_ms={"p50": 0.5})
    store.write(sound(item(of=measured(recipe(threads=2), point=fast))))
    assert store.portable().entries["fp32/cpu"].recipe.threads == 2
    assert store.points() == {"batch1": fast}


def test_a_new_name_keeps_the_old_entries(store: Store) -> None:
    """The former name's file is read, and stays; what was refreshed stands under the new one."""
    old = baseline("digits")
    entry = old.entries["fp32/cpu"]
    store.baselines.write(replace(old, entries={**old.entries, "fp16/cpu": entry}))
    store.baselines.write_local(local("digits"))
    store.here = OTHER
    store.write(sound(item(of=measured(recipe(model=OTHER)))))
    found = store.portable()
    assert found.model == "mnist"
    assert found.entries["fp16/cpu"] == entry
    assert found.entries["fp32/cpu"].recipe.model == OTHER
    assert store.baselines.models() == ["digits", "mnist"]


def test_a_measurement_of_another_model_is_refused(store: Store) -> None:
    """The checkout must be that of the run: its file becomes the control."""
    store.here = OTHER
    with pytest.raises(ModelFileError, match="is not the one that was measured"):
        store.write(sound(item(of=measured())))
    assert store.files() == {}


def test_a_large_model_is_not_kept_till_the_limit_is_raised(store: Store) -> None:
    """Then the next refresh keeps it, although nothing else changed."""
    store.write(sound(item(of=measured())), most_bytes=999)
    assert store.portable().entries["fp32/cpu"].artefact == ""
    store.write([item()], most_bytes=999)
    assert store.portable().entries["fp32/cpu"].artefact == ""
    store.write([item()], most_bytes=1000)
    kept = store.portable().entries["fp32/cpu"]
    assert store.artefacts.has(kept.artefact)
    assert kept.change == LATER


def test_a_lost_artefact_comes_back(store: Store) -> None:
    """Under the hash of the file that there is now: metadata may differ in it."""
    store.write(sound(item(of=measured())))
    lost = store.portable().entries["fp32/cpu"].artefact
    store.artefacts.remove(lost)
    store.write([item()])
    assert store.artefacts.has(lost)
    store.artefacts.remove(lost)
    model = onnx.load(store.model)
    model.doc_string = "another text"
    onnx.save(model, store.model)
    store.write([item()])
    found = store.portable().entries["fp32/cpu"].artefact
    assert found != lost
    assert store.artefacts.has(found)


def test_a_lost_artefact_of_another_model_stays_lost(store: Store) -> None:
    """What is here is not what was approved."""
    store.write(sound(item(of=measured())))
    store.artefacts.remove(store.portable().entries["fp32/cpu"].artefact)
    before = store.files()
    store.here = OTHER
    store.write([item()])
    assert store.files() == before


@pytest.mark.parametrize("control", ["", "8" * 64], ids=["none", "another"])
def test_what_another_baseline_judged_does_not_replace_the_one_here(
    store: Store, control: str
) -> None:
    """A regression against the one that is here may hide in it."""
    store.write(sound(item(of=measured())))
    before = store.files()
    store.here = OTHER
    run = sound(item(of=measured(recipe(model=OTHER)), control=control))
    (written,) = store.write(run)
    assert written.is_refused
    (told,) = written.proposal.refusals
    assert "was not held against the baseline that is here, 111111111111, but against" in told
    assert store.files() == before
    (written,) = store.write(run, "mnist")
    assert not written.is_refused
    assert store.portable().entries["fp32/cpu"].recipe.model == OTHER


def test_two_refreshes_at_once_lose_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read under the lock under which it is written."""
    slow = Baselines.portable

    def portable(*given: Any) -> Baseline | None:
        found = slow(*given)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(Baselines, "portable", portable)

    def refresh(number: int) -> list[Written]:
        cell = f"mnist/v{number}/cpu/batch1"
        run = [
            item("latency", cell, "baseline.missing", of=measured()),
            item("contract", f"mnist/v{number}"),
            item("parity", f"mnist/v{number}/cpu/one"),
        ]
        return store.write(run)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(refresh, range(6)))
    assert all(each.is_changed for (each,) in found)
    keys = {f"v{number}/cpu" for number in range(6)}
    assert set(store.portable().entries) == keys
    figures = store.baselines.local("mnist", ENVIRONMENT.id)
    assert figures is not None
    assert set(figures.entries) == keys


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_kill_in_the_middle_leaves_whole_files(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Each is the old one or the new one, and the same refresh mends the rest."""
    store.write(sound(item(of=measured())))
    new = linear_model(scale=2.0).SerializeToString()
    store.here = OTHER
    store.model.write_bytes(new)
    run = sound(item(of=measured(recipe(model=OTHER))))
    real, left = Path.replace, [after]

    def replace_or_die(path: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    with pytest.raises(KeyboardInterrupt):
        store.write(run)
    monkeypatch.undo()
    entry = store.portable().entries["fp32/cpu"]
    assert entry.recipe.model == recipe().model
    assert store.artefacts.has(entry.artefact)
    assert store.points() == {"batch1": timing()}
    store.write(run)
    entry = store.portable().entries["fp32/cpu"]
    assert entry.recipe.model == OTHER
    assert store.artefacts.fetch(entry.artefact).read_bytes() == new
