"""A worker: the whole daemon, on listeners that it shares with other workers, until its parent asks it to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from daemon import app, metrics, signals
from daemon.app import Running
from daemon.signals import Signals
from daemon.workers.orders import READY, WorkerOrders
from eventstore import embedded

log = structlog.get_logger()

STANDARD_OUTPUT = 1


async def run(orders: WorkerOrders, *, control_pipe: int) -> int:
    """Runs until the parent asks for the end on `control_pipe`, or dies. Returns the exit code."""
    with (
        signals.listening(embedded.stop_at_once, ignores_repeats=True) as received,
        _watching(control_pipe, received),
    ):
        await app.run(
            orders.config,
            ready=_report_ready,
            signals=received,
            worker=orders.number,
            listeners=orders.listeners(),
        )
    return 0


@contextmanager
def _watching(control_pipe: int, received: Signals) -> Iterator[None]:
    """Asks for a clean end when `stop` is read, or when the pipe ends. An orphan removes the shared metrics files."""
    loop = asyncio.get_running_loop()
    is_orphan = False

    def on_readable() -> None:
        nonlocal is_orphan
        loop.remove_reader(control_pipe)
        if not os.read(control_pipe, 64):
            is_orphan = True
            log.warning("worker.orphaned")
        received.request_stop()

    loop.add_reader(control_pipe, on_readable)
    try:
        yield
    finally:
        loop.remove_reader(control_pipe)
        if is_orphan:
            metrics.remove_directory()


def _report_ready(_running: Running) -> None:
    with contextlib.suppress(OSError):  # the parent is gone: the control pipe ends, too
        os.write(STANDARD_OUTPUT, READY)
