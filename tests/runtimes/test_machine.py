"""What a machine is and does: read from the texts of this one and of others."""

from __future__ import annotations

import builtins
import os
import platform
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from harness.domain.environment import Environment
from harness.errors import EnvironmentProblem
from harness.runtimes import machine
from tests import nvml

#: As `/proc/cpuinfo` of these machines says it, shortened to some processors, keys and flags.
AMD = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model name\t: AMD EPYC 9V74 80-Core Processor
cpu MHz\t\t: 2596.130
cpu cores\t: 1
flags\t\t: fpu vme sse sse2 ht syscall avx avx2 bmi1 fma avx512f avx512_vnni sha_ni rdpid srso
bugs\t\t: sysret_ss_attrs spectre_v1

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9V74 80-Core Processor
cpu MHz\t\t: 3100.002
flags\t\t: fpu vme sse sse2 ht syscall avx avx2 bmi1 fma avx512f avx512_vnni sha_ni rdpid srso

"""
INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz
flags\t\t: fpu vme sse sse2 avx avx2 fma avx512f avx512_vnni amx_tile
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm sve bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""
BIG_LITTLE = """processor\t: 0
Features\t: fp asimd aes asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 1
Features\t: fp asimd aes asimddp sve
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""
AMPERE = """processor\t: 0
Features\t: fp asimd
CPU implementer\t: 0xc0
CPU part\t: 0xac3
"""
RISCV = """processor\t: 0
hart\t\t: 1
isa\t\t: rv64imafdcv_zicsr
mmu\t\t: sv39
uarch\t\t: sifive,u74-mc
"""
POWER = """processor\t: 0
cpu\t\t: POWER9 (architected), altivec supported
clock\t\t: 2500.000000MHz
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (AMD, "AMD EPYC 9V74 80-Core Processor"),
        (INTEL, "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"),
        (GRAVITON, "ARM Neoverse-V1"),
        (BIG_LITTLE, "ARM Cortex-A55 + ARM Cortex-A76"),
        (AMPERE, "ARM 0xc0 0xac3"),
        (RISCV, "sifive,u74-mc"),
        (POWER, "POWER9 (architected), altivec supported"),
        ("", ""),
        ("nonsense\n\n:\n", ""),
    ],
    ids=["amd", "intel", "graviton", "big-little", "ampere", "riscv", "power", "none", "nonsense"],
)
def test_the_name_of_a_processor(text: str, name: str) -> None:
    """Processors that say only numbers are named as Linux names them."""
    assert machine.cpu_name(text) == name


def test_what_changes_by_itself_is_no_instruction_set() -> None:
    """Clock rates and the mitigations of a newer kernel leave the hash alone; AVX-512 does not."""
    known = machine.isa_hash(AMD)
    assert len(known) == 12
    assert machine.isa_hash(AMD.replace("2596.130", "1000.0").replace(" srso", "")) == known
    assert machine.isa_hash(AMD.replace(" avx512_vnni", "")) != known
    assert machine.isa_hash(AMD.replace("sse sse2", "sse2 sse")) == known


def test_instruction_sets_of_other_processors() -> None:
    """Each has its own; ARM's flags stand under another key, RISC-V's in one word."""
    texts = (AMD, INTEL, GRAVITON, BIG_LITTLE, RISCV)
    assert len({machine.isa_hash(text) for text in texts}) == 5
    assert machine.isa_hash(GRAVITON.replace(" sve", "")) != machine.isa_hash(GRAVITON)
    assert machine.isa_hash(RISCV.replace("cv_", "c_")) != machine.isa_hash(RISCV)
    assert machine.isa_hash(POWER) == machine.isa_hash("") == ""


def test_cores_of_two_kinds_share_what_counts() -> None:
    """A kernel that only some cores have is never taken."""
    assert machine.isa_hash(BIG_LITTLE) == machine.isa_hash(BIG_LITTLE.replace(" sve", ""))


@pytest.mark.parametrize(
    ("kib", "gib"),
    [
        (16_393_000, 16),
        (7_800_000, 8),
        (1_000_000, 1),
        (400_000, 1),
        (24_600_000, 16),
        (25_200_000, 32),
        (131_900_000, 128),
        (2_113_000_000, 2048),
    ],
)
def test_memory(kib: int, gib: int) -> None:
    """The nearest power of two, so that a kernel that keeps more for itself changes nothing."""
    assert machine.memory_gib(f"MemTotal:       {kib} kB\nMemFree:  1 kB\n") == gib


def test_memory_that_is_not_told() -> None:
    """Then it is 0."""
    assert machine.memory_gib("") == 0


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", 0.0),
        ("-1 100000", 0.0),
        ("", 0.0),
        ("5 0", 0.0),
    ],
)
def test_a_quota(text: str, cores: float) -> None:
    """Time per period is cores; `max` is none."""
    assert machine.cpu_quota(text) == cores


@pytest.mark.parametrize(
    ("text", "size"),
    [("4294967296\n", 4 << 30), ("max\n", 0), ("9223372036854771712\n", 0), ("", 0), ("0", 0)],
)
def test_a_memory_limit(text: str, size: int) -> None:
    """Version 1 has a great number for none."""
    assert machine.memory_limit(text) == size


def groups(mount: Path, files: dict[str, str]) -> Path:
    """Write files below a mount of control groups and return it."""
    for name, text in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return mount


TWO = "0::/system.slice/runner.service\n"
ONE = "4:memory:/docker/1a2b\n3:cpu,cpuacct:/docker/1a2b\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("told", "files", "limits"),
    [
        ("", {}, ""),
        ("nonsense\n", {}, ""),
        (TWO, {}, ""),
        (TWO, {"cpu.max": "max 100000", "memory.max": "max"}, ""),
        (
            "0::/\n",
            {"cpu.max": "150000 100000", "memory.max": "6442450944"},
            "cores 1.5, memory 6 GiB",
        ),
        (TWO, {"system.slice/runner.service/cpu.max": "200000 100000"}, "cores 2"),
        (
            TWO,
            {
                "system.slice/cpu.max": "100000 100000",
                "system.slice/runner.service/cpu.max": "200000 100000",
                "system.slice/memory.max": "1610612736",
            },
            "cores 1, memory 1.5 GiB",
        ),
        (
            ONE,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            "cores 0.5",
        ),
        (
            ONE,
            {
                "cpu/docker/1a2b/cpu.cfs_quota_us": "-1\n",
                "cpu/docker/1a2b/cpu.cfs_period_us": "100000\n",
                "memory/docker/1a2b/memory.limit_in_bytes": "2147483648\n",
            },
            "memory 2 GiB",
        ),
        (ONE, {"unified/cpu.max": "300000 100000"}, "cores 3"),
    ],
    ids=[
        *("no-linux", "nonsense", "nothing", "unlimited", "container", "service", "around"),
        *("old-container", "old-host", "hybrid"),
    ],
)
def test_limits(tmp_path: Path, told: str, files: dict[str, str], limits: str) -> None:
    """Of the group and of those around it, the strictest counts."""
    assert machine.limits(told, groups(tmp_path, files)) == limits


def test_what_a_machine_is_doing() -> None:
    """Each figure is found in the text of its file, or there is none."""
    assert machine.load_average("0.52 0.58 0.59 1/312 4242\n") == "0.52"
    pressure = "some avg10=33.55 avg60=21.63 avg300=17.26 total=9\nfull avg10=0.00 total=0\n"
    assert machine.cpu_pressure(pressure) == "33.55"
    stat = "cpu  3469685 282218 854647 2370331 96231 0 10231 47837 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
    assert machine.steal_ticks(stat) == "47837"
    assert machine.load_average("") == machine.cpu_pressure("") == machine.steal_ticks("") == ""
    assert machine.steal_ticks("cpu 1 2 3\n") == machine.cpu_pressure("full avg10=1\n") == ""


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same when asked again, and has as many cores as this process may use."""
    if platform.system() != "Linux":
        pytest.skip("the kernel's files are Linux'")
    here = machine.this_environment()
    assert here == machine.this_environment()
    assert here.system == f"Linux {platform.machine()}"
    assert here.cpu
    assert here.memory_gib >= 1
    assert here.cores == len(os.sched_getaffinity(0))
    assert (here.gpu, here.driver, here.cuda) == ("", "", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert machine.this_environment() == replace(here, cores=1)
    assert set(machine.load()) >= {"load_1m"}


def test_a_machine_without_the_files_of_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be known stays empty; nothing fails."""
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert machine.this_environment() == Environment(
        system="Darwin arm64", cpu="arm", isa="", cores=10, memory_gib=0
    )
    assert machine.load() == {}


# GPUs


def gpu_refused() -> EnvironmentProblem:
    """Return why the GPUs of this machine cannot be told."""
    with pytest.raises(EnvironmentProblem) as caught:
        machine.this_environment(gpu=True)
    return caught.value


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["NVIDIA H200"], "NVIDIA H200"),
        (["NVIDIA H200", "NVIDIA H200"], "2x NVIDIA H200"),
        (["NVIDIA L4", "NVIDIA A10", "NVIDIA L4"], "NVIDIA A10, 2x NVIDIA L4"),
        ([b"Tesla T4"], "Tesla T4"),
    ],
)
def test_gpus(monkeypatch: pytest.MonkeyPatch, names: list[str | bytes], told: str) -> None:
    """Names, driver and CUDA version; everything else is as without."""
    calls = nvml.install(monkeypatch, *names)
    found = machine.this_environment(gpu=True)
    assert (found.gpu, found.driver, found.cuda) == (told, "580.65.06", "12.4")
    assert replace(found, gpu="", driver="", cuda="") == machine.this_environment()
    assert calls == ["init", "shutdown"]


@pytest.mark.parametrize(
    ("names", "fails", "got"),
    [
        ([], "", "NVML counts 0 devices"),
        (["NVIDIA H200"], "init", "NVML says: Driver Not Loaded"),
        (["NVIDIA H200"], "name", "NVML says: GPU is lost"),
    ],
)
def test_no_gpu_in_full(
    monkeypatch: pytest.MonkeyPatch, names: list[str], fails: str, got: str
) -> None:
    """Figures without their GPU would be taken for those of any."""
    nvml.install(monkeypatch, *names, fails=fails)
    problem = gpu_refused()
    assert problem.code == "provider.no-device"
    assert str(problem) == (
        "No NVIDIA GPU can be asked for its name\n"
        "  expected: a GPU and its driver, which NVML comes with\n"
        f"  got:      {got}\n"
        "  next:     check `nvidia-smi`"
    )


def test_without_the_package_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that brings NVML is named, and is not called like the module."""
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "pynvml":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    problem = gpu_refused()
    assert problem.code == "package.missing"
    assert str(problem) == (
        "Package 'nvidia-ml-py' is not installed\n"
        "  expected: 'nvidia-ml-py' beside the harness, to tell which GPU figures belong to\n"
        "  next:     pip install nvidia-ml-py"
    )


def test_every_field_of_an_environment_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is added to the value must be read here too, or be empty by nature."""
    nvml.install(monkeypatch, "NVIDIA H200")
    found = machine.this_environment(gpu=True)
    empty = {each.name for each in fields(found) if not getattr(found, each.name)}
    assert empty <= {"limits", "isa"}


def test_importing_it_is_light() -> None:
    """Suites ask for it in runs that time nothing."""
    code = (
        "import sys, harness.runtimes.machine; "
        "print(sorted({'pydantic', 'onnx', 'onnxruntime', 'pynvml', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
