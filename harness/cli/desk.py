"""What the commands on baselines work with: models, baselines, artefacts, and a gate if need be."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cli.output import saying
from harness.cli.project import Project
from harness.domain.cells import PROVIDER_DEPTH, Cell, parts, short_name
from harness.errors import HarnessError
from harness.evidence import Evidence, Selection, TimingOptions
from harness.files import places
from harness.files.artefacts import Artefacts
from harness.files.baselines import Baselines
from harness.files.commits import as_of
from harness.files.models import (
    BrokenModel,
    Model,
    load_models,
    named_models,
    with_known_providers,
)
from harness.files.project import artefacts_place
from harness.latency.plans import Approved, Planner
from harness.pipeline import Gate
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.probe import check_provider
from harness.runtimes.registry import Runtimes

BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The chosen models of a project, and where its baselines are."""

    project: Project
    loaded: Mapping[str, Model | BrokenModel]
    """All models of the folder."""
    models: Mapping[str, Model]
    """The chosen ones."""
    approved: Approved
    folder: Path
    """Of the baselines."""

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        models: Path | None,
        baselines: Path | None,
        wanted: Sequence[str] = (),
    ) -> Desk:
        """Return the desk of a project.

        Raises:
            HarnessError: If a chosen model's spec is broken, or a glob chooses none.
        """
        settings = project.settings
        loaded = load_models(project.models_folder(models))
        folder = project.root / settings.baselines if baselines is None else baselines
        cache = places.writable(places.cache_folder(), "ONNX_HARNESS_CACHE")
        place = artefacts_place(settings, project.root, folder)
        return cls(
            project=project,
            loaded=loaded,
            models=_chosen(loaded, wanted),
            approved=Approved(baselines=Baselines(folder), artefacts=Artefacts(place, cache)),
            folder=folder,
        )

    @property
    def most_bytes(self) -> float | None:
        """Return the size beyond which no artefact is kept."""
        most = self.project.settings.largest_artefact_mb
        return None if most is None else most * BYTES_PER_MB

    @contextmanager
    def gate(
        self, providers: Sequence[str], *, measures_all: bool = False
    ) -> Iterator[tuple[Gate, tuple[Cell, ...]]]:
        """Yield a gate and the latency cells of the chosen models on these providers.

        Raises:
            HarnessError: If a provider is unknown, or a spec names one that is.
        """
        with self._opened(providers) as (launcher, runtimes, cells):
            selection = Selection(
                models=self.models,
                localises=False,
                as_of=as_of(self.project.root, None),
                timing=TimingOptions(
                    cells=cells,
                    measures_all=measures_all,
                    completes=True,
                    seed=secrets.randbits(32),
                ),
            )
            cache = places.cache_folder()
            with saying("measuring") as say:
                gate = Gate(
                    selection,
                    runtimes=runtimes,
                    launcher=launcher,
                    cache=cache,
                    approved=self.approved,
                    say=say,
                )
                with closing(gate):
                    yield gate, cells

    @contextmanager
    def planner(
        self, providers: Sequence[str]
    ) -> Iterator[tuple[Planner, LocalLauncher, tuple[Cell, ...], Callable[[str], None]]]:
        """Yield what plans latency cells, what starts their workers, the cells, what shows doing.

        Raises:
            HarnessError: As `gate` does.
        """
        with self._opened(providers) as (launcher, runtimes, cells), saying("measuring") as say:
            selection = Selection(models=self.models, localises=False)
            cache = places.cache_folder()
            evidence = Evidence(
                selection, runtimes=runtimes, launcher=launcher, cache=cache, say=say
            )
            with closing(evidence):
                yield Planner(evidence, self.approved), launcher, cells, say

    def is_timed(self, cell: Cell) -> bool:
        """Return whether the model's spec lets a cell be timed."""
        return self.models[cell.model].spec.latency.not_applicable is None

    def needs_gpu(self, cell: Cell) -> bool:
        """Return whether the figures of a cell are those of a GPU."""
        with LocalLauncher() as launcher:
            return not self.project.runtimes(launcher).resolve(cell.provider).provider.forks

    @contextmanager
    def _opened(
        self, providers: Sequence[str]
    ) -> Iterator[tuple[LocalLauncher, Runtimes, tuple[Cell, ...]]]:
        """Yield launcher, runtimes, and the latency cells on these providers."""
        with LocalLauncher() as launcher:
            runtimes = self.project.runtimes(launcher)
            for name in providers:
                runtimes.check_name(name)
            yield launcher, runtimes, tuple(self._cells(providers, launcher, runtimes))

    def _cells(
        self, providers: Sequence[str], launcher: LocalLauncher, runtimes: Runtimes
    ) -> Iterator[Cell]:
        known = with_known_providers(self.models, runtimes.providers)
        usable: dict[str, bool] = {}
        for model in known.values():
            if isinstance(model, BrokenModel):
                raise model.problem
            for name in providers or model.spec.providers:
                if name not in usable:
                    usable[name] = bool(providers) or _is_usable(name, launcher, runtimes)
                use = model.spec.providers.get(short_name(name))
                if usable[name] and not (use and use.not_applicable):
                    yield from model.timed_cells((name,))


def session_parts(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return model, variant and provider of cells, each once."""
    return parts(cells, PROVIDER_DEPTH)


def _is_usable(name: str, launcher: LocalLauncher, runtimes: Runtimes) -> bool:
    try:
        check_provider(launcher, runtimes.resolve(name))
    except HarnessError:
        return False
    return True


def _chosen(loaded: Mapping[str, Model | BrokenModel], wanted: Sequence[str]) -> dict[str, Model]:
    chosen = {}
    for name, model in named_models(loaded, wanted).items():
        if isinstance(model, BrokenModel):
            raise model.problem
        chosen[name] = model
    return chosen
