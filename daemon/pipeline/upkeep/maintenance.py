"""Two loops of periodic work in the database: `Maintenance` of tables, and `MetricsRollup` of the metrics of routes.

The event store does the work (`eventstore.postgres.schema`, `eventstore.retention.retention`,
`eventstore.queries.metrics.tally` and others); this module schedules and logs it. Partitions are made more often than
necessary, and at once after a step of the clock: one that is put forward by more than a week, as on a machine that was
suspended for so long, leaves publishing without one. Each time the server is compared with the one at the start:
another server with a restored dump may have taken its address, and ticks must not be made there. That ends the process.

The metrics are added up by all processes: one that finds another at it does nothing. Metrics stay exact when the rollup
is late; reading them only takes longer. A process that found nothing to add up, and records nothing, looks each minute.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.access import sessions
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.progress import audit_jobs
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.rows import AttemptRow
from eventstore.queries.metrics import tally
from eventstore.retention import retention
from eventstore.retention.retention import Held, Keep

log = structlog.get_logger()

SWEEP_SECONDS = 3600.0
# What keeps old days until a person acts; all else passes.
_HINDRANCES = {
    "default": "there is a default partition, beside which none can be detached",
    "detaching": "somebody began to detach a partition; ALTER TABLE … DETACH PARTITION … FINALIZE ends that",
}
IDLE_ROLLUP_SECONDS = 60.0


class Maintenance:
    """`run_once` checks the server, makes partitions, sweeps old rows every hour, then waits."""

    def __init__(self, database: Database, keep: Keep, macs: LogMacs, tunables: Tunables = DEFAULTS) -> None:
        self._database = database
        self._keep = keep
        self._macs = macs
        self._pause_seconds = tunables.partition_seconds
        self._sweep_at = time.monotonic()
        self._wakeup = Wakeup()
        self._held: list[Held] = []

    @property
    def faults(self) -> list[str]:
        """Why old days are not dropped, as far as a person must act, in sentences without a full stop."""
        return [
            f"nothing is dropped from {held.partition} on: {_HINDRANCES[held.reason]}"
            for held in self._held
            if held.reason in _HINDRANCES
        ]

    def hurry(self) -> None:
        """Has it look at once, since the database's clock has stepped."""
        self._wakeup.set()

    async def run_once(self) -> None:
        self._wakeup.clear()
        await schema.check_cluster(self._database)
        await schema.maintain_partitions(self._database)
        if time.monotonic() >= self._sweep_at and await self._sweep():
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
        await self._wakeup.wait(self._pause_seconds)

    async def _sweep(self) -> bool:
        """False if an open transaction kept a partition from being dropped; then the next run tries again."""
        await tally.forget(self._database)
        await sessions.sweep(self._database)
        await audit_jobs.sweep(self._database)
        swept = await retention.sweep(self._database, self._keep, macs=self._macs)
        if swept is None:
            return True
        self._held = swept.held
        for held in swept.held:
            log.warning("retention.held", partition=held.partition, reason=held.reason)
        if swept.dropped or swept.expired or swept.ticks or swept.secrets:
            log.info(
                "retention.swept",
                partitions=swept.dropped,
                expired=swept.expired,
                ticks=swept.ticks,
                secrets=swept.secrets,
            )
        return all(held.reason != "in_use" for held in swept.held)


class MetricsRollup:
    """`run_once` adds up the outcomes of deliveries for the metrics of routes, then waits. `recorded` hears of them."""

    def __init__(self, database: Database, tunables: Tunables = DEFAULTS) -> None:
        self._database = database
        self._pause_seconds = tunables.add_up_seconds
        self._wakeup = Wakeup()

    def recorded(self, rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        """Hears of outcomes that are written."""
        if rows:
            self._wakeup.set()

    async def run_once(self) -> None:
        self._wakeup.clear()
        added = await tally.add_up(self._database)
        await asyncio.sleep(self._pause_seconds)
        if added == 0:
            await self._wakeup.wait(IDLE_ROLLUP_SECONDS - self._pause_seconds)
