"""Names on the command line: each must be there, and a wrong one is told with the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.domain.cells import Cell
    from harness.files.models import BrokenModel, Model


def known_name(name: str, names: Iterable[str], what: str, *, where: str) -> str:
    """Return `name`, which must be one of `names`.

    Args:
        name: What was given.
        names: All that there are.
        what: What they name: "model".
        where: Argument or option, for the message.

    Raises:
        UsageProblem: If it is none, with the nearest name.
    """
    from harness.domain.providers import did_you_mean
    from harness.errors import UsageProblem

    there = list(names)
    if name in there:
        return name
    msg = f"Unknown {what} '{name}'"
    expected = f"one of {', '.join(there) or 'none'}"
    raise UsageProblem(msg, where=where, expected=expected, next_step=did_you_mean(name, there))


def known_cell(text: str, models: Mapping[str, Model | BrokenModel]) -> Cell:
    """Return the parity cell of this id.

    Raises:
        HarnessError: If it is none, or its model's spec is broken.
    """
    from harness.domain.cells import CASE_DEPTH, Cell
    from harness.errors import UsageProblem
    from harness.files.models import BrokenModel

    places = text.split("/")
    if len(places) != CASE_DEPTH or not all(places):
        msg = f"'{text}' is not the id of a parity cell"
        example = "MODEL/VARIANT/PROVIDER/CASE, such as mnist/fp32/cpu/batch3"
        advice = "`onnx-harness model show NAME` lists variants, providers and cases"
        raise UsageProblem(msg, where="CELL", expected=example, next_step=advice)
    cell = Cell(*places)
    model = models[known_name(cell.model, models, "model", where="CELL")]
    if isinstance(model, BrokenModel):
        raise model.problem
    known_name(cell.variant, model.spec.variant_names(), "variant", where="CELL")
    known_name(cell.case, model.case_names(), "case", where="CELL")
    return cell
