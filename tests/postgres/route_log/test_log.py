"""The route log: one order, one clock, no changes, and the hash chain that proves it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import cast
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import route_log
from eventstore.domain_events import ticks
from eventstore.domain_events.events import publish
from eventstore.postgres import canonical
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, RequestReused, ValueRefused, VersionConflict
from eventstore.route_log import chain
from eventstore.route_log.log import RouteCount, RouteEvent
from tests.support.postgres.queries import Connect, until_waiting
from tests.support.values.builders import NOON, ROUTE, draft, new_event


async def test_an_appended_event_is_what_is_read_back(database: Database) -> None:
    wanted = draft(
        body='{"name":"Ünï\\u0000code 🎉"}', reason="because", request_id="r-1", correlation_id="c", causation_id="a"
    )
    added = await append(database, wanted)
    assert (added.pos, added.prev_hash) == (1, b"")
    assert {name: getattr(added, name) for name in wanted.__slots__} == {
        name: getattr(wanted, name) for name in wanted.__slots__
    }
    assert [event async for event in route_log.read(database)] == [added]
    assert await route_log.history(database, wanted.route_id) == [added]
    assert await route_log.by_request(database, "r-1") == added
    assert await route_log.by_request(database, "r-2") is None
    assert await route_log.last_position(database) == 1


async def test_an_empty_log_has_position_zero_and_no_history(database: Database) -> None:
    assert await route_log.last_position(database) == 0
    assert await route_log.history(database, uuid4()) == []
    assert [event async for event in route_log.read(database)] == []


async def test_reading_turns_pages_without_loss(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_log, "PAGE_ROWS", 3)
    for _ in range(7):
        await append(database, draft())
    assert [event.pos async for event in route_log.read(database)] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.pos async for event in route_log.read(database, after=4)] == [5, 6, 7]
    assert [event.pos async for event in route_log.read(database, after=7)] == []


async def test_positions_have_no_gap_under_twenty_appenders_some_of_whom_give_up(
    database: Database, connect: Connect
) -> None:
    async def appender(number: int) -> None:
        connection = await connect()
        for turn in range(10):
            await connection.execute("BEGIN")
            await append_on(connection, draft())
            await connection.execute("ROLLBACK" if (number + turn) % 4 == 0 else "COMMIT")

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(appender(number))
    events = verified([event async for event in route_log.read(database)])
    assert [event.pos for event in events] == list(range(1, 151))
    assert all(a.effective_at < b.effective_at for a, b in pairwise(events))


async def test_of_two_appenders_of_one_version_the_second_conflicts(database: Database) -> None:
    first = draft()
    await append(database, first)
    with pytest.raises(VersionConflict):
        await append(database, first)
    edits = [append(database, draft(route_id=first.route_id, version=2)) for _ in range(5)]
    results = await asyncio.gather(*edits, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["RouteEvent"] + ["VersionConflict"] * 4
    assert await route_log.last_position(database) == 2


async def test_a_version_without_the_one_before_it_is_a_conflict_and_leaves_no_trace(database: Database) -> None:
    """A command on top of a version that a promotion has lost must not break the log for all."""
    first = draft()
    await append(database, first)
    with pytest.raises(VersionConflict):
        await append(database, draft(route_id=first.route_id, version=3))
    with pytest.raises(VersionConflict):
        await append(database, draft(version=2))
    assert await route_log.last_position(database) == 1


async def test_a_request_id_stands_for_one_command_even_if_its_version_is_taken_too(database: Database) -> None:
    first = draft(request_id="r-1")
    await append(database, first)
    for again in (first, draft(request_id="r-1"), draft(route_id=first.route_id, version=2, request_id="r-1")):
        with pytest.raises(RequestReused):
            await append(database, again)
    await append(database, draft(request_id=None))
    await append(database, draft(request_id=None))


async def test_of_one_request_sent_five_times_at_once_one_is_carried_out(database: Database) -> None:
    same = draft(request_id="r-1")
    results = await asyncio.gather(*(append(database, same) for _ in range(5)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["RequestReused"] * 4 + ["RouteEvent"]


@pytest.mark.parametrize(("version", "type"), [(1, "edited"), (2, "created"), (0, "created"), (1, "renamed")])
async def test_an_impossible_event_is_refused(database: Database, version: int, type: str) -> None:
    with pytest.raises(ValueRefused, match="check constraint"):
        await append(database, draft(version=version, type=type))


async def test_the_log_cannot_be_changed_even_by_its_owner(database: Database, sql: asyncpg.Connection) -> None:
    await append(database, draft())
    for table in ("route_event", "domain_event"):
        await publish(database, [new_event()])
        for statement in (
            f"UPDATE hookledger.{table} SET type = 'deleted'",
            f"DELETE FROM hookledger.{table}",
            f"TRUNCATE hookledger.{table}",
            f"TRUNCATE hookledger.{table} CASCADE",
        ):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
                await sql.execute(statement)


async def test_the_log_can_not_be_changed_by_a_role_with_all_privileges_but_ownership(sql: asyncpg.Connection) -> None:
    await sql.execute(
        "BEGIN; CREATE ROLE hookledger_test_meddler; GRANT ALL ON SCHEMA hookledger TO hookledger_test_meddler"
    )
    await sql.execute(
        "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA hookledger TO hookledger_test_meddler; SET ROLE hookledger_test_meddler"
    )
    for statement in (
        "UPDATE hookledger.route_event SET actor = ''",
        "TRUNCATE hookledger.route_event",
        "ALTER TABLE hookledger.route_event DISABLE TRIGGER ALL",
    ):
        await sql.execute("SAVEPOINT s")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute(statement)
        await sql.execute("ROLLBACK TO s")
    await sql.execute("ROLLBACK")


# --- time


async def test_an_event_takes_effect_later_than_every_tick_before_it(database: Database) -> None:
    for _ in range(20):
        await publish(database, [new_event()])
        await ticks.make(database)
        event = await append(database, draft())
        assert event.effective_at > max(tick.closed_upto for tick in await ticks.after(database, 0))


async def test_an_event_takes_effect_later_than_a_tick_made_before_the_clock_went_back(
    database: Database, sql: asyncpg.Connection
) -> None:
    await publish(database, [new_event()])
    await ticks.make(database)
    future = await sql.fetchval(
        "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) "
        "VALUES (2, pg_current_snapshot(), now(), 0, clock_timestamp() + interval '1 hour') RETURNING closed_upto"
    )
    first, second = await append(database, draft()), await append(database, draft())
    assert first.effective_at == future + timedelta(microseconds=1)
    assert second.effective_at == future + timedelta(microseconds=2)


async def test_ticks_close_what_took_effect_before_the_clock_went_back(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO hookledger.route_event VALUES (1, gen_random_uuid(), 'acme', 1, 'created', clock_timestamp() + interval '1 hour', "
        "'a', 'o', NULL, NULL, NULL, NULL, '{}', '', 'x')"
    )
    first = await sql.fetchval("SELECT effective_at FROM hookledger.route_event")
    await publish(database, [new_event()])
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    assert (tick.route_pos, tick.closed_upto) == (1, first)
    assert (await append(database, draft())).effective_at == first + timedelta(microseconds=1)


async def test_nobody_reads_a_tick_between_an_append_and_its_commit(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    await sql.execute("BEGIN")
    event = await append_on(sql, draft())
    await publish(database, [new_event()])
    ticker = await connect()
    tick = asyncio.create_task(ticker.fetchval("SELECT hookledger.make_tick()"))
    watcher = await connect()
    await until_waiting(watcher)
    await sql.execute("COMMIT")
    assert await tick == 1
    (made,) = await ticks.after(database, 0)
    assert made.route_pos == event.pos
    assert made.closed_upto >= event.effective_at


async def test_an_append_makes_a_tick_of_what_was_committed_before_it(database: Database) -> None:
    await publish(database, [new_event()])
    event = await append(database, draft())
    (tick,) = await ticks.after(database, 0)
    assert tick.route_pos == event.pos - 1
    assert tick.closed_upto < event.effective_at
    await append(database, draft())
    assert await ticks.newest(database) == 1, "nothing was committed in between"


async def test_a_commit_notifies_and_a_rollback_does_not(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await sql.add_listener("hookledger_route", lambda *arguments: heard.put_nowait(arguments[3]))
    connection = await connect()
    await connection.execute("BEGIN")
    await append_on(connection, draft())
    await connection.execute("ROLLBACK")
    await append(database, draft())
    async with asyncio.timeout(10):
        assert await heard.get() == "1"


# --- chain


async def test_every_field_of_every_event_is_covered(database: Database, sql: asyncpg.Connection) -> None:
    await some_history(database)
    whole = await stored(sql)
    assert verified(whole) == whole
    undetected = []
    for pos in (1, 3, 6):
        for column, value in TAMPERINGS.items():
            for touched in (value, "NULL") if column in NULLABLE else (value,):
                await tamper(sql, f"UPDATE hookledger.route_event SET {column} = {touched} WHERE pos = {pos}")
                changed = await stored(sql)
                await sql.execute("ROLLBACK")
                if changed != whole and await is_whole(changed):
                    undetected.append((pos, column, touched))
    assert set(TAMPERINGS) == set(RouteEvent._fields)
    assert undetected == []


async def test_a_removed_event_is_missed(database: Database, sql: asyncpg.Connection) -> None:
    await some_history(database)
    for pos in range(1, 6):
        await tamper(sql, f"DELETE FROM hookledger.route_event WHERE pos = {pos}")
        with pytest.raises(ChainBroken) as broken:
            await verify(await stored(sql))
        assert broken.value.pos == pos
        await sql.execute(f"UPDATE hookledger.route_event SET pos = pos - 1 WHERE pos > {pos}")
        assert not await is_whole(await stored(sql))
        await sql.execute("ROLLBACK")


async def test_reordered_events_are_noticed(database: Database) -> None:
    await some_history(database)
    events = [event async for event in route_log.read(database)]
    for here, there in ((0, 1), (2, 5), (4, 5)):
        swapped = list(events)
        swapped[here] = events[there]._replace(pos=events[here].pos)
        swapped[there] = events[here]._replace(pos=events[there].pos)
        assert not await is_whole(swapped)
        swapped[here], swapped[there] = events[there], events[here]
        assert not await is_whole(swapped)


async def test_a_forger_who_recomputes_one_hash_is_betrayed_by_the_next(database: Database) -> None:
    await some_history(database)
    events = [event async for event in route_log.read(database)]
    forged = events[2]._replace(actor="nobody")
    events[2] = forged._replace(hash=chain.digest(forged))
    with pytest.raises(ChainBroken) as broken:
        await verify(events)
    assert broken.value.pos == 4


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | texts, min_size=1, max_size=5))
async def test_python_and_sql_agree_on_the_canonical_bytes(sql: asyncpg.Connection, values: list[str | None]) -> None:
    there: str = await sql.fetchval("SELECT hookledger.canonical($1)", values)
    assert there.encode() == b"".join(canonical.netstring(value) for value in values)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tenant=texts, body=texts, reason=st.none() | texts, request_id=st.none() | texts, correlation_id=st.none() | texts
)
async def test_python_and_sql_agree_on_the_hash_of_any_event(
    sql: asyncpg.Connection,
    tenant: str,
    body: str,
    reason: str | None,
    request_id: str | None,
    correlation_id: str | None,
) -> None:
    await sql.execute("BEGIN")
    event = await append_on(
        sql, draft(tenant=tenant, body=body, reason=reason, request_id=request_id, correlation_id=correlation_id)
    )
    await sql.execute("ROLLBACK")
    assert event.hash == chain.digest(event)


NULLABLE = {"reason", "request_id", "correlation_id", "causation_id"}
TAMPERINGS = {
    "pos": "pos + 100",
    "route_id": "gen_random_uuid()",
    "tenant": "tenant || 'x'",
    "version": "version + 1000",
    "type": "CASE type WHEN 'edited' THEN 'disabled' ELSE 'edited' END",
    "effective_at": "effective_at + interval '1 microsecond'",
    "actor": "'somebody'",
    "origin": "'elsewhere'",
    "reason": "'another'",
    "request_id": "'another'",
    "correlation_id": "'another'",
    "causation_id": "'another'",
    "body": "body || ' '",
    "prev_hash": "sha256('x')",
    "hash": "sha256('x')",
}


async def append(database: Database, wanted: route_log.NewRouteEvent) -> RouteEvent:
    async with database.transaction() as connection:
        return await route_log.append(connection, wanted)


async def append_on(connection: asyncpg.Connection, wanted: route_log.NewRouteEvent) -> RouteEvent:
    """In a transaction of the test's own; a connection is as good as the pool's proxy of one."""
    return await route_log.append(cast("asyncpg.pool.PoolConnectionProxy", connection), wanted)


async def some_history(database: Database) -> None:
    first = await append(database, draft(reason="", request_id="r"))
    await append(database, draft())
    await append(
        database,
        draft(route_id=first.route_id, version=2, reason="why", correlation_id="c", causation_id="d", request_id="q"),
    )
    await append(database, draft())
    await append(database, draft(route_id=first.route_id, version=3))
    await append(database, draft(route_id=first.route_id, version=4, type="deleted"))


async def tamper(connection: asyncpg.Connection, statement: str) -> None:
    """In a transaction that the caller rolls back."""
    await connection.execute("BEGIN; ALTER TABLE hookledger.route_event DISABLE TRIGGER ALL")
    await connection.execute("ALTER TABLE hookledger.route_event DROP CONSTRAINT route_event_version_check")
    await connection.execute(statement)


async def stored(connection: asyncpg.Connection) -> list[RouteEvent]:
    return [RouteEvent(**row) for row in await connection.fetch("SELECT * FROM hookledger.route_event ORDER BY pos")]


def verified(events: list[RouteEvent]) -> list[RouteEvent]:
    """The events, each checked against the one before."""
    log = chain.Chain()
    for event in events:
        log.check(event)
    return events


async def verify(events: list[RouteEvent]) -> None:
    verified(events)


async def is_whole(events: list[RouteEvent]) -> bool:
    try:
        await verify(events)
    except ChainBroken:
        return False
    return True


async def test_the_routes_of_a_tenant_are_counted_without_deleted_ones_and_after_a_position(database: Database) -> None:
    first, second = draft(), draft()
    for event in (first, second, draft(tenant="globex"), replace(first, version=2, type="edited")):
        await append(database, event)
    async with database.transaction() as connection:
        assert await route_log.count_routes(connection, "acme") == RouteCount(position=4, routes=2)
        assert await route_log.count_routes(connection, "nobody") == RouteCount(position=4, routes=0)
    await append(database, replace(second, version=2, type="deleted"))
    await append(database, draft())
    async with database.transaction() as connection:
        assert await route_log.count_routes(connection, "acme", after=4) == RouteCount(position=6, routes=0)
        assert await route_log.count_routes(connection, "acme") == RouteCount(position=6, routes=2)


async def test_a_history_is_read_from_a_version_on(database: Database) -> None:
    first = draft()
    events = [
        await append(database, replace(first, version=n, type="created" if n == 1 else "edited")) for n in (1, 2, 3)
    ]
    assert [await route_log.history(database, first.route_id, after_version=n) for n in (0, 2, 3)] == [
        events,
        events[2:],
        [],
    ]


@settings(max_examples=60, deadline=None)
@given(actor=texts, reason=st.none() | texts)
def test_the_short_way_to_the_canonical_bytes_is_the_long_one(actor: str, reason: str | None) -> None:
    event = RouteEvent(
        1, ROUTE, "acme", 1, "created", NOON, actor, "api", reason, None, None, None, "{}", b"", b""
    )  # fmt: skip
    fields = (
        "1", str(ROUTE), "acme", "1", "created", str(canonical.microseconds(NOON)), actor, "api", reason, None, None, None,
        "{}",
    )  # fmt: skip
    assert chain.canonical(event) == b"".join(canonical.netstring(field) for field in fields)
