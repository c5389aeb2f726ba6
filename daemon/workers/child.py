"""A worker: the whole daemon, on listeners that it shares with other workers, until its parent asks it to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from daemon.config import Config
from daemon.incarnations import Incarnations
from daemon.runtime import signals
from daemon.runtime.signals import Signals
from daemon.telemetry import metrics
from daemon.workers import orders, watchdog
from daemon.workers.orders import WorkerOrders
from eventstore import embedded

log = structlog.get_logger()

STANDARD_OUTPUT = 1


async def run(own: WorkerOrders, *, control_pipe: int, describe: Callable[[Exception], tuple[str, ...]]) -> int:
    """Runs until the parent asks for the end on `control_pipe`, or dies. Returns the exit code.

    `describe` says in sentences what kept another configuration from being applied.
    """
    incarnations = Incarnations(own.config, own.listeners(), worker=own.number)
    with (
        signals.listening(embedded.stop_at_once, ignores_repeats=True) as received,
        _obeying(control_pipe, received, incarnations, describe),
        _sending_pings(own.watchdog),
        received.stopping(incarnations.stop),
    ):
        await incarnations.run(lambda _running: _answer(orders.READY))
    return 0


@contextmanager
def _obeying(
    control_pipe: int,
    received: Signals,
    incarnations: Incarnations,
    describe: Callable[[Exception], tuple[str, ...]],
) -> Iterator[None]:
    """Does what is read: asks for a clean end, also when the pipe ends, or replaces the incarnation.

    An orphan lets go of the addresses at once, for the parent that is started in its place. It removes the shared
    metrics files.
    """
    loop = asyncio.get_running_loop()
    is_orphan = False
    ordered: asyncio.Queue[Config] = asyncio.Queue()

    def on_readable() -> None:
        nonlocal is_orphan
        try:
            config = orders.read_next(control_pipe)
        except EOFError:
            is_orphan = True
            log.warning("worker.orphaned")
            config = None
        if config is not None:
            ordered.put_nowait(config)
        else:
            loop.remove_reader(control_pipe)
            if is_orphan:
                incarnations.leave_addresses()
            received.request_stop()

    async def replace_each() -> None:
        while True:
            config = await ordered.get()
            failure: Exception | None
            try:
                failure = await incarnations.replace(config)
            except Exception as error:  # noqa: BLE001 - the parent waits for an answer, and kills one that gives none
                failure = error
            _answer(orders.READY if failure is None else orders.refusal("; ".join(describe(failure))))

    loop.add_reader(control_pipe, on_readable)
    replacing = asyncio.create_task(replace_each())
    try:
        yield
    finally:
        replacing.cancel()
        loop.remove_reader(control_pipe)
        if is_orphan:
            metrics.remove_directory()


@contextmanager
def _sending_pings(descriptor: int) -> Iterator[None]:
    sending = asyncio.create_task(watchdog.send_pings(descriptor))
    try:
        yield
    finally:
        sending.cancel()


def _answer(line: bytes) -> None:
    with contextlib.suppress(OSError):  # the parent is gone: the control pipe ends, too
        os.write(STANDARD_OUTPUT, line)
