"""Retention: old partitions are dropped, deliveries that wait for them expire, needed ones stay, and nothing blocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from eventstore import domain_events, route_log
from eventstore.domain_events import ticks
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.retention import retention
from eventstore.retention.retention import Held, Keep, Swept
from eventstore.route_log import sealed_secrets
from tests.support.postgres.queries import Connect, until_waiting
from tests.support.rows.credentials import LOG_MACS, unsigned_outcomes
from tests.support.until import until
from tests.support.values.builders import ROUTE, draft, new_event

KEEP = Keep(events=timedelta(days=30), attempts=timedelta(days=30))
OLD, RECENT = 40, 10


def days_ago(days: int) -> datetime:
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days)


def partition(parent: str, days: int) -> str:
    return f"{parent}_{days_ago(days):%Y%m%d}"


async def swept(database: Database, keep: Keep = KEEP) -> Swept:
    done = await retention.sweep(database, keep, macs=LOG_MACS)
    assert done is not None
    return done


async def ensure(sql: asyncpg.Connection, *days: int) -> None:
    for number in days:
        await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", days_ago(number).date())


async def event(sql: asyncpg.Connection, id: str, *, days: int) -> int:
    """Inserts an event that was published so many days ago. Returns its seq."""
    await ensure(sql, days)
    return int(
        await sql.fetchval(
            "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at) "
            "VALUES ('acme', $1, 'order.create', '{}', $2) RETURNING seq",
            id,
            days_ago(days),
        )
    )


async def attempt(
    sql: asyncpg.Connection, seq: int, outcome: str, *, days: int, tick: int = 1, route: UUID = ROUTE
) -> None:
    await ensure(sql, days)
    await sql.execute(
        "INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, number, duration_ms, route_version, outcome, tenant, event_id, event_type) "
        "VALUES ($1, $2, $3, $4, $1, $1, 0, 1, 5, 1, $5, 'acme', 'of ' || $2::bigint::text, 'order.create')",
        days_ago(days), seq, tick, route, outcome,
    )  # fmt: skip


async def retry(sql: asyncpg.Connection, seq: int, *, days: int, holder: str | None = None) -> None:
    await sql.execute(
        "INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, holder, tenant) "
        "VALUES ($1, $2, $3, $3, 1, 0, 1, now() + interval '1 hour', $4, 'acme')",
        ROUTE, seq, days_ago(days), holder,
    )  # fmt: skip


async def packed(sql: asyncpg.Connection, *pairs: tuple[int, int], flush: int = 1) -> None:
    """Inserts a packed row, given as pairs of seq and age in days."""
    seqs, ages = [seq for seq, _ in pairs], [days_ago(days) for _, days in pairs]
    await sql.execute(
        "INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times, tenant) "
        "VALUES (0, 1, $1, $2, 1, $3, array_fill(1::bigint, ARRAY[cardinality($3::bigint[])]), $4, $4, 'acme')",
        flush, ROUTE, seqs, ages,
    )  # fmt: skip


async def read(database: Database, sql: asyncpg.Connection) -> int:
    """Makes a tick, and moves all checkpoints to it."""
    number = await ticks.make(database)
    assert number is not None
    await sql.execute("UPDATE hookledger.checkpoint SET tick = $1", number)
    return number


async def a_route(database: Database) -> None:
    for version in (1, 2):
        async with database.transaction() as connection:
            await route_log.append(connection, draft(route_id=ROUTE, version=version))


async def ids(sql: asyncpg.Connection) -> set[str]:
    return {row["id"] for row in await sql.fetch("SELECT id FROM hookledger.domain_event")}


async def tables(sql: asyncpg.Connection, parent: str) -> set[str]:
    """The day partitions, attached or not."""
    rows = await sql.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'r' AND relname ~ ('^' || $1 || '_[0-9]{8}$')",
        parent,
    )
    return {row["relname"] for row in rows}


async def expired(sql: asyncpg.Connection) -> list[int]:
    rows = await sql.fetch("SELECT seq FROM hookledger.attempt WHERE outcome = 'expired' ORDER BY seq")
    return [row["seq"] for row in rows]


async def test_partitions_wholly_older_than_the_limit_are_dropped(database: Database, sql: asyncpg.Connection) -> None:
    for days in (OLD, 31, 30, RECENT, 0):
        await attempt(sql, await event(sql, f"{days} days ago", days=days), "delivered", days=days)
    await read(database, sql)

    done = await swept(database)

    gone = [partition(parent, days) for parent in ("domain_event", "attempt") for days in (OLD, 31)]
    assert (done.dropped, done.held, done.expired) == (gone, [], 0)
    assert await ids(sql) == {"30 days ago", "10 days ago", "0 days ago"}
    assert await sql.fetchval("SELECT count(*) FROM hookledger.attempt") == 3
    assert not {*gone} & (await tables(sql, "domain_event") | await tables(sql, "attempt"))
    assert (await swept(database)).dropped == []


async def test_events_and_attempts_have_limits_of_their_own(database: Database, sql: asyncpg.Connection) -> None:
    for days in (OLD, RECENT):
        await attempt(sql, await event(sql, f"{days} days ago", days=days), "delivered", days=days)
    await read(database, sql)
    keep = Keep(events=timedelta(days=50), attempts=timedelta(days=5))
    assert (await swept(database, keep)).dropped == [partition("attempt", OLD), partition("attempt", RECENT)]
    keep = Keep(events=timedelta(days=5), attempts=timedelta(days=50))
    assert (await swept(database, keep)).dropped == [partition("domain_event", OLD), partition("domain_event", RECENT)]


async def test_secrets_of_a_deleted_route_go_when_nothing_that_was_sent_with_them_is_kept(
    database: Database, sql: asyncpg.Connection
) -> None:
    ages = {"long ago": OLD, "of the last day kept": OLD - 1, "lately": RECENT}
    routes = {name: uuid4() for name in (*ages, "alive")}
    for name, route_id in routes.items():
        async with database.transaction() as connection:
            await sealed_secrets.add_key(connection, route_id, "k1", b"key")
            await sealed_secrets.add_headers(connection, route_id, "h1", b"headers")
            await route_log.append(connection, draft(route_id=route_id))
            if name in ages:
                await route_log.append(connection, draft(route_id=route_id, version=2, type="deleted"))
    await sql.execute("SET session_replication_role = replica")  # the log refuses changes otherwise
    for name, days in ages.items():
        await sql.execute(
            "UPDATE hookledger.route_event SET effective_at = $2 WHERE route_id = $1", routes[name], days_ago(days)
        )
    await sql.execute("RESET session_replication_role")
    assert (await swept(database)).secrets == 0, "nothing was dropped yet, so everything can be shown"
    await attempt(sql, await event(sql, "old", days=OLD - 2), "delivered", days=OLD - 2)
    await read(database, sql)
    done = await swept(database)
    assert (len(done.dropped), done.secrets) == (2, 4)
    kept = {row["route_id"] for row in await sql.fetch("SELECT route_id FROM hookledger.route_key")}
    assert kept == {routes["lately"], routes["alive"]}
    assert await sql.fetchval("SELECT count(*) FROM hookledger.route_headers") == 2


async def test_the_beginning_of_what_is_kept_is_known(database: Database, sql: asyncpg.Connection) -> None:
    assert await retention.horizon(database) == retention.Horizon(events=None, attempts=None)
    await event(sql, "old", days=OLD)
    await read(database, sql)
    await swept(database)
    begins = datetime.combine(days_ago(OLD - 1).date(), datetime.min.time(), UTC)
    assert await retention.horizon(database) == retention.Horizon(events=begins, attempts=begins)


async def test_what_no_checkpoint_has_passed_is_never_dropped(database: Database, sql: asyncpg.Connection) -> None:
    await event(sql, "old", days=OLD)
    unread = [Held(partition=partition("domain_event", OLD), reason="unread")]
    assert (await swept(database)).held == unread, "in no tick"
    await ticks.make(database)
    await sql.execute("UPDATE hookledger.checkpoint SET tick = 1 WHERE shard <> 7")
    assert (await swept(database)).held == unread, "one shard has not done it"
    assert await ids(sql) == {"old"}
    await sql.execute("UPDATE hookledger.checkpoint SET tick = 1")
    done = await swept(database)
    assert partition("domain_event", OLD) in done.dropped
    assert done.held == []


async def test_what_a_tick_saw_under_way_is_unread(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    producer = await connect()
    await ensure(sql, OLD)
    await producer.execute("BEGIN")
    await event(producer, "old", days=OLD)
    await domain_events.publish(database, [new_event()])
    await read(database, sql)
    part = partition("domain_event", OLD)
    assert (await swept(database)).held == [Held(partition=part, reason="written")]
    await producer.execute("COMMIT")
    assert (await swept(database)).held == [Held(partition=part, reason="unread")]
    await read(database, sql)
    assert part in (await swept(database)).dropped


async def test_attempts_of_ticks_above_a_checkpoint_stay(database: Database, sql: asyncpg.Connection) -> None:
    await attempt(sql, 1, "delivered", days=OLD, tick=1)
    assert (await swept(database)).held == [Held(partition=partition("attempt", OLD), reason="unread")]
    await event(sql, "any", days=0)
    await read(database, sql)
    assert partition("attempt", OLD) in (await swept(database)).dropped


async def test_attempts_stay_as_long_as_something_older_waits(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    await attempt(sql, 1, "retrying", days=OLD)
    await event(sql, "any", days=0)
    await read(database, sql)
    keep = Keep(events=timedelta(days=100), attempts=timedelta(days=5))
    held = [Held(partition=partition("attempt", OLD), reason="waited_for")]
    await retry(sql, 1, days=OLD)
    assert (await swept(database, keep)).held == held
    await sql.execute("DELETE FROM hookledger.retry")
    await packed(sql, (2, 0), (1, OLD))
    assert (await swept(database, keep)).held == held
    await sql.execute("DELETE FROM hookledger.parked")
    assert (await swept(database, keep)).held == []


async def test_what_waits_for_an_old_event_expires(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    old = [await event(sql, f"old-{number}", days=OLD) for number in range(5)]
    recent = await event(sql, "recent", days=RECENT)
    await read(database, sql)
    await retry(sql, old[0], days=OLD)
    await attempt(sql, old[0], "retrying", days=OLD)
    await packed(sql, (old[1], OLD), (old[2], OLD))
    await packed(sql, (old[3], OLD), (recent, RECENT), flush=2)
    await retry(sql, recent, days=RECENT)

    done = await swept(database)

    assert (done.expired, partition("domain_event", OLD) in done.dropped) == (4, True)
    assert await unsigned_outcomes(sql) == []
    rows = await sql.fetch("SELECT * FROM hookledger.attempt WHERE outcome = 'expired' ORDER BY seq")
    assert [(row["seq"], row["event_id"]) for row in rows] == [(old[n], f"old-{n}") for n in range(4)]
    assert {(r["number"], r["tick"], r["shard"], r["tenant"], r["route_version"], r["event_time"]) for r in rows} == {
        (0, 1, 0, "acme", 2, days_ago(OLD))
    }
    assert [row["seq"] for row in await sql.fetch("SELECT seq FROM hookledger.retry")] == [recent]
    (left,) = await sql.fetch("SELECT * FROM hookledger.parked")
    assert (left["flush"], left["seqs"], left["ticks"]) == (2, [recent], [1])
    assert (left["recorded_ats"], left["event_times"]) == ([days_ago(RECENT)], [days_ago(RECENT)])


async def test_a_packed_row_keeps_its_order_when_a_part_of_it_expires(
    database: Database, sql: asyncpg.Connection
) -> None:
    await a_route(database)
    await event(sql, "old", days=OLD)
    await read(database, sql)
    await packed(sql, (90, RECENT), (1, OLD), (40, RECENT), (2, OLD), (70, RECENT))
    await swept(database)
    assert await sql.fetchval("SELECT seqs FROM hookledger.parked") == [90, 40, 70]


@pytest.mark.parametrize("outcome", ["delivered", "failed", "suppressed", "expired"])
async def test_what_has_ended_gets_no_second_outcome(database: Database, sql: asyncpg.Connection, outcome: str) -> None:
    await a_route(database)
    done, waiting = [await event(sql, f"old-{number}", days=OLD) for number in range(2)]
    await read(database, sql)
    await attempt(sql, done, outcome, days=RECENT)
    await packed(sql, (done, OLD), (waiting, OLD))
    before = await expired(sql)
    assert (await swept(database)).expired == 1
    assert await expired(sql) == sorted([*before, waiting])


async def test_a_pair_that_is_parked_and_retried_expires_once(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    seq = await event(sql, "old", days=OLD)
    await read(database, sql)
    await packed(sql, (seq, OLD))
    await retry(sql, seq, days=OLD)
    assert (await swept(database)).expired == 1
    assert await expired(sql) == [seq]


async def test_what_is_under_way_is_waited_for(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    seq = await event(sql, "old", days=OLD)
    await read(database, sql)
    await retry(sql, seq, days=OLD, holder="a process")
    held = [Held(partition=partition(parent, OLD), reason="waited_for") for parent in ("domain_event", "attempt")]
    assert (await swept(database)).held == held
    await sql.execute("UPDATE hookledger.retry SET due_at = now() - interval '1 second'")
    assert (await swept(database)).expired == 1


async def test_what_a_flush_is_settling_is_waited_for_by_nobody(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    await a_route(database)
    seq = await event(sql, "old", days=OLD)
    await read(database, sql)
    await retry(sql, seq, days=OLD)
    flush = await connect()
    await flush.execute("BEGIN; DELETE FROM hookledger.retry")
    async with asyncio.timeout(20):
        assert (await swept(database)).held[0].reason == "waited_for"
    await flush.execute("COMMIT")
    assert await expired(sql) == []


async def test_a_test_that_expires_is_marked_as_one(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    await ensure(sql, OLD)
    seqs = [
        await sql.fetchval(
            "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at, test_route) "
            "VALUES ('acme', $1, 'order.create', '{}', $2, $3) RETURNING seq",
            f"evt {test_route}", days_ago(OLD), test_route,
        )
        for test_route in (ROUTE, None)
    ]  # fmt: skip
    await read(database, sql)
    for seq in seqs:
        await retry(sql, seq, days=OLD)
    assert (await swept(database)).expired == 2
    stored = await sql.fetch("SELECT seq, is_test FROM hookledger.attempt ORDER BY seq")
    assert [tuple(row) for row in stored] == [(seqs[0], True), (seqs[1], False)]


async def test_a_retry_that_was_written_after_its_event_went_expires_by_its_last_attempt(
    database: Database, sql: asyncpg.Connection
) -> None:
    await a_route(database)
    seq = await event(sql, "old", days=OLD)
    await read(database, sql)
    await swept(database)
    await attempt(sql, seq, "retrying", days=0)
    await retry(sql, seq, days=OLD)
    await event(sql, "older than the limit", days=OLD - 1)
    await read(database, sql)
    assert (await swept(database)).expired == 1
    assert await sql.fetchval("SELECT event_id FROM hookledger.attempt WHERE outcome = 'expired'") == f"of {seq}"


async def test_many_expire_in_batches(database: Database, sql: asyncpg.Connection) -> None:
    await a_route(database)
    await event(sql, "old", days=OLD)
    await read(database, sql)
    await sql.execute(
        """
        INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at, seq)
        SELECT 'acme', 'e' || n, 'order.create', '{}', $1, 10000 + n FROM generate_series(1, 5000) n
        """,
        days_ago(OLD),
    )
    await read(database, sql)
    for number in range(50):
        await packed(sql, *((10000 + number * 50 + part, OLD) for part in range(1, 51)), flush=number)
    await sql.execute(
        "INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) "
        "SELECT $1, 10000 + n, $2, $2, 1, 0, 1, now(), 'acme' FROM generate_series(2501, 5000) n",
        ROUTE,
        days_ago(OLD),
    )
    assert (await swept(database)).expired == 5000
    assert await sql.fetchval("SELECT count(DISTINCT seq) FROM hookledger.attempt WHERE outcome = 'expired'") == 5000
    assert await sql.fetchval("SELECT count(*) FROM hookledger.retry") == 0


async def test_what_a_range_will_decide_anew_is_held(database: Database, sql: asyncpg.Connection) -> None:
    await attempt(sql, await event(sql, "before the range", days=OLD + 1), "delivered", days=OLD + 1, tick=1)
    await read(database, sql)
    await attempt(sql, await event(sql, "in the range", days=OLD), "delivered", days=OLD, tick=2)
    await read(database, sql)
    await sql.execute("INSERT INTO hookledger.parked_range VALUES ($1, 0, 2, 1)", uuid4())
    done = await swept(database)
    assert done.dropped == [partition("domain_event", OLD + 1), partition("attempt", OLD + 1)]
    assert done.held == [
        Held(partition=partition(parent, OLD), reason="ranged") for parent in ("domain_event", "attempt")
    ]
    assert [tick.tick for tick in await ticks.after(database, 0)] == [1, 2]
    await sql.execute("DELETE FROM hookledger.parked_range")
    assert (await swept(database)).dropped == [partition("domain_event", OLD), partition("attempt", OLD)]


async def test_an_event_that_came_with_a_dump_is_judged_by_its_tick(
    database: Database, sql: asyncpg.Connection
) -> None:
    await event(sql, "old", days=OLD)
    await sql.execute(
        "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) SELECT n, '1:1:', now(), 0, now() FROM generate_series(1, 3) n"
    )
    await sql.execute("SET session_replication_role = replica")
    await sql.execute("UPDATE hookledger.domain_event SET txid = '0', tick = 2")
    await sql.execute("RESET session_replication_role; UPDATE hookledger.checkpoint SET tick = 1")
    assert (await swept(database)).held == [Held(partition=partition("domain_event", OLD), reason="unread")]
    await sql.execute("UPDATE hookledger.checkpoint SET tick = 3")
    assert partition("domain_event", OLD) in (await swept(database)).dropped


async def test_ticks_go_when_no_event_needs_them(database: Database, sql: asyncpg.Connection) -> None:
    for number, days in enumerate((OLD, OLD, RECENT, RECENT, 0)):
        await event(sql, f"event-{number}", days=days)
        await read(database, sql)
    before = {
        e.id: (e.tick, e.closed_upto)
        for number in range(5)
        for e in await domain_events.find(database, f"event-{number}")
    }
    assert (await swept(database)).ticks == 2
    assert [tick.tick for tick in await ticks.after(database, 0)] == [3, 4, 5]
    after = {
        e.id: (e.tick, e.closed_upto)
        for number in range(5)
        for e in await domain_events.find(database, f"event-{number}")
    }
    assert after == {id: tick for id, tick in before.items() if tick[0] is not None and tick[0] > 2}


async def test_the_tick_of_the_oldest_checkpoint_stays_though_no_event_is_left(
    database: Database, sql: asyncpg.Connection
) -> None:
    for number in range(4):
        await event(sql, f"event-{number}", days=OLD)
        await read(database, sql)
    await sql.execute("UPDATE hookledger.checkpoint SET tick = 3 WHERE shard = 4")
    await sql.execute("SET session_replication_role = replica")
    await sql.execute("DELETE FROM hookledger.domain_event")
    await sql.execute("RESET session_replication_role")
    assert (await swept(database)).ticks == 2
    assert [tick.tick for tick in await ticks.after(database, 0)] == [3, 4]
    assert await ticks.snap_of(database, 3) != "None"


async def test_ticks_of_many_batches_go(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_TICK_BATCH", 7)
    await sql.execute(
        "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) "
        "SELECT n, pg_current_snapshot(), now(), 0, now() FROM generate_series(1, 50) n"
    )
    await event(sql, "any", days=0)
    await read(database, sql)
    assert (await swept(database)).ticks == 50
    assert [tick.tick for tick in await ticks.after(database, 0)] == [51]


async def test_a_producer_who_does_not_commit_delays_the_drop_and_nobody_else(
    database: Database, sql: asyncpg.Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    await event(sql, "old", days=OLD)
    await read(database, sql)
    producer = await connect()
    await producer.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'open')")
    sweeping = asyncio.create_task(swept(database))
    await until_waiting(sql)
    async with asyncio.timeout(10):  # far less than the sweep's lock timeout
        for _ in range(20):
            assert await domain_events.publish(database, [new_event()]) == [True]
            assert await ticks.make(database) is not None
            assert await schema.maintain_partitions(database) == 0
    assert not sweeping.done()
    await producer.execute("COMMIT")
    async with asyncio.timeout(30):
        assert partition("domain_event", OLD) in (await sweeping).dropped
    assert "open" in await ids(sql)


async def test_a_drop_that_was_given_up_is_finished_by_the_next_sweep(
    database: Database, sql: asyncpg.Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in (OLD, OLD - 1):
        await event(sql, f"{days} days ago", days=days)
    await read(database, sql)
    producer = await connect()
    await producer.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'open')")
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", timedelta(milliseconds=50))
    part = partition("domain_event", OLD)
    for _ in range(2):
        assert Held(partition=part, reason="in_use") in (await swept(database)).held
        assert await domain_events.publish(database, [new_event()]) == [True]
        assert await sql.fetchval(
            "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::text::regclass", f"hookledger.{part}"
        )
    assert part in await tables(sql, "domain_event")
    await producer.execute("COMMIT")
    monkeypatch.undo()
    assert (await swept(database)).dropped == [part, partition("domain_event", OLD - 1)]
    assert part not in await tables(sql, "domain_event")


async def test_a_partition_that_was_detached_before_a_crash_is_dropped(
    database: Database, sql: asyncpg.Connection
) -> None:
    await ensure(sql, OLD)
    part = partition("attempt", OLD)
    await sql.execute(
        "INSERT INTO hookledger.meta VALUES ('attempts_kept_from', $1)", _end_of_day(OLD).isoformat()
    )  # as a sweep does first
    await sql.execute(f"ALTER TABLE hookledger.attempt DETACH PARTITION hookledger.{part}")
    assert part in (await swept(database)).dropped
    assert part not in await tables(sql, "attempt")


def _end_of_day(days: int) -> datetime:
    return days_ago(days).replace(hour=0) + timedelta(days=1)


async def begin_to_detach(sql: asyncpg.Connection, connect: Connect, parent: str, part: str) -> None:
    """As an administrator does who gives up because a transaction uses it: it stays marked."""
    reader = await connect()
    await reader.execute(f"BEGIN; SELECT FROM hookledger.{parent}")
    await sql.execute("SET lock_timeout = '100ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await sql.execute(f"ALTER TABLE hookledger.{parent} DETACH PARTITION hookledger.{part} CONCURRENTLY")
    await sql.execute("RESET lock_timeout")
    await reader.execute("COMMIT")


@pytest.mark.parametrize("days", [0, RECENT, OLD])
@pytest.mark.parametrize("parent", ["domain_event", "attempt"])
async def test_what_somebody_else_has_begun_to_detach_is_not_dropped(
    database: Database, sql: asyncpg.Connection, connect: Connect, parent: str, days: int
) -> None:
    for age in (OLD + 1, days, OLD - 1):
        await attempt(sql, await event(sql, f"{age} days ago", days=age), "delivered", days=age)
    await read(database, sql)
    part, next_one = partition(parent, days), partition(parent, OLD + 1)
    await begin_to_detach(sql, connect, parent, part)

    done = await swept(database)

    assert Held(partition=next_one, reason="detaching") in done.held
    assert part in await tables(sql, parent)
    await sql.execute(f"ALTER TABLE hookledger.{parent} DETACH PARTITION hookledger.{part} FINALIZE")
    done = await swept(database)
    assert {next_one, partition(parent, OLD - 1)} <= {*done.dropped}
    assert done.held == []
    assert await sql.fetchval(f"SELECT count(*) FROM hookledger.{part}") == 1


@pytest.mark.parametrize("parent", ["domain_event", "attempt"])
async def test_beside_a_default_partition_nothing_is_dropped_and_the_sweep_says_why(
    database: Database, sql: asyncpg.Connection, parent: str
) -> None:
    await attempt(sql, await event(sql, "old", days=OLD), "delivered", days=OLD)
    await read(database, sql)
    await sql.execute(f"CREATE TABLE hookledger.others PARTITION OF hookledger.{parent} DEFAULT")
    assert (await swept(database)).held == [Held(partition=partition(parent, OLD), reason="default")]
    await sql.execute("DROP TABLE hookledger.others")
    assert partition(parent, OLD) in (await swept(database)).dropped


async def test_of_two_daemons_one_sweeps(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(f"BEGIN; {retention._SWEEP_LOCK}")
    assert await retention.sweep(database, KEEP, macs=LOG_MACS) is None
    await sql.execute("ROLLBACK")
    assert await retention.sweep(database, KEEP, macs=LOG_MACS) is not None


async def test_a_daemon_that_is_frozen_in_a_sweep_does_not_keep_the_others_out_for_ever(
    database: Database, connect: Connect
) -> None:
    longest = f"{retention._SWEEP_SECONDS:.0f}s"
    assert longest in retention._SWEEP_LOCK
    frozen = await connect()
    await frozen.execute(f"BEGIN; {retention._SWEEP_LOCK.replace(longest, '1s')}")
    assert await retention.sweep(database, KEEP, macs=LOG_MACS) is None
    await until(frozen.is_closed)
    assert await retention.sweep(database, KEEP, macs=LOG_MACS) is not None


async def test_a_table_of_the_operators_own_is_left_alone(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("CREATE TABLE hookledger.domain_event_archive_20200101 (id integer)")
    await swept(database)
    assert await sql.fetchval("SELECT to_regclass('hookledger.domain_event_archive_20200101')") is not None


@pytest.mark.parametrize("days_ahead", [schema.PARTITION_DAYS_AHEAD])
async def test_publishing_works_again_at_once_after_a_long_time_without_a_daemon(
    database: Database, sql: asyncpg.Connection
) -> None:
    today = await sql.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    for parent in ("domain_event", "attempt"):
        for name in await tables(sql, parent):
            await sql.execute(f"DROP TABLE hookledger.{name}")
    await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", today - timedelta(days=60))
    assert await schema.maintain_partitions(database) == 18
    assert await domain_events.publish(database, [new_event()]) == [True]
    assert min(await tables(sql, "attempt")) == f"attempt_{today - timedelta(days=60):%Y%m%d}"
    await swept(database)
    assert min(await tables(sql, "attempt")) == f"attempt_{_yesterday(today):%Y%m%d}"


def _yesterday(today: date) -> date:
    return today - timedelta(days=1)


async def test_a_manual_retry_is_noted_for_as_long_as_the_outcomes_of_its_day(
    database: Database, sql: asyncpg.Connection
) -> None:
    await ensure(sql, 40, 30)
    midnight = days_ago(30).replace(hour=0)
    for at in (days_ago(40), midnight):
        await sql.execute(
            "INSERT INTO hookledger.resend (at, route_id, seq, actor, origin) VALUES ($1, $2, 1, 'a', 'o')", at, ROUTE
        )
    await swept(database)
    assert [row["at"] for row in await sql.fetch("SELECT at FROM hookledger.resend")] == [midnight]


@pytest.mark.parametrize(
    ("began", "left"),
    [
        ({"gone": 44, "late": 43, "long ago": 42, "running": 41}, {"late", "long ago", "running"}),
        ({"gone": 43, "long ago": 42, "late": 41, "running": 41}, {"late", "running"}),
        ({"long ago": 42, "running": 42}, {"long ago", "running"}),  # a day goes at once, as its seal says
        ({"gone": 43, "late": 40}, {"late"}),
        ({"running": 43, "late": 40}, {"late", "running"}),
    ],
)
async def test_a_replay_is_kept_as_long_as_an_outcome_of_it_or_of_one_of_its_day_may_be(
    database: Database, sql: asyncpg.Connection, began: dict[str, int], left: set[str]
) -> None:
    await ensure(sql, 40, 30)
    # Outcomes are dropped up to the end of the day 40 days ago, and one may have come after the end of its replay.
    ends = {"gone": days_ago(42), "long ago": days_ago(41), "late": days_ago(40), "running": None}
    for actor, days in began.items():
        ended_at = ends[actor]
        await sql.execute(
            """
            INSERT INTO hookledger.replay (id, route_id, tenant, wanted, since, until, sendable_from, actor, origin,
                   created_at, ended_at, ended_txid, state, total)
            VALUES (gen_random_uuid(), $1, 'acme', 'all', $2, $2, $2, $3, 'o', $2, $4, $6, $5, 1)
            """,
            ROUTE, days_ago(days), actor, ended_at, "running" if ended_at is None else "done", ended_at and 1,
        )  # fmt: skip
    await swept(database)
    assert {row["actor"] for row in await sql.fetch("SELECT actor FROM hookledger.replay")} == left


async def noted(sql: asyncpg.Connection, **times: timedelta) -> None:
    """Notes of a sweep and of a doubt, so long ago."""
    await sql.execute("DELETE FROM hookledger.meta WHERE key IN ('swept_at', 'clock_doubted_at')")
    for key, ago in times.items():
        await sql.execute(
            "INSERT INTO hookledger.meta (key, value) VALUES ($1, (clock_timestamp() - $2::interval)::text)", key, ago
        )


@pytest.mark.parametrize(
    ("times", "is_trusted"),
    [
        ({}, True),
        ({"swept_at": timedelta(hours=23)}, True),
        ({"swept_at": timedelta(days=-31)}, True),  # the clock was ahead, and was set back
        ({"swept_at": timedelta(days=2)}, False),
        ({"swept_at": timedelta(days=2), "clock_doubted_at": timedelta(hours=23)}, False),
        ({"swept_at": timedelta(days=2), "clock_doubted_at": timedelta(hours=25)}, True),
        ({"swept_at": timedelta(days=12), "clock_doubted_at": timedelta(days=10)}, False),
        ({"swept_at": timedelta(days=2), "clock_doubted_at": timedelta(days=-31)}, False),
        ({"swept_at": timedelta(hours=1), "clock_doubted_at": timedelta(hours=2)}, True),  # it was ahead for a while
    ],
)
async def test_after_a_leap_of_the_clock_nothing_is_dropped_for_a_day(
    database: Database, sql: asyncpg.Connection, times: dict[str, timedelta], is_trusted: bool
) -> None:
    await ensure(sql, OLD)
    await noted(sql, **times)

    for _ in range(2):  # the second sweep finds what the first one has noted
        found = await swept(database)
        assert (found.held == [Held(partition="all", reason="clock")]) is not is_trusted
    there = await sql.fetchval("SELECT to_regclass('hookledger.' || $1) IS NOT NULL", partition("domain_event", OLD))
    assert there is not is_trusted
    doubts = await sql.fetchval("SELECT count(*) FROM hookledger.meta WHERE key = 'clock_doubted_at'")
    assert doubts == (0 if is_trusted else 1)


async def test_the_first_sweep_of_a_database_that_had_no_event_for_long_waits_too(
    database: Database, sql: asyncpg.Connection
) -> None:
    await domain_events.publish(database, [new_event()])
    await sql.execute("SELECT hookledger.make_tick()")
    await sql.execute("UPDATE hookledger.tick SET at = at - interval '2 days'")
    assert (await swept(database)).held == [Held(partition="all", reason="clock")]
