"""Prove that the installed wheel works in a repository that knows nothing of this one.

Run by `tox -e wheel` with a folder in the model-zoo layout. The project is made in a temporary
folder, so neither the checkout's package nor its pytest settings can help. The same run is then
repeated with a spoilt recording, because a gate that cannot fail proves nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITES = [sys.executable, "-m", "pytest", "--pyargs", "harness.suites", "--provider", "cpu"]
PASSED, FAILED = 0, 1
ROOT = Path(__file__).parents[1]
#: Ends with 1 if the package that is imported lies in the checkout.
NOT_THE_CHECKOUT = (
    "import sys, harness; sys.exit(harness.__file__ == sys.argv[1] + '/harness/__init__.py')"
)


def main(model: Path) -> None:
    """Run command and suites in a project that holds a copy of `model`."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        copy = project / "models" / "digits"
        shutil.copytree(model, copy)
        _expect(PASSED, ["onnx-harness", "--version"], project)
        _expect(PASSED, [sys.executable, "-c", NOT_THE_CHECKOUT, str(ROOT)], project)
        _expect(PASSED, SUITES, project)
        _expect(PASSED, ["onnx-harness", "baseline", "refresh", "--reason", "first"], project)
        _expect(PASSED, [*SUITES, "--no-skips"], project)
        shutil.copy(copy / "test_data_set_1/output_0.pb", copy / "test_data_set_0/output_0.pb")
        _expect(FAILED, SUITES, project, quiet=True)
    print("the wheel gates in a foreign project, and fails there for a spoilt recording")


def _expect(code: int, command: list[str], folder: Path, *, quiet: bool = False) -> None:
    """Run a command; end if its exit code is another one. A quiet one shows its output then."""
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(command, cwd=folder, check=False, stdout=output, text=True)
    if done.returncode != code:
        print(done.stdout or "")
        sys.exit(f"exit code {done.returncode} instead of {code}: {command}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
