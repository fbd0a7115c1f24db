"""Failures of a provider: the graph is right, and one node is computed wrongly there."""

from __future__ import annotations

import importlib.util
import sysconfig
import venv
from pathlib import Path

import pytest

from harness.domain.project import ProjectSettings, RuntimeSettings
from harness.testing import file_spec
from tests.localise.conftest import Searcher
from tests.localise.graphs import CASE, INPUTS, chain

PROGRAM = Path(__file__).parents[1] / "runtimes" / "programs" / "odd_onnxruntime.py"
ODD_CELL = "m/fp32/cpu@odd/one"


def interpreter(folder: Path, weight: str) -> Path:
    """Return an interpreter whose ONNX Runtime computes with another `weight`."""
    found = importlib.util.find_spec("onnxruntime")
    assert found is not None
    assert found.origin is not None
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "real.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    text = PROGRAM.read_text(encoding="utf-8").replace(
        "/nowhere", str(Path(found.origin).parents[1])
    )
    package = site / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text(text.replace('"w20"', f'"{weight}"'), encoding="utf-8")
    return folder / "bin" / "python"


@pytest.mark.parametrize(("count", "off"), [(40, 20), (200, 100)])
def test_the_node_that_a_provider_computes_wrongly_is_found(
    search: Searcher, tmp_path: Path, count: int, off: int
) -> None:
    """The same graph is right on the CPU of another ONNX Runtime, and no level mends it."""
    python = interpreter(tmp_path / "odd", f"w{off}")
    settings = ProjectSettings(runtimes={"odd": RuntimeSettings(python=str(python))})
    text = file_spec(reference="onnx = true", inputs=INPUTS, case=CASE)
    files = {"model.onnx": chain(count).SerializeToString()}
    report = search(text, files, cell=ODD_CELL, settings=settings)
    assert report.origin is not None, "\n".join(report.lines())
    assert (report.kind, report.origin.node) == ("provider", f"'n{off}'")
    assert report.origin.introduced > 100 * report.origin.inherited
    assert report.levels == (("disabled", "fails"),)
    assert report.culprit == (
        "none: it fails with every optimisation off, so it is not an optimisation"
    )
    assert report.outside == ()
