"""How each kind of reference is built and called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from harness.references import frameworks
from harness.testing import linear_model

ROWS = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], dtype=np.float32)


def run(kind: str, built: Any, outputs: list[list[Any]], methods: dict[str, str]) -> dict[str, Any]:
    """Run a built reference on ROWS."""
    return dict(frameworks.runner(kind, built, methods)({"x": ROWS}, outputs))


def test_torch_results_are_named_by_position_or_key() -> None:
    """A tuple follows the order of the model's outputs, a dict its own keys."""
    torch = pytest.importorskip("torch")

    class Both(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, *, named: bool) -> None:
            super().__init__()
            self.named = named

        def forward(self, x: Any) -> Any:
            return {"b": x + 1, "a": x} if self.named else (x, x + 1)

    ports = [["a", "tensor(float)", [4, 2]], ["b", "tensor(float)", [4, 2]]]
    for named in (False, True):
        outputs = run("torch", frameworks.build("torch", Both(named=named)), ports, {})
        np.testing.assert_array_equal(outputs["a"], ROWS)
        np.testing.assert_array_equal(outputs["b"], ROWS + 1)


def test_another_count_of_outputs_is_refused() -> None:
    """A module that returns one tensor for a model with two outputs is an error, not a zip."""
    torch = pytest.importorskip("torch")
    built = frameworks.build("torch", torch.nn.Identity())
    ports: list[list[Any]] = [["a", "tensor(float)", None], ["b", "tensor(float)", None]]
    with pytest.raises(ValueError, match="the reference returned 1 outputs, the model has 2: a, b"):
        run("torch", built, ports, {})


@pytest.mark.parametrize("nothing", [None, {"y": None}], ids=["by-position", "by-key"])
def test_nothing_is_an_answer_of_an_optional_only(nothing: Any) -> None:
    """A forward without `return` is the reference's fault, whatever the candidate gives."""
    torch = pytest.importorskip("torch")

    class Nothing(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, _: Any) -> Any:
            return nothing

    built = frameworks.build("torch", Nothing())
    told = "the reference returned None instead of a tensor as output 'y'"
    for kind in ("tensor(float)", "seq(tensor(float))"):
        with pytest.raises(TypeError, match=told):
            run("torch", built, [["y", kind, None]], {})
    assert run("torch", built, [["y", "optional(tensor(float))", None]], {}) == {"y": None}


def test_something_that_is_no_module_is_refused() -> None:
    """A function that returns a number instead of a module is told so."""
    pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got int"):
        frameworks.build("torch", 3)


def test_sklearn_answers_by_method_and_shape() -> None:
    """Labels, probabilities and maps come from the methods that the spec names."""
    linear_models = pytest.importorskip("sklearn.linear_model")
    estimator = linear_models.LogisticRegression().fit(ROWS, ["no", "no", "yes", "yes"])
    ports: list[list[Any]] = [
        ["label", "tensor(string)", [None]],
        ["maps", "seq(map(string,tensor(float)))", None],
        ["probabilities", "tensor(float)", [None, 2]],
    ]
    methods = {"label": "predict", "maps": "predict_proba", "probabilities": "predict_proba"}
    outputs = run("sklearn", frameworks.build("sklearn", estimator), ports, methods)
    assert outputs["label"].tolist() == ["no", "no", "yes", "yes"]
    assert list(outputs["maps"][0]) == ["no", "yes"]
    assert outputs["maps"][3]["yes"] == outputs["probabilities"][3, 1]


def test_a_regression_gets_the_models_second_axis() -> None:
    """skl2onnx gives a regression shape [N, 1]; the reference follows the model."""
    linear_models = pytest.importorskip("sklearn.linear_model")
    estimator = linear_models.LinearRegression().fit(ROWS, [0.0, 1.0, 2.0, 3.0])
    ports = [["variable", "tensor(float)", [None, 1]]]
    outputs = run("sklearn", estimator, ports, {"variable": "predict"})
    assert outputs["variable"].shape == (4, 1)


def test_the_onnx_evaluator_runs_a_file(tmp_path: Path) -> None:
    """The ONNX reference evaluator gives the model's outputs under its names."""
    path = tmp_path / "model.onnx"
    onnx.save(linear_model(), path)
    built = frameworks.build("onnx", path)
    rows = np.ones((2, 3), dtype=np.float32)
    ((name, value),) = frameworks.runner("onnx", built, {})({"x": rows}, [])
    assert name == built.output_names[0]
    assert isinstance(value, np.ndarray)
    assert value.shape[0] == 2
