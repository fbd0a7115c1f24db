"""Frames between the harness and a worker: a JSON header, raw buffers, file descriptors.

A frame is a preamble, a UTF-8 JSON header and a payload. Buffers lie in the payload one after
the other, each at a multiple of 64 bytes; their offsets and sizes stand in the header. Small
payloads travel in the stream, large ones in a sealed memfd whose descriptor travels beside it,
so that the reader can map it without a copy and without fear that it shrinks. Nothing is
pickled: whatever arrives is at worst wrong numbers.
"""

from __future__ import annotations

import array
import errno
import json
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

#: Magic, header bytes, payload bytes, whether the payload is in the first descriptor.
PREAMBLE = struct.Struct("<4sIQB")
MAGIC = b"OXH1"
ALIGNMENT = 64
#: Above this a payload travels in a memfd (measured: below it, the stream is as fast).
INLINE_LIMIT = 1 << 18
#: No honest header comes near this; a larger one means a confused or hostile peer.
HEADER_LIMIT = 1 << 26
MAX_FDS = 8
#: How long pages of a payload may be held by somebody else, and the pause between two attempts.
SEAL_S, SEAL_PAUSE_S = 10.0, 0.01

_HAS_MEMFD = sys.platform == "linux" and hasattr(os, "memfd_create")

Frame = tuple[dict[str, Any], "list[memoryview]", "list[int]"]


class WireClosed(Exception):
    """The peer closed its end, or was killed."""


class WireTimeout(Exception):
    """No complete frame arrived in time."""


class WireCorrupt(Exception):
    """What arrived is not a frame of this protocol."""


class Channel:
    """One end of a stream socket that carries frames."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor of the socket, for selectors."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end; the peer sees the end of the stream."""
        self._sock.close()

    def is_closed(self) -> bool:
        """Return whether the peer is gone and has left nothing to read."""
        self._sock.settimeout(0)
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(
        self,
        header: dict[str, Any],
        buffers: Sequence[Any] = (),
        *,
        fds: Sequence[int] = (),
        timeout_s: float | None = None,
    ) -> None:
        """Send one frame.

        Args:
            header: JSON values only; the key "buffers" is reserved.
            buffers: Contiguous objects with the buffer protocol.
            fds: Descriptors to hand over; they stay open on this side.
            timeout_s: Seconds without progress after which to give up.

        Raises:
            WireClosed: If the peer is gone.
            WireTimeout: If the peer takes nothing for `timeout_s` seconds.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        offsets, size = _layout(views)
        text = json.dumps({**header, "buffers": offsets}).encode()
        in_memfd = _HAS_MEMFD and size > INLINE_LIMIT
        payload = _memfd(views, offsets) if in_memfd else -1
        try:
            handed_over = [payload, *fds] if in_memfd else list(fds)
            self._sock.settimeout(timeout_s)
            self._send_start(PREAMBLE.pack(MAGIC, len(text), size, in_memfd) + text, handed_over)
            if not in_memfd:
                self._send_payload(views, offsets, size)
        except TimeoutError:
            raise WireTimeout from None
        except OSError as error:
            raise WireClosed(str(error)) from None
        finally:
            if payload >= 0:
                os.close(payload)

    def _send_start(self, start: bytes, fds: list[int]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self._sock.sendmsg([start], ancillary)
        if sent < len(start):
            self._sock.sendall(start[sent:])

    def _send_payload(
        self, views: list[memoryview], offsets: list[tuple[int, int]], size: int
    ) -> None:
        position = 0
        for view, (offset, nbytes) in zip(views, offsets):
            self._sock.sendall(bytes(offset - position))
            self._sock.sendall(view)
            position = offset + nbytes
        self._sock.sendall(bytes(size - position))

    def receive(self, timeout_s: float | None = None) -> Frame:
        """Return the next frame: header, buffers, descriptors that came along.

        Args:
            timeout_s: Seconds until the whole frame must be here; None waits for ever.

        Raises:
            WireClosed: If the stream ended.
            WireTimeout: If the frame was not complete in time.
            WireCorrupt: If the bytes are not a frame.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            preamble, fds = self._receive_start(deadline)
            magic, header_size, payload_size, in_memfd = PREAMBLE.unpack(preamble)
            too_large = _HAS_MEMFD and not in_memfd and payload_size > INLINE_LIMIT
            if magic != MAGIC or header_size > HEADER_LIMIT or too_large:
                raise WireCorrupt(f"not a frame: {preamble!r}")
            header = _parse(self._receive_exactly(header_size, deadline))
            if in_memfd:
                payload = _map_memfd(fds, payload_size)
            else:
                payload = memoryview(self._receive_exactly(payload_size, deadline))
        except TimeoutError:
            raise WireTimeout from None
        except (ConnectionError, BrokenPipeError) as error:
            raise WireClosed(str(error)) from None
        return header, _cut(payload, header.pop("buffers", [])), fds

    def _receive_start(self, deadline: float | None) -> tuple[bytes, list[int]]:
        self._limit(deadline)
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        start, ancillary, _, _ = self._sock.recvmsg(PREAMBLE.size, space)
        if not start:
            raise WireClosed("end of stream")
        fds: list[int] = []
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
                fds.extend(received)
        if len(start) < PREAMBLE.size:
            start += self._receive_exactly(PREAMBLE.size - len(start), deadline)
        return start, fds

    def _receive_exactly(self, size: int, deadline: float | None) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            self._limit(deadline)
            count = self._sock.recv_into(view)
            if count == 0:
                raise WireClosed("end of stream inside a frame")
            view = view[count:]
        return data

    def _limit(self, deadline: float | None) -> None:
        if deadline is None:
            self._sock.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)


def _layout(views: list[memoryview]) -> tuple[list[tuple[int, int]], int]:
    offsets, position = [], 0
    for view in views:
        position = -(-position // ALIGNMENT) * ALIGNMENT
        offsets.append((position, view.nbytes))
        position += view.nbytes
    return offsets, position


def _memfd(views: list[memoryview], offsets: list[tuple[int, int]]) -> int:
    fd = os.memfd_create("onnx-harness", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for view, (offset, nbytes) in zip(views, offsets):
            done = 0
            while done < nbytes:
                done += os.pwrite(fd, view[done:], offset + done)
        _seal(fd)
    except BaseException:  # Ctrl-C too must not leave it open
        os.close(fd)
        raise
    return fd


def _seal(fd: int) -> None:
    """Let nobody change a payload any more.

    The kernel refuses while somebody holds one of its pages, be it the kernel itself that moves
    memory about; it waits 150 ms for that, and we some times longer.
    """
    import fcntl

    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    until = time.monotonic() + SEAL_S
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        except OSError as error:  # noqa: PERF203 - each attempt may fail
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
            time.sleep(SEAL_PAUSE_S)
        else:
            return


def _map_memfd(fds: list[int], size: int) -> memoryview:
    """Map the payload; without seals a peer could shrink it under us (SIGBUS) or change it."""
    import fcntl

    if not fds:
        raise WireCorrupt("a payload was announced in a descriptor that did not come")
    fd = fds.pop(0)
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE
        if seals & wanted != wanted or not 0 < size <= os.fstat(fd).st_size:
            raise WireCorrupt("the payload's memory is not sealed or too small")
        return memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
    except OSError as error:
        raise WireCorrupt(f"the payload's descriptor cannot be mapped: {error}") from None
    finally:
        os.close(fd)


def _parse(text: bytearray) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireCorrupt(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise WireCorrupt("the header is not a JSON object")
    return header


def _cut(payload: memoryview, offsets: Any) -> list[memoryview]:
    buffers = []
    try:
        for offset, nbytes in offsets:
            if not 0 <= offset <= offset + nbytes <= len(payload):
                raise WireCorrupt(f"a buffer lies outside the payload: {offset} + {nbytes}")
            buffers.append(payload[offset : offset + nbytes])
    except (TypeError, ValueError):
        raise WireCorrupt("the header's list of buffers is malformed") from None
    return buffers
