"""The environment that absolute figures belong to: processor, memory, limits, GPU.

What changes by itself (clock rate at the moment, host name, load) is left out, or no two runs
would share an environment. Runtime, options, threads and model belong to the recipe.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from harness.domain.spec import STRICT

#: Hexadecimal digits of an id's last part.
DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a machine is, as far as absolute figures depend on it."""

    __pydantic_config__: ClassVar = STRICT

    system: str
    """Operating system and architecture, such as `Linux x86_64`."""
    cpu: str
    """The processor's name for itself."""
    isa: str
    """Hash over its instruction-set flags, which decide on the kernels."""
    cores: int
    """Processors that a process may use."""
    memory_gib: int
    """Memory, rounded to the nearest power of two."""
    limits: str = ""
    """Limits of the container: processor quota and memory; empty if there are none."""
    gpu: str = ""
    """Names of all GPUs."""
    driver: str = ""
    """The GPU driver's version."""
    cuda: str = ""
    """CUDA version that the driver supports."""

    @property
    def id(self) -> str:
        """Return a name fit for a folder: readable, and different for different environments."""
        return _id(self)

    def differences(self, other: Environment) -> dict[str, tuple[str, str]]:
        """Return the fields in which two environments differ: name -> (this, the other)."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name))
                 for each in fields(self))  # fmt: skip
        return {name: (str(ours), str(theirs)) for name, ours, theirs in pairs if ours != theirs}


@functools.lru_cache(maxsize=64)
def _id(environment: Environment) -> str:
    text = json.dumps(asdict(environment), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    gpu_or_cpu = environment.gpu or environment.cpu
    shown = f"{gpu_or_cpu} {environment.cores}c {environment.memory_gib}g"
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((?:r|tm)\)", "", shown.lower())).strip("-")
    return f"{slug}-{digest}"
