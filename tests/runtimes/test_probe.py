"""The probe: a provider works if a small model really ran on it, and else the cause is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.domain.providers import BUILTIN
from harness.domain.verdict import Verdict
from harness.errors import EnvironmentProblem, RunFailed
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.probe import check_provider, missing_library
from harness.runtimes.registry import Resolved, Runtime
from harness.runtimes.workers import shortened
from harness.testing import MiniProject, file_spec, linear_model
from tests.runtimes.fakes import make_runtime

LOADER = (
    "2026-01-01 08:00:00.1 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 "
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library /opt/venv/lib/python3.11/site-packages/onnxruntime/capi/"
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object "
    "file: No such file or directory"
)
TINY = {"model.onnx": linear_model().SerializeToString()}
FELL_BACK = (
    "CUDAExecutionProvider was requested but is not usable: "
    "the session got ['CPUExecutionProvider']"
)


def resolved(provider: str, python: Path | str = sys.executable) -> Resolved:
    """Return a provider in the runtime of an interpreter."""
    runtime = Runtime(name="own", python=str(python), source="own")
    return Resolved(name=provider, provider=BUILTIN[provider], runtime=runtime)


def test_cpu_works(launcher: LocalLauncher) -> None:
    """The CPU takes all nodes of the small model."""
    status = check_provider(launcher, resolved("cpu"))
    assert status.facts.providers == ("CPUExecutionProvider",)
    assert status.placed == status.total > 0


def test_azure_takes_no_node(launcher: LocalLauncher) -> None:
    """The session names the provider first, yet every node is on the CPU."""
    status = check_provider(launcher, resolved("azure"))
    assert status.facts.providers == ("AzureExecutionProvider", "CPUExecutionProvider")
    assert status.placed == 0 < status.total


def test_build_that_works_by_profile(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A runtime that records no placement is asked by one profiled run."""
    status = check_provider(launcher, resolved("cuda", make_runtime(tmp_path / "gpu", "works")))
    assert (status.placed, status.total) == (1, 2)
    assert status.facts.start_method == "spawn"


def test_gpu_build_without_a_gpu(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A session that got only the CPU is refused, and the missing library is named."""
    python = make_runtime(tmp_path / "gpu", "falls back")
    with pytest.raises(EnvironmentProblem) as caught:
        check_provider(launcher, resolved("cuda", python))
    assert str(caught.value) == (
        f"{FELL_BACK}\n"
        f"  where:    provider 'cuda', runtime 'own' ({python})\n"
        "  expected: a session on CUDAExecutionProvider\n"
        "  got:      Failed to load library libonnxruntime_providers_cuda.so with error: "
        "libcublasLt.so.13: cannot open shared object file: No such file or directory\n"
        "  next:     library 'libcublasLt.so.13' is missing: install it (for CUDA and cuDNN: "
        'pip install "onnxruntime-gpu[cuda,cudnn]"), or leave this provider out'
    )
    assert caught.value.code == "provider.unavailable"


def test_provider_that_gives_up_in_a_run(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A session that goes on with other providers in the middle of a run is found out."""
    python = make_runtime(tmp_path / "gpu", "gives up")
    with pytest.raises(RunFailed) as caught:
        check_provider(launcher, resolved("cuda", python))
    assert caught.value.code == "session.fallback"


def test_build_that_cannot_be_imported(launcher: LocalLauncher, tmp_path: Path) -> None:
    """An import that fails is the cause that is told."""
    python = make_runtime(tmp_path / "gpu", "breaks")
    with pytest.raises(EnvironmentProblem) as caught:
        check_provider(launcher, resolved("cuda", python))
    assert caught.value.what.startswith("CUDAExecutionProvider was requested but is not usable: ")
    assert "libcudart.so.13" in str(caught.value)


def test_gate_refuses_the_fallback(project: MiniProject) -> None:
    """Asked for cuda on a machine without a GPU, the run is red; the CPU's items are judged."""
    python = make_runtime(project.root / "gpu", "falls back")
    project.write("onnx-harness.toml", f'[runtimes.gpu]\npython = "{python}"\n')
    project.add_model("tiny", file_spec(), TINY)
    outcome = project.run("--provider", "cpu", "--provider", "cuda")
    cuda = outcome.items["placement tiny/fp32/cuda"]
    assert cuda.verdict is Verdict.FAIL
    assert [(f["code"], f["what"]) for f in cuda.findings] == [("provider.unavailable", FELL_BACK)]
    assert outcome.items["parity tiny/fp32/cuda/one"].verdict is Verdict.ERROR
    assert outcome.items["parity tiny/fp32/cpu/one"].verdict is Verdict.PASS
    assert outcome.exit_code == pytest.ExitCode.TESTS_FAILED


def test_gate_refuses_a_provider_without_nodes(project: MiniProject) -> None:
    """Asked for azure, whose sessions run on the CPU, nothing is green."""
    project.add_model("tiny", file_spec(), TINY)
    outcome = project.run("--provider", "azure")
    placement = outcome.items["placement tiny/fp32/azure"]
    parity = outcome.items["parity tiny/fp32/azure/one"]
    told = [(item.verdict.value, item.findings[0]["code"]) for item in (placement, parity)]
    assert told == [("FAIL", "placement.none")] * 2
    what = "No node of 'tiny/fp32/azure' runs on AzureExecutionProvider"
    assert placement.findings[0]["what"] == what
    assert parity.findings[0]["what"] == f"{what}: parity would be the CPU's"


@pytest.mark.parametrize(
    ("log", "library"),
    [
        (LOADER, "libcublasLt.so.13"),
        ("libnvinfer.so.10: cannot open shared object file", "libnvinfer.so.10"),
        ("Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*.", ""),
        ("", ""),
    ],
    ids=["CUDA", "TensorRT", "another cause", "nothing"],
)
def test_the_missing_library_is_found(log: str, library: str) -> None:
    """The dynamic loader's words name it, not ONNX Runtime's own library."""
    assert missing_library(log) == library


def test_shortening_a_log_keeps_the_cause() -> None:
    """A long line loses its middle, not the end that names the library."""
    assert missing_library(shortened(LOADER)) == "libcublasLt.so.13"
