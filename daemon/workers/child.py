"""A worker: the whole daemon behind listeners that it shares, for as long as its parent wants it to."""

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


async def run(orders: WorkerOrders, *, lifeline: int) -> int:
    """Runs until the parent says so on `lifeline`, or is gone."""
    with (
        signals.listening(embedded.stop_at_once, is_patient=True) as received,
        _held(lifeline, received),
    ):
        await app.run(orders.config, ready=_tell, signals=received, worker=orders.number, listeners=orders.listeners())
    return 0


@contextmanager
def _held(lifeline: int, received: Signals) -> Iterator[None]:
    """Asks for the end when `stop` comes, or nothing more can come. Orphans tidy up for their parent."""
    loop = asyncio.get_running_loop()
    is_orphan = False

    def on_word() -> None:
        nonlocal is_orphan
        loop.remove_reader(lifeline)
        if not os.read(lifeline, 64):
            is_orphan = True
            log.warning("worker.orphaned")
        received.ask()

    loop.add_reader(lifeline, on_word)
    try:
        yield
    finally:
        loop.remove_reader(lifeline)
        if is_orphan:
            metrics.remove_shared()


def _tell(_running: Running) -> None:
    with contextlib.suppress(OSError):  # the parent is gone: the lifeline tells
        os.write(STANDARD_OUTPUT, READY)
