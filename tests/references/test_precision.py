"""References in other floating types: really computed so, and what fell short is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.domain.values import Values
from harness.references import frameworks
from harness.references.precision import AS_BUILT, PreciseReference
from harness.testing import linear_model

X: Values = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
PORT = ["y", "tensor(float)", None]


def run(kind: str, built: Any, dtype: str) -> tuple[Any, list[str]]:
    """Run a reference on X and return its first output, with the places below float64."""
    precise = PreciseReference(kind, frameworks.build(kind, built), dtype, {"y": "predict"})
    outputs, below = precise.run(X, [PORT])
    return outputs[0][1], below


def module(body: str) -> Any:
    """Return a module of one layer whose forward ends in this expression."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return eval(body, {"torch": torch, "x": x, "y": self.layer(x)})  # noqa: S307 - ours

    return Net()


def test_float64_is_more_exact_than_float32() -> None:
    """The same weights give nearly the same values, with more digits."""
    net = module("y.tanh()")
    wide, below = run("torch", net, "float64")
    own, _ = run("torch", net, AS_BUILT)
    assert below == []
    assert (wide.dtype, own.dtype) == (np.float64, np.float32)
    assert 0 < np.abs(wide - own).max() < 1e-6
    assert (wide != wide.astype(np.float32)).any()


def test_the_original_stays_as_it_was() -> None:
    """A float64 run between two others changes nothing for them."""
    net = module("y")
    before, _ = run("torch", net, AS_BUILT)
    run("torch", net, "float64")
    after, _ = run("torch", net, AS_BUILT)
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_coarser_types_are_coarser(dtype: str) -> None:
    """What a half precision build would do can be measured; nothing is watched then."""
    net = module("y")
    coarse, below = run("torch", net, dtype)
    exact, _ = run("torch", net, "float64")
    assert below == []
    assert 1e-5 < np.abs(coarse.astype(np.float64) - exact).max() < 1e-1


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("y.float().exp().double()", "Net: aten.to.dtype gives float32"),
        ("y + torch.ones(2, dtype=torch.float32)", "Net: aten.ones.default gives float32"),
        ("y.half()", "Net: aten.to.dtype gives float16"),
        ("torch.view_as_complex(y.float()[..., None].expand(2, 2, 2).contiguous()).abs()",
         "Net: aten.to.dtype gives float32"),
    ],
    ids=["hidden", "constant", "result", "complex"],
)  # fmt: skip
def test_what_computes_with_fewer_bits_is_named(body: str, place: str) -> None:
    """A cast inside gives the run away, though it may return float64."""
    _, below = run("torch", module(body), "float64")
    assert below[0] == place


def test_the_module_inside_is_named() -> None:
    """The place is the submodule whose operator it is."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), module("y.float().double()"))
    net[1].layer = torch.nn.Linear(2, 2)
    _, below = run("torch", net, "float64")
    assert below[0] == "1: aten.to.dtype gives float32"


def test_first_states_of_zeros_follow() -> None:
    """Tensors without a type of their own are float64 meanwhile."""
    wide, below = run("torch", module("y + torch.zeros(2)"), "float64")
    assert (wide.dtype, below) == (np.float64, [])
    assert pytest.importorskip("torch").get_default_dtype().itemsize == 4


def test_integers_and_booleans_do_not_matter() -> None:
    """Only floating results are looked at."""
    _, below = run("torch", module("torch.where(y > 0, y, y * y.argmax())"), "float64")
    assert below == []


def test_an_estimator_computes_in_float64() -> None:
    """scikit-learn takes the same rows, widened."""
    linear = pytest.importorskip("sklearn.linear_model")
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = linear.LinearRegression().fit(rows, rows @ [1, 2, 3])
    wide, below = run("sklearn", fitted, "float64")
    assert (wide.dtype, below) == (np.float64, [])


def test_an_estimator_of_float32_is_named() -> None:
    """One that was trained in float32 gives float32 whatever it is fed."""
    linear = pytest.importorskip("sklearn.linear_model")

    class Narrow(linear.LinearRegression):  # type: ignore[misc, name-defined]
        def predict(self, rows: Any) -> Any:
            return super().predict(rows).astype(np.float32)

    fitted = Narrow().fit(np.eye(3), np.ones(3))
    assert run("sklearn", fitted, "float64")[1] == ["output 'y' is float32"]


def test_other_types_of_an_estimator_are_refused() -> None:
    """Nothing makes it compute in float32."""
    linear = pytest.importorskip("sklearn.linear_model")
    fitted = linear.LinearRegression().fit(np.eye(3), np.ones(3))
    with pytest.raises(ValueError, match="a 'sklearn' reference cannot compute in float16"):
        run("sklearn", fitted, "float16")


def test_the_evaluator_computes_in_float64(tmp_path: Any) -> None:
    """An ONNX file is widened for it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model(scale=0.1).SerializeToString())
    wide, below = run("onnx", path, "float64")
    own, _ = run("onnx", path, AS_BUILT)
    assert (wide.dtype, own.dtype, below) == (np.float64, np.float32, [])
    assert 0 < np.abs(wide - own).max() < 1e-6
