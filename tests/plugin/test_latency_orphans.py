"""Baselines without a cell: an item of its own says so, and none is passed over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.domain.baseline import Baseline
from harness.domain.verdict import Verdict
from harness.files.baselines import Baselines
from harness.refresh import proposals
from harness.testing import MiniProject, Outcome, file_spec, linear_model
from tests.baselines import baseline

LATENCY = ("-m", "latency")


def keyed(model: str, *keys: str) -> Baseline:
    """Return a model's baseline with entries of these keys."""
    made = baseline(model)
    (entry,) = made.entries.values()
    return replace(made, entries=dict.fromkeys(keys, entry))


def write(project: MiniProject, *baselines: Baseline) -> None:
    """Write baselines into the project."""
    for each in baselines:
        Baselines(project.root / "baselines").write(each)


def run(project: MiniProject, *args: str) -> Outcome:
    """Run all suites, that of latency among them."""
    return project.run(*args, latency=True)


def orphans(outcome: Outcome) -> list[str]:
    """Return the items that say that a baseline has no cell."""
    found = outcome.items.values()
    codes = {each.key: [finding["code"] for finding in each.findings] for each in found}
    return [key for key, told in codes.items() if told == ["baseline.orphan"]]


def test_an_entry_whose_variant_is_gone_is_an_item(tiny: MiniProject) -> None:
    """It is not judged, and says why and what to do."""
    write(tiny, keyed("tiny", "fp16/cpu"))
    outcome = run(tiny, "-m", "latency or contract")
    assert orphans(outcome) == ["latency tiny/fp16/cpu"]
    item = outcome.items["latency tiny/fp16/cpu"]
    assert item.verdict is Verdict.SKIP
    assert item.findings == (
        {
            "code": "baseline.orphan",
            "what": "Baseline 'tiny/fp16/cpu' has no cell: the spec has no variant 'fp16'",
            "where": "tiny.json, entries.fp16/cpu",
            "expected": "a model, variant and provider that a spec declares",
            "got": "",
            "next_step": "`onnx-harness baseline prune`, or restore what the spec declared",
        },
    )
    assert outcome.exit_code == 0


def test_a_baseline_without_a_cell_fails_where_nothing_may_be_skipped(tiny: MiniProject) -> None:
    """--no-skips holds for it, too."""
    write(tiny, keyed("tiny", "fp16/cpu"))
    outcome = run(tiny, *LATENCY, "--no-skips", "-k", "fp16")
    assert outcome.items["latency tiny/fp16/cpu"].verdict is Verdict.FAIL
    assert outcome.exit_code == 1
    (again,) = [line for line in outcome.text.splitlines() if line.startswith("  again:")]
    assert again.endswith("'test_latency[tiny/fp16/cpu]'")


def test_a_baseline_with_a_cell_is_no_orphan(tiny: MiniProject) -> None:
    """Its item judges it."""
    write(tiny, keyed("tiny", "fp32/cpu"))
    outcome = run(tiny, *LATENCY)
    assert list(outcome.items) == ["latency tiny/fp32/cpu/one"]
    assert orphans(outcome) == []


def test_an_undeclared_provider_is_an_orphan_until_it_is_asked_for(tiny: MiniProject) -> None:
    """Asking for it makes a cell of it; asking for another leaves it out."""
    write(tiny, keyed("tiny", "fp32/cuda"))
    assert orphans(run(tiny, *LATENCY)) == ["latency tiny/fp32/cuda"]
    assert orphans(run(tiny, *LATENCY, "--provider", "cuda")) == []
    assert orphans(run(tiny, *LATENCY, "--provider", "cpu")) == []


def test_a_gone_model_is_an_item_of_a_run_about_all_models(tiny: MiniProject) -> None:
    """A run about some models does not ask about others."""
    tiny.add_model("other", file_spec(), {"model.onnx": linear_model().SerializeToString()})
    write(tiny, keyed("gone", "fp32/cpu"), keyed("other", "fp16/cpu"), keyed("tiny", "fp16/cpu"))
    everything = ["latency gone/fp32/cpu", "latency other/fp16/cpu", "latency tiny/fp16/cpu"]
    assert sorted(orphans(run(tiny, *LATENCY))) == everything
    narrowed = run(tiny, *LATENCY, "--model", "tin*", "--model", "*iny")
    assert orphans(narrowed) == ["latency tiny/fp16/cpu"]


def test_baselines_of_the_project_are_no_orphans_of_other_models(tiny: MiniProject) -> None:
    """--models alone says nothing about where its baselines are; --baselines does."""
    write(tiny, keyed("gone", "fp32/cpu"))
    assert orphans(run(tiny, *LATENCY, "--models", "models")) == []
    named = run(tiny, *LATENCY, "--models", "models", "--baselines", "baselines")
    assert orphans(named) == ["latency gone/fp32/cpu"]


def test_a_former_name_keeps_its_baseline(tiny: MiniProject) -> None:
    """Until the model has a file of its own: the old one is then read by nobody."""
    files = {"model.onnx": linear_model().SerializeToString()}
    tiny.add_model("tiny", 'aliases = ["small"]\n' + file_spec(), files)
    write(tiny, keyed("small", "fp32/cpu"))
    assert orphans(run(tiny, *LATENCY)) == []
    write(tiny, keyed("tiny", "fp32/cpu"))
    outcome = run(tiny, *LATENCY)
    assert orphans(outcome) == ["latency small/fp32/cpu"]
    assert outcome.items["latency small/fp32/cpu"].findings[0]["what"] == (
        "Baseline 'small/fp32/cpu' has no cell: 'tiny.json' of the same model comes first"
    )


def test_what_a_broken_spec_would_declare_is_no_orphan(tiny: MiniProject) -> None:
    """It may have the variant, and it may have had the name of the model that is gone."""
    tiny.add_model("bad", "schema_version = 1\n")
    write(tiny, keyed("bad", "fp16/cpu"), keyed("gone", "fp32/cpu"), keyed("tiny", "fp16/cpu"))
    assert orphans(run(tiny, *LATENCY)) == ["latency tiny/fp16/cpu"]


def test_an_unreadable_baseline_is_told_by_the_items_of_its_model(tiny: MiniProject) -> None:
    """Collection does not read it in vain; a file of a model that is gone has its own item."""
    tiny.write("baselines/tiny.json", "{")
    tiny.write("baselines/gone.json", '{"schema_version": 99}')
    outcome = run(tiny, *LATENCY)
    told = {key: item.findings[0]["code"] for key, item in outcome.items.items()}
    assert told == {
        "latency tiny/fp32/cpu/one": "baseline.unreadable",
        "latency gone/fp32": "baseline.version",
    }


@pytest.mark.parametrize("key", ["fp16/", "a/b/c/d/e"])
def test_a_key_that_names_no_cell_is_an_orphan(tiny: MiniProject, key: str) -> None:
    """Nothing but a hand can have written it."""
    write(tiny, keyed("tiny", key))
    assert orphans(run(tiny, *LATENCY)) == ["latency tiny/fp32"]


def test_against_a_runtime_no_baseline_counts(tiny: MiniProject) -> None:
    """So none can lack a cell."""
    write(tiny, keyed("tiny", "fp16/cpu"))
    assert orphans(run(tiny, *LATENCY, "--against-runtime", "default")) == []


def test_workers_of_xdist_find_the_same(tiny: MiniProject) -> None:
    """Each collects for itself."""
    write(tiny, keyed("tiny", "fp16/cpu"), keyed("gone", "fp32/cpu"))
    found = orphans(run(tiny, *LATENCY, "-n", "2"))
    assert sorted(found) == ["latency gone/fp32/cpu", "latency tiny/fp16/cpu"]


def test_a_record_with_an_orphan_can_be_refreshed_from(tiny: MiniProject) -> None:
    """Nothing was measured of it, so nothing is proposed."""
    write(tiny, keyed("tiny", "fp16/cpu"))
    outcome = run(tiny, *LATENCY)
    assert orphans(outcome) == ["latency tiny/fp16/cpu"]
    found = proposals(list(outcome.items.values()))
    assert [str(each.part) for each in found] == ["tiny/fp32/cpu"]
