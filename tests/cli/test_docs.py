"""docs/commands.md mentions every command, argument and option; every one of them has help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import command

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def leaves(node: Any, path: str = "onnx-harness") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with what is typed to call it."""
    for name, inner in getattr(node, "commands", {}).items():
        yield from leaves(inner, f"{path} {name}")
    if not getattr(node, "commands", {}):
        yield path, node


LEAVES = dict(leaves(command()))


@pytest.mark.parametrize("path", LEAVES)
def test_the_docs_have_a_section_for_the_command(path: str) -> None:
    """With its arguments and options, each spelled as the command spells it."""
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    (section,) = [text for text in sections if text.startswith(f"`{path}`")]
    for parameter in LEAVES[path].params:
        for spelled in parameter.opts if parameter.param_type_name == "option" else ():
            if spelled != "--help":
                assert spelled in section


@pytest.mark.parametrize("path", LEAVES)
def test_the_command_and_its_options_have_help(path: str) -> None:
    """Sentences that begin with a capital letter and end with a full stop."""
    leaf = LEAVES[path]
    texts = [leaf.help.strip().splitlines()[0], *(each.help for each in leaf.params if each.help)]
    assert len(texts) >= len([each for each in leaf.params if each.name != "help"])
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")


def test_no_option_takes_an_optional_value() -> None:
    """Such an option would swallow the argument behind it."""
    for leaf in LEAVES.values():
        for parameter in leaf.params:
            assert not getattr(parameter, "_flag_needs_value", False)


def test_the_docs_name_every_exit_code() -> None:
    """A table with all five."""
    text = PAGE.read_text(encoding="utf-8")
    for code in range(5):
        assert f"| {code} |" in text
