"""Parity by the bound from float64, in whole runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.domain.dtypes import DType
from harness.domain.verdict import Verdict
from harness.results.record import ItemRecord
from harness.testing import MiniProject, make_model, tensor_info

WIDTH = 32
REFERENCE = f"""
import numpy as np
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        for layer in (1, 2):
            weight = rng.normal(size=({WIDTH}, {WIDTH})).astype(np.float32) / {WIDTH**0.5}
            self.register_buffer(f"w{{layer}}", torch.from_numpy(weight))

    def forward(self, x):
        return torch.tanh(x @ self.w1) @ self.w2  # end


def build():
    return Net()
"""
SPEC = f"""
schema_version = 1
reference = {{ torch = "reference.py:build" }}
[candidate]
file = "model.onnx"
[inputs.x]
dtype = "float32"
shape = ["batch", {WIDTH}]
[dims]
batch = {{ min = 1, max = 8 }}
[[case]]
name = "one"
dims = {{ batch = 1 }}
[[case]]
name = "eight"
dims = {{ batch = 8 }}
"""
HALF = 'file = "model.onnx"\ndtype = "float16"\nreason = "half the size"'
PARITY = "parity net/fp32/cpu/one"

pytest.importorskip("torch")


def weights() -> tuple[np.ndarray, np.ndarray]:
    """Return the two matrices of the reference."""
    rng = np.random.default_rng(0)
    scale = np.float32(WIDTH**0.5)
    one, two = (rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / scale for _ in range(2))
    return one, two


def model(
    first: np.ndarray, second: np.ndarray, *, half: tuple[bool, bool] = (False, False)
) -> bytes:
    """Return the net as an ONNX file, with layers computed in float16 where `half` says so."""
    nodes: list[onnx.NodeProto] = []
    held = {}
    value = "x"
    for layer, (weight, low) in enumerate(zip((first, second), half, strict=True)):
        dtype = DType.FLOAT16 if low else DType.FLOAT32
        held[f"w{layer}"] = weight.astype(dtype.numpy)
        nodes += [
            helper.make_node("Cast", [value], [f"c{layer}"], to=dtype.onnx_number),
            helper.make_node("MatMul", [f"c{layer}", f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Cast", [f"m{layer}"], [f"r{layer}"], to=DType.FLOAT32.onnx_number),
        ]
        value = f"r{layer}"
        if layer == 0:
            nodes.append(helper.make_node("Tanh", [value], ["t"]))
            value = "t"
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    shape: list[int | str] = ["batch", WIDTH]
    made = make_model(nodes, [tensor_info("x", shape=shape)], [tensor_info("y", shape=shape)], held)
    assert all(numpy_helper.to_array(each).size for each in made.graph.initializer)
    return made.SerializeToString()


def judged(
    project: MiniProject, data: bytes, *, spec: str = SPEC, reference: str = REFERENCE
) -> ItemRecord:
    """Run the gate over the net and return its first parity item."""
    project.add_model("net", spec, {"model.onnx": data, "reference.py": reference.encode()})
    outcome = project.run("--provider", "cpu")
    assert PARITY in outcome.items, outcome.text
    return outcome.items[PARITY]


def test_a_sound_model_keeps_the_bound(project: MiniProject) -> None:
    """The receipt tells that float64 was the yardstick, and the figures."""
    item = judged(project, model(*weights()))
    assert item.verdict is Verdict.PASS
    assert item.facts["tolerance"] == "float64"
    assert item.facts["error y"].endswith("(32 elements of this case)")
    assert 0 < float(item.facts["worst"]) < 1


def test_a_channel_off_by_a_ten_thousandth_is_caught(project: MiniProject) -> None:
    """The table would allow it."""
    first, second = weights()
    second[:, 3] *= np.float32(1 + 1e-4)
    item = judged(project, model(first, second))
    assert item.verdict is Verdict.FAIL
    finding = item.findings[0]
    assert finding["code"] == "parity.tolerance"
    assert finding["where"] == "output 'y', worst at [0, 3]"
    assert "nothing suggests that it is deserved" in finding["next_step"]
    by_table = SPEC + (
        '[outputs.y.tolerance.default]\natol = 1e-5\nrtol = 1e-4\nreason = "what the table allows"'
    )
    assert judged(project, model(first, second), spec=by_table).verdict is Verdict.PASS


def test_one_layer_lowered_to_half_precision_is_caught(project: MiniProject) -> None:
    """And recognised for what it is."""
    item = judged(project, model(*weights(), half=(False, True)))
    assert item.verdict is Verdict.FAIL
    assert "its size is that of float16" in item.findings[0]["next_step"]


def test_a_build_that_promises_half_precision(project: MiniProject) -> None:
    """It is held to what the reference itself can do in float16."""
    spec = SPEC.replace('file = "model.onnx"', HALF)
    data = model(*weights(), half=(True, True))
    item = judged(project, data, spec=spec)
    assert (item.verdict, item.facts["tolerance"]) == (Verdict.PASS, "float64")
    assert judged(project, data).verdict is Verdict.FAIL
    first, second = weights()
    second[:, 3] *= np.float32(1.1)
    wrong = judged(project, model(first, second, half=(True, True)), spec=spec)
    assert wrong.verdict is Verdict.FAIL


def test_a_reference_that_only_pretends(project: MiniProject) -> None:
    """A cast inside makes its float64 run worthless: it is named, and the table applies."""
    reference = REFERENCE.replace("@ self.w2  # end", "@ self.w2.float().to(x.dtype)")
    item = judged(project, model(*weights()), reference=reference)
    assert item.verdict is Verdict.PASS
    assert item.facts["tolerance"].startswith("table: it is not float64 at Net: ")
    (note,) = item.findings
    assert (note["code"], note["got"]) == ("reference.not-float64", "the tolerance table applies")


LAST = "return torch.tanh(x @ self.w1) @ self.w2  # end"
NAMED = LAST.replace("return", "y =").replace("  # end", "")
IN_NUMPY = """y = (torch.tanh(x @ self.w1) @ self.w2).detach().numpy().astype("float32")
        return torch.from_numpy(y.astype("float64")).to(x.dtype)"""


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (IN_NUMPY, "output 'y' holds float32 values in float64"),
        (LAST + "\n        if x.dtype is torch.float32 else x * 5", "less than half of its digits"),
        (NAMED + "; return y if x.dtype is torch.float32 else y.long()",
         "the float64 run gives 'y' as int64"),
        (NAMED + "; return y if x.dtype is torch.float32 else y / 0",
         "'y' is not finite in float64"),
    ],
    ids=["numpy", "branch", "integers", "infinite"],
)  # fmt: skip
def test_a_float64_run_of_something_else_gives_no_bound(
    project: MiniProject, last: str, why: str
) -> None:
    """Whatever is held against it would pass, so the table judges, and a note says why."""
    reference = REFERENCE.replace(LAST, last.replace("# end\n        if", "\\\n        if"))
    item = judged(project, model(*weights()), reference=reference)
    assert item.verdict is Verdict.PASS
    assert why in item.facts["tolerance"]
    assert [note["code"] for note in item.findings] == ["reference.not-float64"]
    first, second = weights()
    wrong = judged(project, model(first, second * np.float32(1.01)), reference=reference)
    assert wrong.verdict is Verdict.FAIL


def test_a_half_precision_run_that_overflows_gives_no_bound(project: MiniProject) -> None:
    """Zeros would pass where the reference has no finite value in the candidate's type."""
    reference = REFERENCE.replace(
        "torch.tanh(x @ self.w1)", "(x * 1e3).pow(2) / ((x * 1e3).pow(2) + 1)"
    )
    spec = SPEC.replace('file = "model.onnx"', HALF)
    zeros = np.zeros((WIDTH, WIDTH), dtype=np.float32)
    item = judged(project, model(zeros, zeros), spec=spec, reference=reference)
    assert item.verdict is Verdict.FAIL
    assert "is not finite in float64 or float16" in item.facts["tolerance"]


def test_a_small_column_is_judged_in_its_own_scale(project: MiniProject) -> None:
    """Its sign is wrong, and the large column beside it is right."""
    reference = REFERENCE.replace(LAST, "return x * torch.linspace(-1, 9, 32, dtype=x.dtype).exp()")
    factors = np.exp(np.linspace(-1, 9, WIDTH)).astype(np.float32)
    spec = SPEC.replace("max = 8", "max = 64").replace("batch = 8", "batch = 64")

    def scaled(by: np.ndarray) -> bytes:
        nodes = [helper.make_node("Mul", ["x", "f"], ["y"])]
        x, y = (tensor_info(name, shape=["batch", WIDTH]) for name in ("x", "y"))
        return make_model(nodes, [x], [y], {"f": by}).SerializeToString()

    judged(project, scaled(factors), spec=spec, reference=reference)
    eight = PARITY.replace("one", "eight")
    assert project.run("--provider", "cpu").items[eight].verdict is Verdict.PASS
    factors[0] *= np.float32(1.00001)
    judged(project, scaled(factors), spec=spec, reference=reference)
    found = project.run("--provider", "cpu").items[eight]
    assert (found.verdict, found.facts["tolerance"]) == (Verdict.FAIL, "float64")


def test_a_reference_that_refuses(project: MiniProject) -> None:
    """It is asked once, and the refusal is kept like an answer."""
    reference = REFERENCE.replace(
        "return torch.tanh(x", "assert x.dtype == torch.float32; return (x"
    )
    item = judged(project, model(*weights()), reference=reference)
    assert "it does not run in float64: AssertionError" in item.facts["tolerance"]
    again = project.run("--provider", "cpu").items[PARITY]
    assert again.facts["tolerance"] == item.facts["tolerance"]
    assert again.facts["reference"] == "torch, cached"
