"""Under pytest-xdist: the same items, the same totals, the same record."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.testing import MiniProject, Outcome

pytest.importorskip("xdist")


def essence(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return all that must not depend on the number of workers."""
    plain = {key: item.as_json() for key, item in outcome.items.items()}
    for item in plain.values():
        del item["duration_s"]
        item["facts"].pop("reference", None)  # says whether it was computed or cached
    return plain


def closing(outcome: Outcome) -> list[str]:
    """Return the closing table and the last line, without times."""
    text = outcome.text.partition(" onnx-harness =")[2].splitlines()[1:]
    table = text[: next(n for n, line in enumerate(text) if line.startswith("run record"))]
    counts = re.findall(r"\d+ (?:failed|passed|skipped|error)", outcome.text.splitlines()[-1])
    return [*table, *sorted(counts)]


def test_two_workers_judge_what_one_process_judges(mixed: MiniProject) -> None:
    """Findings, receipts, table and exit code are the same."""
    plain, spread = mixed.run(), mixed.run("-n", "2")
    assert "created: 2/2 workers" in spread.text
    assert spread.exit_code == plain.exit_code == pytest.ExitCode.TESTS_FAILED
    assert essence(spread) == essence(plain)
    assert closing(spread) == closing(plain)
