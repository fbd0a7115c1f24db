"""A model's spec: what `models/<name>/model.toml` declares, as frozen values.

The fields are the keys of the file, and the text under each field is what editors show through
the published JSON schema. Reading the file lives in `harness.files.models`; what one table alone
can contradict is checked here, in `__post_init__`, with a plain ValueError.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from harness.domain.builds import BuildStep, computed_in, named_step
from harness.domain.cells import CASE_DEPTH
from harness.domain.dtypes import DType
from harness.domain.providers import did_you_mean
from harness.domain.questions import QUESTIONS, SHOWN_BY

#: Read by pydantic when a file is validated, so that every key is declared exactly once.
#: Where the inputs and outputs of timed runs lie.
IoMode = Literal["host", "device"]
STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}

#: How the values of a searched input may spread; told in docs/suites.md.
Kind = Literal["uniform", "constant", "zeros", "ones", "ramp", "extremes", "sparse", "bell"]

#: Graph optimisation levels of ONNX Runtime.
Level = Literal["disabled", "basic", "extended", "layout", "all"]

#: What each part of a cell's id must look like (model, variant, provider, case).
PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")

FIRST_VARIANT = "fp32"

#: Share of a model's mutants that its suite has to kill.
USUAL_SCORE = 0.95
#: Slowdown of p50 that fails unless a spec says else; the least that it may say.
USUAL_SLOWDOWN, LEAST_SLOWDOWN = 0.01, 0.001
#: Eleven days: longer than any run, and short enough for every clock.
LONGEST_S = 1e6
#: Examples of each profile: a look while writing a spec, each commit, each night.
EXAMPLES = {"dev": 10, "ci": 25, "nightly": 200}
#: An hour of the smallest models.
MOST_EXAMPLES = 1_000_000
#: More threads than any machine has cores take minutes to start.
MOST_THREADS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """How the candidate is made from the reference."""

    __pydantic_config__: ClassVar = STRICT

    opset: int
    """ONNX opset of the exported model."""
    ml_opset: int = 3
    """Opset of the `ai.onnx.ml` domain; read by the scikit-learn converter only."""
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Options of the converter (`skl2onnx`: for example `zipmap = false`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Where the model under test comes from: exactly one of `file`, `url`, `export`."""

    __pydantic_config__: ClassVar = STRICT

    file: str | None = None
    """Path of an ONNX file, relative to the model's folder (or to `package`)."""
    package: str | None = None
    """Installed distribution that carries `file`; the path is then as in its list of files."""
    url: str | None = None
    """Any fsspec URL; needs `sha256`."""
    sha256: str | None = None
    """SHA-256 of the file behind `url`, 64 hexadecimal digits, verified before use."""
    export: Export | None = None
    """Make the candidate from the reference."""
    dtype: DType = DType.FLOAT32
    """Floating type that the build computes in: its error is held against the reference's error
    in this type."""
    reason: str = ""
    """Why a build computes in fewer bits than float32; needed for such a `dtype`."""

    def __post_init__(self) -> None:
        """Check that the source is unambiguous, and that fewer bits have a reason."""
        _exactly_one(self, ("file", "url", "export"))
        _refuse_bare_dtype(self.dtype, self.reason)
        if self.package is not None and self.file is None:
            msg = "'package' needs 'file', the path inside the package"
            raise ValueError(msg)
        if (self.url is None) != (self.sha256 is None):
            msg = "'url' and 'sha256' go together: a download is verified before use"
            raise ValueError(msg)
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            msg = f"'sha256' must be 64 lower-case hexadecimal digits, got '{self.sha256}'"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another build of the model: exactly one of `file`, `url`, `build`."""

    __pydantic_config__: ClassVar = STRICT

    file: str | None = None
    """Path of an ONNX file, relative to the model's folder (or to `package`)."""
    package: str | None = None
    """Installed distribution that carries `file`."""
    url: str | None = None
    """Any fsspec URL; needs `sha256`."""
    sha256: str | None = None
    """SHA-256 of the file behind `url`, verified before use."""
    build: tuple[str | BuildStep, ...] = ()
    """Steps that make it from the candidate, each a name or a table with its keys."""
    dtype: DType | None = None
    """Type that the build computes in: its error is held against the reference's error in this
    type. By default what its steps make of it, `float32` for a file. One below 16 bits has no
    error of the reference to be held against: `outputs` must say what is asked of it."""
    reason: str = ""
    """Why a build computes in fewer bits than float32; needed for such a `dtype`."""
    outputs: dict[str, OutputSpec] = field(default_factory=dict)
    """What is asked of a quantised build's outputs, in place of the model's `outputs`."""
    properties: PropertiesSpec | None = None
    """What holds for all inputs of a quantised build, in place of the model's `properties`."""

    def __post_init__(self) -> None:
        """Check that the source is unambiguous; a file has the candidate's rules."""
        if not self.build:
            self.candidate(None)
            return
        given = [key for key in ("file", "package", "url", "sha256") if getattr(self, key)]
        if given:
            msg = f"'build' makes the file from the candidate: '{given[0]}' has no place beside it"
            raise ValueError(msg)
        _refuse_bare_dtype(self.computes_in, self.reason)

    @property
    def steps(self) -> tuple[BuildStep, ...]:
        """Return the steps of the build; none for a file."""
        return tuple(
            each if isinstance(each, BuildStep) else named_step(each) for each in self.build
        )

    @property
    def computes_in(self) -> DType:
        """Return the type that the build computes in."""
        return self.dtype or computed_in(self.steps)

    def candidate(self, base: Candidate | None) -> Candidate:
        """Return where this variant comes from; a build comes from `base`."""
        if self.build and base is not None:
            return replace(base, dtype=self.computes_in, reason=self.reason)
        return Candidate(
            file=self.file,
            package=self.package,
            url=self.url,
            sha256=self.sha256,
            dtype=self.computes_in,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is trusted: exactly one of `torch`, `torchscript`, `sklearn`, `onnx`, `recorded`."""

    __pydantic_config__: ClassVar = STRICT

    torch: str | None = None
    """`file.py:function` that returns a `torch.nn.Module`, called with the inputs in spec order."""
    torchscript: str | None = None
    """A TorchScript archive, or `file.py:function` that returns a module adapted around one."""
    sklearn: str | None = None
    """`file.py:function` that returns a fitted estimator."""
    onnx: Literal[True] | str | None = None
    """`true`: the ONNX reference evaluator on the candidate's own file; or another ONNX file."""
    recorded: str | None = None
    """Folder in the model-zoo layout: `test_data_set_N/input_0.pb`, `output_0.pb`."""
    depends: tuple[str, ...] = ()
    """Files that the reference reads (weights, tables), relative to the model's folder."""
    methods: dict[str, str] = field(default_factory=dict)
    """For scikit-learn: output name to method (`predict`, `predict_proba`, `transform`, ...)."""

    KINDS: ClassVar = ("torch", "torchscript", "sklearn", "onnx", "recorded")

    def __post_init__(self) -> None:
        """Check that the kind is unambiguous."""
        _exactly_one(self, self.KINDS)
        if self.methods and self.sklearn is None:
            msg = "'methods' is read for 'sklearn' references only"
            raise ValueError(msg)

    @property
    def kind(self) -> str:
        """Return which of the kinds is declared."""
        return next(kind for kind in self.KINDS if getattr(self, kind) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderUse:
    """How one provider takes part."""

    __pydantic_config__: ClassVar = STRICT

    variants: tuple[str, ...] = ()
    """Variants that run on this provider; empty means all."""
    options: dict[str, str] = field(default_factory=dict)
    """Provider options, as ONNX Runtime names them."""
    not_applicable: str | None = None
    """Why this provider cannot run the model; such cells are counted and shown, never run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How every session of this model is opened."""

    __pydantic_config__: ClassVar = STRICT

    threads: int = 1
    """Intra-op threads; explicit, so that results and times do not depend on the machine."""
    optimization: Level = "all"
    """Graph optimisation level."""
    custom_ops: tuple[str, ...] = ()
    """Libraries of custom operators: Python packages with `get_library_path`, or files."""
    config: dict[str, str] = field(default_factory=dict)
    """Session configuration entries; names that ONNX Runtime does not know are refused."""

    def __post_init__(self) -> None:
        """Check the number of threads."""
        if not 1 <= self.threads <= MOST_THREADS:
            msg = f"'threads' must be from 1 to {MOST_THREADS}, got {self.threads}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What the values of an input owe to a size: a mask, a length, an index, an order."""

    __pydantic_config__: ClassVar = STRICT

    kind: Literal["prefix-mask", "length", "less-than", "positions", "sorted"]
    """`prefix-mask`: ones, then zeros along the last axis, at least one one in each row;
    `length`: from 1 to the size of `axis` of the input `of`; `less-than`: from 0 to below the
    size of the dimension `dim`; `positions`: 0, 1, 2, ... along `axis`; `sorted`: rising along
    the last axis."""
    of: str | None = None
    """For `length`: the input that is measured."""
    axis: int | None = None
    """For `length` and `positions`: which axis, counted from 0."""
    dim: str | None = None
    """For `less-than`: the named dimension."""

    NEEDS: ClassVar = {"length": ("of", "axis"), "less-than": ("dim",), "positions": ("axis",)}

    def __post_init__(self) -> None:
        """Check that exactly the keys of this kind are given."""
        needed = self.NEEDS.get(self.kind, ())
        for key in ("of", "axis", "dim"):
            given = getattr(self, key) is not None
            if given != (key in needed):
                msg = f"'{self.kind}' {'does not take' if given else 'needs'} '{key}'"
                raise ValueError(msg)
        if self.axis is not None and self.axis < 0:
            msg = f"'axis' must be 0 or greater, got {self.axis}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input of the model and the values that it is drawn from."""

    __pydantic_config__: ClassVar = STRICT

    dtype: DType
    """Element type, as in `float32`, `int64`, `bfloat16`, `string`."""
    shape: tuple[int | str, ...] = ()
    """Dimensions; a name stands for an entry of `dims`."""
    range: tuple[float, float] | None = None
    """Values are uniform in [low, high); whole numbers in [low, high) for integer types."""
    values: tuple[int | float | str, ...] | None = None
    """Values are drawn from this list; the way to feed strings."""
    relation: Relation | None = None
    """What the values owe to a size; for integers, and `prefix-mask` for floats and bool too."""

    def __post_init__(self) -> None:
        """Check that values can be drawn."""
        self._check_relation()
        if self.range is not None and self.values is not None:
            msg = "give 'range' or 'values', not both"
            raise ValueError(msg)
        if self.range is not None and not self.range[0] < self.range[1]:
            msg = f"'range' must rise, got [{self.range[0]:g}, {self.range[1]:g}]"
            raise ValueError(msg)
        if self.range is not None and not all(map(math.isfinite, self.range)):
            msg = f"'range' must be finite, got [{self.range[0]:g}, {self.range[1]:g}]"
            raise ValueError(msg)
        if self.values is not None and not self.values:
            msg = "'values' must not be empty"
            raise ValueError(msg)
        for value in (*(self.values or ()), *self._limits()):
            if not self.dtype.holds(value):
                msg = f"'{self.dtype}' cannot hold {value!r}"
                raise ValueError(msg)
        if any(isinstance(size, int) and size < 0 for size in self.shape):
            msg = f"'shape' must not hold negative sizes, got {list(self.shape)}"
            raise ValueError(msg)

    def _check_relation(self) -> None:
        if self.relation is None:
            return
        kind = self.relation.kind
        taken = {"length": "range", "less-than": "range", "sorted": "range"}.get(kind)
        for key in ("range", "values"):
            if getattr(self, key) is not None and key != taken:
                msg = f"'relation' of kind '{kind}' and '{key}' exclude each other"
                raise ValueError(msg)
        fits = self.dtype.is_integer or (kind == "sorted" and self.dtype.is_floating)
        if kind == "prefix-mask":
            fits = self.dtype is not DType.STRING
        if not fits:
            msg = f"'relation' of kind '{kind}' does not fit '{self.dtype}'"
            raise ValueError(msg)
        if kind in {"prefix-mask", "sorted"} and not self.shape:
            msg = f"'relation' of kind '{kind}' needs an axis, and 'shape' has none"
            raise ValueError(msg)

    def _limits(self) -> tuple[int, ...]:
        """Return the least and the greatest whole number that `range` can draw."""
        if self.range is None or not self.dtype.is_integer:
            return ()
        return math.floor(self.range[0]), math.ceil(self.range[1]) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DimSpec:
    """The sizes that a named dimension may take."""

    __pydantic_config__: ClassVar = STRICT

    min: int = 1
    """Smallest size."""
    max: int
    """Largest size."""

    def __post_init__(self) -> None:
        """Check the interval."""
        if not 0 <= self.min <= self.max:
            msg = f"needs 0 <= min <= max, got min = {self.min}, max = {self.max}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSpec:
    """One named choice of dimensions and inputs."""

    __pydantic_config__: ClassVar = STRICT

    name: str
    """Last part of the cell's id."""
    dims: dict[str, int] = field(default_factory=dict)
    """Sizes of the named dimensions."""
    inputs: str | None = None
    """`.npz` file with one array per input; the others are drawn."""
    data_set: str | None = None
    """Recorded references only: folder `test_data_set_N` of this case, by default the one with
    the case's name; the steps of a recurrent model follow in the next ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """An allowed difference: `abs(candidate - reference) <= atol + rtol * abs(reference)`."""

    __pydantic_config__: ClassVar = STRICT

    atol: float
    """Absolute part, in the output's own unit."""
    rtol: float
    """Relative part."""
    reason: str
    """Why this output deserves it; printed with every judgement that used it."""

    def __post_init__(self) -> None:
        """Check the bounds and that a reason is given."""
        if not (0 <= self.atol < float("inf") and 0 <= self.rtol < float("inf")):
            msg = f"needs finite atol, rtol >= 0, got atol = {self.atol:g}, rtol = {self.rtol:g}"
            raise ValueError(msg)
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Agreement about the first places along the last axis."""

    __pydantic_config__: ClassVar = STRICT

    k: int
    """Places."""
    agreement: float = 1.0
    """Least share of rows that agree."""

    def __post_init__(self) -> None:
        """Check both numbers."""
        if self.k < 1:
            msg = f"'k' must be at least 1, got {self.k}"
            raise ValueError(msg)
        if not 0 < self.agreement <= 1:
            msg = f"'agreement' must be in (0, 1], got {self.agreement:g}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Distance between distributions along the last axis."""

    __pydantic_config__: ClassVar = STRICT

    maximum: float
    """Greatest Kullback-Leibler divergence of a row, in nats."""
    logits: bool = False
    """Whether rows go through softmax first."""

    def __post_init__(self) -> None:
        """Check the limit."""
        if not 0 <= self.maximum < float("inf"):
            msg = f"'maximum' must be finite and not negative, got {self.maximum:g}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Further limits on a floating output as a whole, besides its values."""

    __pydantic_config__: ClassVar = STRICT

    cosine: float | None = None
    """Least cosine of the angle between candidate and reference."""
    snr_db: float | None = None
    """Least signal-to-noise ratio, in decibels."""
    ulp: int | None = None
    """Greatest distance in representable values of the candidate's type."""
    top_k: TopK | None = None
    """Agreement about the first places."""
    kl: Divergence | None = None
    """Distance between distributions."""

    def __post_init__(self) -> None:
        """Check that there is a limit, and that each can be kept and can be missed."""
        limits = (self.cosine, self.snr_db, self.ulp, self.top_k, self.kl)
        if all(limit is None for limit in limits):
            msg = "needs at least one of 'cosine', 'snr_db', 'ulp', 'top_k', 'kl'"
            raise ValueError(msg)
        if self.cosine is not None and not -1 < self.cosine <= 1:
            msg = f"'cosine' must be in (-1, 1], got {self.cosine:g}"
            raise ValueError(msg)
        if self.snr_db is not None and not math.isfinite(self.snr_db):
            msg = f"'snr_db' must be finite, got {self.snr_db:g}"
            raise ValueError(msg)
        if self.ulp is not None and self.ulp < 0:
            msg = f"'ulp' must not be negative, got {self.ulp}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """How one output is compared."""

    __pydantic_config__: ClassVar = STRICT

    compare: Literal["close", "exact", "labels", "set"] = "close"
    """`close`: within tolerance; `exact`: equal values; `labels`: the same class labels;
    `set`: the same values in any order."""
    dtype: DType | None = None
    """Element type that the candidate promises; by default the reference's."""
    finite: Literal["required", "same-positions", "allowed"] = "required"
    """NaN and infinity: none; the same at the same positions; not judged at positions where
    the reference has one."""
    tolerance: dict[str, Tolerance] = field(default_factory=dict)
    """Provider name (or `default`) to tolerance; overrides bound and table."""
    measures: Measures | None = None
    """Further limits on the output as a whole."""
    scores: str | None = None
    """For `labels`: the output of `outputs` whose last axis ranks them; where it ties, either
    label is right."""

    def __post_init__(self) -> None:
        """Check that measures have values to judge."""
        if self.compare != "close" and self.measures is not None:
            msg = f"'measures' are judged for compare = 'close' only, got '{self.compare}'"
            raise ValueError(msg)
        if self.compare != "labels" and self.scores is not None:
            msg = f"'scores' is read for compare = 'labels' only, got '{self.compare}'"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpec:
    """A recurrent model: outputs that are fed back into inputs."""

    __pydantic_config__: ClassVar = STRICT

    feedback: dict[str, str]
    """Output name to the input that it feeds in the next step; the first step starts at zero
    unless the case's `.npz` holds the input."""
    steps: int
    """Number of steps; every step's outputs are compared."""

    def __post_init__(self) -> None:
        """Check that there is something to feed back."""
        if not self.feedback:
            msg = "'feedback' must name at least one output"
            raise ValueError(msg)
        if self.steps < 1:
            msg = f"'steps' must be at least 1, got {self.steps}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingSpec:
    """A dimension that may be padded without changing what stands before the padding."""

    __pydantic_config__: ClassVar = STRICT

    dim: str
    """The named dimension that grows."""
    inputs: dict[str, float] = field(default_factory=dict)
    """Input name to the value that fills its padding; 0 for inputs that are not named."""
    mask: str
    """The input that marks what counts; it is padded with zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """Kinds of values that the model is not meant for, and why."""

    __pydantic_config__: ClassVar = STRICT

    kinds: tuple[Kind, ...]
    """Kinds that are not drawn."""
    reason: str
    """Why this is fine."""

    def __post_init__(self) -> None:
        """Check that something is left, and that a reason is given."""
        if set(get_args(Kind)) <= set(self.kinds):
            msg = "'kinds' leaves nothing to draw"
            raise ValueError(msg)
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertiesSpec:
    """What holds for all inputs, and how long it is searched for a counterexample."""

    __pydantic_config__: ClassVar = STRICT

    examples: int | dict[Literal["dev", "ci", "nightly"], int] = field(default_factory=dict)
    """Examples for each provider, one number or by profile; by default dev 10, ci 25,
    nightly 200."""
    max_elements: int = 65_536
    """Elements that the inputs of one example may have together; larger sizes are cut down."""
    leave_out: LeaveOut | None = None
    """Kinds of values that are not drawn."""
    batch: str | None = None
    """Dimension whose rows are independent: row i of a batch equals row i alone."""
    padding: PaddingSpec | None = None
    """Dimension that may be padded."""
    permutation: str | None = None
    """Dimension whose order does not matter: outputs that have it are permuted alike, the others
    stay the same."""
    repetitions: int = 1
    """Runs of each example that must give the same bits; 1 asks for none."""
    threads: tuple[int, ...] = ()
    """Numbers of intra-op threads that must give the same, within tolerance, as
    `session.threads`."""
    not_applicable: str | None = None
    """Why this model cannot be searched; counted and shown, never run."""

    def __post_init__(self) -> None:
        """Check that something would be searched."""
        counts = self.examples if isinstance(self.examples, dict) else {"": self.examples}
        for profile, count in counts.items():
            if not 1 <= count <= MOST_EXAMPLES:
                key = f"examples.{profile}".rstrip(".")
                msg = f"'{key}' must be from 1 to {MOST_EXAMPLES}, got {count}"
                raise ValueError(msg)
        for name, least, most in (("max_elements", 1, 2**30), ("repetitions", 1, 100)):
            if not least <= getattr(self, name) <= most:
                msg = f"'{name}' must be from {least} to {most}, got {getattr(self, name)}"
                raise ValueError(msg)
        if not all(1 <= number <= MOST_THREADS for number in self.threads):
            msg = f"'threads' must be from 1 to {MOST_THREADS}, got {list(self.threads)}"
            raise ValueError(msg)
        if self.not_applicable is not None:
            _needs_reason(self.not_applicable)

    def count(self, profile: str) -> int:
        """Return how many examples a profile (`dev`, `ci`, `nightly`) draws."""
        if isinstance(self.examples, int):
            return self.examples
        own = {str(name): count for name, count in self.examples.items()}
        return own.get(profile, EXAMPLES[profile])


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowCpu:
    """Operators that may stay on the CPU, and why."""

    __pydantic_config__: ClassVar = STRICT

    ops: tuple[str, ...]
    """Operator types."""
    reason: str
    """Why this is fine."""

    def __post_init__(self) -> None:
        """Check that a reason is given."""
        _needs_reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSpec:
    """Where the nodes must run."""

    __pydantic_config__: ClassVar = STRICT

    min_ratio: float = 1.0
    """Least share: nodes on the provider / nodes that are not allowed on the CPU."""
    allow_cpu: AllowCpu | None = None
    """Operators that do not count."""
    reason: str = ""
    """Why a ratio below 1 is fine."""

    def __post_init__(self) -> None:
        """Check the ratio; a lower one needs a reason."""
        if not 0 < self.min_ratio <= 1:
            msg = f"'min_ratio' must be in (0, 1], got {self.min_ratio:g}"
            raise ValueError(msg)
        if self.min_ratio < 1:
            _needs_reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """An absolute limit of a latency percentile, where it is declared for."""

    __pydantic_config__: ClassVar = STRICT

    environment: str
    """Environment id, a glob; `onnx-harness doctor` prints this machine's. An item says so where no
    budget of its point is for the machine that it ran on."""
    max_ms: float
    """Most that the percentile may be, milliseconds."""
    percentile: float = 50.0
    """Which percentile of the calls."""
    batch: int | None = None
    """Batch size that it is for; by default every point."""
    provider: str = "cpu"
    """Short name of the provider that it is for."""

    def __post_init__(self) -> None:
        """Check the numbers, and that it is for some environment."""
        if not self.environment.strip():
            msg = "'environment' must be an environment id or a glob, got none"
            raise ValueError(msg)
        if not 0 < self.percentile < 100:  # noqa: PLR2004 - per cent
            msg = f"'percentile' must be between 0 and 100, got {self.percentile:g}"
            raise ValueError(msg)
        if not 0 < self.max_ms < math.inf:
            msg = f"'max_ms' must be above 0, got {self.max_ms:g}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySpec:
    """Which sizes are timed, and what must hold."""

    __pydantic_config__: ClassVar = STRICT

    case: str | None = None
    """The case that is timed. Default: the first."""
    batch: tuple[int, ...] = ()
    """Sizes of the dimension `dim` that are timed instead, one item each; other dimensions are as
    in `case`."""
    dim: str = "batch"
    """The dimension that `batch` is about."""
    threads: int | None = None
    """Intra-op threads while timing. Default: `session.threads`."""
    io_mode: IoMode = "host"
    """Where inputs and outputs of timed runs lie: `device` leaves copying out where the provider's
    device has a memory of its own, and is `host` everywhere else."""
    slowdown: float = USUAL_SLOWDOWN
    """Slowdown of p50 beyond which the gate fails, as a share; twice that is seen reliably."""
    reason: str = ""
    """Why a larger slowdown is fine."""
    budget: tuple[Budget, ...] = ()
    """Absolute limits, each for the environments that it names."""
    not_applicable: str | None = None
    """Why nothing of this model is timed."""

    def __post_init__(self) -> None:
        """Check sizes and shares; a larger slowdown needs a reason."""
        if len(set(self.batch)) < len(self.batch) or any(size < 1 for size in self.batch):
            msg = f"'batch' must be different sizes from 1, got {list(self.batch)}"
            raise ValueError(msg)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            msg = f"'threads' must be from 1 to {MOST_THREADS}, got {self.threads}"
            raise ValueError(msg)
        if not LEAST_SLOWDOWN <= self.slowdown < 1:
            msg = f"'slowdown' must be from {LEAST_SLOWDOWN:g} to 1, got {self.slowdown:g}"
            raise ValueError(msg)
        if self.slowdown > USUAL_SLOWDOWN:
            _needs_reason(self.reason)
        if self.not_applicable is not None:
            _needs_reason(self.not_applicable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveSpec:
    """What `onnx-harness prove` asks of the model's own suite."""

    __pydantic_config__: ClassVar = STRICT

    minimum: float = USUAL_SCORE
    """Least share of mutants, equivalent ones left out, that the suite must kill."""
    reason: str = ""
    """Why a lower minimum is fine."""

    def __post_init__(self) -> None:
        """Check the share; a lower one needs a reason."""
        if not 0 < self.minimum <= 1:
            msg = f"'minimum' must be in (0, 1], got {self.minimum:g}"
            raise ValueError(msg)
        if self.minimum < USUAL_SCORE:
            _needs_reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long things may take before the worker is killed."""

    __pydantic_config__: ClassVar = STRICT

    load_s: float = 60.0
    """Opening a session, seconds."""
    run_s: float = 30.0
    """One run, seconds."""
    reference_s: float = 300.0
    """Building or running the reference or the export, seconds."""
    localise_s: float = 60.0
    """Searching where a parity failure begins, seconds."""

    def __post_init__(self) -> None:
        """Check that every limit is positive."""
        for name in ("load_s", "run_s", "reference_s", "localise_s"):
            if not 0 < getattr(self, name) <= LONGEST_S:
                allowed = f"above 0 and at most {LONGEST_S:g} seconds"
                msg = f"'{name}' must be {allowed}, got {getattr(self, name):g}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """A failure that is expected for the time being: strict, owned and expiring."""

    __pydantic_config__: ClassVar = STRICT

    cell: str
    """Where: model, variant, provider and case with slashes between; each part is a glob, and
    parts left out at the end match all."""
    code: str
    """Finding code that is expected there."""
    issue: str
    """URL of the issue that tracks the failure."""
    expires: datetime.date
    """Last day on which the failure is excused."""
    suite: str | None = None
    """Suite whose items fail; by default every suite in which the code shows."""
    reason: str = ""
    """What is known of the failure; printed with it."""

    def __post_init__(self) -> None:
        """Check each key by itself; whether the glob matches anything depends on the model."""
        parts = self.cell.split("/")
        if len(parts) > CASE_DEPTH or not all(parts):
            msg = f"'cell' must be MODEL/VARIANT/PROVIDER/CASE or its beginning, got '{self.cell}'"
            raise ValueError(msg)
        if self.code not in SHOWN_BY:
            near = did_you_mean(self.code, SHOWN_BY, "docs/known_failures.md lists them")
            msg = f"'code' must be a code that can be excused, got '{self.code}'; {near}"
            raise ValueError(msg)
        if not _is_web_address(self.issue):
            msg = f"'issue' must be a URL that begins with https:// or http://, got '{self.issue}'"
            raise ValueError(msg)
        _check_suite(self.suite, self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything that is declared about one model."""

    __pydantic_config__: ClassVar = STRICT

    schema_version: Literal[1]
    """Version of this format."""
    candidate: Candidate
    """The model under test."""
    reference: Reference
    """What it must agree with."""
    task: str = ""
    """What the model does, in a word."""
    summary: str = ""
    """One sentence for lists."""
    aliases: tuple[str, ...] = ()
    """Former names of the model; baselines are found under them."""
    requires: tuple[str, ...] = ()
    """Distributions that candidate and reference need; a missing one means "not judged"."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """Further builds; `fp32` is the candidate itself."""
    providers: dict[str, ProviderUse] = field(default_factory=lambda: {"cpu": ProviderUse()})
    """Execution providers that the model ships on, by short name."""
    session: SessionSettings = field(default_factory=SessionSettings)
    """How sessions are opened."""
    inputs: dict[str, InputSpec] = field(default_factory=dict)
    """The model's inputs, in the order in which the reference takes them."""
    dims: dict[str, DimSpec] = field(default_factory=dict)
    """Named dimensions."""
    case: tuple[CaseSpec, ...] = ()
    """The cases; a recorded reference without any takes one per `test_data_set_N`."""
    outputs: dict[str, OutputSpec] = field(default_factory=dict)
    """How outputs are compared; one that is not named takes the defaults."""
    state: StateSpec | None = None
    """For recurrent models."""
    properties: PropertiesSpec = field(default_factory=PropertiesSpec)
    """What holds for all inputs."""
    placement: dict[str, PlacementSpec] = field(default_factory=dict)
    """Where nodes must run, by provider."""
    limits: Limits = field(default_factory=Limits)
    """Time limits."""
    known_failure: tuple[KnownFailure, ...] = ()
    """Failures that are expected for the time being."""
    latency: LatencySpec = field(default_factory=LatencySpec)
    """What is timed."""
    prove: ProveSpec = field(default_factory=ProveSpec)
    """What the suite must show about itself."""

    def variant_names(self) -> tuple[str, ...]:
        """Return all variants, the candidate itself first."""
        return (FIRST_VARIANT, *self.variants)

    def source(self, variant: str) -> Candidate:
        """Return where the file of `variant` comes from."""
        if variant == FIRST_VARIANT:
            return self.candidate
        return self.variants[variant].candidate(self.candidate)

    def steps(self, variant: str) -> tuple[BuildStep, ...]:
        """Return the steps that make `variant` from the candidate; none if it is a file."""
        return () if variant == FIRST_VARIANT else self.variants[variant].steps

    def is_quantized(self, variant: str) -> bool:
        """Return whether `variant` computes in small integers, or in floats below 16 bits.

        No run of the reference in that type says how far such a build may be from float64.
        """
        dtype, half = self.source(variant).dtype, DType.FLOAT16.bits
        return dtype.bits <= half if dtype.is_integer else dtype.is_floating and dtype.bits < half

    def of(self, variant: str) -> ModelSpec:
        """Return the spec with what `variant` has rules of its own for."""
        if variant == FIRST_VARIANT:
            return self
        own = self.variants[variant]
        return replace(
            self,
            outputs={**self.outputs, **own.outputs},
            properties=own.properties or self.properties,
        )


def rules_of_outputs(spec: ModelSpec) -> Iterator[tuple[str, OutputSpec]]:
    """Yield the dotted key of every rule of an output, those of single variants last."""
    yield from ((f"outputs.{name}", rule) for name, rule in spec.outputs.items())
    for variant, own in spec.variants.items():
        for name, rule in own.outputs.items():
            yield f"variants.{variant}.outputs.{name}", rule


def _refuse_bare_dtype(dtype: DType, reason: str) -> None:
    is_coarse = dtype.bits < DType.FLOAT32.bits
    if (dtype.is_floating or dtype.is_integer) and is_coarse and not reason.strip():
        msg = f"'dtype = \"{dtype}\"' loosens the bound and needs a 'reason'"
        raise ValueError(msg)


def _exactly_one(table: object, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if getattr(table, key) is not None]
    if len(given) != 1:
        wanted = ", ".join(f"'{key}'" for key in keys)
        msg = f"needs exactly one of {wanted}, got {' and '.join(given) or 'none'}"
        raise ValueError(msg)


def _needs_reason(reason: str) -> None:
    if not reason.strip():
        msg = "what loosens a check needs a 'reason'"
        raise ValueError(msg)


def _check_suite(suite: str | None, code: str) -> None:
    """Check that a known failure says whose items it is about."""
    if suite is None and not SHOWN_BY[code]:
        msg = f"'suite' is missing: any suite can meet '{code}', so one of {_suites()} is needed"
        raise ValueError(msg)
    if suite is not None and suite not in QUESTIONS:
        near = did_you_mean(suite, QUESTIONS, f"one of {_suites()}")
        msg = f"'suite' names '{suite}', which is no suite; {near}"
        raise ValueError(msg)


def _suites() -> str:
    return ", ".join(QUESTIONS)


def _is_web_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return address.scheme in {"http", "https"} and bool(address.hostname) and " " not in text
