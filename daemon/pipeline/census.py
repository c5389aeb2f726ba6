"""Counts what is waiting, every few seconds, for the gauges; and measures how late the event loop runs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from daemon.core.index import RouteIndex
from daemon.metrics import Metrics
from daemon.pipeline.lanes import Lanes
from eventstore import backlog
from eventstore.connect import Database

CENSUS_SECONDS = 5.0
LAG_PROBE_SECONDS = 0.1


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
        waiting = await backlog.waiting(self._database)
        metrics = self._metrics
        metrics.deliveries_pending.labels("queued").set(self._lanes.queued)
        metrics.deliveries_pending.labels("retrying").set(waiting.retrying)
        metrics.deliveries_pending.labels("parked").set(waiting.parked)
        metrics.oldest_pending.set(waiting.oldest_seconds)
        metrics.checkpoint_lag.set(waiting.checkpoint_lag_seconds)
        metrics.in_flight.set(len(self._lanes.in_flight))
        metrics.shards_owned.set(len(self._shards()))
        statuses = Counter(route.status.value for route in self._index.routes())
        for status in ("enabled", "disabled"):
            metrics.routes.labels(status).set(statuses[status])
        await asyncio.sleep(CENSUS_SECONDS)

    async def probe_once(self) -> None:
        asked_at = time.monotonic()
        await asyncio.sleep(LAG_PROBE_SECONDS)
        self._metrics.event_loop_lag.observe(max(0.0, time.monotonic() - asked_at - LAG_PROBE_SECONDS))
