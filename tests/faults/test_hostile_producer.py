"""A producer with SQL that does all it may: it takes every lock it gets, leaves a publish open, and sends rubbish."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from tests.support.faults.report import FaultReport
from tests.support.faults.seen_by_others import compare, seen_by_others
from tests.support.faults.system_under_test import SystemUnderTest

OTHERS = [f"other{number}" for number in range(6)]
EPOCHS = "SELECT sum(epoch)::bigint FROM hookledger.lease"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind IN ('r', 'p')"
ADVISORY_KEYS = range(1751870567, 1751870579)
RUBBISH = (
    "SELECT hookledger.publish('t', 'no group', '{}')",
    "SELECT hookledger.publish('', 'a.b', '{}')",
    "SELECT hookledger.publish('t', 'a.b', '[]')",
    "SELECT hookledger.publish('t', 'a.b', '{}', occurred_at => 'infinity')",
    "SELECT hookledger.make_tick()",
    "LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE",
    "DELETE FROM hookledger.domain_event",
)


async def _takes_all_locks(producer: asyncpg.Connection, tables: list[str]) -> None:
    """Opens a transaction with every lock that the role may have, and an event that is never committed."""
    await producer.execute("BEGIN")
    for key in ADVISORY_KEYS:
        await producer.execute(f"SELECT pg_advisory_xact_lock({key})")
    for table in tables:
        await producer.execute(f"PREPARE {table}_lock AS SELECT FROM hookledger.{table} FOR UPDATE")
    await producer.execute("SELECT hookledger.publish('other0', 'order.create', '{}', 'never-committed')")


async def _sends_rubbish(producer: asyncpg.Connection) -> int:
    """Sends what is refused until it is cancelled."""
    while True:
        for statement in RUBBISH:
            with suppress(asyncpg.PostgresError):
                await producer.execute(statement)
                raise AssertionError(f"not refused: {statement}")
        await asyncio.sleep(0.02)


async def test_a_producer_that_takes_every_lock_it_gets(
    system: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    events = 3_000 if is_long else 300
    connections = [await asyncpg.connect(system.database_url) for _ in range(2)]
    try:
        async with system.daemon("--workers", "2"):
            await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in OTHERS))
            system.producer.tenants = OTHERS
            await system.producer.publish(200)  # warms up keys, connections and code paths
            await system.until_settled()
            before = await seen_by_others(system, events)
            epochs = await system.value(EPOCHS)
            tables = [row["relname"] for row in await system.rows(TABLES)]
            for connection in connections:
                await connection.execute("SET ROLE hookledger_producer")
            await _takes_all_locks(connections[0], tables)
            rubbish = asyncio.create_task(_sends_rubbish(connections[1]))
            beside = await seen_by_others(system, events)
            assert not rubbish.done(), rubbish.exception()
            rubbish.cancel()
            await connections[0].execute("ROLLBACK")
            await system.until_settled()
            leases_lost = await system.value(EPOCHS) - epochs
            found = await system.check_deliveries([f"/{tenant}" for tenant in OTHERS])
    finally:
        for connection in connections:
            connection.terminate()
    report.add_check(found, duplicates_at_most=0)
    report.add("leases lost", leases_lost, at_most=0)
    compare(report, before, beside)
    report.verify()
