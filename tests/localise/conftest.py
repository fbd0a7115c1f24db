"""Fixtures of the search's tests: a cell that fails, judged and searched in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from harness.domain.cells import Cell
from harness.domain.project import ProjectSettings
from harness.domain.questions import PARITY
from harness.domain.verdict import Verdict
from harness.evidence import Evidence, Selection
from harness.files.models import load_models
from harness.localise.report import Report
from harness.localise.search import BATCH_BYTES, localise
from harness.pipeline import Gate
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtimes
from harness.testing import MiniProject

FAILING = "m/fp32/cpu/one"
Searcher = Callable[..., Report]


@pytest.fixture(scope="session")
def launcher() -> Iterator[LocalLauncher]:
    """Return a launcher for all searches; scope session."""
    with LocalLauncher() as made:
        yield made


@pytest.fixture
def search(tmp_path: Path, launcher: LocalLauncher) -> Searcher:
    """Return a function that searches a failing cell of model `m`; scope function."""

    def run(
        spec: str,
        files: Mapping[str, str | bytes],
        *,
        cell: str = FAILING,
        settings: ProjectSettings | None = None,
        budget_s: float = 60.0,
        batch_bytes: int = BATCH_BYTES,
    ) -> Report:
        project = MiniProject(tmp_path / "project")
        project.add_model("m", spec, files)
        runtimes = Runtimes(
            settings or ProjectSettings(), project.root, project.root / "runtimes", launcher
        )
        selection = Selection(models=load_models(project.models), localises=False)
        cache, wanted = project.root / "cache", Cell(*cell.split("/"))
        gate = Gate(selection, runtimes=runtimes, launcher=launcher, cache=cache)
        judgement = gate.check(PARITY, wanted)
        gate.close()
        assert judgement.verdict is Verdict.FAIL, judgement.findings
        evidence = Evidence(
            selection, runtimes=runtimes, launcher=launcher, cache=cache, say=lambda _: None
        )
        try:
            return localise(evidence, wanted, budget_s=budget_s, batch_bytes=batch_bytes)
        finally:
            evidence.close()

    return run
