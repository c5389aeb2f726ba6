"""An output stream that never blocks and never fails: lines go to a bounded queue, and a thread writes them.

A daemon writes its log and its one line on stdout through it. The stream may be a pipe that nobody reads, a file on a
full disk, or closed: that costs lines, and neither a request nor the process. The one thing to know: the thread writes
to the file descriptor itself, without Python's buffers. A thread that is stuck in a buffer would keep the interpreter
from ending, a thread that is stuck in a write does not.

What could not be written is counted (`take_dropped`), and told in a line of its own as soon as a line can be written
again.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate

# What waits while the stream is stuck. At fifty lines a second that is a few minutes.
MAX_LINES = 10_000
MAX_BYTES = 4 * 1024 * 1024
# Pipes take so much at once or not at all: workers that share a pipe do not write into each other's lines.
CHUNK_BYTES = select.PIPE_BUF
# A stream that failed is tried again with the next line, and after this time.
RETRY_SECONDS = 1.0
# How long the end of a process waits for the stream.
DRAIN_SECONDS = 1.0

QUEUE_IS_FULL = "nobody reads the stream"

_LINE_FEED = ord("\n")

# Makes the line that says how many lines are missing, and why.
Notice = Callable[[int, str], str]


class QueuedStream(io.TextIOBase):
    """A text stream in front of a file descriptor."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.notice: Notice = _plain_notice
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        # Its lock may be taken twice by one thread: the garbage collector may log while a line is queued.
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_writing = False
        self._is_torn = False
        self._uncounted = 0
        self._untold = 0
        self._cause = ""
        threading.Thread(target=self._run, name=f"output {descriptor}", daemon=True).start()

    def write(self, text: str) -> int:
        """Queues a text, or drops it if the queue is full."""
        written = text.encode(self.encoding, self.errors)
        if not written:
            return 0
        with self._changed:
            if len(self._queue) >= self._max_lines or self._queued_bytes + len(written) > self._max_bytes:
                self._drop(1, QUEUE_IS_FULL)
            else:
                self._queue.append(written)
                self._queued_bytes += len(written)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Does nothing: a writer never waits. `drain` is for the end of a process."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Waits until everything is written or dropped, but for `seconds` at most. True if so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._is_writing, seconds)

    def take_dropped(self) -> int:
        """How many lines were dropped since this was last asked."""
        with self._changed:
            dropped, self._uncounted = self._uncounted, 0
            return dropped

    def _drop(self, lines: int, cause: str) -> None:
        self._uncounted += lines
        self._untold += lines
        self._cause = cause

    def _run(self) -> None:
        while True:
            lines, untold, cause = self._next_lines()
            notice = [self.notice(untold, cause).encode(self.encoding, self.errors)] if untold else []
            written_bytes, failure = self._write_all(b"".join([*notice, *lines]))
            whole = sum(end <= written_bytes for end in accumulate(map(len, [*notice, *lines])))
            with self._changed:
                if notice and whole:
                    self._untold -= untold
                if failure:
                    self._drop(len(lines) - max(0, whole - len(notice)), failure)
                self._is_writing = False
                self._changed.notify_all()

    def _next_lines(self) -> tuple[list[bytes], int, str]:
        """Takes lines out of the queue, as many as may be written at once. With them: how many are missing, and why.

        It returns without lines if it is time to try again to tell what is missing.
        """
        with self._changed:
            while not self._queue:
                if not self._changed.wait(RETRY_SECONDS if self._untold else None) and self._untold:
                    break
            lines: list[bytes] = []
            size = 0
            while self._queue and (not lines or size + len(self._queue[0]) <= CHUNK_BYTES):
                size += len(self._queue[0])
                lines.append(self._queue.popleft())
            self._queued_bytes -= size
            self._is_writing = True
            return lines, self._untold, self._cause

    def _write_all(self, content: bytes) -> tuple[int, str]:
        """Writes for as long as that takes. Returns how many bytes were written, and the cause if not all."""
        rest = memoryview(content)
        try:
            while self._is_torn:  # what follows is a line of its own
                self._is_torn = not self._write_some(memoryview(b"\n"))
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            self._is_torn = self._is_torn or (len(rest) < len(content) and content[-len(rest) - 1] != _LINE_FEED)
            return len(content) - len(rest), error.strerror or str(error)
        return len(content), ""

    def _write_some(self, content: memoryview) -> int:
        try:
            return os.write(self._descriptor, content)
        except BlockingIOError:  # somebody who shares the stream has made it non-blocking
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll(RETRY_SECONDS * 1000)
            return 0


def occupy_closed_descriptors() -> None:
    """Gives standard streams that are closed a file that takes nothing, in this process and in those it starts.

    Else a connection to the database would get their numbers, and the log would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            lowest_free = os.open(os.devnull, os.O_RDONLY)
            os.set_inheritable(lowest_free, True)  # noqa: FBT003 - it has no keyword


def install() -> None:
    """Puts a queue before stdout and stderr of this process, whatever writes to them."""
    sys.stdout, sys.stderr = QueuedStream(1), QueuedStream(2)


def take_dropped() -> int:
    """How many lines of this process were dropped since this was last asked."""
    return sum(stream.take_dropped() for stream in _installed())


def drain(seconds: float = DRAIN_SECONDS) -> None:
    """Waits until all that was queued is written, but for `seconds` at most."""
    ends_at = time.monotonic() + seconds
    for stream in _installed():
        stream.drain(max(0.0, ends_at - time.monotonic()))


def _installed() -> Iterator[QueuedStream]:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, QueuedStream):
            yield stream


def _plain_notice(lines: int, cause: str) -> str:
    return f"{lines} lines are missing here: {cause}\n"
