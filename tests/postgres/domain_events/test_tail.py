"""The tail: every committed row exactly once, in order, without waiting for other transactions."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent, publish
from eventstore.domain_events.tail import difference
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database
from tests.support.audit.events import audited_events
from tests.support.postgres.queries import Connect
from tests.support.values.builders import TENANTS, new_event

ALL = list(range(domain_events.SHARDS))


class Reader:
    """Reads cut after cut, and checks the order within each."""

    def __init__(self, database: Database, shards: Sequence[int] = ALL) -> None:
        self.database = database
        self.shards = shards
        self.tick = 0
        self.cuts: dict[int, list[StoredEvent]] = {}

    async def read_new(self) -> None:
        before = await ticks.snap_of(self.database, self.tick)
        for tick in await ticks.after(self.database, self.tick):
            self.cuts[tick.tick] = await read(self.database, before, tick, self.shards)
            before, self.tick = tick.snap, tick.tick

    @property
    def ids(self) -> list[str]:
        return [event.id for cut in self.cuts.values() for event in cut]


async def read(database: Database, before: str, tick: Tick, shards: Sequence[int] = ALL) -> list[StoredEvent]:
    events = [
        event async for page in tail.read_cut(database, before=before, tick=tick, shards=shards) for event in page
    ]
    assert all(a.seq < b.seq for a, b in pairwise(events))
    assert all((event.tick, event.closed_upto) == (tick.tick, tick.closed_upto) for event in events)
    assert {event.shard for event in events} <= set(shards)
    assert await read_lean(database, before, tick, shards) == [
        (event.seq, event.id, event.event_time) for event in events
    ]
    return events


async def read_lean(database: Database, before: str, tick: Tick, shards: Sequence[int]) -> list[tuple[object, ...]]:
    """Seq, id and event time of each event of a cut as a LeanCut has it, whose pages are read from their middle on."""
    cut = tail.LeanCut(database, before=before, tick=tick, shards=shards)
    found: list[tuple[object, ...]] = []
    seq, is_over = 0, False
    while not is_over:
        events, is_last = await cut.page(seq)
        assert len(events) <= tail.PAGE_ROWS
        assert all((event.data, event.context, event.snapshot) == (b"", None, None) for event in events)
        part = events[: len(events) // 2 + 1]
        found += [(event.seq, event.id, event.event_time) for event in part]
        is_over = is_last and len(part) == len(events)
        seq = part[-1].seq + 1 if part else seq
        assert part or is_over
    return found


async def test_24_writers_and_a_long_transaction_lose_nothing_repeat_nothing_and_stall_nobody(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    await writers_and_a_reader(database, sql, connect, transactions=12, seconds=0)


@pytest.mark.long
async def test_24_writers_and_a_transaction_of_five_seconds_lose_nothing(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    await writers_and_a_reader(database, sql, connect, transactions=300, seconds=5)


async def writers_and_a_reader(
    database: Database, sql: asyncpg.Connection, connect: Connect, *, transactions: int, seconds: float
) -> None:
    """The long transaction stays open until the reader has read all that the writers committed beside it."""
    reader = Reader(database)
    committed: set[str] = set()
    connections = [await connect() for _ in range(24)]
    long_one = await connect()
    await long_one.execute("BEGIN")
    await insert(long_one, "long-first")
    opened = datetime.now(UTC)

    async with asyncio.TaskGroup() as group:
        endless = [group.create_task(tick_until_cancelled(database)) for _ in range(2)]
        endless.append(group.create_task(read_until_cancelled(reader)))
        async with asyncio.TaskGroup() as writers:
            for number, connection in enumerate(connections):
                writers.create_task(write(connection, number, transactions, committed))
        async with asyncio.timeout(30):
            while set(reader.ids) < committed or datetime.now(UTC) < opened + timedelta(seconds=seconds):
                await asyncio.sleep(0.001)
        assert set(reader.ids) == committed, "read beside the open transaction"
        await insert(long_one, "long-last")
        await long_one.execute("COMMIT")
        committed |= {"long-first", "long-last"}
        async with asyncio.timeout(30):
            while set(reader.ids) < committed:
                await asyncio.sleep(0.001)
        for task in endless:
            task.cancel()

    assert sorted(reader.ids) == sorted(committed)
    assert len(reader.cuts) > 3
    stored = await sql.fetch("SELECT id, txid::text, hookledger.tick_of(txid) AS tick FROM hookledger.domain_event")
    assert {row["id"] for row in stored} == committed
    read_in = {event.id: number for number, cut in reader.cuts.items() for event in cut}
    assert {row["id"]: row["tick"] for row in stored} == read_in
    again = await audited_events(database)
    assert {(event.id, event.tick, event.closed_upto) for event in again} == {
        (event.id, event.tick, event.closed_upto) for cut in reader.cuts.values() for event in cut
    }


async def write(connection: asyncpg.Connection, number: int, transactions: int, committed: set[str]) -> None:
    """Transactions of one to four events, some with savepoints, some rolled back, some slow to commit."""
    dice = random.Random(number)
    for turn in range(transactions):
        kept = []
        await connection.execute("BEGIN")
        for part in range(dice.randint(1, 4)):
            id = f"w{number}-{turn}-{part}"
            fate = dice.random()
            if fate < 0.3:
                await connection.execute("SAVEPOINT s")
            await insert(connection, id)
            if fate < 0.1:
                await connection.execute("ROLLBACK TO s")
            else:
                kept.append(id)
            if fate < 0.2:
                await connection.execute("SAVEPOINT t; SAVEPOINT u; RELEASE s")
        if dice.random() < 0.1:
            await connection.execute("SELECT pg_sleep(0.02)")
        if dice.random() < 0.2:
            await connection.execute("ROLLBACK")
        else:
            await connection.execute("COMMIT")
            committed.update(kept)


async def insert(connection: asyncpg.Connection, id: str) -> None:
    await connection.execute("SELECT hookledger.publish($1, 'order.create', '{}', $2)", random.choice(TENANTS), id)


async def tick_until_cancelled(database: Database) -> None:
    while True:
        await ticks.make(database)
        await asyncio.sleep(0.002)


async def read_until_cancelled(reader: Reader) -> None:
    while True:
        await reader.read_new()
        await asyncio.sleep(0.001)


async def test_readers_of_some_shards_read_together_what_one_reads_of_all(database: Database) -> None:
    readers = [Reader(database, ALL[:5]), Reader(database, ALL[5:6]), Reader(database, ALL[6:])]
    whole = Reader(database)
    for _ in range(3):
        await publish(database, [new_event(tenant=tenant) for tenant in TENANTS * 3])
        await ticks.make(database)
        for reader in (*readers, whole):
            await reader.read_new()
    for number, cut in whole.cuts.items():
        parts = [event for reader in readers for event in reader.cuts[number]]
        assert sorted(event.id for event in parts) == sorted(event.id for event in cut)
    assert len(whole.ids) == 144
    assert await read(database, ticks.EMPTY_SNAP, (await ticks.after(database, 0))[0], []) == []


async def test_a_cut_read_again_is_the_same_cut(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}', 'late')")
    await publish(database, [new_event(id="a")])
    await ticks.make(database)
    await publish(database, [new_event(id="b")])
    await sql.execute("COMMIT")
    await ticks.make(database)
    await publish(database, [new_event(id="c")])
    one, two = await ticks.after(database, 0)
    for _ in range(2):
        assert [event.id for event in await read(database, ticks.EMPTY_SNAP, one)] == ["a"]
        assert [event.id for event in await read(database, one.snap, two)] == ["late", "b"]


async def test_twenty_thousand_events_are_paged_without_loss(database: Database) -> None:
    ids = [f"e{number}" for number in range(20_000)]
    for start in range(0, len(ids), 5000):
        batch = [new_event(id=id, tenant=TENANTS[number % 3]) for number, id in enumerate(ids[start : start + 5000])]
        await publish(database, batch, seconds=30)
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    pages = [page async for page in tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL)]
    assert [event.id for page in pages for event in page] == ids
    assert max(map(len, pages)) == tail.PAGE_ROWS


@pytest.mark.parametrize("page_rows", [1, 7, 100])
async def test_small_pages_lose_nothing_while_others_write_between(
    database: Database, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    """There are rows of other shards and of a rolled back transaction in between, and new rows arrive with every page."""
    monkeypatch.setattr(tail, "PAGE_ROWS", page_rows)
    mine = []
    for number in range(30):
        events = [new_event(tenant=TENANTS[shard]) for shard in random.Random(number).choices(ALL, k=8)]
        mine += [event.id for event in events if event.tenant in TENANTS[3:6]]
        await publish(database, events)
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    got: list[str] = []
    async for page in tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=[3, 4, 5]):
        assert len(page) <= page_rows
        got += [event.id for event in page]
        await publish(database, [new_event(tenant=TENANTS[4])])
    assert got == mine


@pytest.mark.parametrize("page_rows", [3, 1000])
@pytest.mark.parametrize("count", [2, 40])
async def test_tenants_can_be_left_out(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, count: int, page_rows: int
) -> None:
    """A small cut, a large one, one with a late transaction, and of one from before a restore."""
    monkeypatch.setattr(tail, "PAGE_ROWS", page_rows)
    tenants = (TENANTS[3], "out-1", "out-too")
    shards = sorted({domain_events.shard_of(tenant) for tenant in tenants})
    await sql.execute("BEGIN")
    for tenant in tenants:
        await sql.execute("SELECT hookledger.publish($1, 'a.late', '{}')", tenant)
    await publish(database, [new_event(id="before", tenant=TENANTS[7])])
    await ticks.make(database)
    await sql.execute("COMMIT")
    for number in range(count):
        await publish(database, [new_event(id=f"{tenant} {number}", tenant=tenant) for tenant in tenants])
    await ticks.make(database)
    before, tick = await ticks.after(database, 0)
    read_cut = partial(tail.read_cut, database, before=before.snap, tick=tick, shards=shards)
    whole = [event async for page in read_cut() for event in page]
    assert len(whole) == 3 * (count + 1)
    for without in ([], ["out-1"], ["out-1", "out-too"], list(tenants)):
        left = [event.seq for event in whole if event.tenant not in without]
        for from_seq in (0, whole[len(whole) // 2].seq):
            found = [event.seq async for page in read_cut(from_seq=from_seq, without=without) for event in page]
            assert found == [seq for seq in left if seq >= from_seq]
    await sql.execute(
        "SET session_replication_role = replica; UPDATE hookledger.domain_event SET tick = 2 WHERE id <> 'before'"
    )
    restored = replace(tick, snap=ticks.EMPTY_SNAP)
    pages = tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=restored, shards=shards, without=["out-1"])
    found = [event.seq async for page in pages for event in page]
    assert found == [event.seq for event in whole if event.tenant != "out-1"]


@pytest.mark.parametrize(("events", "questions"), [(0, 1), (1, 1), (tail.FEW_ROWS - 1, 1), (tail.FEW_ROWS, 3), (60, 3)])
async def test_a_few_events_are_read_in_one_question(
    database: Database, sql: asyncpg.Connection, events: int, questions: int
) -> None:
    ids = [f"{number}" for number in range(events)]
    await sql.execute("BEGIN; SELECT hookledger.publish('other', 'a.b', '{}')")
    await publish(database, [new_event(id="before", tenant=TENANTS[7])])
    await publish(database, [new_event(id=id, tenant=TENANTS[3]) for id in ids])
    await ticks.make(database)
    await sql.execute("COMMIT")
    (tick,) = await ticks.after(database, 0)
    asked: list[str] = []
    async with database.connection() as connection:
        connection.add_query_logger(lambda query: asked.append(query.query))
    pages = tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=[3])
    assert [event.id async for page in pages for event in page] == ids
    assert len([question for question in asked if "hookledger.domain_event" in question]) == questions
    asked.clear()
    lean = await tail.LeanCut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=[3]).page(0)
    assert ([event.id for event in lean.events], lean.is_last) == (ids, True)
    assert len([question for question in asked if "hookledger.domain_event" in question]) == questions


async def test_a_page_is_small_in_bytes_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PAGE_BYTES", 10_000)
    await publish(database, [new_event(id=f"{number}", data=b"x" * 1000) for number in range(50)])
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    pages = [page async for page in tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL)]
    assert [event.id for page in pages for event in page] == [f"{number}" for number in range(50)]
    assert {len(page) for page in pages} == {10}


async def test_pages_are_as_small_as_they_are_asked_for(database: Database) -> None:
    await publish(database, [new_event(id=f"{number}", data=b"x" * 1000) for number in range(50)])
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    found = tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL, page_bytes=5000)
    pages = [page async for page in found]
    assert [event.id for page in pages for event in page] == [f"{number}" for number in range(50)]
    assert {len(page) for page in pages} == {5}


@pytest.mark.parametrize("part", ["data", "context", "snapshot"])
async def test_a_few_large_events_are_several_pages(database: Database, part: str) -> None:
    large = b'{"n": "%b"}' % (b"x" * (tail.PAGE_BYTES // 3))
    for number in range(4):
        await publish(database, [new_event(id=f"{number}", **{"data": b"{}", part: large})])  # type: ignore[arg-type]
    await ticks.make(database)
    (tick,) = await ticks.after(database, 0)
    pages = [page async for page in tail.read_cut(database, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL)]
    assert [[event.id for event in page] for page in pages] == [["0", "1"], ["2", "3"]]
    assert {getattr(event, part) for page in pages for event in page} == {large}


@pytest.mark.parametrize("sparse", [0, 1, 10**6])
async def test_what_a_long_transaction_left_far_below_is_read_in_order(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, sparse: int
) -> None:
    """However it is read: by transaction (sparse 0), by walking (a million), or as the ratio says."""
    monkeypatch.setattr(tail, "_SPARSE", sparse)
    monkeypatch.setattr(tail, "PAGE_ROWS", 4)
    await sql.execute("BEGIN")
    for number in range(6):
        await sql.execute("SELECT hookledger.publish('acme', 'a.b', '{}', $1)", f"late-{number}")
        await publish(database, [new_event(id=f"before-{number}-{part}") for part in range(5)])
    await ticks.make(database)
    await publish(database, [new_event(id=f"after-{part}") for part in range(3)])
    await sql.execute("SELECT hookledger.publish('acme', 'a.b', '{}', 'late-6')")
    await publish(database, [new_event(id=f"after-{part}") for part in range(3, 6)])
    await sql.execute("COMMIT")
    await ticks.make(database)
    one, two = await ticks.after(database, 0)
    assert [event.id for event in await read(database, one.snap, two)] == [
        *(f"late-{number}" for number in range(6)), "after-0", "after-1", "after-2", "late-6", "after-3", "after-4", "after-5",
    ]  # fmt: skip


async def test_a_cut_of_late_rows_only_is_read(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 2)
    for sparse in (0, 10**6):
        monkeypatch.setattr(tail, "_SPARSE", sparse)
        await sql.execute("BEGIN")
        ids = [f"late-{sparse}-{number}" for number in range(5)]
        for id in ids:
            await sql.execute("SELECT hookledger.publish('acme', 'a.b', '{}', $1)", id)
        await publish(database, [new_event()])
        await ticks.make(database)
        await sql.execute("COMMIT")
        await ticks.make(database)
        before, tick = (await ticks.after(database, 0))[-2:]
        assert [event.id for event in await read(database, before.snap, tick)] == ids


async def test_between_two_pages_no_connection_is_held(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 2)
    single = Database(database_url, pool_size=1)
    await single.open()
    await publish(single, [new_event() for _ in range(6)])
    await ticks.make(single)
    (tick,) = await ticks.after(single, 0)
    async for _ in tail.read_cut(single, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL):
        await publish(single, [new_event()])
    await single.close()


async def test_a_reader_that_needs_no_more_pages_costs_no_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page is being read at that moment."""
    monkeypatch.setattr(tail, "PAGE_ROWS", 2)
    single = Database(database_url, pool_size=1)
    await single.open()
    await publish(single, [new_event() for _ in range(6)])
    await ticks.make(single)
    (tick,) = await ticks.after(single, 0)
    async with single.connection() as connection:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
    pages = tail.read_cut(single, before=ticks.EMPTY_SNAP, tick=tick, shards=ALL)
    assert len(await anext(pages)) == 2
    await asyncio.sleep(0)  # the read begins
    await pages.aclose()
    async with single.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == backend
    await single.close()


async def test_the_difference_of_snapshots_is_the_one_of_postgresql(sql: asyncpg.Connection) -> None:
    """Histories of transactions that begin and end by chance, cut twice; which xids lie between the cuts?"""
    for seed in range(60):
        dice = random.Random(seed)
        following, under_way = 3, set[int]()
        snaps = []
        for _ in range(2):
            for _ in range(dice.randint(0, 15)):
                if dice.random() < 0.6:
                    under_way.add(following)
                    following += 1
                elif under_way:
                    under_way.remove(dice.choice(sorted(under_way)))
            snaps.append(f"{min(under_way, default=following)}:{following}:{','.join(map(str, sorted(under_way)))}")
        before, after = snaps
        cut = difference(before, after)
        mine = {
            xid for xid in range(1, 60)
            if (cut.lower <= xid < cut.upper and xid not in cut.unfinished) or xid in cut.late
        }  # fmt: skip
        theirs = await sql.fetch(
            "SELECT x FROM generate_series(1, 59) x WHERE pg_visible_in_snapshot(x::text::xid8, $2::text::pg_snapshot) "
            "AND NOT pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot)", before, after,
        )  # fmt: skip
        assert mine == {row["x"] for row in theirs}, (before, after)


async def test_tick_of_knows_what_no_tick_has_read(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, [new_event(id="a")])
    assert await sql.fetchval("SELECT hookledger.tick_of(txid) FROM hookledger.domain_event") is None
    numbers = defaultdict(set)
    for turn in range(4):
        await publish(database, [new_event(id=f"{turn}")])
        await ticks.make(database)
        for row in await sql.fetch("SELECT id, hookledger.tick_of(txid) AS tick FROM hookledger.domain_event"):
            numbers[row["id"]].add(row["tick"])
    assert numbers == {"a": {1}, "0": {1}, "1": {2}, "2": {3}, "3": {4}}
