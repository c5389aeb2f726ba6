"""An audit of a history that goes on meanwhile has no finding: deliveries, failures, changes, crashes and retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle

from daemon import audit
from daemon.audit import AuditReport, DeliverySchedule
from daemon.core.delivery.answer import delivery_id, delivery_key
from daemon.core.delivery.retry import RetryPolicy
from daemon.credentials.keys import Vault
from daemon.pipeline.tunables import Tunables
from daemon.store import opened
from eventstore.postgres.connect import Database
from tests.support.pipeline.crash import crashing_process
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.rows.credentials import sign_outcomes

QUICK = RetryPolicy(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.2), attempts=4)
SMALL = Tunables(
    lane_queue=5, unmeasured_lane_queue=5, low_water=5, range_pairs=10, expand_pairs=8, breaker_first_pause_seconds=0.05
)


async def audited(database: Database) -> AuditReport:
    return await audit.audit(
        database,
        start=datetime(1970, 1, 1, tzinfo=UTC),
        end=datetime(9999, 1, 1, tzinfo=UTC),
        schedule=DeliverySchedule(retry=QUICK, timeout=timedelta(seconds=10)),
        vault=Vault([b"k" * 32]),
    )


class Auditing:
    """Audits again and again; `reports` are those so far."""

    def __init__(self, database: Database) -> None:
        self.reports: list[AuditReport] = []
        self._task = asyncio.ensure_future(self._audit(database))

    async def more(self, count: int) -> None:
        """Waits for more audits. Raises if one had a finding."""
        wanted = len(self.reports) + count
        async with asyncio.timeout(60):
            while len(self.reports) < wanted:
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _audit(self, database: Database) -> None:
        while True:
            report = await audited(database)
            assert not report.findings, [
                f"{each.kind} {each.table} {each.key}: {each.detail}" for each in report.findings
            ]
            self.reports.append(report)


@asynccontextmanager
async def auditing(url: str) -> AsyncIterator[Auditing]:
    async with opened(Database(url, pool_size=4)) as database:
        meanwhile = Auditing(database)
        try:
            yield meanwhile
        finally:
            await meanwhile.end()


async def test_it_finds_nothing_while_processes_deliver_crash_and_follow_each_other(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/down"] = status(500)
        async with auditing(database_url) as meanwhile:
            for round_number in range(4):
                async with (
                    crashing_process(database_url, retry=QUICK, tunables=SMALL) as one,
                    pipeline_process(database_url, retry=QUICK, tunables=SMALL) as other,
                ):
                    await _some_life(one, there.url, round_number)
                    await _some_life(other, there.url, round_number)
                    await meanwhile.more(2)
            async with pipeline_process(database_url, retry=QUICK, tunables=SMALL) as last:
                await last.until_accounted()
        async with pipeline_process(database_url, run=False) as it:
            report = await audited(it.database)
    assert (report.findings, report.gaps) == ([], [])
    assert report.deliveries > 100


async def _some_life(it: PipelineProcess, url: str, number: int) -> None:
    tenants = cycle(("acme", "globex"))
    routes = [await it.route(f"{url}/{path}", "*", tenant=next(tenants)) for path in ("ok", "ok", "down", "down")]
    for _ in range(3):
        await it.publish(count=6, tenant="acme")
        await it.publish(count=6, tenant="globex")
        await it.disable(routes[number % 4])
        await it.publish(count=2, tenant="acme")
        await it.enable(routes[number % 4])


async def test_it_finds_nothing_while_retention_drops_days(database_url: str) -> None:
    async with receiver() as there:
        async with pipeline_process(database_url, retry=QUICK) as it:
            await it.route(there.url)
            await it.publish(count=20)
            await there.count(20)
            await it.until_accounted()
        async with opened(Database(database_url, pool_size=1)) as database:
            await _move_back(database)
        async with auditing(database_url) as meanwhile:
            await meanwhile.more(1)
            async with pipeline_process(database_url, retry=QUICK) as it:
                await it.until_row("SELECT NOT EXISTS (SELECT FROM hookledger.attempt)")
                await it.publish(count=3)
                await there.count(23)
                await meanwhile.more(2)
            assert meanwhile.reports[-1].kept_from is not None


# The chain is made anew, as nobody could who does not write the whole log again.
MOVE_ROUTE_LOG = """
DO $$
DECLARE
    e    hookledger.route_event;
    last bytea := '';
BEGIN
    FOR e IN SELECT * FROM hookledger.route_event ORDER BY pos LOOP
        e.effective_at := e.effective_at - interval '40 days';
        e.prev_hash := last;
        last := sha256(last || convert_to(hookledger.canonical(ARRAY[
            e.pos::text, e.route_id::text, e.tenant, e.version::text, e.type,
            hookledger.microseconds(e.effective_at)::text, e.actor, e.origin, e.reason, e.request_id,
            e.correlation_id, e.causation_id, e.body]), 'UTF8'));
        UPDATE hookledger.route_event SET effective_at = e.effective_at, prev_hash = e.prev_hash, hash = last
         WHERE pos = e.pos;
    END LOOP;
END $$
"""


async def _move_back(database: Database) -> None:
    """Has all that happened happen forty days ago, in both logs."""
    columns = {
        "domain_event": ("recorded_at",),
        "attempt": ("at", "started_at", "event_time"),
        "tick": ("at", "closed_upto"),
        "route_metric": ("hour",),
        "route_tally": ("hour", "at"),
    }
    async with database.transaction(seconds=20) as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("SELECT hookledger.ensure_partitions(current_date - 41, current_date)")
        await connection.execute(MOVE_ROUTE_LOG)
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} - interval '40 days'" for name in names)
            await connection.execute(f"UPDATE hookledger.{table} SET {moved}")
        # The ids of deliveries are of the day of their event.
        keys = {
            (row["route_id"], row["seq"]): delivery_key(
                delivery_id(row["route_id"], row["event_id"], row["event_time"])
            )
            for row in await connection.fetch("SELECT route_id, event_id, event_time, seq FROM hookledger.attempt")
        }
        for (route_id, seq), key in keys.items():
            await connection.execute(
                "UPDATE hookledger.attempt SET delivery_key = $3 WHERE route_id = $1 AND seq = $2", route_id, seq, key
            )
        await sign_outcomes(connection)
