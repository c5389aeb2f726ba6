"""Counts what is waiting, every few seconds, for the gauges; and measures how late the event loop runs.

Of several workers one counts what is the same for all (Metrics.tells_for_all): the others would ask the database for
the same figures. A count that takes long, since much is waiting, is made less often.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from daemon.core.index import RouteIndex
from daemon.metrics import Metrics
from daemon.pipeline.lanes import Lanes
from eventstore import status
from eventstore.connect import Database

CENSUS_SECONDS = 5.0
# A count may take this part of the time at most.
CENSUS_PART = 0.01
LAG_PROBE_SECONDS = 0.25


class Census:
    """`run_once` counts once and then pauses; `probe_once` measures the loop's lag once."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        metrics: Metrics,
        *,
        shards: Callable[[], list[int]],
    ) -> None:
        self._database = database
        self._index = index
        self._lanes = lanes
        self._metrics = metrics
        self._shards = shards

    async def run_once(self) -> None:
        began = time.monotonic()
        self._count_own()
        if self._metrics.tells_for_all:
            await self._count_all()
        await asyncio.sleep(max(CENSUS_SECONDS, (time.monotonic() - began) / CENSUS_PART))

    async def probe_once(self) -> None:
        asked_at = time.monotonic()
        await asyncio.sleep(LAG_PROBE_SECONDS)
        self._metrics.event_loop_lag.observe(max(0.0, time.monotonic() - asked_at - LAG_PROBE_SECONDS))

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
