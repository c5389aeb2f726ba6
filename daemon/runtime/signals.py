"""SIGTERM and SIGINT: the first signal requests a graceful stop, the second one ends the process at once. SIGHUP is a
matter of `reloads`.

The one thing to know: before the process ends at once, `kill_children` stops the child processes that would stay
behind (workers, the embedded PostgreSQL). It must be quick in any state. Both signals are handled until the loop ends,
since closing takes seconds too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from daemon.runtime import queued_stream, service_manager

log = structlog.get_logger()

EXIT_KILLED = 1
# At once is at once: the last lines of the log get this time and no more.
LAST_LINES_SECONDS = 0.25


class Ending:
    """How a task that runs the daemon is asked for its end: that cancels it, until it serves and says what to call.

    `stop` is for the end of the process, `retire` for that of one whose successor in this process is ready.
    """

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._stop: Callable[[], object] = task.cancel
        self._retire: Callable[[], object] = task.cancel

    def stop(self) -> None:
        self._stop()

    def retire(self) -> None:
        self._retire()

    @contextmanager
    def serving(self, *, stop: Callable[[], None], retire: Callable[[], None]) -> Iterator[None]:
        """Within the block the task is not cancelled any more. After it everything is closing already."""
        self._stop, self._retire = stop, retire
        try:
            yield
        finally:
            self._stop = self._retire = _nothing


class Signals:
    """What a stop does: it cancels the task that created this object, or within `stopping` calls `stop` instead."""

    def __init__(self, kill_children: Callable[[], None]) -> None:
        task = asyncio.current_task()
        self._stop: Callable[[], object] = _nothing if task is None else task.cancel
        self._kill_children = kill_children
        self._is_stop_requested = False

    @property
    def is_stop_requested(self) -> bool:
        return self._is_stop_requested

    def request_stop(self) -> None:
        """Requests a graceful stop; only the first call has an effect."""
        if not self._is_stop_requested:
            self._is_stop_requested = True
            log.info("daemon.stopping")
            service_manager.tell(service_manager.STOPPING)
            self._stop()

    def receive(self) -> None:
        """Handles a signal: the first requests a stop, the second ends the process."""
        if self._is_stop_requested:
            log.warning("daemon.killed")
            try:
                self._kill_children()
            finally:
                queued_stream.drain(LAST_LINES_SECONDS)
                os._exit(EXIT_KILLED)
        self.request_stop()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Within the block a stop calls `stop`. After it everything is closing already, and a stop has no action."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = _nothing


@contextmanager
def listening(kill_children: Callable[[], None], *, ignores_repeats: bool = False) -> Iterator[Signals]:
    """Handles the signals of this loop within the block.

    With `ignores_repeats` a second signal has no effect. Workers use it, because their parent kills them if need be.
    """
    loop = asyncio.get_running_loop()
    signals = Signals(kill_children)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.request_stop if ignores_repeats else signals.receive)
    try:
        yield signals
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError):  # the loop is closing
                loop.remove_signal_handler(number)


def _nothing() -> None:
    """The action of a stop when everything is closing."""
