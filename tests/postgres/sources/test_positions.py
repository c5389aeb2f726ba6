"""Taking the messages of a partition: once each, by any process, and each offset counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncpg
import pytest

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ValueRefused
from eventstore.retention import retention
from eventstore.retention.retention import Keep
from eventstore.sources import positions, refusals, standing
from eventstore.sources.positions import MessageBatch, Refusal, SourcePosition, Taken
from eventstore.sources.refusals import KeptRefusal, RefusalPlace
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import NOON, new_event

COUNTS = (
    "SELECT first_offset, next_offset, events, repeated, refused, filtered, absent FROM hookledger.source_partition"
)


@pytest.fixture
async def position(database: Database) -> SourcePosition:
    return await begun(database)


async def begun(database: Database, topic: str = "orders", offset: int = 5) -> SourcePosition:
    await positions.begin(database, "shop", {(topic, 0): offset})
    return (await positions.read(database, "shop", [topic]))[topic, 0]


async def counts(sql: asyncpg.Connection) -> tuple[int, ...]:
    (row,) = await sql.fetch(COUNTS)
    return tuple(row)


def refusal(offset: int, reason: str = "no JSON") -> Refusal:
    return Refusal(offset=offset, reason=reason, message_at=NOON, key=b"k", value=b"v" * 1000)


def batch(position: SourcePosition, begin: int, end: int, *ids: str, refused: Sequence[int] = ()) -> MessageBatch:
    events = [new_event(id=name) for name in ids]
    return MessageBatch(
        partition_id=position.id,
        begin=begin,
        end=end,
        events=events,
        offsets=list(range(begin, begin + len(ids))),
        refusals=[refusal(offset) for offset in refused],
    )


async def test_events_and_the_position_are_stored_together(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    assert await positions.take(database, batch(position, 5, 7, "a", "b")) == Taken(events=2, repeated=0, refused=0)
    rows = await sql.fetch("SELECT id, source_partition, source_offset FROM hookledger.domain_event ORDER BY seq")
    assert [tuple(row) for row in rows] == [("a", position.id, 5), ("b", position.id, 6)]
    assert (await begun(database)).next_offset == 7


async def test_only_one_of_two_that_take_the_same_messages_stores_them(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    taken = await asyncio.gather(*(positions.take(database, batch(position, 5, 7, "a", f"b{n}")) for n in range(8)))
    assert len([each for each in taken if each is not None]) == 1
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == 2


async def test_a_batch_from_elsewhere_than_the_position_stores_nothing(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    for begin in (4, 6):
        assert await positions.take(database, batch(position, begin, 9, "a", refused=[8])) is None
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == 0
    assert await sql.fetchval("SELECT count(*) FROM hookledger.source_refusal") == 0


async def test_what_the_database_refuses_moves_no_position(database: Database, position: SourcePosition) -> None:
    bad = batch(position, 5, 6, "a")
    bad.events[0].type = "no type"
    with pytest.raises(ValueRefused):
        await positions.take(database, bad)
    assert (await begun(database)).next_offset == 5


async def test_each_offset_is_counted_once(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    first = batch(position, 5, 12, "a", "b", refused=[8])
    first.filtered = 1
    await positions.take(database, first)
    assert await positions.take(database, batch(position, 12, 15, "c", "a", "c")) == Taken(
        events=1, repeated=2, refused=0
    )
    assert await counts(sql) == (5, 15, 3, 2, 1, 1, 3)
    with pytest.raises(asyncpg.CheckViolationError):
        await sql.execute("UPDATE hookledger.source_partition SET events = events - 1")


async def test_a_message_without_an_event_is_kept_with_its_beginning(
    database: Database, position: SourcePosition
) -> None:
    await positions.take(database, batch(position, 5, 6, refused=[5]))
    (kept,) = await refusals.page(database, after=None, limit=10)
    assert (kept.source, kept.topic, kept.partition, kept.offset, kept.upto) == ("shop", "orders", 0, 5, None)
    assert (kept.reason, kept.message_at, kept.key, kept.size_bytes) == ("no JSON", NOON, b"k", 1000)
    assert kept.beginning == b"v" * positions.BEGINNING_BYTES


async def test_any_reason_can_be_kept(database: Database, position: SourcePosition) -> None:
    it = batch(position, 5, 6)
    it.refusals = [refusal(5, "half \ud800 and \0 " + "x" * 5000)]
    await positions.take(database, it)
    (kept,) = await refusals.page(database, after=None, limit=10)
    assert kept.reason.startswith("half ? and \N{REPLACEMENT CHARACTER} x")


async def test_a_repeated_event_may_be_judged_by_what_stands_there(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    stored = batch(position, 5, 7, "a", "b")
    stored.events[0].context = b'{"source":"x"}'
    await positions.take(database, stored)

    def judge(places: Sequence[int], contexts: Mapping[tuple[str, str], bytes]) -> dict[int, Refusal]:
        assert list(places) == [0, 1]
        assert contexts == {("acme", "a"): b'{"source":"x"}'}
        return {0: refusal(7, "of another source")}

    taken = await positions.take(database, batch(position, 7, 9, "a", "b"), judge_repeated=judge)
    assert taken == Taken(events=0, repeated=1, refused=1, last_refusal=refusal(7, "of another source"))
    assert await counts(sql) == (5, 9, 2, 1, 1, 0, 0)


async def test_what_was_deleted_before_it_was_taken_is_kept_as_a_gap(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    assert await positions.pass_gap(database, position, end=100, reason="deleted")
    assert not await positions.pass_gap(database, position, end=200, reason="deleted")
    (gap,) = await refusals.page(database, after=None, limit=10)
    assert (gap.offset, gap.upto, gap.reason, gap.beginning) == (5, 100, "deleted", None)
    assert await counts(sql) == (5, 100, 0, 0, 0, 0, 95)
    assert [each async for each in refusals.of_source(database, "shop")] == []


async def test_a_partition_that_is_moved_begins_anew(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    await positions.take(database, batch(position, 5, 10, "a", refused=[6, 9]))
    assert await positions.stop(database, await begun(database), "it went back")
    assert (await begun(database)).fault == "it went back"
    await positions.move(database, position, offset=8)
    assert (await begun(database)).fault is None
    assert await counts(sql) == (8, 8, 0, 0, 0, 0, 0)
    assert [each.offset for each in await refusals.page(database, after=None, limit=10)] == [6]


async def test_a_fault_of_an_older_position_stops_nothing(database: Database, position: SourcePosition) -> None:
    await positions.take(database, batch(position, 5, 6, "a"))
    assert not await positions.stop(database, position, "old news")
    assert (await begun(database)).fault is None


async def test_a_refused_message_that_is_an_event_after_all_is_settled_once(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    await positions.take(database, batch(position, 5, 9, "a", refused=[6, 7, 8]))
    kept = [each async for each in refusals.of_source(database, "shop")]
    assert [each.offset for each in kept] == [6, 7, 8]
    settled = await asyncio.gather(*(refusals.settle(database, kept[0], new_event(id="b")) for _ in range(4)))
    assert sorted(settled, key=str) == [None, None, None, True]
    assert await refusals.settle(database, kept[1], new_event(id="a")) is False
    assert await refusals.settle(database, kept[2], None) is False
    assert await counts(sql) == (5, 9, 2, 1, 0, 1, 0)
    (place,) = await sql.fetch("SELECT source_partition, source_offset FROM hookledger.domain_event WHERE id = 'b'")
    assert tuple(place) == (position.id, 6)
    assert await refusals.page(database, after=None, limit=10) == []


async def test_the_list_of_refusals_is_read_page_by_page(database: Database, position: SourcePosition) -> None:
    await positions.take(database, batch(position, 5, 12, refused=range(5, 12)))
    found: list[KeptRefusal] = []
    after = None
    while part := await refusals.page(database, after=after, limit=3):
        found += part
        after = RefusalPlace(at=part[-1].at, partition_id=part[-1].partition_id, offset=part[-1].offset)
    assert sorted(each.offset for each in found) == list(range(5, 12))


async def test_refusals_are_kept_as_long_as_events(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    await positions.take(database, batch(position, 5, 7, refused=[5, 6]))
    await sql.execute("UPDATE hookledger.source_refusal SET at = now() - interval '31 days' WHERE source_offset = 5")
    assert await retention.sweep(database, Keep(events=timedelta(days=30)), macs=LOG_MACS) is not None
    assert [each.offset for each in await refusals.page(database, after=None, limit=10)] == [6]


async def test_a_partition_shows_its_owner_as_long_as_that_lives(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ('me', 'h', 1, 'v', '')"
    )
    await standing.report(database, "shop", "me", None)
    await standing.own(database, "me", {position.id: 25})
    found = await standing.read(database)
    assert [(each.owner, each.lag) for each in found.partitions] == [("me", 20)]
    assert [(each.source, each.owner, each.fault) for each in found.members] == [("shop", "me", None)]
    await sql.execute("UPDATE hookledger.process SET seen_at = now() - interval '1 minute'")
    assert [each.owner for each in (await standing.read(database)).partitions] == [None]
    await standing.leave(database, "shop", "me")
    assert (await standing.read(database)).members == ()


async def test_an_event_knows_which_message_it_was(
    database: Database, position: SourcePosition, sql: asyncpg.Connection
) -> None:
    await positions.take(database, batch(position, 5, 6, "a"))
    (event,) = await sql.fetch("SELECT seq, recorded_at FROM hookledger.domain_event")
    place = await standing.place_of(database, event["seq"], recorded_at=event["recorded_at"])
    assert place is not None
    assert (place.source, place.topic, place.partition, place.offset) == ("shop", "orders", 0, 5)
