"""Execution providers: their short names, and how each one is started."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.domain.cells import short_name
from harness.domain.session import Plugin
from harness.errors import UsageProblem

#: Devices that NVML tells of.
CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A short name and what it stands for."""

    name: str
    """Short name, such as `cuda`."""
    ep: str
    """ONNX Runtime's name, such as `CUDAExecutionProvider`."""
    options: dict[str, str] = field(default_factory=dict)
    """Options that every session of this provider gets unless spec or command line say else."""
    forks: bool = False
    """Whether its workers may be forked; a GPU's context does not survive a fork."""
    device: str = ""
    """Kind of a device with memory of its own, as ONNX Runtime's `OrtValue` names it; empty where
    values lie in the host's memory."""
    preload: bool = False
    """Whether the pip-installed CUDA libraries are loaded first."""
    plugin: Plugin | None = None
    """Set when the provider lives in a library of its own."""
    hint: str = ""
    """What to do when it is missing."""


#: Short name -> the distribution of ONNX Runtime that has the provider.
_BUILDS = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu[cuda,cudnn]",
    "tensorrt": "onnxruntime-gpu[cuda,cudnn]",
    "openvino": "onnxruntime-openvino",
}


def _runtime(name: str) -> str:
    """Return the command that makes a runtime; builds of ONNX Runtime exclude each other."""
    return f'make a runtime: `onnx-harness runtime add {name} "{_BUILDS[name]}"`'


#: Every execution provider that ONNX Runtime knows (`get_all_providers`), by short name.
BUILTIN: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(name="cpu", ep="CPUExecutionProvider", forks=True, hint=_runtime("cpu")),
        Provider(
            name="cuda",
            ep="CUDAExecutionProvider",
            device=CUDA,
            preload=True,
            hint=_runtime("cuda"),
        ),
        Provider(
            name="tensorrt",
            ep="TensorrtExecutionProvider",
            device=CUDA,
            preload=True,
            hint=_runtime("tensorrt"),
        ),
        Provider(
            name="openvino",
            ep="OpenVINOExecutionProvider",
            options={"device_type": "CPU"},
            forks=True,
            hint=_runtime("openvino"),
        ),
        Provider(name="azure", ep="AzureExecutionProvider", forks=True),
        Provider(name="dnnl", ep="DnnlExecutionProvider", forks=True),
        Provider(name="xnnpack", ep="XnnpackExecutionProvider", forks=True),
        Provider(name="acl", ep="ACLExecutionProvider", forks=True),
        Provider(name="armnn", ep="ArmNNExecutionProvider", forks=True),
        Provider(name="rocm", ep="ROCMExecutionProvider"),
        Provider(name="migraphx", ep="MIGraphXExecutionProvider"),
        Provider(
            name="nvtensorrtrtx", ep="NvTensorRTRTXExecutionProvider", device=CUDA, preload=True
        ),
        Provider(name="vitisai", ep="VitisAIExecutionProvider"),
        Provider(name="qnn", ep="QNNExecutionProvider"),
        Provider(name="nnapi", ep="NnapiExecutionProvider"),
        Provider(name="vsinpu", ep="VSINPUExecutionProvider"),
        Provider(name="js", ep="JsExecutionProvider"),
        Provider(name="coreml", ep="CoreMLExecutionProvider"),
        Provider(name="dml", ep="DmlExecutionProvider"),
        Provider(name="rknpu", ep="RknpuExecutionProvider"),
        Provider(name="webnn", ep="WebNNExecutionProvider"),
        Provider(name="webgpu", ep="WebGpuExecutionProvider"),
        Provider(name="cann", ep="CANNExecutionProvider"),
    )
}


def find(name: str, known: Mapping[str, Provider], *, where: str = "--provider") -> Provider:
    """Return the provider with this short name (a runtime after `@` is left aside).

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    short = short_name(name)
    if short in known:
        return known[short]
    msg = f"Unknown provider '{short}'"
    raise UsageProblem(
        msg,
        where=where,
        expected=f"one of {', '.join(sorted(known))}",
        next_step=did_you_mean(short, known),
    )


def did_you_mean(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return a question with the nearest of `names`, or `otherwise`."""
    near = difflib.get_close_matches(name.lower(), list(names), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise
