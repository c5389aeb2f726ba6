"""Manual retries: one row at most, even while the owner flushes, and none for a delivery that is in flight."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from eventstore.domain_events.events import shard_of
from eventstore.leases import lease
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import RequestReused
from eventstore.progress import backlog, manual_retry, recording
from eventstore.progress.manual_retry import RetryRequest, RetryResult
from eventstore.progress.recording import Flush
from eventstore.progress.rows import SettledRow
from tests.support.postgres.queries import Connect
from tests.support.rows.credentials import LOG_MACS
from tests.support.rows.finished_deliveries import store_finished
from tests.support.values.builders import ROUTE, attempt, parked, retry

SHARD = shard_of("acme")
HOUR = timedelta(hours=1)
ME = RetryRequest(actor="me", origin="test", reason="because")


async def again(database: Database, seq: int = 1, request: RetryRequest = ME) -> RetryResult:
    return await manual_retry.retry(database, route_id=ROUTE, seq=seq, request=request, macs=LOG_MACS)


async def flushed(database: Database, batch: Flush) -> None:
    epochs = await lease.acquire(database, "owner", [SHARD])
    assert await recording.flush(database, "owner", epochs, batch, number=1, macs=LOG_MACS) == {SHARD}


async def rows(sql: asyncpg.Connection) -> list[tuple[int, int, bool]]:
    """The rows of `retry`: seq, failures, and whether it is due."""
    found = await sql.fetch(
        "SELECT seq, failures, due_at <= clock_timestamp() AS is_due FROM hookledger.retry ORDER BY seq"
    )
    return [tuple(row) for row in found]


@pytest.mark.parametrize(
    ("outcomes", "requests"),
    [(["failed"], 1), (["retrying", "retrying", "failed"], 3), (["delivered"], 1), (["retrying", "delivered"], 2)],
)
async def test_what_is_over_is_due_again_with_its_requests_counted(
    database: Database, sql: asyncpg.Connection, outcomes: list[str], requests: int
) -> None:
    await store_finished(sql, 1, *outcomes)
    assert await again(database) is RetryResult.DUE
    assert await rows(sql) == [(1, requests, True)]
    (waiting,) = await backlog.due(database, [SHARD], held=[], limit=10)
    recorded_at = await sql.fetchval("SELECT recorded_at FROM hookledger.domain_event")
    assert (waiting.recorded_at, waiting.event_time, waiting.tick) == (recorded_at, recorded_at, 1)


async def test_requested_twice_it_has_one_row(database: Database, sql: asyncpg.Connection) -> None:
    await store_finished(sql, 1, "failed")
    answers = await asyncio.gather(*(again(database) for _ in range(6)))
    assert sorted(answers) == [RetryResult.DUE] + [RetryResult.UNDER_WAY] * 5
    assert await rows(sql) == [(1, 1, True)]


async def test_a_retry_that_waits_comes_at_once(database: Database, sql: asyncpg.Connection) -> None:
    await store_finished(sql, 1, "retrying", "retrying")
    await flushed(database, Flush(retries=[retry(shard=SHARD, failures=2, after=HOUR)]))
    assert await again(database) is RetryResult.DUE
    assert await rows(sql) == [(1, 2, True)]


async def test_a_request_under_way_is_left_alone(database: Database, sql: asyncpg.Connection) -> None:
    await store_finished(sql, 1, "retrying")
    await flushed(database, Flush(retries=[retry(shard=SHARD, after=HOUR, is_held=True)]))
    assert await again(database) is RetryResult.UNDER_WAY
    assert await rows(sql) == [(1, 1, False)]


async def test_what_waits_for_its_first_attempt_stays_in_line(database: Database, sql: asyncpg.Connection) -> None:
    await flushed(database, Flush(parked=[parked(shard=SHARD)]))
    assert await again(database) is RetryResult.IN_LINE
    assert await again(database, 2) is RetryResult.IN_LINE
    assert await rows(sql) == []
    assert await sql.fetchval("SELECT count(*) FROM hookledger.resend") == 0


async def test_without_its_event_nothing_is_put_in_line(database: Database, sql: asyncpg.Connection) -> None:
    await flushed(database, Flush(attempts=[attempt(shard=SHARD, outcome="failed")]))
    assert await again(database) is RetryResult.GONE
    assert await rows(sql) == []


async def test_a_flush_that_rewrites_the_row_meanwhile_has_its_retry_brought_forward_once(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    """The owner's request fails at this moment. The retry that follows from it is brought forward."""
    await store_finished(sql, 1, "retrying")
    await flushed(database, Flush(retries=[retry(shard=SHARD, failures=1, after=HOUR)]))
    owner = await connect()
    await owner.execute("BEGIN; UPDATE hookledger.retry SET failures = 2, due_at = due_at + interval '1 hour'")
    asking = asyncio.ensure_future(again(database))
    await until_blocked(sql)
    await owner.execute("COMMIT")
    assert await asking is RetryResult.DUE
    assert await rows(sql) == [(1, 2, True)]


async def test_a_flush_that_settles_the_row_meanwhile_leaves_none(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    await store_finished(sql, 1, "retrying")
    await flushed(database, Flush(retries=[retry(shard=SHARD, failures=1, after=HOUR)]))
    owner = await connect()
    await owner.execute("BEGIN; DELETE FROM hookledger.retry")
    asking = asyncio.ensure_future(again(database))
    await until_blocked(sql)
    await owner.execute("COMMIT")
    assert await asking is RetryResult.IN_LINE  # no flush in this test wrote its outcome
    assert await rows(sql) == []


async def test_the_next_flush_owns_the_row(database: Database, sql: asyncpg.Connection) -> None:
    """A row from a manual retry is settled like any other. Then a manual retry is possible again."""
    await store_finished(sql, 1, "failed")
    await again(database)
    batch = Flush(
        attempts=[attempt(shard=SHARD, number=2, outcome="failed", event_id="e1")],
        settled=[SettledRow(SHARD, ROUTE, 1)],
    )
    await flushed(database, batch)
    assert await rows(sql) == []
    assert await again(database) is RetryResult.DUE
    assert await rows(sql) == [(1, 2, True)]


async def test_it_is_noted_who_requested_it(database: Database, sql: asyncpg.Connection) -> None:
    await store_finished(sql, 1, "failed")
    await again(database)
    noted = await sql.fetchrow("SELECT route_id, seq, actor, origin, reason FROM hookledger.resend")
    assert tuple(noted or ()) == (ROUTE, 1, "me", "test", "because")


async def test_a_request_repeated_puts_nothing_in_line_a_second_time(
    database: Database, sql: asyncpg.Connection
) -> None:
    request = RetryRequest(actor="me", origin="test", request_id="r1", causation_id="c1")
    await store_finished(sql, 1, "failed")
    assert await again(database, request=request) is RetryResult.DUE
    await sql.execute("DELETE FROM hookledger.retry")  # as if it had been sent since
    assert await again(database, request=request) is RetryResult.DUE
    assert await rows(sql) == []


async def test_a_request_id_stands_for_one_delivery(database: Database, sql: asyncpg.Connection) -> None:
    request = RetryRequest(actor="me", origin="test", request_id="r1", causation_id="c1")
    await store_finished(sql, 1, "failed")
    await store_finished(sql, 2, "failed")
    await again(database, request=request)
    with pytest.raises(RequestReused):
        await again(database, 2, request=request)
    assert [seq for seq, *_ in await rows(sql)] == [1]


async def test_the_owner_of_the_shard_is_told(database: Database, sql: asyncpg.Connection) -> None:
    told = asyncio.Event()
    await sql.add_listener(listen.RETRY, lambda *_: told.set())
    await store_finished(sql, 1, "failed")
    await again(database)
    async with asyncio.timeout(5):
        await told.wait()


async def test_notes_are_forgotten_with_the_outcomes(database: Database, sql: asyncpg.Connection) -> None:
    await store_finished(sql, 1, "failed")
    await again(database)
    async with database.connection() as connection:
        await manual_retry.forget(connection, before=datetime.now(UTC) - HOUR)
        assert await sql.fetchval("SELECT count(*) FROM hookledger.resend") == 1
        await manual_retry.forget(connection, before=datetime.now(UTC) + HOUR)
    assert await sql.fetchval("SELECT count(*) FROM hookledger.resend") == 0


async def until_blocked(sql: asyncpg.Connection) -> None:
    """Waits until a transaction in this database waits for a row."""
    async with asyncio.timeout(10):
        while not await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)
