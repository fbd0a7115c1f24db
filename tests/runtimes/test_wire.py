"""Frames: what is sent arrives, and whatever is no frame is refused without harm."""

from __future__ import annotations

import array
import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.runtimes.worker import wire
from harness.runtimes.worker.wire import Channel, WireClosed, WireCorrupt, WireTimeout

Ends = tuple[Channel, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Yield a channel and the bare socket at its other end; scope function."""
    ours, theirs = socket.socketpair()
    yield Channel(ours), theirs
    ours.close()
    theirs.close()


def frame(
    header: bytes, payload: bytes = b"", *, magic: bytes = wire.MAGIC, in_memfd: bool = False,
    header_size: int | None = None, payload_size: int | None = None,
) -> bytes:  # fmt: skip
    """Return the bytes of a frame, honest unless told otherwise."""
    sizes = (
        len(header) if header_size is None else header_size,
        len(payload) if payload_size is None else payload_size,
    )
    return wire.PREAMBLE.pack(magic, *sizes, in_memfd) + header + payload


def memfd(content: bytes, *, sealed: bool) -> int:
    """Return a memory file with this content."""
    import fcntl

    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    return fd


def send_with_fd(sock: socket.socket, data: bytes, fd: int) -> None:
    """Send bytes with a descriptor, then close ours."""
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)


@pytest.mark.parametrize(
    "size", [0, 1, 63, 64, 65, wire.INLINE_LIMIT, wire.INLINE_LIMIT + 1, 2**22]
)
def test_frames_arrive(ends: Ends, size: int) -> None:
    """Header and buffers arrive as they were sent, small ones inline, large ones in a memfd."""
    buffers = [np.arange(size, dtype=np.uint8).tobytes(), b"", b"tail"]
    sender = Channel(ends[1])
    sending = threading.Thread(target=sender.send, args=({"op": "run", "n": [1, None]}, buffers))
    sending.start()
    header, received, fds = ends[0].receive(timeout_s=10)
    sending.join()
    assert header == {"op": "run", "n": [1, None]}
    assert [bytes(buffer) for buffer in received] == [bytes(buffer) for buffer in buffers]
    assert fds == []


@pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")
def test_a_payload_that_the_kernel_holds_is_sealed_later(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so while it moves the pages; any other refusal is told, and leaves nothing open."""
    import fcntl

    real, refusals = fcntl.fcntl, [errno.EBUSY, errno.EBUSY]

    def refusing(fd: int, command: int, *more: int) -> int:
        if command == fcntl.F_ADD_SEALS and refusals:
            raise OSError(refusals.pop(), "refused")
        return real(fd, command, *more)

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    large = [bytes(wire.INLINE_LIMIT + 1)]
    Channel(ends[1]).send({}, large)
    assert [bytes(each) for each in ends[0].receive(timeout_s=10)[1]] == large
    assert refusals == []
    refusals.append(errno.EPERM)
    opened = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(PermissionError):
        Channel(ends[1]).send({}, large)
    assert len([*Path("/proc/self/fd").iterdir()]) == opened


def test_buffers_are_aligned(ends: Ends) -> None:
    """Every buffer starts at a multiple of 64 bytes of the payload."""
    Channel(ends[1]).send({}, [bytes(3), bytes(5), bytes(64)])
    starts = [offset for offset, _ in wire._layout([memoryview(bytes(n)) for n in (3, 5, 64)])[0]]
    _, received, _ = ends[0].receive(timeout_s=10)
    assert starts == [0, 64, 128]
    assert [buffer.nbytes for buffer in received] == [3, 5, 64]


def test_large_payload_cannot_be_written_by_its_reader(ends: Ends) -> None:
    """The memfd is mapped read-only, so that an array over it is too."""
    sender = threading.Thread(target=Channel(ends[1]).send, args=({}, [bytes(2**20)]))
    sender.start()
    _, (buffer,), _ = ends[0].receive(timeout_s=10)
    sender.join()
    assert buffer.readonly


def test_descriptors_are_handed_over(ends: Ends) -> None:
    """A descriptor that travels beside a frame opens the same file; the sender keeps its own."""
    read_fd, write_fd = os.pipe()
    Channel(ends[1]).send({"take": True}, fds=[write_fd])
    os.write(write_fd, b"ours ")
    os.close(write_fd)
    _, _, (received,) = ends[0].receive(timeout_s=10)
    os.write(received, b"theirs")
    os.close(received)
    assert os.read(read_fd, 100) == b"ours theirs"
    os.close(read_fd)


HOSTILE = {
    "wrong magic": (frame(b"{}", magic=b"HTTP"), "not a frame: b'HTTP"),
    "header too large": (frame(b"", header_size=wire.HEADER_LIMIT + 1), "not a frame: b'OXH1"),
    "payload too large": (frame(b"{}", payload_size=2**60), "not a frame: b'OXH1"),
    "header not JSON": (frame(b"{"), "the header is not JSON: "),
    "header not UTF-8": (frame(b'{"\xff": 1}'), "the header is not JSON: "),
    "header nested": (frame(b"[" * 100_000), "the header is not JSON: "),
    "header a list": (frame(b"[1]"), "the header is not a JSON object"),
    "buffers a number": (frame(b'{"buffers": 3}'), "the header's list of buffers is malformed"),
    "buffers of words": (
        frame(b'{"buffers": [["a", "b"]]}'),
        "the header's list of buffers is malformed",
    ),
    "buffers of floats": (
        frame(b'{"buffers": [[0.0, 1.0]]}', b"ab"),
        "the header's list of buffers is malformed",
    ),
    "buffer outside": (
        frame(b'{"buffers": [[0, 3]]}', b"ab"),
        "a buffer lies outside the payload: 0 + 3",
    ),
    "buffer before": (
        frame(b'{"buffers": [[-1, 1]]}', b"ab"),
        "a buffer lies outside the payload: -1 + 1",
    ),
    "buffer of negative size": (
        frame(b'{"buffers": [[2, -1]]}', b"ab"),
        "a buffer lies outside the payload: 2 + -1",
    ),
    "memfd without descriptor": (
        frame(b"{}", payload_size=100, in_memfd=True),
        "a payload was announced in a descriptor that did not come",
    ),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=[name.replace(" ", "-") for name in HOSTILE])
def test_what_is_no_frame_is_refused(ends: Ends, case: tuple[bytes, str]) -> None:
    """Bytes that break the protocol end in WireCorrupt, without reading or reserving more."""
    data, message = case
    ends[1].sendall(data)
    with pytest.raises(WireCorrupt) as caught:
        ends[0].receive(timeout_s=10)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("sealed", "announced"), [(False, 5), (True, 6), (True, 0), (True, 2**62)],
    ids=["unsealed", "too-small", "nothing", "endless"],
)  # fmt: skip
def test_memfd_that_could_harm_is_refused(ends: Ends, sealed: bool, announced: int) -> None:  # noqa: FBT001
    """A payload whose memory the peer could shrink, or that is smaller than said, is refused."""
    data = frame(b"{}", payload_size=announced, in_memfd=True)
    send_with_fd(ends[1], data, memfd(b"12345", sealed=sealed))
    with pytest.raises(WireCorrupt, match="the payload's memory is not sealed or too small"):
        ends[0].receive(timeout_s=10)


def test_pipe_instead_of_memfd_is_refused(ends: Ends) -> None:
    """A descriptor that is no memory file cannot be mapped."""
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    send_with_fd(ends[1], frame(b"{}", payload_size=5, in_memfd=True), read_fd)
    with pytest.raises(WireCorrupt, match="the payload's descriptor cannot be mapped"):
        ends[0].receive(timeout_s=10)


@pytest.mark.parametrize("kept", [1, wire.PREAMBLE.size, wire.PREAMBLE.size + 3, -1])
def test_end_inside_a_frame(ends: Ends, kept: int) -> None:
    """A peer that dies in the middle of a frame is gone, whatever had arrived."""
    ends[1].sendall(frame(b'{"op": "run"}', b"payload")[:kept])
    ends[1].close()
    with pytest.raises(WireClosed, match="end of stream"):
        ends[0].receive(timeout_s=10)


def test_end_between_frames(ends: Ends) -> None:
    """A peer that closed its end is gone for reader and writer."""
    ends[1].close()
    with pytest.raises(WireClosed):
        ends[0].receive(timeout_s=10)
    with pytest.raises(WireClosed):
        ends[0].send({"op": "run"}, [bytes(1000)])


@pytest.mark.parametrize("sent", [b"", frame(b'{"op": "run"}')[:5], frame(b"{}", b"1234")[:-1]])
def test_frame_that_does_not_come_in_time(ends: Ends, sent: bytes) -> None:
    """The limit holds for the whole frame, not for each piece of it."""
    ends[1].sendall(sent)
    with pytest.raises(WireTimeout):
        ends[0].receive(timeout_s=0.05)


def test_frame_that_comes_in_drops(ends: Ends) -> None:
    """A peer that sends a byte now and then cannot stretch the limit."""
    data = frame(b'{"op": "run"}' + b" " * 1000)
    stop = threading.Event()

    def drip() -> None:
        for byte in data:
            if stop.wait(0.01):
                return
            ends[1].sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    with pytest.raises(WireTimeout):
        ends[0].receive(timeout_s=0.1)
    stop.set()
    dripping.join()


def test_reader_that_takes_nothing(ends: Ends) -> None:
    """Sending to a peer that reads nothing ends with the limit."""

    def send_all() -> None:
        for _ in range(100):
            ends[0].send({}, [bytes(wire.INLINE_LIMIT)], timeout_s=0.05)

    with pytest.raises(WireTimeout):
        send_all()
