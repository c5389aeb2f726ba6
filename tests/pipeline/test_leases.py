"""Leases: who may send and write for a shard when two processes believe it is theirs, and what becomes of the loser."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from daemon import audit
from daemon.core.retry import RetryPolicy
from daemon.pipeline import leases
from daemon.pipeline.leases import Leases
from eventstore import lease, stream, tail
from eventstore.connect import Database
from eventstore.stream import SHARDS
from tests.support.crash import free_leases
from tests.support.house import House, house
from tests.support.receiver import Receiver, receiver, status
from tests.support.until import until


def ids_of(there: Receiver) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.received)


def holds_all(it: House) -> bool:
    return len(it.pipeline._leases.shards) == SHARDS


async def take_over(url: str, successor: House) -> None:
    """Lets the leases expire until the successor has all of them."""
    while not holds_all(successor):
        await free_leases(url)
        successor.pipeline._leases.bell.ring()
        await asyncio.sleep(0.02)


async def test_a_stale_owner_writes_nothing_stops_sending_and_comes_back_without_loss(database_url: str) -> None:
    opened = asyncio.Event()

    async def gated(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response()

    async with receiver() as there, house(database_url) as first:
        there.answer["/"] = gated
        await until(lambda: holds_all(first))
        route = await first.route(there.url + "/")
        ids = await first.publish(count=100)
        await there.count(16)
        async with house(database_url, run=False) as second:
            running = asyncio.ensure_future(second.pipeline.run())
            await take_over(database_url, second)
            opened.set()
            await second.until_row("SELECT count(DISTINCT seq) = 100 FROM hookledger.attempt")
            await until(lambda: not first.pipeline._leases.shards)
            more = await second.publish(count=50)
            await second.until_accounted()
            # Each outcome once, by the second: what the first was told afterwards it could not write.
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in ids + more}
            counts = ids_of(there)
            assert set(counts) == set(ids + more)
            # Until its first flush it could not know: robbed, not expired, it sent what it had, and none of what came later.
            assert counts.total() <= 150 + 100
            assert {counts[event_id] for event_id in more} == {1}
            assert first.pipeline._ledger.pairs == 0
            second.pipeline.stop()
            await running
        await until(lambda: holds_all(first))
        last = await first.publish(count=50)
        await first.until_accounted()
        assert await first.outcomes(route.id) == {event_id: ["delivered"] for event_id in ids + more + last}
        assert all(ids_of(there)[event_id] == 1 for event_id in more + last)


async def test_two_daemons_that_take_the_shards_from_each_other_lose_nothing(database_url: str) -> None:
    published: list[str] = []
    async with receiver() as there, house(database_url) as one, house(database_url) as other:
        route = await one.route(there.url)
        await other.projection.catch_up()
        for n in range(6):
            published += await one.publish(count=100)
            await there.count(n * 100 + 30)
            await free_leases(database_url)
            (other if n % 2 else one).pipeline._leases.bell.ring()
        await one.until_row("SELECT count(DISTINCT seq) = 600 FROM hookledger.attempt WHERE outcome = 'delivered'")
        await one.until_row("SELECT count(*) = 0 FROM hookledger.parked")
        assert set(ids_of(there)) == set(published)
        assert set(await one.outcomes(route.id)) == set(published)


async def test_a_shard_lost_and_retaken_in_the_middle_of_a_cut_is_read_from_its_beginning(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page is decided and withdrawn with the lease; the second page must not be taken for the whole."""
    monkeypatch.setattr(tail, "PAGE_ROWS", 100)
    decided = asyncio.Event()
    goes_on = asyncio.Event()
    read_cut = tail.read_cut

    async def paused(*arguments: object, **options: object) -> AsyncIterator[list[stream.StoredEvent]]:
        pages = read_cut(*arguments, **options)  # type: ignore[arg-type] # passed on as they came
        is_first = not decided.is_set()
        async for page in pages:
            yield page
            if is_first and page:
                decided.set()
                await goes_on.wait()
                is_first = False

    opened = asyncio.Event()

    async def gated(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response()

    async with receiver() as there:
        there.answer["/"] = gated
        async with house(database_url, run=False) as it:
            await it.route(there.url + "/")
            ids = await it.publish(count=300)
        monkeypatch.setattr(tail, "read_cut", paused)
        async with house(database_url) as it:
            await decided.wait()
            shards = it.pipeline._leases.shards
            for shard in shards:
                it.pipeline._leases.lose(shard)
            await until(lambda: holds_all(it), seconds=3)
            goes_on.set()
            opened.set()
            await it.until_accounted()
            assert set(await it.outcomes()) == set(ids)
            assert set(ids_of(there)) == set(ids)


async def test_a_process_that_let_go_in_doubt_takes_its_own_shards_back_at_once(database_url: str) -> None:
    """Its lease row still names it for ten seconds; nobody else may have it, and it need not wait for itself."""
    async with receiver() as there, house(database_url) as it:
        await it.route(there.url)
        await until(lambda: holds_all(it))
        for shard in range(SHARDS):
            it.pipeline._leases.lose(shard)
        await until(lambda: holds_all(it), seconds=3)
        ids = await it.publish(count=20)
        await it.until_accounted()
        assert ids_of(there) == dict.fromkeys(ids, 1)
        assert await it.rows("SELECT DISTINCT epoch FROM hookledger.lease") == [{"epoch": 2}]


async def test_retries_taken_up_while_a_shard_changes_hands_are_not_forgotten(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_seq = stream.by_seq
    in_between = asyncio.Event()
    goes_on = asyncio.Event()

    async def paused(*arguments: object) -> object:
        found = await by_seq(*arguments)  # type: ignore[arg-type] # passed on as they came
        if arguments[1] and not in_between.is_set():
            in_between.set()
            await goes_on.wait()
        return found

    policy = RetryPolicy(first=timedelta(seconds=0.2), cap=timedelta(seconds=1))
    async with receiver() as there, house(database_url, retry=policy) as it:
        there.answer["/"] = status(500)
        await it.route(there.url + "/")
        monkeypatch.setattr(stream, "by_seq", paused)
        await it.publish(count=10)
        await there.count(10)
        there.answer.clear()
        await in_between.wait()
        for shard in range(SHARDS):
            it.pipeline._leases.lose(shard)
        await until(lambda: holds_all(it), seconds=3)
        goes_on.set()
        await it.until_row("SELECT count(*) = 10 FROM hookledger.attempt WHERE outcome = 'delivered'", seconds=5)
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")


async def test_nothing_is_sent_past_the_end_of_a_lease_that_could_not_be_renewed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own clock, without asking the database."""
    now = 100.0
    monkeypatch.setattr("daemon.pipeline.leases.time.monotonic", lambda: now)
    database = Database(database_url)
    await database.open()
    lost: list[int] = []

    async def taken(_epochs: dict[int, int]) -> None:
        pass

    held = Leases(database, "me", on_taken=taken, on_lost=lost.append)
    try:
        await held._take()
        assert sorted(held.shards) == list(range(SHARDS))
        assert held.may_send(3)
        now += lease.TTL.total_seconds() - leases.MARGIN_SECONDS - 0.001
        assert held.may_send(3)
        now += 0.002
        assert not held.may_send(3)
        assert lost == [3]
        assert held.epoch(3) is None
        await held._renew()
        assert sorted(lost) == list(range(SHARDS))
    finally:
        await database.close()


async def test_a_release_during_a_takeover_frees_what_was_just_taken(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def taken(_epochs: dict[int, int]) -> None:
        began.set()
        await goes_on.wait()

    held = Leases(database, "me", on_taken=taken, on_lost=lambda _shard: None)
    try:
        running = asyncio.ensure_future(held.run_once())
        await began.wait()
        held.close()
        freeing = asyncio.ensure_future(held.release())
        goes_on.set()
        await freeing
        running.cancel()
        assert held.shards == []
        assert len(await lease.acquire(database, "another", list(range(SHARDS)))) == SHARDS
    finally:
        await database.close()


async def test_the_audit_finds_nothing_after_all_this(database_url: str) -> None:
    async with receiver() as there, house(database_url) as it:
        await it.route(there.url)
        await it.publish(count=30)
        for shard in range(SHARDS):
            it.pipeline._leases.lose(shard)
        await it.publish(count=30)
        await it.until_accounted()
        report = await audit.audit(
            it.database, start=datetime(2000, 1, 1, tzinfo=UTC), end=datetime(2100, 1, 1, tzinfo=UTC)
        )
        assert (report.events, report.deliveries, report.unread, report.findings) == (60, 60, 0, [])
