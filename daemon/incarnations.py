"""The daemon in this process, by one configuration after the other: an *incarnation* is one run of `daemon.app`.

    starting --ready--> current --its successor is ready--> retiring --all under way is recorded--> gone

The one thing to know: at a reload the successor starts beside the current incarnation, and shares the bound addresses,
the metrics and nothing else with it. Only once it answers requests does the other one retire, as at a SIGTERM: it hands
its shards over and finishes its requests. So there is always one that answers, whatever keeps the successor from it
leaves everything as it was, and a key of the configuration has an effect anew wherever it is used.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from daemon import __version__, app, route_state
from daemon.app import Running
from daemon.config import Config
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime import open_files
from daemon.runtime.signals import Ending
from daemon.runtime.tasks import TaskGroup
from daemon.telemetry import logs
from daemon.telemetry.metrics import Metrics
from daemon.web.http.listeners import Listeners

log = structlog.get_logger()

# A successor reads the whole route log first, beside the work of the current incarnation.
READY_SECONDS = 60.0
# Beyond the timeout of requests under way: for recording them, and for closing the connections of clients.
FINISH_SECONDS = 15.0
CANCEL_SECONDS = 10.0
# So many new objects the garbage collector looks through in 5 to 10 ms.
YOUNG_OBJECTS = 5000

_STOPPING = "the daemon is stopping"


def longest_replacement_seconds(former: Config) -> float:
    """What a change from this configuration to another one may take."""
    return READY_SECONDS + former.delivery.timeout_seconds + FINISH_SECONDS


class NotReplaced(Exception):
    """The successor did not become ready. `str()` says why."""


@dataclass(slots=True, eq=False)
class _Incarnation:
    """`settled` is set when it is ready, or has ended before that: then `running` is None."""

    config: Config
    task: asyncio.Task[None] = field(init=False)
    ending: Ending = field(init=False)
    settled: Wakeup = field(default_factory=Wakeup)
    ended: Wakeup = field(default_factory=Wakeup)
    running: Running | None = None
    failure: Exception | None = None

    def became_ready(self, running: Running) -> None:
        self.running = running
        self.settled.set()


class Incarnations:
    """`run` returns when all have ended. `replace` may be called once it is ready, and `stop` at any time.

    Closes `listeners`.
    """

    def __init__(self, config: Config, listeners: Listeners, *, worker: int | None = None) -> None:
        self.is_ready = Wakeup()
        open_files.raise_limit()  # first, since the embedded PostgreSQL inherits it
        self._listeners = listeners
        self._metrics = Metrics(worker=worker)
        self._first_config = config
        self._group = TaskGroup()
        self._alive: list[_Incarnation] = []
        self._failure: Exception | None = None
        self._over = Wakeup()
        self._is_stopping = False

    async def run(self, ready: Callable[[Running], None]) -> None:
        """Raises what `daemon.app.run` raises, of the first incarnation or of one that had been ready."""
        route_state.collect_seldom()  # what is new at first is the routes
        async with self._group:
            self._current = first = self._begin(self._first_config)
            await first.settled.wait_set()
            if first.running is not None:
                settle_memory()
                log.info("daemon.started", version=__version__, url=first.running.url)
                ready(first.running)
                self.is_ready.set()
            await self._over.wait_set()
            for each in self._alive:
                each.task.cancel()
        self._listeners.close()
        if self._failure is not None:
            raise self._failure
        if first.running is not None:
            log.info("daemon.stopped")

    def stop(self) -> None:
        """Asks all of them to end."""
        self._is_stopping = True
        self._listeners.close()  # a new connection must be refused, not left without an answer
        for each in list(self._alive):
            each.ending.stop()

    def leave_addresses(self) -> None:
        """Lets go of the addresses at once, for a daemon that is started in place of this one. `stop` comes next."""
        self._listeners.close()
        for each in list(self._alive):
            each.ending.retire()

    async def replace(self, config: Config) -> Exception | None:
        """Runs by `config` from now on, and returns once the former incarnation has ended.

        Returns what kept the successor from being ready, if something did: then nothing has changed.
        """
        if self._is_stopping:
            return NotReplaced(_STOPPING)
        former, successor = self._current, self._begin(config)
        if not await successor.settled.wait(READY_SECONDS):
            await _cancelled(successor)
            return NotReplaced(f"the daemon was not ready within {READY_SECONDS:.0f} s with it; look at the log above")
        if successor.running is None:
            return successor.failure or NotReplaced(_STOPPING)
        self._current = successor
        logs.configure(config.log.level, config.log.format, sys.stderr)
        former.ending.retire()
        if not await former.ended.wait(former.config.delivery.timeout_seconds + FINISH_SECONDS):
            log.error("incarnation.cancelled")
            await _cancelled(former)
        settle_memory()
        return None

    def _begin(self, config: Config) -> _Incarnation:
        own = _Incarnation(config)
        own.task = self._group.create_task(self._live(own))
        own.ending = Ending(own.task)
        own.task.add_done_callback(lambda _: self._ended(own))
        self._alive.append(own)
        return own

    async def _live(self, own: _Incarnation) -> None:
        try:
            with closing(self._listeners.duplicate()) as listeners:
                await app.run(
                    own.config, ready=own.became_ready, ending=own.ending, metrics=self._metrics, listeners=listeners
                )
        except Exception as error:  # noqa: BLE001 - `run` raises it, or `replace` returns it
            own.failure = error

    def _ended(self, own: _Incarnation) -> None:
        self._alive.remove(own)
        if own.failure is not None and (own is self._current or own.running is not None):
            self._failure = own.failure
        if self._failure is not None or not self._alive:
            self._over.set()
        own.settled.set()
        own.ended.set()


async def _cancelled(incarnation: _Incarnation) -> None:
    """Cancels it, and waits for its end; for one that does not come, no longer than this."""
    incarnation.task.cancel()
    if not await incarnation.ended.wait(CANCEL_SECONDS):
        log.error("incarnation.stuck")


def settle_memory() -> None:
    """Lets the garbage collector pass over all that is in memory by now: modules, types, routes.

    A full collection goes through all of the rest while the event loop stands still. Measured: it took 100 ms, and p99
    of the latency beside a dead receiver with it from 20 to 90 ms. What an incarnation left behind is collected first.

    From now on it looks at what is new seldom. After each 700 objects, as by default, it took 11 µs of each delivery
    under load, since a thousand deliveries on their way are new as well, and found nothing: they have no cycles.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
