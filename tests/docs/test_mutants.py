"""The tables of docs/mutants.md are what the command printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.mutants import PAGE, PASSAGE, main


def model(name: str, *fates: str, **more: Any) -> dict[str, Any]:
    """Return a model as `onnx-harness prove --json` prints it."""
    trials = [
        {
            "id": f"scale-tensor/w/{number}",
            "kind": "scale-tensor",
            "fate": fate,
            "killed_by": "parity" if fate == "killed" else "",
            "reason": "tolerance too loose",
            "told": "a | b",
            "remedy": "one\ntwo",
        }
        for number, fate in enumerate(fates)
    ]
    plain = {
        "model": name,
        "listed": 9,
        "trials": trials,
        "score": 0.5,
        "dependence": {"inputs": 0.25, "weights": None},
        "curve": {"1e-3": {"killed": 1, "made": 4}},
    }
    return {**plain, **more}


def written(tmp_path: Path, *models: dict[str, Any]) -> str:
    """Return a page after the tables of these models were written into it."""
    page, file = tmp_path / "page.md", tmp_path / "prove.json"
    page.write_text("before\n<!-- mutants -->\nold\n<!-- end of mutants -->\nafter\n")
    file.write_text(json.dumps({"models": models}))
    main([str(file)], page)
    return page.read_text()


def test_scores_are_pooled_over_all_models(tmp_path: Path) -> None:
    """The last row counts mutants, not models; equivalents are left out of the score."""
    text = written(
        tmp_path,
        model("one", "killed", "killed", "killed", "equivalent"),
        model("two", "killed", "survived"),
    )
    assert "| **all** | 6 of 18 | 4 | 1 | 1 | 0 | **80.0%** |  |" in text
    assert "| two | 2 of 9 | 1 | 0 | 1 | 0 | 50.0% | 0.25, - |" in text
    assert "| scale-tensor | 6 | 4 | 1 | 1 | 0 | parity 4 |" in text
    assert "| killed | 2 of 8 (25%) |" in text
    assert text.startswith("before\n<!-- mutants -->\n| model |")
    assert text.endswith("\n<!-- end of mutants -->\nafter\n")


def test_every_survivor_has_its_row(tmp_path: Path) -> None:
    """With what breaks a table escaped."""
    text = written(tmp_path, model("two", "survived", "undecided", "killed"))
    row = "| tolerance too loose | a \\| b | one two |"
    assert text.count(row) == 2
    assert f"| `two`: `scale-tensor/w/1` {row}" in text


def test_a_refused_model_stops_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table without it would look complete."""
    with pytest.raises(SystemExit):
        written(tmp_path, {"model": "broken", "refused": {}}, model("two", "killed"))
    assert "refused: broken" in capsys.readouterr().err


def test_the_page_holds_the_tables() -> None:
    """Scores of all shipped models, at least 95 % together, and a row for each survivor."""
    match = PASSAGE.search(PAGE.read_text(encoding="utf-8"))
    assert match is not None
    rows = [line.split(" | ") for line in match[0].splitlines() if line.startswith("| ")]
    shown = {row[0].removeprefix("| ") for row in rows}
    folder = PAGE.parents[1] / "models"
    assert {path.name for path in folder.iterdir() if path.name[0].isalpha()} <= shown
    total = next(row for row in rows if row[0] == "| **all**")
    survivors = int(total[4]) + int(total[5])
    assert float(total[6].strip("*%")) >= 95
    assert sum(row[0].startswith("| `") for row in rows) == survivors
