"""The docket: duets whose stages lie apart in time, because other cells are screened between.

What disturbs a machine for some seconds would otherwise be confirmed by itself. Nothing is
decided ahead: a cell whose screen shows nothing is settled by it, one that is suspicious waits.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from harness.domain import duet as rules
from harness.domain.cells import Cell
from harness.domain.duet import Rule
from harness.duets import Duet
from harness.errors import HarnessError
from harness.latency.plans import Plan
from harness.runtimes.launchers import Launcher

#: Seconds between the stages of one cell, and at least where nothing else is left to do.
APART_S, IDLE_S = 60.0, 5.0


@dataclass(slots=True)
class Trial:
    """A plan whose duet is on its way."""

    plan: Plan
    duet: Duet
    measured_at: float = 0.0
    """Of the last stage, on `time.monotonic`."""


class Docket:
    """The trials of a run.

    Args:
        launcher: Starts the workers.
        plan: Makes the plan of a cell.
        ahead: Cells that may be screened while another one waits, in their order.
        decisions: How many decisions the run has, among which alarms are shared.
        is_measured: Whether a plan asks for a duet.
        alone: Gives the machine to one measurement at a time.
        seed: Of every order that is drawn.
        rule: What is asked of a cell's p50.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        plan: Callable[[Cell], Plan],
        ahead: Sequence[Cell],
        decisions: int,
        is_measured: Callable[[Plan], bool],
        alone: Callable[[], AbstractContextManager[None]],
        seed: int,
        rule: Callable[[Cell], Rule],
    ) -> None:
        self._launcher = launcher
        self._plan = plan
        self._ahead = list(ahead)
        self._decisions = decisions
        self._is_measured = is_measured
        self._alone = alone
        self._seed = seed
        self._rule = rule
        self._known: dict[Cell, Plan | Trial | HarnessError] = {}

    def plan(self, cell: Cell) -> Plan:
        """Return the plan of a cell, made once.

        Raises:
            HarnessError: As the planner does.
        """
        known = self._begun(cell)
        return known.plan if isinstance(known, Trial) else known

    def settled(self, cell: Cell) -> Trial:
        """Return the trial of a cell, after as many stages as it needs.

        Raises:
            HarnessError: If candidate or control cannot be opened or run.
        """
        trial = self._begun(cell)
        if not isinstance(trial, Trial):
            msg = f"'{cell}' has no control"
            raise TypeError(msg)
        while not trial.duet.settled:
            self._keep_apart(trial)
            self._advance(trial)
        return trial

    def _begun(self, cell: Cell) -> Plan | Trial:
        """Return what is known of a cell; what is to be measured has been screened."""
        if cell in self._ahead:
            self._ahead.remove(cell)
        if cell not in self._known:
            try:
                self._known[cell] = self._begin(cell)
            except HarnessError as error:
                self._known[cell] = error
        known = self._known[cell]
        if isinstance(known, HarnessError):
            raise known
        return known

    def _begin(self, cell: Cell) -> Plan | Trial:
        plan = self._plan(cell)
        if plan.control is None or not self._is_measured(plan):
            return plan
        trial = Trial(
            plan=plan,
            duet=Duet(
                self._launcher,
                candidate=plan.side,
                control=plan.control,
                sets=plan.sets,
                seed=zlib.crc32(str(cell).encode()) ^ self._seed,
                latency=self._rule(cell).among(self._decisions),
                startup=rules.STARTUP.among(self._decisions),
            ),
        )
        self._advance(trial)
        return trial

    def _advance(self, trial: Trial) -> None:
        with self._alone():
            trial.duet.advance()
        trial.measured_at = time.monotonic()

    def _keep_apart(self, trial: Trial) -> None:
        """Screen other cells till the last stage of this one is long enough ago."""
        while self._ahead and time.monotonic() < trial.measured_at + APART_S:
            try:
                self._begun(self._ahead[0])
            except Exception:  # noqa: BLE001, S112 - its own item meets it again, and tells it
                continue
        time.sleep(max(0.0, trial.measured_at + IDLE_S - time.monotonic()))
