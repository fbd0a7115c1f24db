"""The picture of a duet."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import EnvironmentProblem, UsageProblem
from harness.reports.plot import check_plot, plot_distributions

PNG = b"\x89PNG\r\n\x1a\n"
NEEDS = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra 'plots': matplotlib"
)
DRAW = """
import sys
from pathlib import Path
from harness.reports.plot import plot_distributions
before = set(sys.modules)
plot_distributions(Path(sys.argv[1]), candidate_ms=[2.0], control_ms=[1.0], pairs=[0.7], title="t",
                   caption="c")
assert "matplotlib.figure" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def draw(path: Path, **given: Any) -> str:
    """Draw two distributions, with what a test changes."""
    random = np.random.default_rng(1)
    values = {
        "candidate_ms": 2.1 + random.gamma(2, 0.05, 2000),
        "control_ms": 2.0 + random.gamma(2, 0.05, 2000),
        "pairs": list(0.05 + 0.01 * random.normal(size=48)),
        "title": "mnist/fp32/cpu/batch3 is slower: +5.02%",
        "caption": "48 pairs; seed 7",
    }
    return plot_distributions(path, **{**values, **given})


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == PNG
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@NEEDS
def test_the_picture_is_of_a_size_that_fits_a_page(tmp_path: Path) -> None:
    """With all that can be drawn."""
    path = tmp_path / "picture.png"
    assert draw(path, effect=0.049, interval=(0.044, 0.055), bound=0.01) == ""
    assert size(path) == (900, 450)


@NEEDS
def test_what_is_given_is_what_is_drawn(tmp_path: Path) -> None:
    """Title, caption, medians, estimate and bound stand in the picture as text."""
    from matplotlib import rc_context

    path = tmp_path / "picture.svg"
    with rc_context({"svg.fonttype": "none"}):
        draw(
            path,
            candidate_ms=[2.0, 3.0, 4.0],
            control_ms=[1.0, 1.0],
            effect=np.log(1.05),
            interval=(np.log(1.04), np.log(1.06)),
            bound=np.log(1.01),
        )
    text = path.read_text(encoding="utf-8")
    for part in (
        "mnist/fp32/cpu/batch3 is slower: +5.02%",
        "48 pairs; seed 7",
        "candidate: median 3 ms (n = 3)",
        "control: median 1 ms (n = 2)",
        "estimate, +5.00 %",
        "interval, +4.00 to +6.00 %",
        "bound, 1 %",
    ):
        assert part in text


@NEEDS
@pytest.mark.parametrize(
    "given",
    [
        {"candidate_ms": [2.0], "control_ms": [2.0], "pairs": [0.0]},
        {"candidate_ms": [], "control_ms": [], "pairs": []},
        {"candidate_ms": [0.0, 0.0], "control_ms": [1e9]},
        {"title": "$x_ \\ 漢 \x07" * 60, "caption": ""},
    ],
    ids=["one-call", "nothing", "far-apart", "strange-title"],
)
def test_strange_values_are_drawn(tmp_path: Path, given: dict[str, Any]) -> None:
    """Without an error or a warning."""
    path = tmp_path / "picture.png"
    assert draw(path, **given) == ""
    assert size(path) == (900, 450)


@NEEDS
def test_drawing_says_nothing_and_needs_no_display(tmp_path: Path) -> None:
    """Also where matplotlib has no place for its caches; `pyplot` is not imported."""
    nowhere = tmp_path / "file"
    nowhere.write_text("", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(tmp_path / "picture.png")],
        env={
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
            "HOME": str(nowhere),
            "MPLCONFIGDIR": str(nowhere / "none"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert size(tmp_path / "picture.png") == (900, 450)


@NEEDS
def test_the_log_of_matplotlib_is_as_before(tmp_path: Path) -> None:
    """It is quiet while drawing only."""
    before = logging.getLogger("matplotlib").level
    draw(tmp_path / "picture.png")
    assert logging.getLogger("matplotlib").level == before


def test_without_matplotlib_there_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no failure, unless the picture was asked for."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "picture.png"
    assert draw(path) == (
        "no picture: package 'matplotlib' is not installed (pip install 'onnx-harness[plots]')"
    )
    assert not path.exists()
    with pytest.raises(EnvironmentProblem, match="'matplotlib' is not installed") as caught:
        check_plot(path)
    assert caught.value.code == "package.missing"


@NEEDS
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("picture", "is of no format for a picture"),
        ("picture.bmp", "is of no format for a picture"),
        ("none/picture.png", "none' does not exist"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before(
    tmp_path: Path, name: str, says: str
) -> None:
    """So that nothing is measured in vain."""
    with pytest.raises(UsageProblem, match=says):
        check_plot(tmp_path / name)
    check_plot(tmp_path / "picture.PNG")
