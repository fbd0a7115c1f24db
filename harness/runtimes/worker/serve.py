"""A worker's loop: one request, one reply, until the harness closes the stream."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from .wire import Channel, WireClosed

#: Takes the request and its buffers, returns the reply and its buffers.
Handler = Callable[[dict[str, Any], "list[memoryview]"], "tuple[dict[str, Any], list[Any]]"]

#: A converter's traceback can run to tens of thousands of lines; its end names the cause.
TRACEBACK_CHARACTERS = 4000
MESSAGE_CHARACTERS = 8000


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
        except Exception as error:
            reply, reply_buffers = {"error": describe(error)}, []
        try:
            channel.send(reply, reply_buffers)
        except WireClosed:
            return


def describe(error: Exception) -> dict[str, str]:
    """Return an exception as plain strings, cut where libraries print without end."""
    frames = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        "code": error.code if isinstance(error, Refused) else "",
        "type": type(error).__name__,
        "message": str(error)[:MESSAGE_CHARACTERS],
        "traceback": frames[-TRACEBACK_CHARACTERS:],
    }
