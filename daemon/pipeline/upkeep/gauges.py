"""Sets the gauges: pending deliveries, leases, routes, memory; and measures the lag of the event loop.

The gauges of this process are set four times a second, those of the database every few seconds and soon after a change
of a route; after a minute in which nothing happened, while nothing is pending, every half minute. Only one of several
workers counts in the database (`Metrics.sets_shared_gauges`), since the numbers are the same for all. A count that
takes long, because much is pending, is made less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import time
from pathlib import Path

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import RouteStatus
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.upkeep.quiet_time import QuietTime
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime import queued_stream
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import status

COUNT_SECONDS = 5.0
# The shortest interval between counts, however often routes change.
MIN_COUNT_SECONDS = 1.0
# Counting may take this part of the time at most.
COUNT_PART = 0.01
# While nothing happens and nothing is pending, the counts stay what they are.
QUIET_COUNT_SECONDS = 30.0
PROBE_SECONDS = 0.25

# Pages: in all, in RAM, and others. Only Linux has this file.
_PAGES = Path("/proc/self/statm")


class Gauges:
    """`run_once` counts in the database, then waits, shorter if the wakeup is set. `probe_once` counts in memory, and
    measures the lag of the event loop while it waits.
    """

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        metrics: Metrics,
        *,
        shards: HeldShards,
        quiet_time: QuietTime,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._index = index
        self._lanes = lanes
        self._metrics = metrics
        self._shards = shards
        self._quiet_time = quiet_time
        self._counted_at = -math.inf
        self._is_pending = True

    async def run_once(self) -> None:
        began = time.monotonic()
        self._measure_process()
        if not self.wakeup.is_set and self._is_quiet(began):
            await self.wakeup.wait(COUNT_SECONDS)
            return
        self.wakeup.clear()
        if self._metrics.sets_shared_gauges:
            await self._count_all()
        self._counted_at = began
        pause = max(MIN_COUNT_SECONDS, (time.monotonic() - began) / COUNT_PART)
        await asyncio.sleep(pause)
        await self.wakeup.wait(max(0.0, COUNT_SECONDS - pause))

    async def probe_once(self) -> None:
        self._count_own()
        asked_at = time.monotonic()
        await asyncio.sleep(PROBE_SECONDS)
        self._metrics.event_loop_lag.observe(max(0.0, time.monotonic() - asked_at - PROBE_SECONDS))

    def _is_quiet(self, now: float) -> bool:
        is_recent = now < self._counted_at + QUIET_COUNT_SECONDS
        return is_recent and not self._is_pending and self._quiet_time.is_quiet

    def _measure_process(self) -> None:
        """Not at each probe: to read the file takes longer than all else of a probe."""
        self._metrics.tasks.set(len(asyncio.all_tasks()))
        with contextlib.suppress(OSError):
            self._metrics.resident_memory.set(int(_PAGES.read_bytes().split()[1]) * resource.getpagesize())

    def _count_own(self) -> None:
        metrics = self._metrics
        metrics.deliveries_pending.labels("queued").set(self._lanes.queued)
        metrics.in_flight.set(len(self._lanes.in_flight))
        metrics.breakers_open.set(self._lanes.broken)
        metrics.shards_owned.set(self._shards.count_valid(time.monotonic()))
        metrics.log_lines_dropped.inc(queued_stream.take_dropped())

    async def _count_all(self) -> None:
        metrics = self._metrics
        found = await status.read(self._database)
        metrics.deliveries_pending.labels("retrying").set(found.retrying)
        metrics.deliveries_pending.labels("parked").set(found.parked)
        self._is_pending = bool(found.retrying or found.parked or found.lag_seconds or found.log.is_unread)
        metrics.oldest_pending.set(found.oldest_seconds)
        metrics.checkpoint_lag.set(found.lag_seconds)
        statuses = self._index.statuses()
        for each in (RouteStatus.ENABLED, RouteStatus.DISABLED):
            metrics.routes.labels(each.value).set(statuses[each])
