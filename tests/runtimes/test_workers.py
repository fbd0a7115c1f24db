"""Workers: answers, refusals, and the story of every way to end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import RunFailed, WorkerDied
from harness.runtimes.workers import Worker, cause_of, shortened, signal_name
from tests.runtimes.conftest import Make
from tests.runtimes.processes import left_over


@pytest.fixture
def worker(make_worker: Make) -> Iterator[Worker]:
    """Yield a worker and close it; scope function, once forked and once spawned."""
    made = make_worker()
    yield made
    made.close()


def ask(worker: Worker, op: str, limit_s: float = 60, **fields: object) -> object:
    """Send a request whose purpose is to go wrong."""
    return worker.request(op, fields, [], limit_s=limit_s, doing="testing")


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_answer_with_buffers(worker: Worker) -> None:
    """Fields and buffers come back as they went."""
    buffers = [b"small", bytes(2**20)]
    reply, data = worker.request(
        "answer", {"value": {"a": [1, None]}}, buffers, limit_s=60, doing="testing"
    )
    assert reply["got"] == {"a": [1, None]}
    assert [bytes(buffer) for buffer in data] == buffers


def test_environment_is_set_before_imports(worker: Worker) -> None:
    """Telemetry is off whatever the caller's environment says, and hashes are not random."""
    reply, _ = worker.request("answer", {"value": 0}, [], limit_s=60, doing="testing")
    wanted = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    assert {name: reply["environment"][name] for name in wanted} == wanted


def test_refusal_leaves_it_alive(worker: Worker) -> None:
    """An exception in a handler is told with its cause, and the next request is answered."""
    with pytest.raises(RunFailed) as caught:
        ask(worker, "raise", message="first line\nsecond line")
    assert str(caught.value) == (
        "ValueError while testing: first line\n"
        "  got:      because of KeyError: 'the cause'\n"
        "            first line\n"
        "            second line"
    )
    assert caught.value.code == "run.failed"
    assert worker.alive
    ask(worker, "answer", value=1)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGSEGV, "SIGSEGV (11)"),
        (signal.SIGABRT, "SIGABRT (6)"),
        (signal.SIGKILL, "SIGKILL (9)"),
        (signal.SIGBUS, "SIGBUS (7)"),
        (signal.SIGTERM, "SIGTERM (15)"),
    ],
)
def test_signal_is_named(worker: Worker, number: int, name: str) -> None:
    """A worker that is ended by a signal tells which one, and what it was doing."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "signal", number=number)
    assert caught.value.what == f"Worker was ended by {name} while testing"
    assert caught.value.code == "worker.signal"
    assert not worker.alive


def test_kill_hints_at_memory(worker: Worker) -> None:
    """SIGKILL comes most often from the out-of-memory killer, so the message says that."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "signal", number=signal.SIGKILL)
    assert caught.value.next_step == (
        "most often the kernel's out-of-memory killer: see `dmesg`, or use a smaller case"
    )


def test_exit_code_and_log(worker: Worker) -> None:
    """A worker that exits tells its code and the last lines of its standard streams."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "say", text="\n".join(f"line {n}" for n in range(40)))
    lines = [*(f"line {n}" for n in range(29, 40)), "native error line"]
    assert caught.value.what == "Worker ended with exit code 1 while testing"
    assert (caught.value.code, caught.value.got) == ("worker.exit", "\n".join(lines))


def test_log_without_colours_and_long_lines(worker: Worker) -> None:
    """What a terminal would show in colour, or not at all, does not reach the report."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "say", text="\x1b[31mred\x1b[0m\n\n" + "x" * 10_000)
    x = "x" * 150
    assert caught.value.got == f"red\n{x} ... {x}\nnative error line"


def test_silent_end(worker: Worker) -> None:
    """A worker that leaves without a word says so."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "exit", code=7)
    assert caught.value.what == "Worker ended with exit code 7 while testing"
    assert caught.value.got == "nothing on its log"


def test_hanging_worker_is_killed(worker: Worker) -> None:
    """A worker that is stuck in native code is killed at its limit, and gone afterwards."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "hang", limit_s=0.2)
    assert caught.value.what == "Worker was killed while testing: no answer within 0.2 s"
    assert caught.value.code == "worker.timeout"
    assert left_over({worker.pid}) == set()


def test_broken_protocol(worker: Worker) -> None:
    """A worker that writes into the stream is ended: nothing it says is believed."""
    with pytest.raises(WorkerDied) as caught:
        ask(worker, "babble")
    start = "Worker broke the protocol while testing: not a frame: b'this"
    assert caught.value.what.startswith(start)
    assert caught.value.code == "worker.protocol"
    assert left_over({worker.pid}) == set()


def test_interrupt_kills_the_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the stream is in the middle of a frame, so the worker is of no more use."""

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker._channel, "receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(worker, "hang")
    assert not worker.alive
    assert left_over({worker.pid}) == set()


def test_process_that_has_ended_is_not_killed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may belong to another process by now."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    with pytest.raises(WorkerDied):
        ask(worker, "exit", code=7)
    assert killed == []


def test_closing_ends_it(worker: Worker) -> None:
    """An idle worker leaves when its stream closes; closing twice does no harm."""
    worker.close()
    worker.close()
    assert left_over({worker.pid}) == set()
    assert worker.log_tail() == ""


@pytest.mark.parametrize("end", ["close", "kill"])
def test_what_it_started_ends_with_it(worker: Worker, end: str) -> None:
    """A process that a reference or a library started does not outlive the worker."""
    reply, _ = worker.request("child", {}, [], limit_s=60, doing="testing")
    getattr(worker, end)()
    assert left_over({worker.pid, reply["pid"]}) == set()


def test_nothing_stays_open(make_worker: Make) -> None:
    """Workers that answer, refuse, hang and die leave no descriptor in this process."""
    make_worker().close()
    before = open_descriptors()
    for op, fields in (("raise", {"message": "no"}), ("exit", {"code": 1}), ("babble", {})):
        worker = make_worker()
        with pytest.raises((RunFailed, WorkerDied)):
            ask(worker, op, **fields)
        worker.close()
    assert open_descriptors() == before


def test_signal_without_a_name() -> None:
    """Real-time signals have numbers only."""
    assert signal_name(40) == "signal 40"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("plain", "plain"),
        ("", ""),
        ("\n\n  second \nthird", "second"),
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from a b.onnx failed:no kernel", "no kernel"),
        (
            "/src/core/model.cc:256 ns::Model::Model(const A<B()>&, int) Unsupported model: 99",
            "Unsupported model: 99",
        ),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : utils.cc:20 Resolve sizes (24, 8)",
            "sizes (24, 8)",
        ),
    ],
)
def test_cause_of_a_message(message: str, cause: str) -> None:
    """What ONNX Runtime puts before the cause is left out; everything else stays."""
    assert cause_of(message) == cause


def test_long_text_is_shortened_in_the_middle() -> None:
    """The first and the last lines stay, and the text says how many were left out."""
    lines = shortened("\n".join(map(str, range(100)))).splitlines()
    assert lines == [*map(str, range(12)), "... 76 more lines ...", *map(str, range(88, 100))]
    assert shortened("a\n\nb") == "a\nb"


def test_status_that_is_no_json(worker: Worker) -> None:
    """How a worker ended is unknown if its server could not tell."""
    os.close(worker._status_fd)
    worker._status_fd, write_fd = os.pipe()
    os.write(write_fd, json.dumps({"else": 1}).encode())
    os.close(write_fd)
    with pytest.raises(WorkerDied, match="Worker ended with exit code None while testing"):
        ask(worker, "exit", code=7)
