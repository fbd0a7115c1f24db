"""Session configs and the facts of an opened session.

Session configuration entries are checked by name here, because ONNX Runtime accepts a misspelled
one without a word.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.domain.session_keys import SESSION_KEYS
from harness.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A provider that lives in a library of its own."""

    provider: str
    """Name under which its devices appear, for example `ggml`."""
    library: str
    """File, or Python package of the runtime that tells the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """The values that a session is opened from."""

    provider: str
    """ONNX Runtime's name of the execution provider."""
    options: dict[str, str] = field(default_factory=dict)
    """Provider options."""
    plugin: Plugin | None = None
    """Set for a plugin provider."""
    threads: int = 1
    """Intra-op threads."""
    optimization: str = "all"
    """Graph optimisation level."""
    custom_ops: tuple[str, ...] = ()
    """Absolute files or package names."""
    config: dict[str, str] = field(default_factory=dict)
    """Session configuration entries."""
    preload: bool = False
    """Load the pip-installed CUDA libraries first."""

    def provider_list(self) -> list[tuple[str, dict[str, str]]]:
        """Return what the session asks for: the provider, then the CPU as it is deployed."""
        asked = [(self.provider, self.options)]
        return asked if self.provider == CPU_PROVIDER else [*asked, (CPU_PROVIDER, {})]


CPU_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """One node of the graph as a provider got it."""

    name: str
    op: str
    domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output of a session."""

    name: str
    type: str
    """ONNX Runtime's type string, such as `tensor(float)` or `seq(map(int64,tensor(float)))`."""
    shape: tuple[int | str | None, ...] | None
    """None where the model does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What an opened session really is."""

    runtime: str
    """Name of the runtime."""
    version: str
    """Version of ONNX Runtime."""
    providers: tuple[str, ...]
    """What the session got, as it says itself."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    placement: dict[str, tuple[NodeInfo, ...]] | None
    """Provider to nodes; None where this ONNX Runtime does not record it."""
    load_ms: float
    """Creating the session, without waiting for a core that other processes had."""
    start_method: str
    """`fork` or `spawn`."""
    optimizers: tuple[str, ...] = ()
    """Those that changed the graph, where the session was opened to tell them."""


def check_config_keys(keys: Iterable[str], *, where: str) -> None:
    """Refuse session configuration entries that no ONNX Runtime knows.

    Raises:
        SpecError: For the first unknown name, with the nearest known one.
    """
    for key in keys:
        if key in SESSION_KEYS:
            continue
        near = difflib.get_close_matches(key, SESSION_KEYS, n=1)
        msg = f"Unknown session configuration entry '{key}'"
        raise SpecError(
            msg,
            code="session.option",
            where=where,
            expected="a name that ONNX Runtime reads (it accepts any other one silently)",
            next_step=f"did you mean '{near[0]}'?" if near else "see docs/providers.md",
        )
