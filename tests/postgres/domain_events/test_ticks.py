"""Ticks: made only when an event was committed, by one of many processes, and numbered without gaps."""

import asyncio
from itertools import pairwise

import asyncpg
import pytest

from eventstore import route_log
from eventstore.domain_events import polls, ticks
from eventstore.domain_events.events import publish
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from tests.support.values.builders import draft, new_event


async def positions(database: Database) -> tuple[int | None, int, int]:
    """What a poll made, the newest tick, and the end of the route log."""
    poll = await polls.poll(database, known_tick=0, known_pos=0)
    return poll.made, poll.mark.tick, poll.route_pos


async def test_before_the_first_tick_there_is_number_zero_with_an_empty_cut(database: Database) -> None:
    assert await ticks.newest(database) == 0
    assert await ticks.after(database, 0) == []
    assert await ticks.snap_of(database, 0) == ticks.EMPTY_SNAP
    assert await ticks.make(database) is None


async def test_a_tick_is_made_only_if_something_was_committed(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, [new_event()])
    assert await ticks.make(database) == 1
    assert await ticks.make(database) is None
    await publish(database, [new_event(id="again")])
    await publish(database, [new_event(id="again")])
    assert await ticks.make(database) == 2
    await publish(database, [new_event(id="again")])
    assert await ticks.make(database) is None
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}')")
    assert await ticks.make(database) is None
    await sql.execute("COMMIT")
    assert await ticks.make(database) == 3
    assert await ticks.make(database) is None
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}'); ROLLBACK")
    assert await ticks.make(database) is None


async def test_what_was_under_way_at_a_tick_makes_the_next_when_it_commits(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}')")
    await publish(database, [new_event()])
    assert await ticks.make(database) == 1
    assert await ticks.make(database) is None
    await sql.execute("COMMIT")
    assert await ticks.make(database) == 2


async def test_a_poll_makes_the_tick_and_tells_how_far_both_logs_have_come(database: Database) -> None:
    assert await positions(database) == (None, 0, 0)
    async with database.transaction() as connection:
        await route_log.append(connection, draft())
    await publish(database, [new_event()])
    assert await positions(database) == (1, 1, 1)
    async with database.transaction() as connection:
        await route_log.append(connection, draft())
    assert await positions(database) == (None, 1, 2)
    await publish(database, [new_event()])
    assert await ticks.make(database) == 2
    assert await positions(database) == (None, 2, 2)


async def test_a_poll_shows_what_stands_where_the_caller_has_read(database: Database) -> None:
    async with database.transaction() as connection:
        appended = await route_log.append(connection, draft())
    await publish(database, [new_event()])
    first = await polls.poll(database, known_tick=0, known_pos=0)
    assert (first.known_snap, first.known_hash) == (None, None)
    assert first.mark.timeline == 1
    assert [first.newest] == await ticks.after(database, 0)
    again = await polls.poll(database, known_tick=1, known_pos=1)
    assert (again.mark, again.known_snap, again.known_hash) == (first.mark, first.mark.snap, appended.hash)
    beyond = await polls.poll(database, known_tick=2, known_pos=2)
    assert (beyond.known_snap, beyond.known_hash) == (None, None)


async def test_a_poll_brings_no_tick_if_there_is_none(database: Database) -> None:
    assert (await polls.poll(database, known_tick=0, known_pos=0)).newest is None


async def test_a_notification_brings_the_tick_and_its_number_alone_if_it_is_too_long(
    database: Database, sql: asyncpg.Connection
) -> None:
    """Ticks of transactions that are under way list them all: here by a snapshot that stands in for theirs."""
    payloads: asyncio.Queue[str] = asyncio.Queue()
    await sql.add_listener(listen.TICK, lambda _connection, _pid, _channel, payload: payloads.put_nowait(payload))
    await publish(database, [new_event()])
    await ticks.make(database)
    number, tick = ticks.notified(await asyncio.wait_for(payloads.get(), 10))
    assert (number, [tick]) == (1, await ticks.after(database, 0))
    await sql.execute(
        "CREATE FUNCTION hookledger.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE sql AS "
        "$$ SELECT concat_ws(':', min(n), max(n) + 1, string_agg(n::text, ',' ORDER BY n))::pg_snapshot"
        "     FROM (SELECT pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::integer AS first) now,"
        "          generate_series(first, first + 4000) n $$;"
        "ALTER FUNCTION hookledger.snapshot_with(xid8) SET search_path = hookledger, pg_catalog"
    )
    await publish(database, [new_event()])
    assert await ticks.make(database) == 2
    assert ticks.notified(await asyncio.wait_for(payloads.get(), 10)) == (2, None)


async def test_the_events_of_a_backlog_are_one_tick(database: Database) -> None:
    for _ in range(5):
        await publish(database, [new_event()])
    assert await ticks.make(database) == 1
    assert await ticks.newest(database) == 1


async def test_ticks_are_numbered_without_gap_however_many_make_them(database: Database) -> None:
    made: list[int] = []

    async def ticker() -> None:
        for _ in range(25):
            await publish(database, [new_event()])
            number = await ticks.make(database)
            if number is not None:
                made.append(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ticker())
    rows = await ticks.after(database, 0)
    assert sorted(made) == [tick.tick for tick in rows] == list(range(1, len(made) + 1))
    assert all(a.closed_upto <= b.closed_upto and a.route_pos <= b.route_pos for a, b in pairwise(rows))
    xmaxes = [int(tick.snap.split(":")[1]) for tick in rows]
    assert xmaxes == sorted(xmaxes)


async def test_a_tick_knows_the_position_of_the_route_log(database: Database) -> None:
    for expected in (0, 1, 2):
        await publish(database, [new_event()])
        await ticks.make(database)
        (tick,) = await ticks.after(database, expected)
        assert tick.route_pos == expected
        assert await ticks.snap_of(database, tick.tick) == tick.snap
        async with database.transaction() as connection:
            await route_log.append(connection, draft())
    assert [tick.tick for tick in await ticks.after(database, 1)] == [2, 3]
    assert [tick.tick for tick in await ticks.after(database, 0, limit=2)] == [1, 2]


async def test_closing_never_goes_back_even_if_the_clock_does(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) "
        "VALUES (1, pg_current_snapshot(), now(), 0, clock_timestamp() + interval '1 hour')"
    )
    await publish(database, [new_event()])
    await ticks.make(database)
    first, second = await ticks.after(database, 0)
    assert second.closed_upto == first.closed_upto > second.at


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_the_default_isolation_of_a_database_does_not_matter(
    database: Database, database_url: str, sql: asyncpg.Connection, isolation: str
) -> None:
    name = await sql.fetchval("SELECT current_database()")
    await sql.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'")
    fresh = Database(database_url, pool_size=4)
    await fresh.open()
    async with fresh.connection() as connection:
        assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
    await fresh.close()
