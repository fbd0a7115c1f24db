"""Values as TOML text: the few kinds that a spec needs."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

_BARE = re.compile(r"[A-Za-z0-9_-]+")


Plain: TypeAlias = "str | float | datetime.date | Sequence[Plain] | Mapping[str, Plain]"


def value(plain: Plain) -> str:
    """Return a text, number, truth value, day, or a list or table of them as TOML, in one line."""
    if isinstance(plain, str):
        return _quoted(plain)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, int | float):
        return repr(plain)
    if isinstance(plain, datetime.date):
        return plain.isoformat()
    if isinstance(plain, Mapping):
        inner = ", ".join(f"{key(name)} = {value(each)}" for name, each in plain.items())
        return f"{{ {inner} }}" if inner else "{}"
    return f"[{', '.join(map(value, plain))}]"


def key(name: str) -> str:
    """Return a key, quoted where it has to be."""
    return name if _BARE.fullmatch(name) else _quoted(name)


def table(*path: str) -> str:
    """Return the header of a table."""
    return f"[{'.'.join(map(key, path))}]"


def _quoted(text: str) -> str:
    """Return a basic string; TOML escapes like JSON, and the delete character besides."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
