"""Polls: an event and its tick in one transaction, and the events that come with the news of a tick."""

import asyncio
import random
from dataclasses import replace

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import polls, tail, ticks
from eventstore.domain_events.events import NewEvent, StoredEvent
from eventstore.domain_events.polls import Poll, ReadUpto
from eventstore.domain_events.ticks import bits_of
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ValueRefused
from tests.support.postgres.queries import Connect
from tests.support.values.builders import TENANTS, new_event

ALL = bits_of(range(domain_events.SHARDS))
BEGINNING = ReadUpto(0, ALL)


async def publish(database: Database, *events: NewEvent, read: ReadUpto = BEGINNING) -> tuple[list[bool], Poll]:
    return await polls.publish(database, events, known_tick=0, known_pos=0, read=read)


async def poll(database: Database, read: ReadUpto = BEGINNING) -> Poll:
    return await polls.poll(database, known_tick=0, known_pos=0, read=read)


async def events_of_tick(database: Database, number: int) -> list[StoredEvent]:
    """What the tail reads of a tick."""
    (tick,) = await ticks.after(database, number - 1, limit=1)
    before = await ticks.snap_of(database, number - 1)
    pages = tail.read_cut(database, before=before, tick=tick, shards=range(domain_events.SHARDS))
    return [event async for page in pages for event in page]


def told(events: list[StoredEvent] | None) -> list[tuple[object, ...]] | None:
    names = StoredEvent.__slots__
    return None if events is None else [tuple(getattr(event, name) for name in names) for event in events]


async def test_what_is_published_gets_its_tick_in_the_same_transaction_and_is_brought(database: Database) -> None:
    events = [replace(new_event(tenant=tenant), context=b"{}", snapshot=b'{"a": 1}', hops=2) for tenant in TENANTS[:3]]
    fresh, found = await publish(database, *events)
    assert (fresh, found.made, found.mark.tick) == ([True] * 3, 1, 1)
    assert found.newest == (await ticks.after(database, 0))[0]
    assert found.newest is not None
    assert found.newest.touched == bits_of(domain_events.shard_of(event.tenant) for event in events)
    assert [event.id for event in found.events or ()] == [event.id for event in events]
    assert told(found.events) == told(await events_of_tick(database, 1))
    assert await ticks.make(database) is None
    assert (await poll(database)).made is None


async def test_each_publish_brings_what_is_new_since_the_tick_that_the_caller_has_read(database: Database) -> None:
    for number in (1, 2, 3):
        _, found = await publish(database, new_event(id=f"e{number}"), read=ReadUpto(number - 1, ALL))
        assert [event.id for event in found.events or ()] == [f"e{number}"]
    for read in (ReadUpto(), ReadUpto(1, ALL), ReadUpto(3, ALL), ReadUpto(2, 0)):
        assert (await poll(database, read)).events is None


async def test_a_poll_brings_what_others_have_published_in_the_order_of_seq(database: Database) -> None:
    names = [f"e{number}" for number in range(20)]
    for name in names:
        await domain_events.publish(database, [new_event(tenant=random.choice(TENANTS), id=name)])
    found = await poll(database)
    assert [event.id for event in found.events or ()] == names
    assert told(found.events) == told(await events_of_tick(database, 1))


async def test_only_events_of_the_shards_of_the_caller_are_brought(database: Database) -> None:
    mine, others = (new_event(tenant=tenant) for tenant in TENANTS[:2])
    shards = [domain_events.shard_of(event.tenant) for event in (mine, others)]
    assert shards[0] != shards[1]
    _, found = await publish(database, mine, others, read=ReadUpto(0, 1 << shards[0]))
    assert [event.id for event in found.events or ()] == [mine.id]
    _, found = await publish(database, new_event(tenant=others.tenant), read=ReadUpto(1, 1 << shards[0]))
    assert found.events is None
    assert found.newest is not None
    assert not found.newest.may_touch(1 << shards[0])
    assert found.newest.may_touch(1 << shards[1])


async def test_a_tick_of_many_events_tells_no_shards_and_brings_nothing(database: Database) -> None:
    for count, is_brought in ((31, True), (32, False)):
        number = await ticks.newest(database)
        _, found = await publish(database, *[new_event() for _ in range(count)], read=ReadUpto(number, ALL))
        assert found.made == number + 1
        assert found.newest is not None
        assert (found.newest.touched is not None, found.events is not None) == (is_brought, is_brought)
        assert len(await events_of_tick(database, number + 1)) == count


@pytest.mark.parametrize("is_under_way", [False, True], ids=["alone", "beside a transaction"])
async def test_a_tick_of_a_large_event_is_made_and_brings_nothing(
    database: Database, connect: Connect, is_under_way: bool
) -> None:
    """An array of whole rows is made in memory: at 1 GiB PostgreSQL refused it, and no tick was made ever after."""
    other = await connect()
    if is_under_way:
        await other.execute("BEGIN; SELECT hookledger.publish('other', 'a.b', '{}')")
    await publish(database, new_event())
    for number, size_bytes in ((2, 262_144), (3, 262_145)):
        large = replace(new_event(), data=b"{%*b}" % (size_bytes - 2, b""))
        _, found = await publish(database, new_event(), large, read=ReadUpto(number - 1, ALL))
        assert found.made == number
        assert found.newest is not None
        is_brought = size_bytes == 262_144
        assert (found.newest.touched is not None, found.events is not None) == (is_brought, is_brought)
        assert len(await events_of_tick(database, number)) == 2


async def test_a_tick_from_before_a_restore_is_not_brought(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, new_event())
    await sql.execute(
        "SET session_replication_role = replica; UPDATE hookledger.tick SET snap = '1:1:';"
        "UPDATE hookledger.domain_event SET tick = 1, txid = '0'"
    )
    found = await poll(database)
    assert (found.mark.tick, found.events) == (1, None)


async def test_what_is_refused_leaves_neither_an_event_nor_a_tick(database: Database) -> None:
    with pytest.raises(ValueRefused):
        await publish(database, new_event(), new_event(type="no type"))
    assert await ticks.newest(database) == 0
    assert (await poll(database)).made is None


async def test_what_is_a_duplicate_makes_no_tick_unless_others_have_published(database: Database) -> None:
    await publish(database, new_event(id="e1"))
    fresh, found = await publish(database, new_event(id="e1"), read=ReadUpto(1, ALL))
    assert (fresh, found.made, found.events) == ([False], None, None)
    await domain_events.publish(database, [new_event(id="e2")])
    fresh, found = await publish(database, new_event(id="e1"), read=ReadUpto(1, ALL))
    assert (fresh, found.made) == ([False], 2)
    assert [event.id for event in found.events or ()] == ["e2"]


async def test_a_publisher_is_not_held_up_by_a_tick_that_is_not_done(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute("BEGIN; LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE")
    async with asyncio.timeout(1):  # a wait for the lock would end after 2 s
        fresh, found = await publish(database, new_event())
    assert (fresh, found.made, found.newest) == ([True], None, None)
    await sql.execute("COMMIT")
    assert (await poll(database)).made == 1
    assert len(await events_of_tick(database, 1)) == 1


async def test_transactions_that_began_before_and_after_are_read_by_the_tick_after_their_commit(
    database: Database, connect: Connect
) -> None:
    """Those that are under way count as such, though the tick shows a later transaction: the one that made it."""
    open_ones = [await connect() for _ in range(3)]
    for number, connection in enumerate(open_ones):
        await connection.execute(f"BEGIN; SELECT hookledger.publish('acme', 'a.b', '{{}}', 'open{number}')")
    _, found = await publish(database, new_event(id="e1"))
    assert [event.id for event in found.events or ()] == ["e1"]
    await open_ones[0].execute("ROLLBACK")
    await open_ones[2].execute("COMMIT")
    _, found = await publish(database, new_event(id="e2"), read=ReadUpto(1, ALL))
    assert [event.id for event in found.events or ()] == ["open2", "e2"]
    await open_ones[1].execute("COMMIT")
    found = await poll(database, ReadUpto(2, ALL))
    assert [event.id for event in found.events or ()] == ["open1"]
    for number, names in ((1, ["e1"]), (2, ["open2", "e2"]), (3, ["open1"])):
        assert [event.id for event in await events_of_tick(database, number)] == names


async def test_a_later_transaction_that_ended_first_changes_nothing(database: Database, connect: Connect) -> None:
    """The snapshot of a publisher shows its own transaction as ended already then, by its number."""
    earlier, later = await connect(), await connect()
    await earlier.execute("BEGIN; SELECT pg_current_xact_id()")
    await later.execute("SELECT hookledger.publish('acme', 'a.b', '{}', 'later')")
    await earlier.execute(
        "SELECT hookledger.publish('acme', 'a.b', '{}', 'earlier'); SELECT hookledger.next_tick(pg_current_xact_id())"
    )
    assert await ticks.newest(database) == 0
    await earlier.execute("COMMIT")
    assert sorted(event.id for event in await events_of_tick(database, 1)) == ["earlier", "later"]
    assert await ticks.make(database) is None


async def test_a_tick_that_is_undone_leaves_its_events_unread(database: Database, connect: Connect) -> None:
    undone = await connect()
    await domain_events.publish(database, [new_event(id="kept")])
    await undone.execute(
        "BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}', 'undone');"
        "SELECT hookledger.next_tick(pg_current_xact_id()); ROLLBACK"
    )
    assert await ticks.newest(database) == 0
    assert await ticks.make(database) == 1
    assert [event.id for event in await events_of_tick(database, 1)] == ["kept"]


async def test_where_much_is_under_way_the_tick_is_left_to_the_next_poll(
    database: Database, sql: asyncpg.Connection
) -> None:
    """A transaction with many savepoints has as many numbers, which would all stand in the snapshot."""
    await sql.execute("BEGIN; CREATE TEMPORARY TABLE t (n integer);")
    await sql.execute("".join(f"SAVEPOINT s{n}; INSERT INTO t VALUES ({n});" for n in range(150)))
    fresh, found = await publish(database, new_event())
    assert (fresh, found.made) == ([True], None)
    assert (await poll(database)).made == 1
    await sql.execute("ROLLBACK")


async def test_many_who_publish_with_ticks_and_without_lose_nothing_and_repeat_nothing(
    database: Database, connect: Connect
) -> None:
    """What is brought is what the tail reads of each tick; and each event is in one tick, of any process."""
    committed: set[str] = set()
    brought: dict[int, list[tuple[object, ...]]] = {}

    async def with_ticks(number: int) -> None:
        for turn in range(30):
            names = [f"t{number}-{turn}-{part}" for part in range(random.randint(1, 4))]
            read = ReadUpto(await ticks.newest(database), ALL)
            events = [new_event(tenant=random.choice(TENANTS), id=name) for name in names]
            _, found = await publish(database, *events, read=read)
            committed.update(names)
            if found.events is not None and found.newest is not None:
                brought[found.newest.tick] = told(found.events) or []

    async def without(connection: asyncpg.Connection, number: int) -> None:
        for turn in range(30):
            await connection.execute("BEGIN")
            await connection.execute(
                f"SAVEPOINT s; SELECT hookledger.publish('{random.choice(TENANTS)}', 'a.b', '{{}}', 'w{number}-{turn}')"
            )
            await asyncio.sleep(random.choice((0, 0.005)))
            if random.random() < 0.2:
                await connection.execute("ROLLBACK")
            else:
                await connection.execute("COMMIT")
                committed.add(f"w{number}-{turn}")

    connections = [await connect() for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(with_ticks(number))
        for number, connection in enumerate(connections):
            group.create_task(without(connection, number))
    await ticks.make(database)
    newest = await ticks.newest(database)
    read = {number: await events_of_tick(database, number) for number in range(1, newest + 1)}
    assert sorted(event.id for events in read.values() for event in events) == sorted(committed)
    assert brought
    for number, events in brought.items():
        assert events == told(read[number])


@pytest.mark.parametrize("is_held", [False, True])
async def test_only_for_the_lock_of_ticks_a_publish_does_not_wait(
    sql: asyncpg.Connection, connect: Connect, is_held: bool
) -> None:
    """Its commit waits for those of others who notify, for as long as any statement may."""
    other = await connect()
    await other.execute("BEGIN")
    if is_held:
        await other.execute("LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE")
    await sql.execute("SET lock_timeout = '1234ms'; BEGIN")
    await sql.execute("SELECT hookledger.publish('acme', 'a.b', '{}', 'e1')")
    made = await sql.fetchval("SELECT made FROM hookledger.next_tick(pg_current_xact_id())")
    assert (made is None) == is_held
    assert await sql.fetchval("SHOW lock_timeout") == "1234ms"
    await sql.execute("COMMIT")


async def test_other_processes_are_notified_and_one_that_is_alone_is_not(
    database: Database, sql: asyncpg.Connection
) -> None:
    payloads: list[str] = []
    await sql.add_listener(listen.TICK, lambda _connection, _pid, _channel, payload: payloads.append(payload))
    await publish(database, new_event())
    for number in (1, 2):
        await sql.execute(
            "INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ($1, 'here', 1, '1', 'k')",
            f"p{number}",
        )
        await publish(database, new_event())
    await sql.execute("SELECT 1")  # what was notified before has come by now
    assert [ticks.notified(payload)[0] for payload in payloads] == [1, 3]
    assert ticks.notified(payloads[-1])[1] == (await ticks.after(database, 2))[0]
