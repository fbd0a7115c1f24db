"""What the probe of a provider makes of a worker's log."""

from __future__ import annotations

import pytest

from harness.runtimes.probe import missing_library
from harness.runtimes.workers import shortened

LOADER = (
    "2026-01-01 08:00:00.1 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 "
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library /opt/venv/lib/python3.11/site-packages/onnxruntime/capi/"
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object "
    "file: No such file or directory"
)


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
