"""Watches whether ticks are made: without them nothing more is read, decided or sent, however well all else works.

A tick is late if events are committed that the newest tick does not show, look after look. How long that has been so is
measured here by a monotonic clock: neither an event's time nor the newest tick's tells when its transaction committed,
and a tick may be hours old because nothing happened.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from daemon.telemetry.metrics import Metrics
from eventstore.domain_events import ticks
from eventstore.postgres.connect import Database

LOOK_SECONDS = 2.0


class TickWatch:
    """`run_once` looks, then waits. A database that does not answer makes no ticks either: the age goes on.

    `clock` returns monotonic seconds, `polled_at` when this process last made a tick, or found that there was none to
    make: while that goes well there is nothing to look for.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        *,
        polled_at: Callable[[], float] = lambda: -math.inf,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._polled_at = polled_at
        self._look_seconds = look_seconds
        self._clock = clock
        self._newest = 0
        self._unread_since: float | None = None

    @property
    def age_seconds(self) -> float:
        """How long committed events have been waiting for a tick, 0 if none are."""
        return 0.0 if self._unread_since is None else self._clock() - self._unread_since

    async def run_once(self) -> None:
        asked_at = self._clock()
        try:
            is_well = self._polled_at() > asked_at - self._look_seconds
            newest = None if is_well else await ticks.unread(self._database)
            if newest is None:
                self._unread_since = None
            elif self._unread_since is None or newest != self._newest:
                self._newest, self._unread_since = newest, asked_at
        finally:
            if self._metrics.sets_shared_gauges:
                self._metrics.tick_age.set(self.age_seconds)
        await asyncio.sleep(self._look_seconds)
