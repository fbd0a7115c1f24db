"""The gate that most projects have: pytest-benchmark's own comparison with a stored median.

The real plugin in an environment of its own, as its users run it: a test that calls `session.run`
once per call, one thread, no pinning, its defaults for everything else. The control of the decision
before is the stored run; the candidate is compared with it, then this decision's control is stored.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from power.subjects import Subject

FAIL = "median:5%"
_REGRESSED = "Performance has regressed"
_TEST = """\
import os

import numpy
import onnxruntime


def test_latency(benchmark):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=providers)
    with numpy.load(os.environ["INPUTS"]) as inputs:
        feeds = dict(inputs)
    benchmark(session.run, None, feeds)
"""
_LIMIT_S = 300


class PluginGate:
    """Stored medians, one for each subject.

    Args:
        python: Interpreter with pytest, pytest-benchmark, ONNX Runtime and numpy.
        folder: For the test, the inputs and what the plugin stores.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder
        self._stored: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_latency.py").write_text(_TEST, encoding="utf-8")

    def is_slower(self, subject: Subject, candidate: Path, control: Path) -> bool | None:
        """Hold a candidate against the control that was stored last, then store this control.

        Returns:
            Whether the run failed for a regression; None where nothing was stored before.

        Raises:
            RuntimeError: If a run ends in any other way.
        """
        inputs = self._folder / f"{subject.name}.npz"
        if not inputs.exists():
            feeds = {name: np.asarray(value) for name, value in subject.sets[0].items()}
            np.savez(inputs, allow_pickle=False, **feeds)
        verdict = None
        if subject.name in self._stored:
            compared = "--benchmark-compare", f"--benchmark-compare-fail={FAIL}"
            verdict = not self._passes(subject.name, candidate, inputs, *compared)
        self._passes(subject.name, control, inputs, "--benchmark-save=control")
        self._stored.add(subject.name)
        return verdict

    def _passes(self, name: str, model: Path, inputs: Path, *options: str) -> bool:
        storage = f"--benchmark-storage=file://{self._folder / name}"
        quiet = "-q", "-p", "no:cacheprovider"
        done = subprocess.run(
            [self._python, "-m", "pytest", "test_latency.py", *quiet, storage, *options],
            cwd=self._folder,
            env={**_environment(), "MODEL": str(model), "INPUTS": str(inputs)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        if done.returncode == 0 and "1 passed" in said:
            return True
        if _REGRESSED in said and "--benchmark-save=control" not in options:
            return False
        msg = f"pytest-benchmark ended with {done.returncode}\n{said[-3000:]}"
        raise RuntimeError(msg)


def _environment() -> Mapping[str, str]:
    """Return this process's environment without what would lead the peer to our packages."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    kept.pop("PYTHONPATH", None)
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}
