"""Values as TOML text: the few kinds that a drafted spec needs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def value(plain: str | float | Sequence[str | float]) -> str:
    """Return a text, a number or a list of them as TOML."""
    if isinstance(plain, str):
        return _quoted(plain)
    if isinstance(plain, int | float):
        return repr(plain)
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
