"""The tailer: how often it asks for ticks, and that it misses none of which it was not told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from daemon import audit
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.cursors import ShardCursor
from daemon.pipeline.intake.tail import tailer as module
from daemon.pipeline.intake.tail import told_ticks
from daemon.pipeline.intake.tail.tailer import Tailer
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore import domain_events
from eventstore.domain_events import polls, tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.polls import NOTHING_READ, Poll, ReadUpto
from eventstore.domain_events.ticks import Tick, bits_of
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver
from tests.support.until import until
from tests.support.values.builders import ROUTE, TENANTS

Counted = Callable[[], int]


@asynccontextmanager
async def tailing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, *, tunables: Tunables = DEFAULTS
) -> AsyncIterator[tuple[PipelineProcess, Tailer, Counted]]:
    """A tailer that holds all shards from the first tick on, and how often it asked for ticks since the last look."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    asked: list[int] = []
    after = ticks.after

    async def counted(*arguments: object, **options: object) -> list[Tick]:
        asked.append(1)
        return await after(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

    def questions() -> int:
        count = len(asked)
        asked.clear()
        return count

    async with pipeline_process(database_url, run=False, tunables=tunables) as it:
        tailer = it.pipeline._intake.tailer
        takeover = Takeover(checkpoints=dict.fromkeys(range(domain_events.SHARDS), 0))
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        monkeypatch.setattr(ticks, "after", counted)
        yield it, tailer, questions


async def newest_tick(it: PipelineProcess) -> Tick:
    newest = (await polls.poll(it.database, known_tick=0, known_pos=0)).newest
    assert newest is not None
    return newest


async def tick(it: PipelineProcess) -> Tick:
    """Publishes an event and makes the tick of it."""
    await it.publish()
    return await newest_tick(it)


async def test_a_tick_that_it_was_told_is_not_asked_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        for number in (1, 2, 3):
            tailer.told(await tick(it))
            await tailer.run_once()
            assert (tailer.position, questions()) == (number, 0)
            tailer.told(await newest_tick(it))
            assert not tailer.wakeup.is_set


async def test_ticks_of_which_nobody_told_are_asked_for_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        await tick(it)
        tailer.told(await tick(it))
        await tailer.run_once()
        assert (tailer.position, questions()) == (2, 1)
        told = await tick(it)
        await tick(it)
        tailer.told(told)
        tailer.must_ask()
        await tailer.run_once()
        assert (tailer.position, questions()) == (4, 1)


async def test_more_ticks_than_a_page_are_all_read(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        async with it.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)"
                " SELECT n, '1:1:', now(), 0, now() FROM generate_series(1, $1::integer) n",
                2 * ticks.PAGE_TICKS,
            )
        tailer.must_ask()
        await tailer.run_once()
        assert tailer.position == 2 * ticks.PAGE_TICKS


async def test_a_shard_that_is_behind_is_read_from_where_it_stands(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        for _ in range(3):
            tailer.told(await tick(it))
            await tailer.run_once()
        tailer.told(await newest_tick(it))
        it.pipeline._ledger.drop(3)
        takeover = Takeover(checkpoints={3: 1})
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        assert tailer.position == 1
        await tailer.run_once()
        assert tailer.position == 3


async def test_what_is_accounted_for_is_kept_of_each_shard_until_that_one_has_read_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        one, behind, gone = (domain_events.shard_of(tenant) for tenant in TENANTS[:3])
        accounted = {shard: {(ROUTE, shard)} for shard in (one, behind, gone)}
        takeover = Takeover(checkpoints=dict.fromkeys(accounted, 0), newest_tick=1, accounted=accounted)
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        tailer._reading.cursors[behind].behind_since = 0.0
        tailer.drop(gone)
        assert tailer._reading.decider.accounted.keys() == {one, behind}
        tailer.told(await tick(it))
        await tailer.run_once()
        assert tailer._reading.decider.accounted == {behind: {(ROUTE, behind)}}


async def turn(tailer: Tailer) -> None:
    """A turn for the shards that keep up, and one for each that was left behind."""
    await tailer.run_once()
    for shard in tailer.behind:
        await tailer._apart.catch_up(shard)


class Decided:
    """Which events were decided, and how many cuts were read from the database."""

    def __init__(self, tailer: Tailer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.cuts_read = 0
        decide, read_cut = tailer._reading.decider.decide, tail.read_cut

        def noted(event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
            self.events.append(event.id)
            decide(event, cut, cursor)

        async def counted(*arguments: object, **options: object) -> AsyncIterator[list[StoredEvent]]:
            self.cuts_read += 1
            async for page in read_cut(*arguments, **options):  # type: ignore[arg-type] # the original's arguments
                yield page

        monkeypatch.setattr(tailer._reading.decider, "decide", noted)
        monkeypatch.setattr(tail, "read_cut", counted)


async def poll(it: PipelineProcess, read: ReadUpto) -> Poll:
    return await polls.poll(it.database, known_tick=0, known_pos=0, read=read)


async def test_events_that_came_with_the_news_are_decided_without_a_question(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        decided = Decided(tailer, monkeypatch)
        ids: list[str] = []
        for number in (1, 2, 3):
            for tenant in TENANTS[:3]:
                ids += await it.publish(tenant=tenant)
            read = tailer.read_upto
            assert read == ReadUpto(number - 1, bits_of(range(domain_events.SHARDS)))
            found = await poll(it, read)
            assert found.newest is not None
            tailer.told(found.newest, found.events, shards=read.shards)
            assert tailer.read_upto.tick == number
            await tailer.run_once()
            assert (tailer.position, questions(), decided.cuts_read) == (number, 0, 0)
        assert decided.events == ids


async def test_a_tick_without_events_of_our_shards_is_passed_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        decided = Decided(tailer, monkeypatch)
        mine, other = TENANTS[:2]
        tailer.drop(domain_events.shard_of(other))
        await it.publish(tenant=other)
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        assert (tailer.position, questions(), decided.cuts_read) == (1, 0, 0)
        (id,) = await it.publish(tenant=mine)
        await it.publish(tenant=other)
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        assert (tailer.position, questions(), decided.cuts_read, decided.events) == (2, 0, 1, [id])


async def test_events_that_were_brought_for_fewer_shards_are_read(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard was adopted after the question was asked."""
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        decided = Decided(tailer, monkeypatch)
        late = domain_events.shard_of(TENANTS[0])
        tailer.drop(late)
        read = tailer.read_upto
        assert not read.shards & 1 << late
        ids = [(await it.publish(tenant=tenant))[0] for tenant in TENANTS[:2]]
        found = await poll(it, read)
        assert found.newest is not None
        assert [event.id for event in found.events or ()] == ids[1:]
        tailer.adopt(Takeover(checkpoints={late: 0}))
        tailer.told(found.newest, found.events, shards=read.shards)
        await tailer.run_once()
        assert (tailer.position, decided.cuts_read, decided.events) == (1, 1, ids)


async def test_brought_events_of_a_shard_that_is_elsewhere_are_left_to_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard was dropped and adopted again, further back, after the question was asked: it reads for itself."""
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        tailer.told(await tick(it))
        await tailer.run_once()
        decided = Decided(tailer, monkeypatch)
        read = tailer.read_upto
        ids = [(await it.publish(tenant=tenant))[0] for tenant in TENANTS[:2]]
        found = await poll(it, read)
        assert found.newest is not None
        back = domain_events.shard_of(TENANTS[0])
        it.pipeline._ledger.drop(back)
        takeover = Takeover(checkpoints={back: 0})
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        assert tailer.read_upto == NOTHING_READ
        tailer.told(found.newest, found.events, shards=read.shards)
        await tailer.run_once()
        assert tailer.position == 2
        assert sorted(decided.events) == sorted(ids)


async def test_what_was_told_is_forgotten_with_the_log(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        decided = Decided(tailer, monkeypatch)
        ids = await it.publish()
        found = await poll(it, tailer.read_upto)
        assert found.newest is not None
        tailer.told(found.newest, found.events, shards=tailer.read_upto.shards)
        tailer.forget()
        assert tailer.read_upto.tick == 0
        await tailer.run_once()
        assert (tailer.position, questions(), decided.cuts_read, decided.events) == (1, 1, 1, ids)


async def test_brought_events_of_another_tick_with_the_same_number_are_not_decided(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        decided = Decided(tailer, monkeypatch)
        ids = await it.publish()
        found = await poll(it, tailer.read_upto)
        assert found.newest is not None
        tailer.told(replace(found.newest, snap="7:8:"), found.events, shards=tailer.read_upto.shards)
        tailer.must_ask()
        await tailer.run_once()
        assert (tailer.position, decided.cuts_read, decided.events) == (1, 1, ids)


async def test_only_so_many_ticks_that_were_told_of_are_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        for _ in range(told_ticks.TOLD_TICKS + 1):
            tailer.told(await tick(it))
        assert len(tailer._told) == told_ticks.TOLD_TICKS
        await tailer.run_once()
        assert (tailer.position, questions()) == (told_ticks.TOLD_TICKS + 1, 1)


async def test_a_tick_that_is_told_again_after_it_was_read_takes_no_memory(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notification told of it, and the next poll brings it once more, with its events."""
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        read = tailer.read_upto
        await it.publish()
        found = await poll(it, read)
        assert found.newest is not None
        assert found.events
        tailer.told(found.newest)
        await tailer.run_once()
        assert (tailer.position, tailer.wakeup.is_set) == (1, False)
        tailer.told(found.newest, found.events, shards=read.shards)
        assert (len(tailer._told), tailer.wakeup.is_set) == (0, False)
        tailer.told(await tick(it))
        await tailer.run_once()
        assert (tailer.position, len(tailer._told), questions()) == (2, 0, 0)


async def test_a_tick_that_is_told_again_while_it_is_read_takes_no_memory(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        newest = await tick(it)
        decide = tailer._reading.decider.decide

        def told_meanwhile(event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
            tailer.told(newest, [event], shards=tailer.read_upto.shards)
            decide(event, cut, cursor)

        monkeypatch.setattr(tailer._reading.decider, "decide", told_meanwhile)
        tailer.told(newest)
        await tailer.run_once()
        assert (tailer.position, len(tailer._told)) == (1, 0)


async def test_an_older_tick_that_is_told_later_hides_no_newer_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        older, newer = await tick(it), await tick(it)
        tailer.told(newer)
        tailer.told(older)
        await tailer.run_once()
        assert (tailer.position, questions()) == (2, 0)


async def test_no_events_are_brought_while_memory_is_full(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        assert tailer.read_upto.tick == 0
        monkeypatch.setattr(it.pipeline._ledger, "has_room", False)
        assert tailer.read_upto == NOTHING_READ


def fails_between_two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have two events, and the database is away once when the second page is read."""
    monkeypatch.setattr(tail, "PAGE_ROWS", 2)
    read_cut, failed = tail.read_cut, list[int]()

    async def failing(*arguments: object, **options: object) -> AsyncIterator[list[StoredEvent]]:
        async for page in read_cut(*arguments, **options):  # type: ignore[arg-type] # the original's arguments
            yield page
            if not failed:
                failed.append(1)
                raise StoreUnavailable("away")

    monkeypatch.setattr(tail, "read_cut", failing)


async def test_a_failure_between_two_pages_of_a_tick_repeats_none_of_its_events(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        fails_between_two_pages(monkeypatch)
        decided = Decided(tailer, monkeypatch)
        ids = [(await it.publish(tenant=tenant))[0] for tenant in TENANTS[:3] * 2]
        tailer.told(await newest_tick(it))
        with pytest.raises(StoreUnavailable):
            await tailer.run_once()
        assert (tailer.position, decided.events) == (0, ids[:2])
        await turn(tailer)
        assert (tailer.position, sorted(decided.events)) == (1, sorted(ids))
        (next_id,) = await it.publish(tenant=TENANTS[0])
        tailer.told(await newest_tick(it))
        await turn(tailer)
        assert (tailer.position, decided.events[len(ids) :]) == (2, [next_id])


async def test_a_shard_that_was_given_away_between_two_pages_is_read_from_the_beginning_of_the_tick(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided of it went with it. The other shards go on where they were."""
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        fails_between_two_pages(monkeypatch)
        decided = Decided(tailer, monkeypatch)
        ids = [(await it.publish(tenant=tenant))[0] for tenant in TENANTS[:2] * 2]
        tailer.told(await newest_tick(it))
        with pytest.raises(StoreUnavailable):
            await tailer.run_once()
        assert decided.events == ids[:2]
        again = domain_events.shard_of(TENANTS[0])
        it.pipeline._ledger.drop(again)
        takeover = Takeover(checkpoints={again: 0})
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        await turn(tailer)
        assert (tailer.position, sorted(decided.events)) == (1, sorted([*ids, ids[0]]))


async def test_a_connection_that_ends_between_two_pages_of_a_tick_has_nothing_sent_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 100)
    pages, ended = tail._pages, list[int]()

    async def ending(database: Database, *arguments: Any) -> AsyncIterator[list[Any]]:
        async for rows in pages(database, *arguments):
            yield rows
            if not ended:
                ended.append(1)
                async with database.connection() as connection:
                    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with receiver() as there:
        async with pipeline_process(database_url, run=False) as it:
            await it.route(there.url)
            ids = await it.publish(count=300)
        monkeypatch.setattr(tail, "_pages", ending)
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            await it.until_row("SELECT count(DISTINCT seq) = 300 FROM hookledger.attempt")
            assert await it.outcomes() == {id: ["delivered"] for id in ids}
            now = datetime.now(UTC)
            report = await audit.audit(it.database, start=now - timedelta(hours=1), end=now + timedelta(hours=1))
            assert (report.findings, report.unread) == ([], 0)
    assert ended


# One shard may have nine pairs, and then there is room for one more.
TEN_PAIRS = Tunables(max_pairs=10)
MANY, OTHER = TENANTS[:2]


async def account_until(it: PipelineProcess, ended: asyncio.Future[None]) -> None:
    """Accounts for what was decided, until somebody who waits for room has ended."""
    ledger = it.pipeline._ledger
    async with asyncio.timeout(30):
        while not ended.done():
            for each in list(ledger._unaccounted):
                ledger.account(each)
            await asyncio.sleep(0)
    ended.result()


async def test_a_shard_that_has_its_share_of_memory_is_left_behind_and_the_others_are_read_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch, tunables=TEN_PAIRS) as (it, tailer, _):
        await it.route("http://127.0.0.1:9/", tenant=MANY)
        decided = Decided(tailer, monkeypatch)
        burst = await it.publish(tenant=MANY, count=20)
        (first,) = await it.publish(tenant=OTHER)
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        assert decided.events == [*burst[:9], first]
        assert tailer.behind == [domain_events.shard_of(MANY)]
        (second,) = await it.publish(tenant=OTHER)
        (last,) = await it.publish(tenant=MANY)
        read = tailer.read_upto
        assert read == ReadUpto(1, bits_of(set(range(domain_events.SHARDS)) - set(tailer.behind)))
        found = await poll(it, read)
        assert found.newest is not None
        tailer.told(found.newest, found.events, shards=read.shards)
        await tailer.run_once()
        assert decided.events == [*burst[:9], first, second]
        catching_up = asyncio.ensure_future(tailer._apart.catch_up(domain_events.shard_of(MANY)))
        await account_until(it, catching_up)
        assert decided.events == [*burst[:9], first, second, *burst[9:], last]
        assert (tailer.position, tailer.behind) == (2, [])


async def test_a_shard_that_has_most_of_a_tick_of_several_pages_is_left_behind(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that nobody subscribes to takes no memory, but time."""
    monkeypatch.setattr(tail, "PAGE_ROWS", 4)
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        decided = Decided(tailer, monkeypatch)
        imported = await it.publish(tenant=MANY, count=20)
        (other,) = await it.publish(tenant=OTHER)
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        assert (decided.events, tailer.behind) == ([*imported[:4], other], [domain_events.shard_of(MANY)])
        await tailer._apart.catch_up(domain_events.shard_of(MANY))
        assert decided.events == [*imported[:4], other, *imported[4:]]
        assert (tailer.position, tailer.behind) == (1, [])


async def test_shards_that_are_equally_busy_are_read_together(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 4)
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        decided = Decided(tailer, monkeypatch)
        ids = [(await it.publish(tenant=tenant))[0] for tenant in TENANTS[:4] * 3]
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        assert (decided.events, tailer.behind, decided.cuts_read) == (ids, [], 1)


async def test_a_shard_that_is_adopted_far_behind_the_others_is_read_apart_from_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEHIND_TICKS", 2)
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        for _ in range(3):
            tailer.told(await tick(it))
        await tailer.run_once()
        for shard, checkpoint in ((3, 0), (4, 1)):
            it.pipeline._ledger.drop(shard)
            takeover = Takeover(checkpoints={shard: checkpoint})
            it.pipeline._ledger.adopt(takeover)
            tailer.adopt(takeover)
        await tailer.run_once()
        assert (tailer.behind, tailer.position) == ([3], 0)
        await tailer._apart.catch_up(3)
        assert (tailer.behind, tailer.position) == ([], 3)


async def test_a_shard_is_read_together_with_the_others_once_it_is_where_they_are(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be newer ticks: those are for all of them."""
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        tailer.told(await tick(it))
        tailer._leave_behind({3: tailer._reading.cursors[3]}, [3])
        await tailer.run_once()
        await tick(it)
        await tailer._apart.catch_up(3)
        assert (tailer._reading.cursors[3].tick, tailer.behind) == (1, [])
        await tailer.run_once()
        assert tailer.position == 2


async def test_a_failure_repeats_nothing_of_a_shard_that_is_behind(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        decided, shard = Decided(tailer, monkeypatch), domain_events.shard_of(MANY)
        fails_between_two_pages(monkeypatch)
        ids = await it.publish(tenant=MANY, count=5)
        await newest_tick(it)
        tailer._leave_behind({shard: tailer._reading.cursors[shard]}, [shard])
        with pytest.raises(StoreUnavailable):
            await tailer._apart.catch_up(shard)
        assert (tailer.position, tailer.behind, decided.events) == (0, [shard], ids[:2])
        await tailer._apart.catch_up(shard)
        assert (tailer.behind, decided.events) == ([], ids)


async def test_a_shard_that_is_given_away_while_it_waits_for_room_is_read_no_further(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch, tunables=TEN_PAIRS) as (it, tailer, _):
        decided, shard = Decided(tailer, monkeypatch), domain_events.shard_of(MANY)
        await it.route("http://127.0.0.1:9/", tenant=MANY)
        burst = await it.publish(tenant=MANY, count=20)
        tailer.told(await newest_tick(it))
        await tailer.run_once()
        catching_up = asyncio.ensure_future(tailer._apart.catch_up(shard))
        waits = it.pipeline._ledger._shards[shard].own.room
        await until(lambda: waits._waiters)
        tailer.drop(shard)
        it.pipeline._ledger.drop(shard)
        async with asyncio.timeout(30):
            await catching_up
        assert decided.events == burst[:9]


# Nothing is parked, so a burst keeps the memory that it has got.
PATIENT = Tunables(max_queued_seconds=600.0, persist_seconds=600.0, lane_queue=100_000, unmeasured_lane_queue=100_000)


@asynccontextmanager
async def gated_receiver(database_url: str) -> AsyncIterator[tuple[PipelineProcess, Receiver, asyncio.Event]]:
    """A receiver that answers at `/other`, and at `/` once the event is set; and a pipeline that does not run. One
    tenant has two routes to `/`, another one a route to `/other`.
    """
    opened = asyncio.Event()

    async def gated(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response()

    async with receiver() as there:
        there.answer["/"] = gated
        async with pipeline_process(database_url, run=False) as it:
            for _ in range(2):
                await it.route(there.url + "/", tenant=MANY)
            await it.route(there.url + "/other", tenant=OTHER)
            yield it, there, opened


async def get_one_beside_it(database_url: str, there: Receiver, opened: asyncio.Event, burst: list[str]) -> None:
    """Runs a pipeline. While nothing of the burst is answered, the event of another tenant arrives; then all does."""
    async with pipeline_process(database_url, tunables=PATIENT, timeout_seconds=60) as it:
        try:
            await there.count(1, path="/")
            (other,) = await it.publish(tenant=OTHER)
            await there.count(1, path="/other", seconds=20)
        finally:
            opened.set()
        await it.until_accounted()
        assert await it.outcomes() == {other: ["delivered"], **{id: ["delivered"] * 2 for id in burst}}


async def test_the_burst_of_a_tenant_does_not_hold_up_one_of_another_shard(database_url: str) -> None:
    async with gated_receiver(database_url) as (it, there, opened):
        burst = await it.publish(tenant=MANY, count=1500)
        await get_one_beside_it(database_url, there, opened, burst)


async def test_a_shard_that_is_behind_does_not_hold_up_the_others(database_url: str) -> None:
    async with gated_receiver(database_url) as (it, there, opened):
        burst: list[str] = []
        for _ in range(3):
            burst += await it.publish(tenant=MANY, count=500)
            await newest_tick(it)
        await it.rows(
            "UPDATE hookledger.checkpoint SET tick = 3 WHERE shard <> $1 RETURNING shard", domain_events.shard_of(MANY)
        )
        await get_one_beside_it(database_url, there, opened, burst)
