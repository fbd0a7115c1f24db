"""The pytest plugin: options, parametrisation, verdicts as outcomes, the closing table.

This module is imported by every pytest run in its environment, so it loads pytest and the
standard library only; the rest comes when an option or a suite asks for the harness.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.plugin.state import HarnessState, ItemGate

GROUP = "onnx-harness"
#: Where an xdist worker leaves a usage error for the controller.
REFUSAL = "onnx_harness_refusal"
#: Why suites could not be given their cells.
PROBLEM = pytest.StashKey[str]()
NOTHING_JUDGED = "ERROR: Nothing was judged: every item was skipped, so this run proves nothing"
#: Options that ask for the harness.
OPTIONS = (
    "provider",
    "model",
    "models",
    "provider_option",
    "no_skips",
    "as_of",
    "harness_json",
    "baselines",
    "measure_all",
    "record_serving",
    "against_runtime",
)
#: Options whose values may be 0 or empty.
SEARCHED = ("harness_profile", "harness_seed")
MARKERS = {
    "contract": "is the file a valid ONNX model with the interface that its spec promises?",
    "placement": "do the nodes really run on the provider that was asked for?",
    "parity": "does the candidate compute what its reference computes?",
    "properties": "does parity hold over the whole input space that the spec declares?",
    "latency": "is the candidate as fast, as small and as quick to start as its baseline?",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; called once by pytest."""
    group = parser.getgroup(GROUP, "release gate for ONNX models")
    group.addoption(
        "--provider",
        action="append",
        default=[],
        metavar="NAME",
        help="Execution provider to judge, such as cpu, cuda or cpu@RUNTIME; repeatable. "
        "Default: each spec's providers that are usable here.",
    )
    group.addoption(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="Model to judge, a name or a glob; repeatable. Default: all models.",
    )
    group.addoption(
        "--models",
        default=None,
        metavar="DIR",
        help="Folder of the models. Default: `models` of the settings, else ./models.",
    )
    group.addoption(
        "--provider-option",
        action="append",
        default=[],
        metavar="PROVIDER.KEY=VALUE",
        help="Provider option for all models, such as cuda.use_tf32=0; repeatable. "
        "Default: those of settings and specs.",
    )
    group.addoption(
        "--no-skips",
        action="store_true",
        help="Turn every 'not judged' into a failure, except what a spec declares not "
        "applicable. Default: off.",
    )
    group.addoption(
        "--as-of",
        default=None,
        metavar="YYYY-MM-DD",
        help="Day on which known failures are judged. Default: that of the project's last commit, "
        "else today.",
    )
    group.addoption(
        "--no-localise",
        action="store_true",
        help="Do not search where a parity failure begins. Default: off; limits.localise_s of a "
        "spec bounds the search.",
    )
    group.addoption(
        "--harness-profile",
        choices=["dev", "ci", "nightly"],
        default=None,
        help="How far the properties suite searches: dev looks at few examples, ci always at the "
        "same ones, nightly at fresh ones with references that are run anew. Default: ci.",
    )
    group.addoption(
        "--harness-seed",
        type=int,
        default=None,
        metavar="N",
        help="Choose the examples of the properties suite. Default: by model; with nightly at "
        "random, told in every receipt.",
    )
    group.addoption(
        "--baselines",
        default=None,
        metavar="DIR",
        help="Folder of the baselines. Default: `baselines` of the settings, else ./baselines.",
    )
    group.addoption(
        "--measure-all",
        action="store_true",
        help="Time every cell of the latency suite, also those whose recipe did not change since "
        "their baseline and those without one. Default: off.",
    )
    group.addoption(
        "--record-serving",
        action="store_true",
        help="Record throughput, callers at once, sizes never seen before and growth of memory of "
        "every cell of the latency suite: some 15 s each, judged by nothing. Default: off.",
    )
    group.addoption(
        "--against-runtime",
        default=None,
        metavar="NAME",
        help="Hold each candidate against itself in this runtime, such as ort-1.31, instead of "
        "its baseline. Default: none.",
    )
    group.addoption(
        "--harness-json",
        default=None,
        metavar="FILE",
        help="Write the run record to FILE. Default: none.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register markers; start the harness if an option asks for it."""
    config.pluginmanager.register(Reports(config), "onnx-harness-reports")
    for name, asks in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: onnx-harness suite: {asks}")
    if any(config.getoption(name) is not None for name in SEARCHED) or any(
        config.getoption(name) for name in OPTIONS
    ):
        _activate(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give suites their cells.

    A suite is a test with one of our markers, `cell` and `gate`, in a module that holds the
    question that it puts to the gate; fixtures and markers of these names may be anybody's.
    """
    if not {"cell", "gate"} <= set(metafunc.fixturenames) or not _holds_question(metafunc.module):
        return
    question = next((name for name in MARKERS if _marked(metafunc, name)), None)
    if question is None:
        return
    try:
        _activate(metafunc.config).parametrize(metafunc, question)
    except pytest.UsageError as error:  # raised here it would be a traceback of every suite
        metafunc.config.stash[PROBLEM] = str(error)
        metafunc.parametrize("cell", [None], ids=["nothing-to-check"])


@pytest.fixture(scope="session")
def gate(request: pytest.FixtureRequest) -> ItemGate:
    """Return the judge of all items: `gate.require(QUESTION, cell)`."""
    from harness.plugin.state import ItemGate  # noqa: PLC0415 - loaded by now

    return ItemGate(_activate(request.config))


class Reports:
    """Collects what items left on their reports, on whichever process shows the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[dict[str, Any]] = []
        self._refusal = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of an item, also one that came from an xdist worker."""
        record = getattr(report, "onnx_harness", None)
        if record is not None:
            self._found.append(record)

    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Count what an earlier failure blocks on its own: the closing table tells it."""
        record = getattr(report, "onnx_harness", None)
        codes = [finding["code"] for finding in record["findings"]] if record else []
        return ("blocked", "E", "ERROR") if codes == ["blocked"] else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse a run whose suites could not be given their cells."""
        if PROBLEM in self._config.stash:
            refuse(self._config, self._config.stash[PROBLEM], items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a usage error from an xdist worker; workers cannot stop a run themselves."""
        self._refusal = getattr(node, "workeroutput", {}).get(REFUSAL, self._refusal)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End as a usage error if the workers refused the selection."""
        if self._refusal:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif self._found and not self._judged_any():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the closing table and write the run record."""
        if self._refusal:
            terminalreporter.write_line(f"ERROR: {self._refusal}", red=True)
        if not self._found:
            return
        width = self._config.get_terminal_writer().fullwidth
        for line in _activate(self._config).finish(self._found, width=width):
            terminalreporter.write_line(line)
        if not self._judged_any():
            terminalreporter.write_line(NOTHING_JUDGED, red=True)

    def _judged_any(self) -> bool:
        """Return whether something is known of an item; an expected failure was judged."""
        from harness.results.record import ItemRecord  # noqa: PLC0415 - loaded by now

        return any(ItemRecord.from_json(record).is_judged for record in self._found)


def refuse(config: pytest.Config, problem: str, items: list[pytest.Item]) -> None:
    """Stop the run; an xdist worker cannot, so it leaves word for the controller.

    Raises:
        pytest.UsageError: Outside xdist workers.
    """
    output = getattr(config, "workeroutput", None)
    if output is None:
        raise pytest.UsageError(problem)
    output.setdefault(REFUSAL, problem)
    items.clear()


def _holds_question(module: object) -> bool:
    questions = sys.modules.get("harness.domain.questions")  # imported by every suite
    held = [] if questions is None else [questions, *questions.QUESTIONS.values()]
    return any(value is ours for value in vars(module).values() for ours in held)


def _marked(metafunc: pytest.Metafunc, name: str) -> bool:
    return metafunc.definition.get_closest_marker(name) is not None


def _activate(config: pytest.Config) -> HarnessState:
    """Return the state of this run, loading the harness the first time."""
    from harness.plugin import state  # noqa: PLC0415 - most pytest runs never need it

    return state.activate(config)
