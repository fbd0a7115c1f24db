"""`onnx-harness baseline check` and `prune`: what the gate would trip over, and what can go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.domain.baseline import Baseline, LocalBaseline
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.testing import MiniProject
from tests.baselines import ENVIRONMENT, baseline, local, timing
from tests.cli.baselines import add_model, write
from tests.cli.conftest import Command, Result

UNUSED = "e" * 64


@pytest.fixture
def sound(project: MiniProject) -> MiniProject:
    """Return a project whose one model has all that the gate asks for; scope function."""
    add_model(project)
    write(project, with_control(project, baseline("tiny")), measured("tiny"))
    return project


def with_control(project: MiniProject, found: Baseline) -> Baseline:
    """Return a baseline whose control is in the store."""
    folder = project.root / "baselines" / "artefacts"
    model = project.models / "tiny" / "model.onnx"
    sha256 = Artefacts(folder, project.root / ".cache").put(model)
    entries = {key: replace(entry, artefact=sha256) for key, entry in found.entries.items()}
    return replace(found, entries=entries)


def measured(name: str, *points: str) -> LocalBaseline:
    """Return figures of a model at these latency points; `one` is timed."""
    found = local(name)
    figures = replace(
        found.entries["fp32/cpu"], points={point: timing() for point in points or ("one",)}
    )
    return replace(found, entries={"fp32/cpu": figures})


def rekeyed(found: Baseline, *keys: str) -> Baseline:
    """Return a baseline with its first entry under each of these keys."""
    entry = next(iter(found.entries.values()))
    return replace(found, entries=dict.fromkeys(keys, entry))


def stored(project: MiniProject) -> Baseline:
    """Return the portable baseline of `tiny`."""
    found = Baselines(project.root / "baselines").portable("tiny")
    assert found is not None
    return found


def codes(result: Result) -> list[str]:
    """Return the codes of what was found."""
    return [finding["code"] for finding in result.json["findings"]]


def files(project: MiniProject) -> dict[str, bytes]:
    """Return all files of the baselines, by their path in the folder."""
    folder = project.root / "baselines"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_sound_baselines_pass_the_check(command: Command, sound: MiniProject) -> None:
    """Nothing is told, and nothing is changed."""
    before = files(sound)
    result = command("baseline", "check")
    assert (result.code, result.out) == (0, "nothing wrong, 0 notes\n")
    assert files(sound) == before


def test_a_declared_cell_without_a_baseline_fails_the_check(
    command: Command, sound: MiniProject
) -> None:
    """It says what to run."""
    write(sound, rekeyed(stored(sound), "other/cpu"))
    result = command("baseline", "check")
    assert result.code == 1
    assert result.out == (
        "baseline.missing: 'tiny/fp32/cpu' has no baseline\n"
        "  expected: an entry 'fp32/cpu' in 'tiny.json'\n"
        "  next:     onnx-harness baseline refresh --model tiny --provider cpu --reason '...'\n"
        "baseline.orphan: Baseline 'tiny/other/cpu' has no cell: the spec has no variant 'other'\n"
        "  where:    tiny.json, entries.other/cpu\n"
        "  expected: a model, variant and provider that a spec declares\n"
        "  next:     `onnx-harness baseline prune`, or restore what the spec declared\n"
        "note: figures 'tiny/fp32/cpu' in 'amd-epyc-2c-8g-ID' have no entry in 'tiny.json'\n"
        "  next:     onnx-harness baseline prune\n"
        "2 findings, 1 note\n"
    ).replace("amd-epyc-2c-8g-ID", ENVIRONMENT.id)


@pytest.mark.parametrize(
    "declared",
    ['cpu = { not_applicable = "needs a GPU" }', 'cpu = {}\n\n[latency]\nnot_applicable = "slow"'],
)
def test_what_is_not_timed_needs_no_baseline(
    command: Command, project: MiniProject, declared: str
) -> None:
    """The spec says so, for a provider or for the model."""
    add_model(project)
    spec = project.models / "tiny" / "model.toml"
    spec.write_text(spec.read_text().replace("cpu = {}", declared))
    assert command("baseline", "check").code == 0


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("tiny.json", "{", "baseline.unreadable"),
        ("tiny.json", '{"schema_version": 99}', "baseline.version"),
        (f"{ENVIRONMENT.id}/tiny.json", "[]", "baseline.unreadable"),
        ("gone.json", "", "baseline.unreadable"),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_check(
    command: Command, sound: MiniProject, path: str, text: str, code: str
) -> None:
    """With the code that its items would have."""
    sound.write(f"baselines/{path}", text)
    result = command("baseline", "check", "--json")
    assert (result.code, codes(result)) == (1, [code])


def test_a_missing_and_a_changed_control_fail_the_check(
    command: Command, sound: MiniProject
) -> None:
    """Each names an entry that needs it."""
    (path,) = (sound.root / "baselines" / "artefacts").iterdir()
    path.write_bytes(b"something else")
    changed = command("baseline", "check", "--json")
    assert (changed.code, codes(changed)) == (1, ["baseline.control"])
    path.unlink()
    missing = command("baseline", "check", "--json")
    assert (missing.code, codes(missing)) == (1, ["baseline.incomparable"])
    assert missing.json["findings"][0]["what"] == (
        f"Control '{path.name}' is not in the artefact store, and 'tiny/fp32/cpu' names it"
    )


@pytest.mark.parametrize(
    ("field", "value"), [("provider", "CUDAExecutionProvider"), ("io_mode", "device")]
)
def test_a_recipe_that_no_candidate_is_held_against_fails_the_check(
    command: Command, sound: MiniProject, field: str, value: Any
) -> None:
    """The gate would be as silent about its cell as about one without a baseline."""
    (entry,) = stored(sound).entries.values()
    other = replace(entry, recipe=replace(entry.recipe, **{field: value}))
    write(sound, replace(stored(sound), entries={"fp32/cpu": other}))
    result = command("baseline", "check", "--json")
    assert (result.code, codes(result)) == (1, ["baseline.incomparable"])
    assert result.json["findings"][0]["got"] == f"'{value}'"


@pytest.mark.parametrize("verb", ["check", "prune", "show"])
def test_baselines_that_are_no_folder_are_told(
    command: Command, project: MiniProject, verb: str
) -> None:
    """They would look like none at all."""
    add_model(project)
    project.write("baselines", "oops")
    result = command("baseline", verb)
    assert result.code != 0
    assert "baselines' is no folder" in result.err
    assert (project.root / "baselines").read_text() == "oops"


def test_a_control_that_was_not_kept_is_not_missed(command: Command, sound: MiniProject) -> None:
    """The settings limit the size of what is kept."""
    (entry,) = stored(sound).entries.values()
    write(sound, replace(stored(sound), entries={"fp32/cpu": replace(entry, artefact="")}))
    result = command("baseline", "check", "--json")
    assert (result.code, codes(result)) == (0, [])


def test_what_is_of_no_use_is_a_note(command: Command, sound: MiniProject) -> None:
    """Unused artefacts, points that are not timed, figures of a gone variant."""
    sound.write(f"baselines/artefacts/{UNUSED}", b"old")
    write(sound, measured("tiny", "one", "batch8"))
    write(sound, measured("gone"))
    result = command("baseline", "check", "--json")
    place, not_timed = ENVIRONMENT.id, "latency of the spec does not time 'batch8'"
    assert result.code == 0
    assert result.json == {
        "findings": [],
        "notes": [
            f"figures 'gone/fp32/cpu' in '{place}' have no cell: no model has this name, or had it",
            f"figures 'tiny/fp32/cpu/batch8' in '{place}' have no cell: {not_timed}",
            f"artefact {UNUSED} is named by no baseline",
        ],
    }


def test_a_file_of_a_former_name_is_read_until_the_model_has_its_own(
    command: Command, project: MiniProject
) -> None:
    """Then it is told that nobody reads it."""
    add_model(project, head='aliases = ["small"]\n')
    write(project, with_control(project, baseline("small")), measured("small"))
    assert command("baseline", "check").code == 0
    write(project, with_control(project, baseline("tiny")))
    result = command("baseline", "check", "--json")
    (finding,) = result.json["findings"]
    assert finding["what"] == (
        "Baseline 'small/fp32/cpu' has no cell: 'tiny.json' of the same model comes first"
    )


def test_a_broken_spec_fails_the_check(command: Command, sound: MiniProject) -> None:
    """What it would declare is not guessed."""
    sound.add_model("bad", "schema_version = 1\n")
    write(sound, replace(baseline("gone"), entries={}))
    result = command("baseline", "check", "--json")
    assert (result.code, codes(result)) == (1, ["spec.invalid"])


def test_prune_removes_what_has_no_cell_and_says_so(command: Command, sound: MiniProject) -> None:
    """What a cell needs stays as it is."""
    before = files(sound)
    write(sound, rekeyed(stored(sound), "fp32/cpu", "fp16/cpu"))
    write(sound, baseline("gone"), measured("gone"), measured("tiny", "one", "batch8"))
    sound.write(f"baselines/artefacts/{UNUSED}", b"old")
    littered = files(sound)
    place = ENVIRONMENT.id
    lines = [
        "baseline 'gone/fp32/cpu': no model has this name, or had it",
        "baseline 'tiny/fp16/cpu': the spec has no variant 'fp16'",
        f"figures 'gone/fp32/cpu' in '{place}': no model has this name, or had it",
        f"figures 'tiny/fp32/cpu/batch8' in '{place}': latency of the spec does not time 'batch8'",
        "file gone.json: nothing is left in it",
        f"file {place}/gone.json: nothing is left in it",
        f"artefact {UNUSED}: no baseline names it",
    ]
    dry = command("baseline", "prune", "--dry-run")
    assert dry.out.splitlines() == [f"would remove {line}" for line in lines]
    assert files(sound) == littered
    done = command("baseline", "prune")
    assert done.out.splitlines() == [f"removed {line}" for line in lines]
    assert (done.code, files(sound)) == (0, before)
    again = command("baseline", "prune")
    assert again.out == (
        "nothing to prune: every baseline has a cell, and every artefact a baseline\n"
    )


def test_prune_keeps_a_control_that_another_entry_needs(
    command: Command, sound: MiniProject
) -> None:
    """One file can be the control of two."""
    write(sound, rekeyed(stored(sound), "fp32/cpu", "fp16/cpu"))
    command("baseline", "prune")
    assert command("baseline", "check").code == 0


def test_the_folder_of_an_environment_goes_with_its_last_file(
    command: Command, sound: MiniProject
) -> None:
    """An empty folder would be no environment."""
    other = replace(ENVIRONMENT, cores=4)
    write(sound, local("gone", other))
    command("baseline", "prune")
    assert not (sound.root / "baselines" / other.id).exists()


def test_prune_refuses_while_a_spec_is_broken(command: Command, sound: MiniProject) -> None:
    """Its former names and variants are unknown."""
    sound.add_model("bad", "schema_version = 1\n")
    write(sound, baseline("gone"))
    before = files(sound)
    result = command("baseline", "prune")
    assert result.code == 2
    assert result.err.splitlines()[0] == (
        "error: Nothing is pruned: what these models need cannot be known: 'bad'"
    )
    assert files(sound) == before


@pytest.mark.parametrize("path", ["tiny.json", f"{ENVIRONMENT.id}/tiny.json"])
def test_prune_refuses_while_a_baseline_is_broken(
    command: Command, sound: MiniProject, path: str
) -> None:
    """The artefacts that it names are unknown."""
    sound.write(f"baselines/{path}", "{")
    sound.write(f"baselines/artefacts/{UNUSED}", b"old")
    before = files(sound)
    assert command("baseline", "prune").code == 2
    assert files(sound) == before


def test_other_models_need_their_own_baselines(command: Command, sound: MiniProject) -> None:
    """Else all baselines of the project would be removed as theirs."""
    before = files(sound)
    for name in ("check", "prune"):
        result = command("baseline", name, "--models", Path("models"))
        assert result.code == 2
        assert result.err.splitlines()[0] == (
            "error: --models without --baselines: the project's baselines are those of its own "
            "models"
        )
    assert files(sound) == before
    assert command("baseline", "check", "--models", "models", "--baselines", "baselines").code == 0


def test_a_remote_store_is_not_pruned(command: Command, sound: MiniProject) -> None:
    """Others use it; what has no cell goes nevertheless."""
    pytest.importorskip("fsspec")
    place = (sound.root / "store").as_uri()
    sound.write("onnx-harness.toml", f'artefacts = "{place}"\n')
    (sound.root / "baselines" / "artefacts").rename(sound.root / "store")
    sound.write(f"store/{UNUSED}", b"old")
    write(sound, baseline("gone"))
    result = command("baseline", "prune", "--json")
    assert result.code == 0
    assert result.json["files"] == ["gone.json"]
    assert result.json["artefacts"] == []
    assert (sound.root / "store" / UNUSED).exists()


def test_check_asks_about_the_providers_that_it_is_given(
    command: Command, sound: MiniProject
) -> None:
    """One that the spec does not name takes every variant, as in a run."""
    write(sound, rekeyed(stored(sound), "fp32/cuda"))
    assert command("baseline", "check", "--provider", "cuda").code == 0
    asked = command("baseline", "check", "--provider", "cpu", "--json")
    assert codes(asked) == ["baseline.missing", "baseline.orphan"]
    wrong = command("baseline", "check", "--provider", "cpo")
    assert (wrong.code, wrong.err.splitlines()[0]) == (2, "error: Unknown provider 'cpo'")
