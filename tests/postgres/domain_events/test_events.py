"""Publishing: every event is stored once and unchanged, and only those who may publish can."""

import asyncio
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.events.event import IncomingEvent, parse
from eventstore import domain_events
from eventstore.domain_events import polls, ticks
from eventstore.domain_events.events import NewEvent, StoredEvent, publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import AccessRefused, IdHeld, Locked, StoreUnavailable, ValueRefused
from tests.support.postgres.queries import Connect, until_waiting
from tests.support.values.builders import TENANTS, new_event

ALWAYS_MIDNIGHT = "CREATE OR REPLACE FUNCTION hookledger.is_near_midnight(at timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'"


async def test_an_event_is_stored_byte_for_byte(database: Database) -> None:
    event = new_event(
        data=b'{ "b": 1.0, "a": "\xff?" }',
        context=b"{}",
        snapshot=b'{"x":{}}',
        occurred_at=datetime(2024, 1, 1, tzinfo=UTC),
        backfill=True,
    )
    assert await publish(database, [event]) == [True]
    (stored,) = await domain_events.find(database, event.id)
    assert {name: getattr(stored, name) for name in NewEvent.__slots__} == {
        name: getattr(event, name) for name in NewEvent.__slots__
    }
    assert (stored.tick, stored.closed_upto) == (None, None)
    await ticks.make(database)
    (stored,) = await domain_events.find(database, event.id, tenant="acme")
    (tick,) = await ticks.after(database, 0)
    assert (stored.tick, stored.closed_upto) == (1, tick.closed_upto)


async def test_each_event_is_answered_in_the_order_given(database: Database) -> None:
    a, b, c, d = (new_event(id=id) for id in "abcd")
    assert await publish(database, []) == []
    assert await publish(database, [b, d]) == [True, True]
    assert await publish(database, [a, b, c, d]) == [True, False, True, False]
    assert await publish(database, [d, c, b, a]) == [False] * 4


async def test_duplicates_within_a_batch_are_the_first_of_them(database: Database, sql: asyncpg.Connection) -> None:
    twice = [
        new_event(id="a", data=b'{"n":1}'),
        new_event(id="b"),
        new_event(id="a", data=b'{"n":2}'),
        new_event(id="a", tenant="other"),
    ]
    assert await publish(database, twice) == [True, True, False, True]
    assert (
        await sql.fetchval("SELECT data FROM hookledger.domain_event WHERE id = 'a' AND tenant = 'acme'") == b'{"n":1}'
    )


async def test_seq_follows_the_order_given(database: Database, sql: asyncpg.Connection) -> None:
    ids = [f"{random.Random(number).random()}" for number in range(300)]
    await publish(database, [new_event(id=id) for id in ids])
    assert [row["id"] for row in await sql.fetch("SELECT id FROM hookledger.domain_event ORDER BY seq")] == ids


async def test_one_id_belongs_to_two_tenants_as_two_events(database: Database) -> None:
    assert await publish(database, [new_event(id="same", tenant="a"), new_event(id="same", tenant="b")]) == [True, True]
    assert {event.tenant for event in await domain_events.find(database, "same")} == {"a", "b"}
    (found,) = await domain_events.find(database, "same", tenant="a")
    assert found.tenant == "a"
    assert await domain_events.find(database, "same", tenant="c") == []


@pytest.mark.parametrize("near_midnight", [False, True])
async def test_ten_publishers_of_the_same_ids_in_any_order_make_one_event_of_each(
    database: Database, sql: asyncpg.Connection, connect: Connect, near_midnight: bool
) -> None:
    if near_midnight:
        await sql.execute(ALWAYS_MIDNIGHT)
    ids = [f"id-{number}" for number in range(150)]
    others = [await connect() for _ in range(10)]

    async def publisher(connection: asyncpg.Connection, seed: int) -> list[str]:
        mine = random.Random(seed).sample(ids, len(ids))
        fresh = []
        for start in range(0, len(mine), 50):
            part = mine[start : start + 50]
            answer = await connection.fetchval(
                domain_events.events._PUBLISH, *columns([new_event(id=id) for id in part])
            )
            fresh += [id for id, is_new in zip(part, answer, strict=True) if is_new]
        return fresh

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(publisher(connection, seed)) for seed, connection in enumerate(others)]
    assert sorted(id for task in tasks for id in task.result()) == sorted(ids)
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == len(ids)


async def test_two_batches_of_the_same_ids_in_opposite_order_do_not_wait_crosswise(
    database: Database, sql: asyncpg.Connection
) -> None:
    """Both wait at the id in the middle, which a third publisher has inserted and then rolls back."""
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'm')")
    there = asyncio.create_task(publish(database, [new_event(id=id) for id in "amz"]))
    await until_waiting(sql)
    back = asyncio.create_task(publish(database, [new_event(id=id) for id in "zma"]))
    await until_waiting(sql, count=2)
    await sql.execute("ROLLBACK")
    assert await there == [True] * 3
    assert await back == [False] * 3


async def test_around_midnight_the_answers_are_the_same(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, [new_event(id="before")])
    await sql.execute(ALWAYS_MIDNIGHT)
    batch = [new_event(id=id) for id in ("b", "before", "a", "b")]
    assert await publish(database, batch) == [True, False, True, False]
    assert await publish(database, batch) == [False] * 4
    assert [row["id"] for row in await sql.fetch("SELECT id FROM hookledger.domain_event ORDER BY seq")] == [
        "before",
        "b",
        "a",
    ]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_an_event_under_way_on_the_other_side_of_midnight_is_waited_for(
    database: Database, sql: asyncpg.Connection, end: str
) -> None:
    await sql.execute(ALWAYS_MIDNIGHT)
    await sql.execute("BEGIN; INSERT INTO hookledger.domain_event_midnight (tenant, id) VALUES ('acme', 'x')")
    await sql.execute(
        "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at) "
        "VALUES ('acme', 'x', 'order.create', '{}', date_trunc('day', now(), 'UTC') - interval '1 second')"
    )
    publishing = asyncio.create_task(publish(database, [new_event(id="x")]))
    await until_waiting(sql)
    await sql.execute(end)
    assert await publishing == [end == "ROLLBACK"]


async def test_what_another_midnight_left_behind_does_not_count(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(ALWAYS_MIDNIGHT)
    await sql.execute("INSERT INTO hookledger.domain_event_midnight VALUES ('acme', 'x', now() - interval '24 hours')")
    assert await publish(database, [new_event(id="x")]) == [True]
    assert await publish(database, [new_event(id="x")]) == [False]


_STALE_ID = "INSERT INTO hookledger.domain_event_midnight VALUES ('acme', 'x', now() - interval '24 hours')"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("before", ["SELECT", ALWAYS_MIDNIGHT, f"{ALWAYS_MIDNIGHT}; {_STALE_ID}"])
async def test_an_id_that_another_transaction_holds_is_told_apart_from_other_locks(
    database: Database, sql: asyncpg.Connection, before: str, count: int
) -> None:
    await sql.execute(before)
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}', 'x')")
    batch = [new_event(id=id) for id in "xy"[:count]]
    with pytest.raises(IdHeld):
        await publish(database, batch, lock_seconds=0.01)
    with pytest.raises(IdHeld):
        await polls.publish(database, batch, known_tick=0, known_pos=0, lock_seconds=0.01)
    with pytest.raises(IdHeld):
        async with domain_events.publishing(database, seconds=5, lock_seconds=0.01) as publish_part:
            await publish_part(batch)
    await sql.execute("ROLLBACK; BEGIN; LOCK TABLE hookledger.domain_event IN SHARE MODE")
    with pytest.raises(Locked) as other:
        await publish(database, batch, lock_seconds=0.01)
    assert not isinstance(other.value, IdHeld)
    await sql.execute("ROLLBACK")
    assert await publish(database, batch, lock_seconds=0.01) == [True] * count
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "2s"


MIDNIGHTS = (
    ("2024-01-01 23:49:59.999999+00", False),
    ("2024-01-01 23:50:00+00", True),
    ("2024-01-02 00:00:00+00", True),
    ("2024-01-02 00:09:59.999999+00", True),
    ("2024-01-02 00:10:00+00", False),
    ("2024-01-01 12:00:00+00", False),
    ("2024-01-01 23:55:00+05", False),
    ("2024-01-01 18:55:00-05", True),
)


async def test_midnight_is_that_of_utc(sql: asyncpg.Connection) -> None:
    await sql.execute("SET timezone = 'Asia/Kolkata'")
    for at, is_near in MIDNIGHTS:
        assert await sql.fetchval(f"SELECT hookledger.is_near_midnight('{at}')") is is_near, at


@pytest.mark.parametrize(("hours", "is_new"), [(23, False), (25, True)])
async def test_an_id_may_come_again_after_24_hours(
    database: Database, sql: asyncpg.Connection, hours: int, is_new: bool
) -> None:
    await sql.execute(
        "SELECT hookledger.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 2, (now() AT TIME ZONE 'UTC')::date)"
    )
    await sql.execute(
        "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at) "
        f"VALUES ('acme', 'x', 'order.create', '{{}}', clock_timestamp() - interval '{hours} hours')"
    )
    assert await publish(database, [new_event(id="x")]) == [is_new]
    assert len(await domain_events.find(database, "x", tenant="acme")) == 1


async def test_a_day_without_a_partition_is_an_outage_and_no_refusal(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "DROP TABLE hookledger.domain_event_"
        + await sql.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    )
    with pytest.raises(StoreUnavailable, match="no partition") as outage:
        await publish(database, [new_event()])
    assert "migrate" in outage.value.hint


REFUSED = {
    "tenant": ["", " ", "a b", "a\n", "é", "x" * 129],
    "id": ["", "x\n", "\t", "é", "x" * 129],
    "type": [
        "",
        "order",
        ".create",
        "order.",
        "order..create",
        "Order.create",
        "order.create\n",
        "ordér.create",
        "a." + "b" * 127,
    ],
}
ACCEPTED = {
    "tenant": ["~", "x" * 128, "!"],
    "id": [" ", "x" * 128, "a b~"],
    "type": ["a.b.c_1", "0.0", "a." + "b" * 126],
}


async def test_tenant_id_and_type_are_what_the_contract_says(database: Database) -> None:
    changed: Any = replace  # the names of fields are in a table
    for field, values in REFUSED.items():
        for value in values:
            with pytest.raises(ValueRefused, match=f"domain_event_{field}_check") as refusal:
                await publish(database, [changed(new_event(data=b'{"secret":1}'), **{field: value})])
            assert "secret" not in str(refusal.value)
    for field, values in ACCEPTED.items():
        for value in values:
            assert await publish(database, [changed(new_event(), **{field: value})]) == [True]


@pytest.mark.parametrize("at", ["-infinity", "infinity", "0044-03-15 BC", "20000-01-01", "1969-12-31 23:59:59+00"])
async def test_a_time_that_no_reader_has_is_refused_from_sql_too(sql: asyncpg.Connection, at: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="occurred_at must be a time from 1970 to 9998") as refusal:
        await sql.execute(
            f"SELECT hookledger.publish(tenant => 'acme', type => 'a.b', data => '{{}}', occurred_at => '{at}')"
        )
    assert refusal.value.constraint_name == "domain_event_occurred_at_check"


async def test_a_bad_event_takes_its_batch_with_it(database: Database, sql: asyncpg.Connection) -> None:
    with pytest.raises(ValueRefused):
        await publish(database, [new_event(), new_event(type="bad")])
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == 0


async def test_characters_that_no_text_can_hold_are_refused(database: Database) -> None:
    for id in ("a\0b", "a\ud800b"):
        with pytest.raises(ValueRefused):
            await publish(database, [new_event(id=id)])
    assert await publish(database, [new_event()]) == [True]


async def test_tenants_fall_into_their_shards_for_ever(database: Database, sql: asyncpg.Connection) -> None:
    assert [await sql.fetchval("SELECT hookledger.shard_of($1)", tenant) for tenant in TENANTS] == list(range(16))
    await publish(database, [new_event(tenant=tenant) for tenant in TENANTS])
    rows = await sql.fetch("SELECT shard FROM hookledger.domain_event ORDER BY seq")
    assert [row["shard"] for row in rows] == list(range(domain_events.SHARDS))


# --- finding again


async def test_events_are_found_by_seq_with_the_moment_of_each(database: Database) -> None:
    await publish(database, [new_event(id=id) for id in "abc"])
    wanted = {event.seq: event.recorded_at for id in "abc" for event in await domain_events.find(database, id)}
    assert {event.id for event in (await domain_events.by_seq(database, wanted)).values()} == {"a", "b", "c"}
    assert await domain_events.by_seq(database, {}) == {}
    assert await domain_events.by_seq(database, {10**9: datetime.now(UTC)}) == {}


async def test_of_large_events_the_first_ones_are_read_in_the_order_asked(database: Database) -> None:
    await publish(database, [new_event(id=id, data=b'{"n": "%b"}' % (b"x" * size)) for id, size in LARGE.items()])
    seqs = {id: (event.seq, event.recorded_at) for id in LARGE for event in await domain_events.find(database, id)}
    gone = (10**9, seqs["a"][1])
    asked = dict([seqs["c"], gone, seqs["a"], seqs["b"]])

    async def read(most_bytes: int) -> list[str | None]:
        found = await domain_events.first_by_seq(database, asked, most_bytes=most_bytes)
        assert list(found) == list(asked)[: len(found)]
        return [None if event is None else event.id for event in found.values()]

    assert await read(1) == ["c"]
    assert await read(30_000) == ["c"]
    assert await read(32_000) == ["c", None, "a"]
    assert await read(90_000) == ["c", None, "a", "b"]
    assert await domain_events.first_by_seq(database, dict([gone])) == {gone[0]: None}
    assert await domain_events.first_by_seq(database, {}) == {}


LARGE = {"a": 10_000, "b": 20_000, "c": 30_000}


EARLY, MIDDLE, LATE = (datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3))


@pytest.mark.parametrize(("occurred_at", "recorded_at", "closed_upto", "event_time"), [
    (EARLY, MIDDLE, LATE, EARLY),    # told late
    (None, MIDDLE, LATE, MIDDLE),    # told nothing
    (LATE, EARLY, MIDDLE, EARLY),    # a claim about the future is clamped to the recording
    (None, LATE, EARLY, EARLY),      # the clock went back between recording and reading
    (MIDDLE, LATE, EARLY, EARLY),
    (EARLY, LATE, None, EARLY),      # no tick yet
    (LATE, MIDDLE, None, MIDDLE),
    (MIDDLE, MIDDLE, MIDDLE, MIDDLE),
])  # fmt: skip
def test_event_time_is_the_least_of_the_three(
    occurred_at: datetime | None, recorded_at: datetime, closed_upto: datetime | None, event_time: datetime
) -> None:
    event = StoredEvent(
        1,
        recorded_at,
        0,
        "acme",
        "a",
        "order.create",
        occurred_at,
        b"{}",
        None,
        None,
        False,
        None,
        None,
        1,
        closed_upto,
    )
    assert event.event_time == event_time


def test_the_size_of_an_event_counts_all_its_payloads() -> None:
    event = StoredEvent(
        1, EARLY, 0, "acme", "a", "order.create", None, b"12345", b"123", b"12", False, None, None, 1, None
    )
    assert event.size_bytes == 510


# --- a producer's own transaction


async def as_producer(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute("SET ROLE hookledger_producer")
    return connection


async def test_a_producer_publishes_in_its_own_transaction(database: Database, sql: asyncpg.Connection) -> None:
    producer = await as_producer(sql)
    await producer.execute("BEGIN")
    made = await producer.fetchval("SELECT hookledger.publish(tenant => 'acme', type => 'order.create', data => '{}')")
    assert made.startswith("evt_")
    assert len(made) == 36
    assert await domain_events.find(database, made) == []
    await producer.execute("ROLLBACK")
    assert await domain_events.find(database, made) == []
    same = "SELECT hookledger.publish('acme', 'order.create', '{\"a\": 1}', id => 'mine', occurred_at => '2024-01-01Z', context => '{}', snapshot => '{\"o\": {}}')"
    assert [await producer.fetchval(same), await producer.fetchval(same)] == ["mine", "mine"]
    (event,) = await domain_events.find(database, "mine")
    assert (event.data, event.context, event.snapshot, event.backfill) == (b'{"a": 1}', b"{}", b'{"o": {}}', False)
    assert event.occurred_at == EARLY


FORBIDDEN = (
    "SELECT * FROM hookledger.domain_event",
    "SELECT * FROM hookledger.route_event",
    "SELECT * FROM hookledger.route_key",
    "SELECT * FROM hookledger.meta",
    "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at) VALUES ('acme', 'x', 'a.b', '{}', '2000-01-01')",
    "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) SELECT 1, pg_current_snapshot(), now(), 0, now()",
    "UPDATE hookledger.lease SET owner = 'me'",
    "DELETE FROM hookledger.retry",
    "TRUNCATE hookledger.attempt",
    "SELECT nextval('hookledger.domain_event_seq')",
    "SELECT hookledger.publish_many('{a}', '{b}', '{c.d}', '{now}', '{x}', '{x}', '{x}', '{f}')",
    "SELECT hookledger.make_tick()",
    "SELECT hookledger.append_route_event(gen_random_uuid(), 'a', 1, 'created', 'a', 'o', '', '', '', '', '')",
    "SELECT hookledger.ensure_partitions('2024-01-01', '2024-01-02')",
    "SELECT hookledger.tick_of('1')",
    "SELECT hookledger.lock_resends(gen_random_uuid())",
    "LOCK TABLE hookledger.log_lock IN ACCESS SHARE MODE",
    "CREATE TABLE hookledger.mine (id integer)",
    "CREATE FUNCTION hookledger.publish(text) RETURNS text LANGUAGE sql AS 'SELECT 1'",
    "DROP FUNCTION hookledger.publish(text, text, jsonb, text, timestamptz, jsonb, jsonb, boolean)",
    "ALTER TABLE hookledger.domain_event DISABLE TRIGGER ALL",
    "DROP SCHEMA hookledger CASCADE",
    "COPY hookledger.domain_event TO STDOUT",
)


async def test_a_producer_can_do_nothing_else(sql: asyncpg.Connection) -> None:
    producer = await as_producer(sql)
    allowed = []
    for statement in FORBIDDEN:
        await producer.execute("BEGIN")
        try:
            await producer.execute(statement)
            allowed.append(statement)
        except asyncpg.InsufficientPrivilegeError:
            pass
        await producer.execute("ROLLBACK")
    assert allowed == []


async def test_a_producer_may_publish_jsonb_or_text_and_touch_no_table(sql: asyncpg.Connection) -> None:
    functions = await sql.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'hookledger'::regnamespace AND has_function_privilege('hookledger_producer', oid, 'EXECUTE')"
    )
    assert [row["proname"] for row in functions] == ["publish", "publish"]
    tables = await sql.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND "
        "has_table_privilege('hookledger_producer', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    )
    assert tables == []


async def test_a_producer_cannot_lend_its_own_operators_to_the_owner(sql: asyncpg.Connection) -> None:
    """publish runs as the owner, so the functions it calls must not be looked up in the caller's search_path."""
    await sql.execute("CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO hookledger_producer")
    producer = await as_producer(sql)
    for argument in ("text", "jsonb"):
        await producer.execute(
            f"CREATE FUNCTION trap.convert_to({argument}, name) RETURNS bytea LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'"
        )
    await producer.execute(
        "CREATE FUNCTION trap.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'"
    )
    await producer.execute("SET search_path = trap, pg_catalog")
    assert await producer.fetchval("SELECT hookledger.publish('acme', 'a.b', '{}', id => 'x')") == "x"


MISTAKES = {
    "'acme', 'a.b', '[]'": "data",
    "'acme', 'a.b', 'null'": "data",
    "'acme', 'a.b', NULL": "data",
    "'acme', 'a.b', '{}', context => '1'": "context",
    "'acme', 'a.b', '{}', snapshot => '[]'": "snapshot",
    "'acme', 'a.b', '{}', context => 'null'": "context",
    "'acme', 'ab', '{}'": "type must be object.action",
    "'acme', 'A.B', '{}'": "type must be object.action",
    "'acme', NULL, '{}'": "type must be object.action",
    f"'acme', 'a.{'b' * 128}', '{{}}'": "type must be object.action",
    "'', 'a.b', '{}'": "tenant must be 1 to 128 printable",
    "NULL, 'a.b', '{}'": "tenant must be 1 to 128 printable",
    "'two words', 'a.b', '{}'": "tenant must be 1 to 128 printable",
    "'acme', 'a.b', '{}', id => 'é'": "id must be 1 to 128 printable",
    "'acme', 'a.b', '{}', id => ''": "id must be 1 to 128 printable",
    "'acme', 'a.b', '{}', occurred_at => 'infinity'": "occurred_at must be a time from 1970",
    "'.', 'a.b', '{}'": "tenant must not be . or ..",
    "'acme', 'a.b', '{}', id => '..'": "id must not be . or ..",
}


@pytest.mark.parametrize("arguments", MISTAKES)
async def test_a_producer_is_told_what_is_wrong_and_shown_no_row(sql: asyncpg.Connection, arguments: str) -> None:
    producer = await as_producer(sql)
    for cast in ("", "::jsonb"):
        with pytest.raises((asyncpg.DataError, asyncpg.CheckViolationError), match=MISTAKES[arguments]) as refusal:
            await producer.execute(f"SELECT hookledger.publish({arguments})".replace("'{}'", f"'{{}}'{cast}"))
        assert refusal.value.detail is None


async def test_who_does_not_say_whether_it_is_a_backfill_says_that_it_is_none(sql: asyncpg.Connection) -> None:
    for cast in ("jsonb", "text"):
        await sql.execute(f"SELECT hookledger.publish('acme', 'a.b', '{{}}'::{cast}, backfill => NULL)")
    assert [row["backfill"] for row in await sql.fetch("SELECT backfill FROM hookledger.domain_event")] == [False] * 2


async def test_what_sql_refuses_is_what_the_checks_of_the_table_refuse(sql: asyncpg.Connection) -> None:
    """Each value that is refused by its own check is refused before by the same name, and no other one."""
    for field, values in (*REFUSED.items(), *ACCEPTED.items()):
        for value in values:
            given = {"tenant": "acme", "type": "a.b", "id": "e", field: value}
            publish_it = sql.fetchval("SELECT hookledger.publish($1, $2, '{}'::text, id => $3)", *given.values())
            if value in REFUSED[field]:
                with pytest.raises(asyncpg.CheckViolationError) as refusal:
                    await publish_it
                assert refusal.value.constraint_name == f"domain_event_{field}_check"
            else:
                assert await publish_it == given["id"]


UNUSUAL = (
    r'{"nul": "a\u0000b", "\u0000": 1}', '{"b":1,  "a":1.10, "a":2, "big":123456789012345678901234567890}',
    r'{"a": "\\u0000"}', r'{"a": "\\\u0000"}', r'{"half": "\ud800"}', '{"n":1e99999999999999999999,"z":-0}',
)  # fmt: skip


@pytest.mark.parametrize("text", UNUSUAL)
async def test_json_as_text_is_kept_as_it_was_published_also_what_is_no_jsonb(
    database: Database, sql: asyncpg.Connection, text: str
) -> None:
    producer = await as_producer(sql)
    statement = (
        "SELECT hookledger.publish('acme', 'a.b', $1::text, id => 'e', context => $1::text, snapshot => $1::text)"
    )
    assert await producer.fetchval(statement, text) == "e"
    (event,) = await domain_events.find(database, "e")
    assert event.data == event.context == event.snapshot == text.encode()
    assert isinstance(
        parse(b'{"tenant":"acme","type":"a.b","data":%s}' % event.data, now=EARLY, max_bytes=1000), IncomingEvent
    )


@pytest.mark.parametrize(
    "text", ['{"a": 1', "{'a': 1}", '{"a": 01}', '{"a": NaN}', r'{"a": "\u00g0"}', "[]", "1", "", "null"]
)
async def test_text_that_is_no_json_object_is_refused(sql: asyncpg.Connection, text: str) -> None:
    producer = await as_producer(sql)
    for arguments in ("$1::text", "'{}', context => $1::text", "'{}', snapshot => $1::text"):
        with pytest.raises(asyncpg.DataError):
            await producer.fetchval(f"SELECT hookledger.publish('acme', 'a.b', {arguments})", text)


numbers = st.integers(-(10**30), 10**30) | st.decimals(-(10**15), 10**15, places=9, allow_nan=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=numbers)
async def test_numbers_of_jsonb_keep_every_digit(sql: asyncpg.Connection, number: object) -> None:
    await sql.execute("BEGIN")
    await sql.fetchval(
        "SELECT hookledger.publish('acme', 'a.b', $1::jsonb, id => 'n')",
        f'{{"n": {number:f}}}' if not isinstance(number, int) else f'{{"n": {number}}}',
    )
    data = await sql.fetchval("SELECT data FROM hookledger.domain_event WHERE id = 'n'")
    await sql.execute("ROLLBACK")
    assert json.loads(data, parse_float=str, parse_int=str)["n"] == (
        f"{number:f}" if not isinstance(number, int) else str(number)
    )


async def test_a_user_without_privileges_is_refused_with_a_hint(database_url: str, sql: asyncpg.Connection) -> None:
    role = await sql.fetchval("SELECT 'stranger_to_' || current_database()")
    await sql.execute(f'CREATE ROLE "{role}" LOGIN')
    try:
        stranger = Database(database_url.replace("//postgres", f"//{role}", 1), pool_size=1)
        await stranger.open()
        with pytest.raises(AccessRefused):
            await publish(stranger, [new_event()])
        await stranger.close()
    finally:
        await sql.execute(f'DROP ROLE "{role}"')


def columns(events: list[NewEvent]) -> list[list[object]]:
    return [
        [getattr(event, name) for event in events]
        for name in ("tenant", "id", "type", "occurred_at", "data", "context", "snapshot", "backfill", "hops")
    ]
