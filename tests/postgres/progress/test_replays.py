"""The tables of replays: the deliveries of a replay are determined once, and scheduled once, a part at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from eventstore.domain_events.events import shard_of
from eventstore.leases import lease
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ReplayRunning, RequestReused
from eventstore.progress import backlog, manual_retry, recording, replays
from eventstore.progress.manual_retry import RetryRequest
from eventstore.progress.recording import Flush
from eventstore.progress.replays import Replay, ReplayScope
from eventstore.progress.rows import SettledRow
from tests.support.postgres.queries import until_waiting
from tests.support.rows.credentials import LOG_MACS
from tests.support.rows.finished_deliveries import store_finished
from tests.support.values.builders import ROUTE, retry

SHARD = shard_of("acme")
LONG_AGO, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ME = RetryRequest(actor="me", origin="test", reason="because")


def scope(
    wanted: str = "failed",
    *,
    since: datetime = LONG_AGO,
    until: datetime = LATER,
    sendable_from: datetime | None = None,
    route_id: UUID = ROUTE,
) -> ReplayScope:
    return ReplayScope(
        route_id=route_id,
        tenant="acme",
        since=since,
        until=until,
        sendable_from=sendable_from or since,
        wanted=wanted,
    )


async def begun(database: Database, what: ReplayScope | None = None, request: RetryRequest = ME) -> Replay:
    return await replays.begin(database, uuid4(), what or scope(), request, macs=LOG_MACS)


async def waiting(sql: asyncpg.Connection) -> list[int]:
    """The seqs in `retry`, in the order in which they are taken."""
    return [row["seq"] for row in await sql.fetch("SELECT seq FROM hookledger.retry ORDER BY due_at, seq")]


async def now(database: Database, replay: Replay) -> Replay:
    found = await replays.find(database, replay.id)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
async def history(sql: asyncpg.Connection) -> None:
    """One delivery of each kind: 1 failed, 2 delivered, 3 delivered at last, 4 failed after it had been delivered, …"""
    await store_finished(sql, 1, "failed")
    await store_finished(sql, 2, "delivered")
    await store_finished(sql, 3, "retrying", "delivered")
    await store_finished(sql, 4, "delivered", "failed")
    await store_finished(sql, 5, "retrying", "retrying", "failed")
    await store_finished(sql, 6, "failed", "delivered")
    await store_finished(sql, 7, "suppressed")
    await store_finished(sql, 8, "failed", "suppressed")
    await store_finished(sql, 9, "expired")
    await store_finished(sql, 10, "retrying")
    await store_finished(sql, 11, "failed", is_test=True)
    await store_finished(sql, 12, "failed", route_id=UUID(int=7))
    await store_finished(sql, 13, "failed", ago=2 * HOUR)


@pytest.mark.parametrize("many", [1, replays.MANY_FAILED])
@pytest.mark.parametrize(("wanted", "expected"), [("failed", [1, 5, 13]), ("all", [1, 2, 3, 4, 5, 6, 13])])
async def test_what_failed_or_all_that_was_sent_belongs_to_it(
    database: Database,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    expected: list[int],
    many: int,
) -> None:
    """In both ways in which it is found: whether few failed, or many."""
    monkeypatch.setattr(replays, "MANY_FAILED", many)
    assert await replays.count(database, scope(wanted)) == len(expected)
    replay = await begun(database, scope(wanted))
    assert (replay.state, replay.total, replay.scheduled, replay.is_unscheduled) == ("running", len(expected), 0, True)
    assert await replays.schedule(database, replay, limit=500) == (len(expected), True)
    assert await waiting(sql) == expected
    replay = await now(database, replay)
    assert (replay.scheduled, replay.waiting, replay.is_unscheduled) == (len(expected), len(expected), False)


@pytest.mark.parametrize("many", [1, replays.MANY_FAILED])
async def test_the_period_is_of_event_time_without_its_end(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(replays, "MANY_FAILED", many)
    times = {row["seq"]: row["event_time"] for row in await sql.fetch("SELECT seq, event_time FROM hookledger.attempt")}
    assert await replays.count(database, scope(since=times[13], until=times[1])) == 1
    assert await replays.count(database, scope(since=times[13], until=times[5])) == 2
    assert await replays.count(database, scope(since=times[1], until=LATER)) == 2
    assert await replays.count(database, scope(since=LONG_AGO, until=times[13])) == 0
    assert await replays.count(database, scope(sendable_from=times[5])) == 1


async def test_what_waits_already_does_not_belong_to_it(database: Database) -> None:
    await manual_retry.retry(database, route_id=ROUTE, seq=5, request=ME, macs=LOG_MACS)
    assert (await begun(database)).total == 2


async def test_a_replay_of_nothing_is_done(database: Database) -> None:
    replay = await begun(database, scope(since=LONG_AGO, until=LONG_AGO + HOUR))
    assert (replay.state, replay.total) == ("done", 0)
    assert replay.ended_at is not None
    assert replay.ended_at >= replay.created_at
    assert await replays.running(database, [SHARD]) == []


async def test_it_goes_on_where_it_stopped_and_puts_nothing_in_line_twice(
    database: Database, sql: asyncpg.Connection
) -> None:
    replay = await begun(database, scope("all"))
    for expected in ([1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 13]):
        assert (await replays.schedule(database, replay, limit=2)).is_more
        assert await waiting(sql) == expected
    assert await replays.schedule(database, replay, limit=2) == (0, False)
    assert (await now(database, replay)).scheduled == 7


async def test_parts_are_taken_in_the_order_of_events(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seq in range(100, 1300):
        await store_finished(sql, seq, "failed")
    replay = await begun(database)
    assert replay.total == 1203
    assert await sql.fetchval("SELECT array_agg(cardinality(seqs) ORDER BY first_seq) FROM hookledger.replay_part") == [
        500,
        500,
        203,
    ]
    sizes = [(await replays.schedule(database, replay, limit=replays.PART_SEQS)).deliveries for _ in range(3)]
    assert sizes == [500, 500, 203]
    assert await waiting(sql) == [1, 5, 13, *range(100, 1300)]


async def test_what_was_sent_since_it_began_is_passed_over(database: Database, sql: asyncpg.Connection) -> None:
    replay = await begun(database)
    await manual_retry.retry(database, route_id=ROUTE, seq=1, request=ME, macs=LOG_MACS)  # it is in retry already
    await sql.execute(
        "INSERT INTO hookledger.attempt SELECT at, seq, tick, route_id, event_time, started_at, shard, 200, 4, 1, 1, false, 'delivered', NULL, tenant, event_id, event_type "
        "FROM hookledger.attempt WHERE seq = 5 AND outcome = 'failed'"
    )
    assert await replays.schedule(database, replay, limit=500) == (1, True)
    found = await sql.fetch("SELECT seq, replay IS NOT NULL AS is_of_it FROM hookledger.retry ORDER BY seq")
    assert [tuple(row) for row in found] == [(1, False), (13, True)]


async def test_requests_are_counted_on(database: Database, sql: asyncpg.Connection) -> None:
    await replays.schedule(database, await begun(database), limit=500)
    found = await sql.fetch("SELECT seq, failures FROM hookledger.retry ORDER BY seq")
    assert [tuple(row) for row in found] == [(1, 1), (5, 3), (13, 1)]
    due = await backlog.due(database, [SHARD], held=[], limit=10)
    assert {row.replay for row in due} == {(await replays.running(database, [SHARD]))[0].id}


async def test_a_route_has_one_at_a_time(database: Database) -> None:
    replay = await begun(database)
    with pytest.raises(ReplayRunning):
        await begun(database, scope("all"))
    await begun(database, scope(route_id=UUID(int=7)))
    await replays.cancel(database, replay, detail="enough")
    await begun(database, scope("all"))


async def test_begun_at_the_same_time_one_wins(database: Database) -> None:
    answers = await asyncio.gather(*(begun(database) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, Replay) for answer in answers) == 1
    assert sum(isinstance(answer, ReplayRunning) for answer in answers) == 5


async def test_a_request_begins_one(database: Database, sql: asyncpg.Connection) -> None:
    request = RetryRequest(actor="me", origin="test", request_id="r1", causation_id="c1")
    replay = await begun(database, request=request)
    assert await replays.by_request(database, "r1") == replay
    assert await replays.by_request(database, "r2") is None
    await replays.cancel(database, replay, detail="enough")
    with pytest.raises(RequestReused):
        await begun(database, request=request)
    assert await sql.fetchval("SELECT count(*) FROM hookledger.replay") == 1


async def test_a_flush_takes_the_row_out_of_the_replay(database: Database, sql: asyncpg.Connection) -> None:
    replay = await begun(database)
    await replays.schedule(database, replay, limit=500)
    epochs = await lease.acquire(database, "owner", [SHARD])
    batch = Flush(retries=[retry(shard=SHARD, seq=1, after=HOUR)], settled=[SettledRow(SHARD, ROUTE, 5)])
    await recording.flush(database, "owner", epochs, batch, number=1, macs=LOG_MACS)
    assert (await now(database, replay)).waiting == 1
    await replays.cancel(database, replay, detail="enough")
    assert await waiting(sql) == [1]


async def test_cancelled_it_leaves_things_as_they_were(database: Database, sql: asyncpg.Connection) -> None:
    replay = await begun(database)
    await replays.schedule(database, replay, limit=2)
    cancelled = await replays.cancel(database, replay, detail="enough")
    assert (cancelled.state, cancelled.detail, cancelled.scheduled, cancelled.withdrawn) == (
        "cancelled",
        "enough",
        2,
        2,
    )
    assert cancelled.ended_at is not None
    assert await waiting(sql) == []
    assert await sql.fetchval("SELECT count(*) FROM hookledger.replay_part") == 0
    assert await replays.schedule(database, replay, limit=2) == (0, False)
    assert await replays.cancel(database, replay, detail="once more") == cancelled
    assert await replays.ended(database, [replay.id, uuid4()]) == {replay.id}
    assert await replays.count(database, scope()) == 3


async def test_a_cancel_waits_for_no_flush(database: Database, sql: asyncpg.Connection) -> None:
    """A row that a flush has locked is settled by the flush. If the cancel waited for it, one of the two would fail."""
    replay = await begun(database)
    await replays.schedule(database, replay, limit=500)
    async with sql.transaction():
        await sql.execute("DELETE FROM hookledger.retry WHERE seq = 5")
        cancelled = await replays.cancel(database, replay, detail="enough")
        assert cancelled.withdrawn == 2
    assert await waiting(sql) == []


async def test_one_that_is_done_stays_done(database: Database) -> None:
    replay = await begun(database)
    await replays.finish(database, replay.id)
    assert (await replays.cancel(database, replay, detail="enough")).state == "done"


async def test_the_owner_finds_those_of_its_shards(database: Database) -> None:
    replay = await begun(database)
    assert await replays.running(database, [SHARD]) == [replay]
    assert await replays.running(database, [shard for shard in range(16) if shard != SHARD]) == []


async def test_a_routes_replays_are_listed_newest_first(database: Database) -> None:
    ids = []
    for _ in range(3):
        replay = await begun(database)
        ids.append(replay.id)
        await replays.cancel(database, replay, detail="enough")
    await begun(database, scope(route_id=UUID(int=7)))
    listed = await replays.of_route(database, ROUTE, before=LATER, limit=10)
    assert [replay.id for replay in listed] == ids[::-1]
    assert [it.id for it in await replays.of_route(database, ROUTE, before=listed[0].created_at, limit=1)] == [ids[1]]


async def test_beginning_and_cancelling_is_told_to_the_owner(database: Database, sql: asyncpg.Connection) -> None:
    told: asyncio.Queue[None] = asyncio.Queue()
    await sql.add_listener(listen.RETRY, lambda *_: told.put_nowait(None))
    replay = await begun(database)
    async with asyncio.timeout(5):
        await told.get()
        await replays.cancel(database, replay, detail="enough")
        await told.get()


async def test_while_one_begins_a_delivery_of_its_route_is_sent_again_all_the_same(
    database: Database, sql: asyncpg.Connection
) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE hookledger.replay_part")
        beginning = asyncio.create_task(begun(database))
        await until_waiting(sql)
        assert (
            await manual_retry.retry(database, route_id=ROUTE, seq=1, request=ME, macs=LOG_MACS)
            is manual_retry.RetryResult.DUE
        )
    await replays.schedule(database, await beginning, limit=500)
    assert await waiting(sql) == [1, 5, 13]
