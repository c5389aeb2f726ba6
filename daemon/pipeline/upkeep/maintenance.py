"""Keeps the tables in order: partitions for the days to come, and nothing of days that are too old.

The work is the event store's (eventstore/postgres/schema.py, retention.py and their like); here it gets its hour, and
its lines in the log. Partitions are looked after more often than they need, since a clock that was put forward by more
than a week would leave publishing without one. As often it looks whether the server is still the one it began with:
another may have taken its address, with a restored dump on it, and ticks must not be made there. That ends the process.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from eventstore.access import sessions
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.progress import retention
from eventstore.progress.retention import Keep
from eventstore.queries import route_metrics

log = structlog.get_logger()

PARTITION_SECONDS = 300.0
SWEEP_SECONDS = 3600.0


class Maintenance:
    """`run_once` tends to the partitions, at its hour sweeps, and then waits for the next time."""

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self._keep = keep
        self._sweep_at = time.monotonic()

    async def run_once(self) -> None:
        await schema.check_cluster(self._database)
        await schema.maintain_partitions(self._database)
        if time.monotonic() >= self._sweep_at and await self._sweep():
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
        await asyncio.sleep(PARTITION_SECONDS)

    async def _sweep(self) -> bool:
        """False if a transaction that somebody left open was in the way: it is worth trying again soon."""
        await route_metrics.forget(self._database)
        await sessions.sweep(self._database)
        swept = await retention.sweep(self._database, self._keep)
        if swept is None:
            return True
        for held in swept.held:
            log.warning("retention.held", partition=held.partition, reason=held.reason)
        if swept.dropped or swept.expired or swept.ticks:
            log.info("retention.swept", partitions=swept.dropped, expired=swept.expired, ticks=swept.ticks)
        return all(held.reason != "in_use" for held in swept.held)


# Adds up what became of deliveries, for the metrics of routes (eventstore/queries/route_metrics.py).
#
# Every process does it in turn with the others: whoever comes while one is at it goes away again. Behind schedule the
# metrics stay exact, reading them only takes longer.
#

ADD_UP_SECONDS = 10.0


class MetricsRollup:
    """`run_once` adds up, and then waits for the next time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> None:
        await route_metrics.add_up(self._database)
        await asyncio.sleep(ADD_UP_SECONDS)
