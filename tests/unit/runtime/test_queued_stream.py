"""The queue before an output stream: writing never waits, and what is missing is counted and told."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.runtime.queued_stream import QUEUE_IS_FULL, QueuedStream
from tests.support.processes.pipes import full_pipe

SECONDS = 10.0


def told(lines: int, cause: str) -> str:
    return f"missing {lines}: {cause}\n"


def stream(descriptor: int, *, max_lines: int = 100, max_bytes: int = 10_000) -> QueuedStream:
    made = QueuedStream(descriptor, max_lines=max_lines, max_bytes=max_bytes)
    made.notice = told
    return made


def take(reading: int, count: int) -> list[str]:
    """Reads `count` whole lines, after what filled the pipe."""
    text = b""
    while text.count(b"\n") < count:
        text += os.read(reading, 65536)
    return text.lstrip(b"x").decode().splitlines()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def small_file(path: Path, limit_bytes: int) -> Iterator[int]:
    """A file that takes no more than so many bytes, as on a disk that is full, until the end of the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield descriptor
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_arrive_whole_and_in_order() -> None:
    with pipe() as (reading, writing):
        it = stream(writing)
        lines = [f"line {n} ä \ud800" for n in range(50)]
        for line in lines:
            it.write(line + "\n")
        assert take(reading, 50) == [line.replace("\ud800", "\\ud800") for line in lines]
        assert it.drain(SECONDS)
    assert it.take_dropped() == 0


def test_a_full_queue_drops_lines_counts_them_and_says_so_when_somebody_reads() -> None:
    with full_pipe() as (reading, writing):
        it = stream(writing, max_lines=10)
        for n in range(30):
            it.write(f"line {n}\n")
        dropped = it.take_dropped()
        assert dropped in (19, 20), "one line at most is in the thread's hands"
        lines = take(reading, 30 - dropped + 1)
        assert f"missing {dropped}: {QUEUE_IS_FULL}" in lines
        assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(30 - dropped)]
        assert it.take_dropped() == 0


def test_bytes_fill_the_queue_too() -> None:
    with full_pipe() as (_reading, writing):
        it = stream(writing, max_bytes=1000)
        for _ in range(5):
            it.write("x" * 400 + "\n")
        assert it.take_dropped() in (2, 3)


def test_the_end_does_not_wait_for_a_reader_that_never_comes() -> None:
    with full_pipe() as (_reading, writing):
        it = stream(writing)
        it.write("line\n")
        assert not it.drain(0.05)


def test_a_closed_stream_costs_the_lines() -> None:
    it = stream(-1)
    it.write("one\n")
    it.write("two\n")
    assert it.drain(SECONDS)
    assert it.take_dropped() == 2


def test_a_reader_that_left_costs_the_lines() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    it = stream(writing)
    it.write("one\n")
    assert it.drain(SECONDS)
    assert it.take_dropped() == 1
    os.close(writing)


def test_a_disk_with_room_again_gets_a_line_that_says_what_is_missing(tmp_path: Path) -> None:
    """The line that was torn stays torn, and the next one begins on a line of its own."""
    with small_file(tmp_path / "log", 25) as descriptor:
        it = stream(descriptor)
        for line in ("first line\n", "second line that does not fit\n", "third\n"):
            it.write(line)
            assert it.drain(SECONDS)
        assert it.take_dropped() == 2
    it.write("fourth\n")
    assert it.drain(SECONDS)
    assert (tmp_path / "log").read_text().splitlines() == [
        "first line",
        "second line th",
        "missing 2: File too large",
        "fourth",
    ]
    os.close(descriptor)


def test_what_is_missing_is_told_even_if_nothing_more_is_logged(tmp_path: Path) -> None:
    with small_file(tmp_path / "log", 3) as descriptor:
        it = stream(descriptor)
        it.write("line\n")
        assert it.drain(SECONDS)
    is_told = threading.Event()

    def notice(lines: int, cause: str) -> str:
        is_told.set()
        return told(lines, cause)

    it.notice = notice
    assert is_told.wait(SECONDS)
    assert it.drain(SECONDS)
    os.close(descriptor)


def test_a_stream_that_somebody_made_non_blocking_still_gets_every_line() -> None:
    with full_pipe() as (reading, writing):
        os.set_blocking(writing, False)
        it = stream(writing)
        for n in range(20):
            it.write(f"line {n}\n")
        assert take(reading, 20) == [f"line {n}" for n in range(20)]
        assert it.take_dropped() == 0


def test_an_interpreter_ends_although_nobody_reads_its_output() -> None:
    program = (
        "import sys; from daemon.runtime import queued_stream as q; q.install();"
        "print('x'); print('y', file=sys.stderr); q.drain(0.1)"
    )
    with full_pipe() as (_reading, writing):
        ended = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=writing, timeout=30, check=False)
    assert ended.returncode == 0
