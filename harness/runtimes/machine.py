"""What this machine is, for baselines that belong to it, and what it is doing, for receipts.

The functions on texts know nothing of this machine, so that others can be tried. Nothing here
needs a worker: the kernel's files are read, and NVML for GPUs.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from harness.domain.environment import Environment
from harness.runtimes.gpu import Described
from harness.runtimes.gpu import described as described_gpus

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_GIB = 1 << 30
_KIB_PER_GIB = 1 << 20
_ISA_DIGITS = 12
#: Old kernels write this near 2^63 for "no limit".
_NO_LIMIT = 1 << 60
#: Beginnings of the flags that decide on kernels. The others come and go with the Linux kernel
#: and with mitigations of the processor's faults, and would make figures incomparable.
_ISA_FLAGS = (
    *("mmx", "sse", "ssse", "pni", "avx", "fma", "f16c", "bmi", "amx", "popcnt", "abm", "movbe"),
    *("aes", "pclmul", "vaes", "vpclmul", "gfni", "sha", "xop", "adx"),
    *("fp", "asimd", "neon", "vfp", "sve", "sme", "bf16", "i8mm", "pmull", "crc32", "atomics"),
    *("fcma", "jscvt"),
)
#: ARM says numbers only; these are ARM's own (implementer 0x41), as Linux' sources name them.
_ARM = "0x41"
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
    "0xd8e": "Neoverse-N3",
    "0xd84": "Neoverse-V3",
}


def this_environment(*, gpu: bool = False) -> Environment:
    """Return what this machine is; what cannot be known stays empty or 0.

    Args:
        gpu: Whether the figures are of a GPU, which then is part of the environment.

    Raises:
        EnvironmentProblem: If `gpu` is asked for and NVML or its package is missing.
    """
    described = _text(_PROC / "cpuinfo")
    gpus = described_gpus() if gpu else Described(driver="", cuda="", names="")
    return Environment(
        system=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(described) or platform.processor(),
        isa=isa_hash(described),
        cores=_usable_cores(),
        memory_gib=memory_gib(_text(_PROC / "meminfo")),
        limits=limits(_text(_PROC / "self" / "cgroup"), _CGROUP),
        gpu=gpus.names,
        driver=gpus.driver,
        cuda=gpus.cuda,
    )


def load() -> dict[str, str]:
    """Return what this machine is doing now, as far as Linux tells it.

    `load_1m`: processes that run or wait; `cpu_pressure_10s`: per cent of the time in which one
    had to wait for a core; `steal_ticks`: what the hypervisor took since the machine started.
    """
    figures = {
        "load_1m": load_average(_text(_PROC / "loadavg")),
        "cpu_pressure_10s": cpu_pressure(_text(_PROC / "pressure" / "cpu")),
        "steal_ticks": steal_ticks(_text(_PROC / "stat")),
    }
    return {name: figure for name, figure in figures.items() if figure}


def cpu_name(described: str) -> str:
    """Return the processor's name from the text of `/proc/cpuinfo`; several kinds are joined."""
    processors = list(_processors(described))
    named = [_name_of(processor) for processor in processors]
    return " + ".join(dict.fromkeys(name for name in named if name))


def _name_of(processor: Mapping[str, str]) -> str:
    for key in ("model name", "cpu model", "cpu", "uarch"):
        if processor.get(key):
            return " ".join(processor[key].split())
    implementer, part = processor.get("CPU implementer"), processor.get("CPU part")
    if implementer is None or part is None:
        return ""
    known = _ARM_PARTS.get(part) if implementer == _ARM else None
    return f"ARM {known}" if known else f"ARM {implementer} {part}"


def isa_hash(described: str) -> str:
    """Return a hash over the flags that all processors share; empty if there are none."""
    flags = [_flags(processor) for processor in _processors(described)]
    shared = set.intersection(*filter(None, flags)) if any(flags) else set()
    if not shared:
        return ""
    return hashlib.sha256(" ".join(sorted(shared)).encode()).hexdigest()[:_ISA_DIGITS]


def _flags(processor: Mapping[str, str]) -> set[str]:
    if "isa" in processor:  # RISC-V: one word that names all
        return {processor["isa"]}
    flags = processor.get("flags") or processor.get("Features") or ""
    return {flag for flag in flags.split() if flag.startswith(_ISA_FLAGS)}


def _processors(described: str) -> Iterator[dict[str, str]]:
    """Yield the keys of each paragraph of `/proc/cpuinfo`."""
    for paragraph in described.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        yield {key.strip(): value.strip() for key, _, value in pairs}


def memory_gib(described: str) -> int:
    """Return the memory of `/proc/meminfo` in GiB, rounded to the nearest power of two.

    The kernel keeps some for itself, so what is told is below what is built in.
    """
    told = [line.split() for line in described.splitlines() if line.startswith("MemTotal:")]
    if not told:
        return 0
    gib = int(told[0][1]) / _KIB_PER_GIB
    power = 1
    while gib >= 1.5 * power:  # nearer to the next one
        power *= 2
    return power


def limits(groups: str, mount: Path) -> str:
    """Return the limits of the control groups around this process; empty if there are none.

    Args:
        groups: Text of `/proc/self/cgroup`.
        mount: Where control groups are mounted, version 1 or 2 or both.
    """
    quotas, sizes = [], []
    for folder in _group_folders(groups, mount):
        quotas += [cpu_quota(_text(folder / "cpu.max")), _old_quota(folder)]
        sizes += [memory_limit(_text(folder / "memory.max")),
                  memory_limit(_text(folder / "memory.limit_in_bytes"))]  # fmt: skip
    cores = min((quota for quota in quotas if quota), default=0.0)
    size = min((size for size in sizes if size), default=0)
    parts = [f"cores {cores:.4g}"] if cores else []
    return ", ".join([*parts, f"memory {size / _GIB:.4g} GiB"] if size else parts)


def _group_folders(groups: str, mount: Path) -> Iterator[Path]:
    """Yield the folders of a process's groups and of the groups around them.

    Inside a container the told path may be the host's, which is not mounted; then the container's
    own group is the top of the mount.
    """
    for line in groups.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        tops = [mount / controllers, *(mount / each for each in controllers.split(","))]
        inside = PurePosixPath(path.lstrip("/"))
        for top in dict.fromkeys(tops if controllers else [mount, mount / "unified"]):
            yield from (top / each for each in (inside, *inside.parents))


def cpu_quota(text: str) -> float:
    """Return the cores that `cpu.max` grants (`150000 100000` is 1.5); 0 without a limit."""
    quota, _, period = text.strip().partition(" ")
    is_limit = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if is_limit else 0.0


def _old_quota(folder: Path) -> float:
    """Return the same of version 1, where -1 is no limit."""
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return cpu_quota(f"{quota.strip()} {period.strip()}")


def memory_limit(text: str) -> int:
    """Return the bytes that `memory.max` or `memory.limit_in_bytes` grants; 0 without a limit."""
    told = text.strip()
    return int(told) if told.isdigit() and int(told) < _NO_LIMIT else 0


def load_average(text: str) -> str:
    """Return the average over one minute from the text of `/proc/loadavg`."""
    return text.partition(" ")[0].strip()


def cpu_pressure(text: str) -> str:
    """Return `avg10` of the line `some` of `/proc/pressure/cpu`."""
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            return dict(pair.split("=", 1) for pair in pairs).get("avg10", "")
    return ""


def steal_ticks(text: str) -> str:
    """Return the ninth word of the first line of `/proc/stat`."""
    words = text.partition("\n")[0].split()
    return words[8] if len(words) > 8 and words[0] == "cpu" else ""  # noqa: PLR2004 - as told above


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _text(path: Path) -> str:
    """Return a file of the kernel; empty where there is none, or none to be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
