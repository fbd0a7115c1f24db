"""How a further build of a model is made from its candidate: steps, each with its own keys."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from harness.domain.dtypes import DType
from harness.domain.providers import did_you_mean

#: Names of the steps; told in docs/builds.md.
StepName = Literal["simplify", "optimize", "onnxruntime", "float16", "quantize-dynamic"]
#: Step -> the keys that it reads.
READS: dict[str, tuple[str, ...]] = {
    "simplify": (),
    "optimize": ("passes",),
    "onnxruntime": ("level",),
    "float16": ("keep",),
    "quantize-dynamic": ("weights", "per_channel", "keep"),
}
#: Step -> distributions that do it, which belong to the key of what it makes.
TOOLS: dict[str, tuple[str, ...]] = {
    "simplify": ("onnxsim",),
    "optimize": ("onnxoptimizer",),
    "onnxruntime": ("onnxruntime",),
    "float16": ("onnxruntime",),
    "quantize-dynamic": ("onnxruntime",),
}
#: Step -> what a build computes in after it.
COMPUTES_IN = {"float16": DType.FLOAT16, "quantize-dynamic": DType.INT8}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """One step of a build."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }

    step: StepName
    """What is done."""
    passes: tuple[str, ...] = ()
    """`optimize`: passes of onnxoptimizer, in this order; by default those that fuse or
    eliminate nodes."""
    level: Literal["basic", "extended"] | None = None
    """`onnxruntime`: level of its graph optimisations; `basic` without it. Higher ones depend on
    the processor."""
    keep: tuple[str, ...] = ()
    """`float16`, `quantize-dynamic`: operators, or names of nodes, that stay as they are."""
    weights: Literal["int8", "uint8"] | None = None
    """`quantize-dynamic`: type of the weights; `int8` without it."""
    per_channel: bool = False
    """`quantize-dynamic`: a scale for each channel of the weights instead of one for all."""

    def __post_init__(self) -> None:
        """Refuse keys that the step does not read: they would look as if they did something."""
        given = {
            each.name
            for each in fields(self)
            if each.name != "step" and getattr(self, each.name) != each.default
        }
        if unread := sorted(given - set(READS[self.step])):
            read = ", ".join(f"'{key}'" for key in READS[self.step]) or "no key"
            msg = f"'{unread[0]}' is not read by the step '{self.step}', which reads {read}"
            raise ValueError(msg)


def named_step(name: str) -> BuildStep:
    """Return a step with its usual keys.

    Raises:
        ValueError: If there is no such step.
    """
    for known in get_args(StepName):
        if name == known:
            return BuildStep(step=known)
    near = did_you_mean(name, READS, f"the steps are {', '.join(READS)}")
    msg = f"'build' names the step '{name}', which is none; {near}"
    raise ValueError(msg)


def computed_in(steps: tuple[BuildStep, ...]) -> DType:
    """Return the coarsest type that a build of these steps computes in."""
    kinds = [COMPUTES_IN[each.step] for each in steps if each.step in COMPUTES_IN]
    return min(kinds, key=lambda kind: kind.bits, default=DType.FLOAT32)
