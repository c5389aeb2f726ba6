"""SIGTERM and SIGINT: the first one asks for a clean end, the second one ends the process at once.

The one thing to know: at once is not without a word. What was started and would stay behind - workers, the embedded
PostgreSQL - is stopped first, by `at_once`, which must be quick whatever state everything is in. Both signals are
listened to until the loop ends, since closing takes seconds too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()

EXIT_AT_ONCE = 1


class Signals:
    """What a signal does now: until something is there to be stopped, it cancels the task that builds it."""

    def __init__(self, at_once: Callable[[], None]) -> None:
        task = asyncio.current_task()
        self._ask: Callable[[], object] = _nothing if task is None else task.cancel
        self._at_once = at_once
        self._is_asked = False

    def ask(self) -> None:
        """Asks for a clean end; again means nothing."""
        if not self._is_asked:
            self._is_asked = True
            log.info("daemon.stopping")
            self._ask()

    def receive(self) -> None:
        """A signal came."""
        if self._is_asked:
            log.warning("daemon.killed")
            try:
                self._at_once()
            finally:
                os._exit(EXIT_AT_ONCE)
        self.ask()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Within the block the first signal calls `stop`; behind it all is being closed already."""
        self._ask = stop
        try:
            yield
        finally:
            self._ask = _nothing


@contextmanager
def listening(at_once: Callable[[], None], *, is_patient: bool = False) -> Iterator[Signals]:
    """Signals of this loop. Who `is_patient` may be asked as often as you like, and is killed by whoever started it."""
    loop = asyncio.get_running_loop()
    signals = Signals(at_once)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.ask if is_patient else signals.receive)
    try:
        yield signals
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError):  # the loop is closing
                loop.remove_signal_handler(number)


def _nothing() -> None:
    """There is nothing left to ask for."""
