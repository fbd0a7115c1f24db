"""A drafted spec as the text of `model.toml`, every guess marked by a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.domain.session import Port
from harness.files import zoo
from harness.files.drafts import Draft, InputDraft
from harness.files.toml_text import key, table, value

#: Operators that providers often leave to the CPU; proposed for `allow_cpu` where a model has them.
OFTEN_ON_CPU = (
    "If",
    "Loop",
    "NonMaxSuppression",
    "NonZero",
    "Scan",
    "Shape",
    "Size",
    "StringNormalizer",
    "TfIdfVectorizer",
    "TopK",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "Unique",
)
#: Domain of onnxruntime-extensions, and the package that brings its library.
EXTENSIONS_DOMAIN, EXTENSIONS = "ai.onnx.contrib", "onnxruntime_extensions"
_COMMENT_COLUMN = 40


def spec_text(spec: Draft, *, candidate: str = zoo.MODEL_FILE) -> str:
    """Return the text of `model.toml`."""
    blocks = [
        _head(spec),
        _candidate(spec, candidate),
        _reference(spec),
        _providers(),
        *_session(spec),
        *(_input_lines(port) for port in spec.inputs),
        *_dim_lines(spec),
        *_case_lines(spec),
        *(_output_lines(port, spec.reference.kind) for port in spec.facts.outputs),
        _placement(spec),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _noted(line: str, comment: str) -> str:
    """Return a line of TOML with a comment behind it."""
    return f"{line:<{_COMMENT_COLUMN - 1}} # {_plain(comment)}" if comment else line


def _plain(text: str) -> str:
    """Return a text that may stand in a comment: one line, nothing that cannot be printed."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def _head(spec: Draft) -> list[str]:
    requires = spec.reference.requires
    lines = [
        "# Drafted by `onnx-harness model add`. Correct what is marked as a guess, and write the",
        "# model's origin and licence into README.md.",
        "schema_version = 1",
        _noted('task = ""', 'what the model does, in a word: "image-classification"'),
        _noted('summary = ""', "one sentence for lists"),
    ]
    return [*lines, f"requires = {value(requires)}"] if requires else lines


def _candidate(spec: Draft, candidate: str) -> list[str]:
    facts = spec.facts
    opsets = ", ".join(f"{domain or 'ai.onnx'} {n}" for domain, n in sorted(facts.opsets.items()))
    about = f"was '{spec.source}'; {facts.nodes} nodes, opset {opsets}"
    made = f" made by {_plain(facts.producer)};" if facts.producer else ""
    return [
        "[candidate]",
        _noted(f"file = {value(candidate)}", about),
        f"#{made} {facts.size_bytes} bytes, SHA-256 {spec.sha256}",
    ]


def _reference(spec: Draft) -> list[str]:
    if spec.reference.kind != "onnx":
        return [
            "[reference]",
            f"{spec.reference.kind} = {value(spec.reference.entry)}",
            _noted("depends = []", "files that it reads, such as weights"),
            *_methods(spec),
        ]
    return [
        "[reference]",
        _noted("onnx = true", "the ONNX reference evaluator runs the same file: slow, and"),
        "# blind to faults of the export. What the model was exported from says more:",
        '# torch = "reference.py:build"',
    ]


def _methods(spec: Draft) -> list[str]:
    """Return which method of an estimator gives which output; scikit-learn only."""
    if spec.reference.kind != "sklearn":
        return []
    named = ", ".join(f"{key(port.name)} = {value(_method(port))}" for port in spec.facts.outputs)
    return [_noted(f"methods = {{ {named} }}", "output = the method that gives it")]


def _method(port: Port) -> str:
    return "predict_proba" if "prob" in port.name.lower() else "predict"


def _providers() -> list[str]:
    return ["[providers]", "cpu = {}", _noted("# openvino = {}", "add what the model ships on")]


def _session(spec: Draft) -> Iterator[list[str]]:
    if EXTENSIONS_DOMAIN in spec.domains:
        yield ["[session]", f"custom_ops = {value([EXTENSIONS])}"]


def _input_lines(port: InputDraft) -> list[str]:
    lines = [
        table("inputs", port.name),
        f"dtype = {value(port.dtype.value)}",
        f"shape = {value(port.shape)}",
    ]
    if port.values is not None:
        return [*lines, _noted(f"values = {value(port.values)}", port.why)]
    if port.range is not None:
        return [*lines, _noted(f"range = {value(port.range)}", port.why)]
    return [*lines, f"# {port.why}"]


def _dim_lines(spec: Draft) -> Iterator[list[str]]:
    if spec.dims:
        lines = (
            _noted(f"{key(name)} = {{ min = {size.min}, max = {size.max} }}", "guess")
            for name, size in spec.dims.items()
        )
        yield ["[dims]", *lines]


def _case_lines(spec: Draft) -> Iterator[list[str]]:
    for name, dims in spec.cases.items():
        lines = ["[[case]]", f"name = {value(name)}"]
        if dims:
            inner = ", ".join(f"{key(dim)} = {size}" for dim, size in dims.items())
            lines.append(f"dims = {{ {inner} }}")
        yield lines


def _output_lines(port: Port, kind: str) -> list[str]:
    sizes = ", ".join("?" if size is None else str(size) for size in port.shape or ())
    shown = port.type if port.shape is None else f"{port.type} [{sizes}]"
    return [
        table("outputs", port.name),
        _noted(f"compare = {value(_comparison(port))}", shown),
        *_promise(port, kind),
    ]


def _promise(port: Port, kind: str) -> list[str]:
    """Return the type of a float32 output: scikit-learn itself computes in float64."""
    if kind != "sklearn" or "float" not in port.type:
        return []
    return [_noted('dtype = "float32"', "the reference gives float64")]


def _comparison(port: Port) -> str:
    """Return how an output is compared: numbers with a point by tolerance, the others exactly."""
    if re.search(r"float|double|complex", port.type):
        return "close"
    return "labels" if "label" in port.name.lower() else "exact"


def _placement(spec: Draft) -> list[str]:
    found = [name for name in OFTEN_ON_CPU if name in spec.operators]
    lines = [
        "# Every node must run on its provider. Where some may not, say which and why:",
        "# [placement.openvino]",
        f'# allow_cpu = {{ ops = {value(found or ["Shape"])}, reason = "" }}',
    ]
    if found:
        lines[0] = (
            "# Every node must run on its provider. Of this model's operators, providers often\n"
            f"# leave {', '.join(found)} to the CPU; what may stay there needs a reason:"
        )
    return lines
