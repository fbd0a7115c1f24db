"""What one table of a spec alone can contradict."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from harness.domain.dtypes import DType
from harness.domain.fillings import KINDS
from harness.domain.spec import (
    AllowCpu,
    Candidate,
    DimSpec,
    Export,
    InputSpec,
    KnownFailure,
    LeaveOut,
    Limits,
    ModelSpec,
    PlacementSpec,
    PropertiesSpec,
    Reference,
    SessionSettings,
    StateSpec,
    Tolerance,
    Variant,
)

SHA = "0" * 64
ONE_KIND = "needs exactly one of 'torch', 'torchscript', 'sklearn', 'onnx', 'recorded'"
EXPORT = Export(opset=20)
FLOAT = DType.FLOAT32
KNOWN: dict[str, Any] = {
    "cell": "*/int8-static/openvino/*",
    "code": "parity.tolerance",
    "issue": "https://example.com/issues/7",
    "expires": datetime.date(2027, 3, 1),
}


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (Candidate, {}, "needs exactly one of 'file', 'url', 'export', got none"),
        (PropertiesSpec, {"examples": 0}, "'examples' must be from 1 to 1000000, got 0"),
        (
            PropertiesSpec,
            {"examples": {"ci": 0}},
            "'examples.ci' must be from 1 to 1000000, got 0",
        ),
        (PropertiesSpec, {"max_elements": 0}, "'max_elements' must be from 1 to 1073741824, got 0"),
        (PropertiesSpec, {"repetitions": 0}, "'repetitions' must be from 1 to 100, got 0"),
        (PropertiesSpec, {"threads": (1, 0)}, "'threads' must be from 1 to 1024, got [1, 0]"),
        (PropertiesSpec, {"not_applicable": " "}, "what loosens a check needs a 'reason'"),
        (LeaveOut, {"kinds": ("ramp",), "reason": ""}, "what loosens a check needs a 'reason'"),
        (LeaveOut, {"kinds": KINDS, "reason": "all"}, "'kinds' leaves nothing to draw"),
        (
            Candidate,
            {"file": "a", "export": EXPORT},
            "needs exactly one of 'file', 'url', 'export', got file and export",
        ),
        (
            Candidate,
            {"package": "p", "export": EXPORT},
            "'package' needs 'file', the path inside the package",
        ),
        (
            Candidate,
            {"url": "u"},
            "'url' and 'sha256' go together: a download is verified before use",
        ),
        (
            Candidate,
            {"file": "a", "sha256": SHA},
            "'url' and 'sha256' go together: a download is verified before use",
        ),
        (
            Candidate,
            {"url": "u", "sha256": "ABC"},
            "'sha256' must be 64 lower-case hexadecimal digits, got 'ABC'",
        ),
        (Variant, {}, "needs exactly one of 'file', 'url', 'export', got none"),
        (
            Variant,
            {"package": "p", "url": "u", "sha256": SHA},
            "'package' needs 'file', the path inside the package",
        ),
        (
            Reference,
            {},
            f"{ONE_KIND}, got none",
        ),
        (
            Reference,
            {"torch": "a", "onnx": True},
            f"{ONE_KIND}, got torch and onnx",
        ),
        (
            Reference,
            {"onnx": True, "methods": {"y": "predict"}},
            "'methods' is read for 'sklearn' references only",
        ),
        (SessionSettings, {"threads": 0}, "'threads' must be from 1 to 1024, got 0"),
        (
            InputSpec,
            {"dtype": FLOAT, "range": (0, 1), "values": (1,)},
            "give 'range' or 'values', not both",
        ),
        (InputSpec, {"dtype": FLOAT, "range": (1, 1)}, "'range' must rise, got [1, 1]"),
        (
            InputSpec,
            {"dtype": FLOAT, "range": (0, float("nan"))},
            "'range' must rise, got [0, nan]",
        ),
        (
            InputSpec,
            {"dtype": FLOAT, "range": (0, float("inf"))},
            "'range' must be finite, got [0, inf]",
        ),
        (InputSpec, {"dtype": FLOAT, "values": ()}, "'values' must not be empty"),
        (InputSpec, {"dtype": FLOAT, "values": ("a",)}, "'float32' cannot hold 'a'"),
        (InputSpec, {"dtype": DType.INT64, "values": (1.5,)}, "'int64' cannot hold 1.5"),
        (InputSpec, {"dtype": DType.UINT8, "values": (300,)}, "'uint8' cannot hold 300"),
        (InputSpec, {"dtype": DType.UINT8, "range": (0, 300)}, "'uint8' cannot hold 299"),
        (InputSpec, {"dtype": DType.UINT8, "range": (-1, 3)}, "'uint8' cannot hold -1"),
        (
            InputSpec,
            {"dtype": FLOAT, "shape": ("n", -1)},
            "'shape' must not hold negative sizes, got ['n', -1]",
        ),
        (DimSpec, {"min": 3, "max": 2}, "needs 0 <= min <= max, got min = 3, max = 2"),
        (DimSpec, {"min": -1, "max": 2}, "needs 0 <= min <= max, got min = -1, max = 2"),
        (
            Tolerance,
            {"atol": -1.0, "rtol": 0.0, "reason": "r"},
            "needs finite atol, rtol >= 0, got atol = -1, rtol = 0",
        ),
        (
            Tolerance,
            {"atol": 0.0, "rtol": float("inf"), "reason": "r"},
            "needs finite atol, rtol >= 0, got atol = 0, rtol = inf",
        ),
        (
            Tolerance,
            {"atol": float("nan"), "rtol": 0.0, "reason": "r"},
            "needs finite atol, rtol >= 0, got atol = nan, rtol = 0",
        ),
        (
            Tolerance,
            {"atol": 0.0, "rtol": 0.0, "reason": " "},
            "what loosens a check needs a 'reason'",
        ),
        (StateSpec, {"feedback": {}, "steps": 1}, "'feedback' must name at least one output"),
        (StateSpec, {"feedback": {"a": "b"}, "steps": 0}, "'steps' must be at least 1, got 0"),
        (AllowCpu, {"ops": ("Shape",), "reason": ""}, "what loosens a check needs a 'reason'"),
        (PlacementSpec, {"min_ratio": 0.0}, "'min_ratio' must be in (0, 1], got 0"),
        (PlacementSpec, {"min_ratio": 1.5}, "'min_ratio' must be in (0, 1], got 1.5"),
        (PlacementSpec, {"min_ratio": 0.5}, "what loosens a check needs a 'reason'"),
        (Limits, {"load_s": 0}, "'load_s' must be above 0 and at most 1e+06 seconds, got 0"),
        (Limits, {"run_s": -1}, "'run_s' must be above 0 and at most 1e+06 seconds, got -1"),
        (
            Limits,
            {"reference_s": 0.0},
            "'reference_s' must be above 0 and at most 1e+06 seconds, got 0",
        ),
        (
            KnownFailure,
            {**KNOWN, "cell": "a/b/c/d/e"},
            "'cell' must be MODEL/VARIANT/PROVIDER/CASE or its beginning, got 'a/b/c/d/e'",
        ),
        (
            KnownFailure,
            {**KNOWN, "cell": "a//c"},
            "'cell' must be MODEL/VARIANT/PROVIDER/CASE or its beginning, got 'a//c'",
        ),
        (
            KnownFailure,
            {**KNOWN, "cell": ""},
            "'cell' must be MODEL/VARIANT/PROVIDER/CASE or its beginning, got ''",
        ),
        (
            KnownFailure,
            {**KNOWN, "code": "parity.tolerence"},
            (
                "'code' must be a code that can be excused, got 'parity.tolerence'; "
                "did you mean 'parity.tolerance'?"
            ),
        ),
        (
            KnownFailure,
            {**KNOWN, "code": "everything"},
            (
                "'code' must be a code that can be excused, got 'everything'; "
                "docs/known_failures.md lists them"
            ),
        ),
        (
            KnownFailure,
            {**KNOWN, "issue": "#7"},
            "'issue' must be a URL that begins with https:// or http://, got '#7'",
        ),
        (
            KnownFailure,
            {**KNOWN, "issue": "https://[x"},
            "'issue' must be a URL that begins with https:// or http://, got 'https://[x'",
        ),
        (
            KnownFailure,
            {**KNOWN, "code": "harness.bug"},
            (
                "'suite' is missing: any suite can meet 'harness.bug', "
                "so one of contract, placement, parity, properties, latency is needed"
            ),
        ),
        (
            KnownFailure,
            {**KNOWN, "suite": "paritty"},
            "'suite' names 'paritty', which is no suite; did you mean 'parity'?",
        ),
    ],
)
def test_contradictions(make: Callable[..., Any], keys: dict[str, Any], message: str) -> None:
    """Each contradiction has its message."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        make(**keys)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (Candidate, {"file": "a", "package": "p"}),
        (Candidate, {"url": "u", "sha256": SHA}),
        (DimSpec, {"min": 0, "max": 0}),
        (Tolerance, {"atol": 0.0, "rtol": 0.0, "reason": "r"}),
        (PlacementSpec, {"min_ratio": 0.5, "reason": "r"}),
        (InputSpec, {"dtype": DType.UINT8, "range": (0, 256)}),
        (InputSpec, {"dtype": DType.STRING, "values": ("a",)}),
        (InputSpec, {"dtype": FLOAT, "shape": (0, "n")}),
        (KnownFailure, {**KNOWN, "cell": "*"}),
        (KnownFailure, {**KNOWN, "code": "harness.bug", "suite": "contract"}),
    ],
)
def test_limits_themselves_are_fine(make: Callable[..., Any], keys: dict[str, Any]) -> None:
    """What lies exactly on a border is inside, and kept as it was given."""
    made = make(**keys)
    assert {name: getattr(made, name) for name in keys} == keys


def test_variants_and_their_sources() -> None:
    """The candidate is the first variant."""
    spec = ModelSpec(
        schema_version=1,
        candidate=Candidate(file="a.onnx"),
        reference=Reference(onnx=True),
        variants={"fp16": Variant(file="b.onnx")},
    )
    assert spec.variant_names() == ("fp32", "fp16")
    assert [spec.source(name).file for name in spec.variant_names()] == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize("kind", Reference.KINDS)
def test_kinds_of_references(kind: str) -> None:
    """The kind is the key that is given."""
    keys: dict[str, Any] = {kind: "x"}
    assert Reference(**keys).kind == kind
