"""Counts what is waiting, for the gauges; and measures how late the event loop runs.

What this process has in memory is looked at several times a second, what the database has every few seconds, and soon
after a route has changed. Of several workers one counts what is the same for all (Metrics.tells_for_all): the others
would ask for the same figures. A count that takes long, since much is waiting, is made less often.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from daemon.core.routing.index import RouteIndex
from daemon.metrics import Metrics
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.wakeup import Wakeup
from eventstore.postgres.connect import Database
from eventstore.queries import status

CENSUS_SECONDS = 5.0
# However much changes.
CENSUS_LEAST_SECONDS = 1.0
# A count may take this part of the time at most.
CENSUS_PART = 0.01
PROBE_SECONDS = 0.25


class Gauges:
    """`run_once` counts what is in the database and then pauses, not for long if the wakeup rings; `probe_once` counts
    what is in memory, and measures the loop's lag while it pauses.
    """

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        metrics: Metrics,
        *,
        shards: Callable[[], list[int]],
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._index = index
        self._lanes = lanes
        self._metrics = metrics
        self._shards = shards

    async def run_once(self) -> None:
        self.wakeup.clear()
        began = time.monotonic()
        if self._metrics.tells_for_all:
            await self._count_all()
        pause = max(CENSUS_LEAST_SECONDS, (time.monotonic() - began) / CENSUS_PART)
        await asyncio.sleep(pause)
        await self.wakeup.wait(max(0.0, CENSUS_SECONDS - pause))

    async def probe_once(self) -> None:
        self._count_own()
        asked_at = time.monotonic()
        await asyncio.sleep(PROBE_SECONDS)
        self._metrics.event_loop_lag.observe(max(0.0, time.monotonic() - asked_at - PROBE_SECONDS))

    def _count_own(self) -> None:
        metrics = self._metrics
        metrics.deliveries_pending.labels("queued").set(self._lanes.queued)
        metrics.in_flight.set(len(self._lanes.in_flight))
        metrics.breakers_open.set(self._lanes.broken)
        metrics.shards_owned.set(len(self._shards()))

    async def _count_all(self) -> None:
        metrics = self._metrics
        found = await status.read(self._database)
        metrics.deliveries_pending.labels("retrying").set(found.retrying)
        metrics.deliveries_pending.labels("parked").set(found.parked)
        metrics.oldest_pending.set(found.oldest_seconds)
        metrics.checkpoint_lag.set(found.lag_seconds)
        statuses = Counter(route.status.value for route in self._index.routes())
        for word in ("enabled", "disabled"):
            metrics.routes.labels(word).set(statuses[word])
