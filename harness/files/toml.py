"""TOML files into frozen values: every fault of a file at once, each with its dotted key."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from harness.errors import SpecError

T = TypeVar("T")
SPEC_HELP = "`onnx-harness model schema` prints the format"


def read(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        SpecError: If it cannot be read or is not TOML, with line and column.
    """
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        msg = f"Cannot read '{path.name}': {error.strerror}"
        raise SpecError(msg, code="spec.invalid", where=str(path)) from None
    except UnicodeDecodeError as error:
        msg = f"'{path.name}' is not UTF-8 text"
        raise SpecError(msg, code="spec.invalid", where=str(path), got=str(error)) from None
    except RecursionError:
        msg = f"'{path.name}' is nested too deeply"
        raise SpecError(msg, code="spec.invalid", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        msg = f"'{path.name}' is not valid TOML: {error}"
        raise SpecError(
            msg, code="spec.invalid", where=str(path), next_step="see https://toml.io"
        ) from None


def validate(
    kind: type[T], tables: dict[str, Any], *, path: Path, title: str, help_at: str = SPEC_HELP
) -> T:
    """Return `tables` as a value of the dataclass `kind`.

    The tables go through JSON, where pydantic's strict mode knows arrays as tuples and text as
    enumerations and dates, yet takes neither `true` nor `"3"` for a number.

    Args:
        kind: A frozen dataclass that carries `__pydantic_config__`.
        tables: What `read` returned.
        path: File, for messages.
        title: What the file describes, for messages: "Model spec 'mnist'".
        help_at: Where the format is told.

    Raises:
        SpecError: With all faults of the file.
    """
    try:
        return adapter(kind).validate_json(json.dumps(tables, default=str), strict=True)
    except ValidationError as error:
        found = list(faults(kind, error.errors(include_url=False)))
    raise faulty(title, path, found, help_at)


def faulty(title: str, path: Path, faults: Sequence[str], help_at: str = SPEC_HELP) -> SpecError:
    """Return the error that tells all faults of a file; `title` is what it describes."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return SpecError(
        f"{title} has {count}: {faults[0].splitlines()[0]}",
        code="spec.invalid",
        where=str(path),
        got="\n".join(faults),
        next_step=f"mend the keys above; {help_at}",
    )


def faults(kind: type[Any], errors: Sequence[Any]) -> Iterator[str]:
    """Yield one fault per key; a union reports a key once per member, which is one fault."""
    merged: dict[str, tuple[Any, list[str]]] = {}
    for error in errors:
        key = dotted_key(error["loc"])
        first, wanted = merged.get(key, (error, []))
        says_more = error["type"] == "value_error"  # a rule of ours, not that a type does not fit
        merged[key] = (error if says_more else first, [*wanted, error["msg"]])
    for key, (error, wanted) in merged.items():
        if not _is_of_another_member(key, error, merged):
            yield _describe(kind, key, error, wanted)


def _is_of_another_member(key: str, error: Any, keys: Iterable[str]) -> bool:
    """Return whether a table is only told not to be text, while its own keys have faults."""
    is_table = error["type"] == "string_type" and isinstance(error["input"], dict)
    return is_table and any(each.startswith(f"{key}.") for each in keys)


def _describe(kind: type[Any], key: str, error: Any, wanted: list[str]) -> str:
    match error["type"]:
        case "unexpected_keyword_argument":
            return f"unknown key '{key}'{_nearest(kind, error['loc'])}"
        case "missing":
            return f"'{key}' is missing"
        case "value_error":
            return f"'{key}' {error['ctx']['error']}" if key else str(error["ctx"]["error"])
        case _:
            what = " or ".join(dict.fromkeys(_plain(text) for text in wanted))
            return f"'{key}' must be {what}, got {json.dumps(error['input'], default=str)}"


def _plain(message: str) -> str:
    """Turn pydantic's sentence into what a value must be."""
    for opening in ("Input should be ", "Input should "):
        message = message.removeprefix(opening)
    return "true" if message == "True" else message  # as TOML writes it


def dotted_key(location: tuple[Any, ...]) -> str:
    """Return the dotted key of a location, without the parts that name a union's members."""
    dotted = ""
    for part in location:
        if isinstance(part, int):
            dotted += f"[{part}]"
        elif part not in _UNION_PARTS:
            dotted += f".{part}" if dotted else part
    return dotted


#: How pydantic names the members of the unions that specs use.
_UNION_PARTS = frozenset({"int", "float", "str", "bool", "literal[True]", "BuildStep"})


def _nearest(kind: Any, location: tuple[Any, ...]) -> str:
    known = sorted(_known_keys(kind, location[:-1]))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; expected one of {', '.join(known)}" if known else ""


def _known_keys(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """Return the keys of the table at `location`, walking types as the validation did."""
    for part in location:
        kind = _inner(kind, part)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def _inner(kind: Any, part: Any) -> Any:
    if is_dataclass(kind):
        kind = get_type_hints(kind).get(part)
        members = [member for member in get_args(kind) if member is not type(None)]
        return members[0] if len(members) == 1 and type(None) in get_args(kind) else kind
    arguments = [member for member in get_args(kind) if member is not Ellipsis]
    return arguments[-1] if arguments else None


def schema(kind: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of a dataclass, for editors."""
    return adapter(kind).json_schema()


#: Validators by type; building the one of a model spec takes 80 ms.
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """Return the validator of a dataclass, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
