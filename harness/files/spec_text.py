"""A spec as the text of `model.toml`: what `harness.files.models` reads back as the same values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from harness.domain.spec import ModelSpec
from harness.files.toml_text import Plain, key, table, value

#: Tables that are written even if they hold the defaults: a reader looks for them.
SHOWN = ("providers",)


def spec_text(spec: ModelSpec, *, head: str) -> str:
    """Return the text of `model.toml`, without what has its default.

    Args:
        spec: The spec.
        head: One line of comment at the top.
    """
    plain = _plain_table(spec)
    for name in SHOWN:
        plain[name] = _plain(getattr(spec, name))
    scalars = [f"{key(name)} = {value(each)}" for name, each in plain.items() if _inline(each)]
    blocks = ["\n".join([f"# {head}", *scalars])]
    for name, each in plain.items():
        if not _inline(each):
            blocks += _tables(name, each)
    return "\n\n".join(blocks) + "\n"


def _inline(plain: Any) -> bool:
    """Return whether an entry of the top level fits behind its key."""
    tables = isinstance(plain, list) and any(isinstance(item, Mapping) for item in plain)
    return not (tables or isinstance(plain, Mapping))


def _tables(name: str, plain: Any) -> Iterator[str]:
    if isinstance(plain, Mapping):
        yield "\n".join([table(name), *_entries(plain)])
        return
    for item in plain:
        yield "\n".join([f"[[{key(name)}]]", *_entries(item)])


def _entries(plain: Mapping[str, Plain]) -> Iterator[str]:
    yield from (f"{key(name)} = {value(each)}" for name, each in plain.items())


def _plain(each: Any) -> Any:
    """Return a value of the spec as lists, tables, texts, numbers and days."""
    if dataclasses.is_dataclass(each) and not isinstance(each, type):
        return _plain_table(each)
    if isinstance(each, Mapping):
        return {name: _plain(inner) for name, inner in each.items()}
    if isinstance(each, tuple | list):
        return [_plain(inner) for inner in each]
    return str(each) if isinstance(each, str) else each


def _plain_table(table_of: Any) -> dict[str, Any]:
    return {
        each.name: _plain(getattr(table_of, each.name))
        for each in dataclasses.fields(table_of)
        if getattr(table_of, each.name) != _default(each)
    }


def _default(each: dataclasses.Field[Any]) -> Any:
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory()
    return each.default
