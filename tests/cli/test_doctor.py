"""`onnx-harness doctor` tells the truth about runtimes and providers."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.cli.diagnosis import Check, Status
from harness.cli.doctor import is_healthy
from harness.domain.environment import Environment
from harness.domain.findings import Finding
from harness.errors import EnvironmentProblem
from harness.testing import MiniProject
from tests.cli.conftest import Command

pytest.importorskip("onnxruntime")


def test_the_cpu_works(command: Command) -> None:
    """A session on the CPU provider really opens, and takes all nodes of a small model."""
    result = command("doctor", "--provider", "cpu", "--json")
    check = result.json["checks"][0]
    assert result.code == 0
    assert result.json["healthy"] is True
    assert (check["name"], check["status"], check["placed"]) == ("cpu@own", "works", check["total"])


def test_a_provider_that_takes_no_node_does_not_work(command: Command) -> None:
    """Azure is in every CPU build and opens a session, in which all nodes are on the CPU."""
    result = command("doctor", "--provider", "azure")
    assert result.code == 3
    header, row, _, cause, *_ = result.out.splitlines()
    assert header.split() == ["runtime", "onnxruntime", "provider", "status", "nodes", "start"]
    assert row.split()[2:] == ["azure", "takes", "no", "node", "0/2", "fork"]
    assert cause == (
        "azure@own: AzureExecutionProvider opens a session but takes no node: "
        "all of them run elsewhere"
    )


def test_a_provider_that_no_runtime_has(command: Command) -> None:
    """The hint names the extra that brings the provider."""
    result = command("doctor", "--provider", "qnn", "--json")
    check = result.json["checks"][0]
    assert result.code == 3
    assert check["status"] == "not usable"
    assert check["cause"] == "Provider 'qnn' is not available: no runtime has QNNExecutionProvider"


def test_an_unknown_provider_is_a_usage_error(command: Command) -> None:
    """A misspelled name gets the nearest one."""
    result = command("doctor", "--provider", "cdua")
    assert result.code == 2
    assert result.err.startswith("error: Unknown provider 'cdua'\n")
    assert result.err.endswith("next:     did you mean 'cuda'?\n")


def test_a_runtime_whose_interpreter_is_gone(command: Command, project: MiniProject) -> None:
    """A declared interpreter that is not there makes the machine unhealthy."""
    project.write("onnx-harness.toml", '[runtimes.gone]\npython = "nowhere/python"\n')
    result = command("doctor")
    python = project.root / "nowhere" / "python"
    assert result.code == 3
    assert (
        f"gone: Interpreter '{python}' cannot be started: No such file or directory\n"
        f"  where:    {python}\n"
    ) in result.out


def test_a_declared_runtime_that_is_not_made_is_shown_and_does_not_count(
    command: Command, project: MiniProject
) -> None:
    """It is no fault until somebody asks for it; then it is one."""
    project.write(
        "onnx-harness.toml",
        '[runtimes.old]\nrequirements = ["onnxruntime==1.20.1"]\n'
        '[providers.openvino]\nruntime = "old"\n',
    )
    result = command("doctor")
    assert result.code == 0
    assert "old: Runtime 'old' is declared but not made yet\n" in result.out
    assert "  next:     onnx-harness runtime add old\n" in result.out
    asked = command("doctor", "--provider", "openvino", "--json")
    assert asked.code == 3
    assert asked.json["checks"][0]["status"] == "not made"


def test_a_runtime_with_a_broken_onnxruntime(
    command: Command, project: MiniProject, fake_runtime: Callable[[str], Path]
) -> None:
    """A package that is no ONNX Runtime is told as such, with what it lacks."""
    python = fake_runtime("x = 1\n")
    project.write("onnx-harness.toml", f'[runtimes.fake]\npython = "{python}"\n')
    result = command("doctor", "--json")
    check = next(each for each in result.json["checks"] if each["runtime"] == "fake")
    assert result.code == 3
    assert check["status"] == "broken runtime"
    assert "module 'onnxruntime' has no attribute" in check["cause"]


def test_a_runtime_that_dies_on_import(
    command: Command, project: MiniProject, fake_runtime: Callable[[str], Path]
) -> None:
    """An interpreter that ends inside the import does not take the doctor along."""
    python = fake_runtime("import os; os.abort()\n")
    project.write("onnx-harness.toml", f'[runtimes.fake]\npython = "{python}"\n')
    result = command("doctor", "--json")
    check = next(each for each in result.json["checks"] if each["runtime"] == "fake")
    assert check["status"] == "broken runtime"
    assert check["cause"] == "Interpreter ended before it was ready"


def test_a_plugin_library_that_is_not_there(command: Command, project: MiniProject) -> None:
    """A plugin provider of the settings that cannot be loaded makes the machine unhealthy."""
    project.write("onnx-harness.toml", '[providers.mine]\nep = "mine"\nlibrary = "no_such_lib"\n')
    result = command("doctor", "--json")
    check = next(each for each in result.json["checks"] if each["provider"] == "mine")
    assert result.code == 3
    assert check["status"] == "not usable"
    assert "this runtime has neither a file nor a package 'no_such_lib'" in check["cause"]


def test_a_machine_without_any_runtime(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that could run is an unhealthy environment, with the way out."""
    monkeypatch.setattr("harness.runtimes.registry._find", lambda *_: iter(()))
    result = command("doctor")
    assert result.code == 3
    assert result.out.startswith(
        "No runtime: onnxruntime is not installed beside the harness, and none was added\n"
        "  next:     pip install onnxruntime, or `onnx-harness runtime add cpu onnxruntime`\n"
        "\n"
        "environment (cpu): "
    )


HERE = Environment(system="Linux x86_64", cpu="AMD EPYC", isa="0123456789ab", cores=2, memory_gib=8)
GPU = replace(HERE, gpu="NVIDIA H200", driver="580.65.06", cuda="13.0")


def machine_with(*, gpu: bool) -> Callable[..., Environment]:
    """Return a `this_environment` of a machine with or without a GPU."""

    def told(*, gpu: bool = False) -> Environment:
        if not gpu:
            return HERE
        if has_gpu:
            return GPU
        message = "No NVIDIA GPU can be asked for its name"
        raise EnvironmentProblem(message, code="provider.no-device")

    has_gpu = gpu
    return told


def test_the_environment_in_full(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id names the folder of this machine's baselines; what is empty is left out."""
    monkeypatch.setattr("harness.runtimes.machine.this_environment", machine_with(gpu=True))
    result = command("doctor", "--provider", "cpu")
    assert result.code == 0
    assert result.out.partition("\n\nenvironment ")[2] == (
        f"(cpu): {HERE.id}\n"
        "  system:     Linux x86_64\n"
        "  cpu:        AMD EPYC\n"
        "  isa:        0123456789ab\n"
        "  cores:      2\n"
        "  memory_gib: 8\n"
        f"environment (gpu): {GPU.id}\n"
        "  system:     Linux x86_64\n"
        "  cpu:        AMD EPYC\n"
        "  isa:        0123456789ab\n"
        "  cores:      2\n"
        "  memory_gib: 8\n"
        "  gpu:        NVIDIA H200\n"
        "  driver:     580.65.06\n"
        "  cuda:       13.0\n"
    )


@pytest.mark.parametrize("gpu", [True, False])
def test_the_environment_as_json(
    command: Command, monkeypatch: pytest.MonkeyPatch, *, gpu: bool
) -> None:
    """A machine without a GPU is healthy and has one environment."""
    monkeypatch.setattr("harness.runtimes.machine.this_environment", machine_with(gpu=gpu))
    result = command("doctor", "--provider", "cpu", "--json")
    assert result.code == 0
    found = result.json["environments"]
    assert set(found) == ({"cpu", "gpu"} if gpu else {"cpu"})
    assert found["cpu"] == {"id": HERE.id, **asdict(HERE)}


def test_the_cause_is_the_missing_library() -> None:
    """The library that the log names is worth more than what the session said."""
    finding = Finding(
        code="provider.unavailable",
        what="CUDAExecutionProvider was requested but is not usable: the session got ['CPU']",
        got="Failed to load x.so with error: libcublasLt.so.13: cannot open shared object file",
    )
    check = Check(
        provider="cuda", runtime="gpu", status=Status.NOT_USABLE, finding=finding, declared=True
    )
    assert check.cause == "library 'libcublasLt.so.13' is missing"
    assert check.as_json()["missing_library"] == "libcublasLt.so.13"


def _check(status: Status, *, declared: bool = False) -> Check:
    return Check(provider="p", runtime="r", status=status, declared=declared)


@pytest.mark.parametrize(
    ("checks", "asked", "healthy"),
    [
        ([], False, False),
        ([_check(Status.WORKS)], False, True),
        ([_check(Status.WORKS), _check(Status.NOT_USABLE)], False, True),
        ([_check(Status.WORKS), _check(Status.NOT_USABLE)], True, False),
        ([_check(Status.WORKS), _check(Status.NOT_USABLE, declared=True)], False, False),
        ([_check(Status.WORKS), _check(Status.BROKEN_RUNTIME, declared=True)], False, False),
        ([_check(Status.WORKS), _check(Status.NOT_MADE)], False, True),
        ([_check(Status.WORKS), _check(Status.NOT_MADE)], True, False),
        ([_check(Status.TAKES_NO_NODE)], False, False),
    ],
    ids=str,
)
def test_what_has_to_work(*, checks: list[Check], asked: bool, healthy: bool) -> None:
    """Everything asked for or declared has to work, and at least one provider in any case."""
    assert is_healthy(checks, asked=asked) is healthy


@pytest.fixture
def fake_runtime(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of environments with a fake onnxruntime and the real numpy."""

    def make(code: str) -> Path:
        home = tmp_path / "fake"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = home / "lib" / version / "site-packages"
        (packages / "onnxruntime").mkdir()
        (packages / "onnxruntime" / "__init__.py").write_text(code, encoding="utf-8")
        (packages / "real.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
        return home / "bin" / "python"

    return make
