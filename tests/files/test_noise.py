"""Noise on disk: what is written is read, and a file that does not hold is told in full."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.domain.cells import Cell
from harness.domain.noise import Noise
from harness.errors import EnvironmentProblem, SpecError
from harness.files.baselines import Baselines
from harness.files.noise import NoiseBook
from tests.baselines import ENVIRONMENT, local

CELL = Cell("mnist", "fp32", "cpu", "batch1")
NOISE = Noise(scatter=0.0123, pairs=32, p50_ms=1.25, when="2026-11-23T10:00:00+00:00")


@pytest.fixture
def book(tmp_path: Path) -> NoiseBook:
    """Return the noise of a folder of baselines that does not exist yet; scope function."""
    return NoiseBook(tmp_path / "baselines")


def spoiled(book: NoiseBook, path: str, value: Any) -> NoiseBook:
    """Write noise with the value at a dotted path replaced; return it unread."""
    file = book.write(ENVIRONMENT, {CELL: NOISE})
    values = json.loads(file.read_text())
    *parents, last = path.split(".")
    table = values
    for name in parents:
        table = table[name]
    table[last] = value
    file.write_text(json.dumps(values))
    return book


def test_what_is_written_is_read(book: NoiseBook) -> None:
    """The scatter comes back, for its own cell and environment alone."""
    path = book.write(ENVIRONMENT, {CELL: NOISE})
    assert path.name == "_noise.json"
    assert path.parent.name == ENVIRONMENT.id
    assert book.scatter(ENVIRONMENT.id, CELL) == NOISE.scatter
    assert book.scatter(ENVIRONMENT.id, replace(CELL, case="batch8")) is None
    assert book.scatter("another-environment", CELL) is None


def test_cells_are_added_and_measured_anew(book: NoiseBook) -> None:
    """A second calibration keeps what it did not measure."""
    other = replace(CELL, case="batch8")
    book.write(ENVIRONMENT, {CELL: NOISE, other: NOISE})
    assert book.scatter(ENVIRONMENT.id, CELL) == NOISE.scatter
    book.write(ENVIRONMENT, {CELL: replace(NOISE, scatter=0.02)})
    assert book.scatter(ENVIRONMENT.id, CELL) == 0.02
    assert book.scatter(ENVIRONMENT.id, other) == NOISE.scatter


def test_digits_are_as_many_as_a_scatter_is_good_for(book: NoiseBook) -> None:
    """A diff of two calibrations shows what changed, not the last digits of a double."""
    book.write(ENVIRONMENT, {CELL: replace(NOISE, scatter=0.012345678)})
    assert book.scatter(ENVIRONMENT.id, CELL) == 0.0123


def test_noise_is_no_model(book: NoiseBook, tmp_path: Path) -> None:
    """Whoever lists models and environments does not see it."""
    baselines = Baselines(tmp_path / "baselines")
    book.write(ENVIRONMENT, {CELL: NOISE})
    assert (baselines.models(ENVIRONMENT.id), baselines.environments()) == ([], [])
    baselines.write_local(local("noise"))
    assert baselines.models(ENVIRONMENT.id) == ["noise"]
    assert book.scatter(ENVIRONMENT.id, CELL) == NOISE.scatter


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 2),
        ("surprise", 1),
        ("cells.mnist/fp32/cpu/batch1.scatter", -0.1),
        ("cells.mnist/fp32/cpu/batch1.scatter", "much"),
        ("cells.mnist/fp32/cpu/batch1.p50_ms", 0),
        ("cells.mnist/fp32/cpu/batch1.pairs", 0),
        ("environment.cores", 4),
    ],
)
def test_a_file_that_does_not_hold_is_refused(book: NoiseBook, path: str, value: Any) -> None:
    """It is told with its place, and how to get a sound one."""
    spoiled(book, path, value)
    with pytest.raises(SpecError) as caught:
        book.scatter(ENVIRONMENT.id, CELL)
    file = book.path(ENVIRONMENT.id)
    assert caught.value.code == "baseline.unreadable"
    assert caught.value.where.startswith(str(file))
    assert caught.value.next_step == (
        f"git checkout -- {file}\nor: delete it, then `onnx-harness baseline calibrate`"
    )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"], ids=["empty", "cut off", "not UTF-8"])
def test_no_json_is_refused(book: NoiseBook, content: bytes) -> None:
    """Neither is it taken for a missing file, nor written over."""
    file = book.write(ENVIRONMENT, {CELL: NOISE})
    file.write_bytes(content)
    with pytest.raises(SpecError, match="Noise of this machine"):
        book.scatter(ENVIRONMENT.id, CELL)
    with pytest.raises(SpecError):
        book.write(ENVIRONMENT, {CELL: NOISE})
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_told(book: NoiseBook, tmp_path: Path) -> None:
    """A file stands where the folder of baselines should."""
    (tmp_path / "baselines").write_text("")
    with pytest.raises((EnvironmentProblem, SpecError)) as caught:
        book.write(ENVIRONMENT, {CELL: NOISE})
    assert caught.value.code in {"baseline.unwritable", "baseline.unreadable"}
