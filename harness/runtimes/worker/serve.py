"""A worker's loop: one request, one reply, until the harness closes the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .wire import Channel, WireClosed

#: Takes the request and its buffers, returns the reply and its buffers.
Handler = Callable[[dict[str, Any], "list[memoryview]"], "tuple[dict[str, Any], list[Any]]"]

#: A converter's message can run to tens of thousands of lines.
MESSAGE_CHARACTERS = 8000
CAUSE_CHARACTERS = 500
CAUSES = 5


class Refused(Exception):
    """A request that this worker cannot fulfil; `code` is a stable finding code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def serve(channel: Channel, handlers: dict[str, Handler]) -> None:
    """Answer requests; an exception of a handler becomes an error reply, not an end."""
    while True:
        try:
            request, buffers, _ = channel.receive()
        except WireClosed:
            return
        try:
            reply, reply_buffers = handlers[request["op"]](request, buffers)
        except Exception as error:  # a model may make the library raise anything
            reply, reply_buffers = {"error": describe(error)}, []
        try:
            channel.send(reply, reply_buffers)
        except WireClosed:
            return


def describe(error: Exception) -> dict[str, str]:
    """Return an exception as plain strings, cut where libraries print without end."""
    return {
        "code": error.code if isinstance(error, Refused) else "",
        "type": type(error).__name__,
        "message": str(error)[:MESSAGE_CHARACTERS],
        "notes": "\n".join(getattr(error, "__notes__", [])),
        "causes": "\n".join(_causes(error)),
    }


def _causes(error: BaseException) -> list[str]:
    """Return the exceptions behind `error`, the nearest first."""
    found: list[str] = []
    behind = error.__cause__ or error.__context__
    while behind is not None and len(found) < CAUSES:
        found.append(f"{type(behind).__name__}: {behind}"[:CAUSE_CHARACTERS])
        behind = behind.__cause__ or behind.__context__
    return found
