"""What a producer's role can lock keeps nobody else from working.

A role needs no privilege to take an advisory lock, nor to take a table's ROW SHARE and ROW EXCLUSIVE locks: PREPARE
takes them, and asks for privileges only when the statement is executed. So the product locks its tables in modes that
these do not exclude.
"""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
import pytest_asyncio

from eventstore import route_log
from eventstore.domain_events import catalogue, ticks
from eventstore.domain_events.catalogue import TypeRow
from eventstore.domain_events.events import publish
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import manual_retry
from eventstore.queries.metrics import tally
from eventstore.retention import retention
from tests.support.postgres.queries import Connect
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import ROUTE, draft, new_event

LOCK_TABLES = ("log_lock", "sweep_lock", "tally_lock", "resend_lock", "meta", "event_type")
# Every mode that LOCK TABLE knows.
MODES = (
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
# 'hklg' to 'hklr', with which earlier versions locked both logs, migrations, rollup, manual retries and sweeps.
ADVISORY_KEYS = range(1751870567, 1751870579)


@pytest_asyncio.fixture
async def producer(connect: Connect) -> asyncpg.Connection:
    connection = await connect()
    await connection.execute("SET ROLE hookledger_producer")
    return connection


async def test_a_producer_that_locks_all_it_can_holds_nobody_up(
    database: Database, sql: asyncpg.Connection, producer: asyncpg.Connection
) -> None:
    await publish(database, [new_event()])
    tables = [
        row["relname"]
        for row in await sql.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind IN ('r', 'p')"
        )
    ]
    await producer.execute("BEGIN")
    for key in ADVISORY_KEYS:
        await producer.execute(
            f"SELECT pg_advisory_xact_lock({key}), pg_advisory_xact_lock({key}, {ROUTE.int & 0x7FFFFFFF})"
        )
    for table in tables:
        for n, statement in enumerate(("SELECT FROM hookledger.{} FOR UPDATE", "DELETE FROM hookledger.{}")):
            await producer.execute(f"PREPARE {table}_{n} AS {statement.format(table)}")

    assert await ticks.make(database) == 1
    async with database.transaction() as connection:
        assert (await route_log.append(connection, draft())).pos == 1
    async with database.transaction() as connection:
        await manual_retry.lock(connection, ROUTE)
    assert await tally.add_up(database) == 0
    assert await retention.sweep(database, macs=LOG_MACS) is not None
    assert await schema.maintain_partitions(database) == 0
    assert (await schema.migrate(database)).steps == ()
    await catalogue.replace(database, [TypeRow(name="a.b", description="", example="{}")])


@pytest.mark.parametrize("table", LOCK_TABLES)
async def test_a_producer_may_lock_no_table(producer: asyncpg.Connection, table: str) -> None:
    for mode in MODES:
        await producer.execute("BEGIN")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await producer.execute(f"LOCK TABLE hookledger.{table} IN {mode} MODE")
        await producer.execute("ROLLBACK")


async def test_a_wait_for_the_lock_of_both_logs_is_told_in_time(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, [new_event()])
    await sql.execute("BEGIN; LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE")
    with pytest.raises(StoreUnavailable, match="lock") as refusal:
        await ticks.make(database)
    assert "pg_stat_activity" in refusal.value.hint
    await sql.execute("ROLLBACK")
    assert await ticks.make(database) == 1


async def test_a_process_that_stands_still_before_its_commit_loses_the_lock(
    database: Database, sql: asyncpg.Connection
) -> None:
    """It is silent for as long as its transaction may be idle; then the server ends that, and the next one goes on."""
    await publish(database, [new_event()])
    with pytest.raises(StoreUnavailable):
        async with database.transaction(seconds=30) as frozen:
            await route_log.append(frozen, draft())
            async with asyncio.timeout(20):
                while await sql.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE relation = 'hookledger.log_lock'::regclass"
                ):
                    await asyncio.sleep(0.1)
            assert await ticks.make(database) == 1
    assert await route_log.log.last_position(database) == 0


async def test_no_transaction_of_ours_may_be_idle_for_more_than_five_seconds(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"


async def test_a_commit_that_comes_too_late_is_an_outage_and_no_crash(database: Database) -> None:
    """The process stood still; its first word afterwards is answered with the end of the connection."""
    with pytest.raises(StoreUnavailable):
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            _stand_still(0.5)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


def _stand_still(seconds: float) -> None:
    """Blocks the event loop, as a SIGSTOP would, so that the server's farewell is read only after the COMMIT is sent."""
    time.sleep(seconds)
