"""The plugin in a project that has no use for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.testing import MiniProject, suites_folder

HEAVY = ("numpy", "onnx", "pydantic", "rich", "typer", "torch", "onnxruntime", "harness.domain")
FOREIGN = """
import pytest

@pytest.fixture(params=[1, 2])
def cell(request):
    return request.param

@pytest.fixture
def gate():
    return "ours"

@pytest.mark.parity
def test_parity(cell, gate):
    assert cell in (1, 2)
    assert gate == "ours"

@pytest.mark.parametrize("cell", ["a"])
@pytest.mark.contract
def test_contract(cell, gate):
    assert (cell, gate) == ("a", "ours")

def test_modules():
    import sys
    assert not [name for name in sys.modules if name.startswith("harness.domain")]
"""


def test_a_project_with_fixtures_and_markers_of_the_same_name(project: MiniProject) -> None:
    """Its own `cell`, `gate` and `parity` stay its own."""
    project.write("test_foreign.py", FOREIGN)
    outcome = project.run("test_foreign.py", "--strict-markers", suites=False)
    assert outcome.exit_code == pytest.ExitCode.OK, outcome.text
    assert "4 passed" in outcome.text
    assert "onnx-harness ==" not in outcome.text


def test_a_suite_of_the_projects_own(tiny: MiniProject) -> None:
    """A module that holds a question is a suite, wherever it lies."""
    tiny.write(
        "test_own.py",
        "import pytest\nfrom harness.domain.questions import CONTRACT\n"
        "@pytest.mark.contract\ndef test_own(cell, gate): gate.require(CONTRACT, cell)\n",
    )
    outcome = tiny.run("test_own.py", suites=False)
    assert outcome.exit_code == pytest.ExitCode.OK, outcome.text
    assert "1 item: 1 PASS" in outcome.text


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "xdist"])
def test_suites_without_any_option(project: MiniProject, workers: tuple[str, ...]) -> None:
    """What is wrong is told once, without a traceback."""
    outcome = project.run(str(suites_folder()), *workers, suites=False)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    text = f"ERROR: Models folder '{project.models}' holds no model: nothing would be checked\n"
    assert outcome.text.count(text) == 1
    assert "state.py" not in outcome.text


def test_a_foreign_gate_with_a_cell_of_nobody(project: MiniProject) -> None:
    """A test whose `cell` nobody defines is pytest's business."""
    project.write(
        "test_foreign.py",
        "import pytest\n@pytest.fixture\ndef gate(): return 1\n"
        "@pytest.mark.parity\ndef test_it(cell, gate): pass\n",
    )
    outcome = project.run("test_foreign.py", suites=False)
    assert "fixture 'cell' not found" in outcome.text


def test_importing_the_plugin_is_cheap() -> None:
    """Every pytest run of the environment imports it."""
    code = f"import harness.plugin, sys; print(sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_help_shows_every_option(project: MiniProject) -> None:
    """In one group, without starting anything."""
    outcome = project.run("--help", suites=False)
    group = outcome.text.partition("release gate for ONNX models:")[2]
    for option in (
        "--provider=NAME",
        "--model=NAME",
        "--models=DIR",
        "--provider-option=PROVIDER.KEY=VALUE",
        "--no-skips",
        "--harness-json=FILE",
    ):
        assert option in group


def test_an_option_without_a_suite(tiny: MiniProject) -> None:
    """Who asks for the gate and collects no suite gets no green run."""
    tiny.write("test_other.py", "def test_it(): pass\n")
    outcome = tiny.run("test_other.py", "--provider", "cpu", suites=False)
    assert outcome.exit_code == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: Nothing would be checked: onnx-harness was asked for, but no suite was collected\n"
        "  next:     name the suites: `pytest suites/`, or `pytest --pyargs harness.suites`"
    ) in outcome.text
