"""Leases: which process may send and write for a shard when two believe that they own it, and what the other does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from daemon import audit
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.rendezvous import preferred
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.shards.leases import Leases
from daemon.pipeline.shards.lifelines import Lifelines
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore import domain_events
from eventstore.domain_events import tail
from eventstore.domain_events.events import SHARDS
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from tests.support.pipeline.crash import free_leases
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.receivers.receiver import Receiver, receiver, status
from tests.support.until import until
from tests.support.values.builders import process


def ids_of(there: Receiver) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.received)


def holds_all(it: PipelineProcess) -> bool:
    return len(it.pipeline.shards.held) == SHARDS


def is_shared(*processes: PipelineProcess) -> bool:
    """True if each shard has exactly one owner, the right one."""
    owners = {it.pipeline._leases._this.owner: it for it in processes}
    return all(
        (shard in it.pipeline.shards.held) is (it is owners[preferred(shard, owners)])
        for shard in range(SHARDS)
        for it in processes
    )


async def test_a_frozen_owner_that_thaws_writes_nothing_and_loses_nothing(database_url: str) -> None:
    """The connection of a process to PostgreSQL stalls, its lease expires, another process takes over; then it resumes."""
    opened = asyncio.Event()

    async def gated(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response()

    async with receiver() as there, fault_proxy(database_url) as proxy, pipeline_process(proxy.url) as first:
        there.answer["/"] = gated
        await until(lambda: holds_all(first), seconds=30)
        route = await first.route(there.url + "/")
        ids = await first.publish(count=100)
        await there.count(16, seconds=30)
        proxy.stall()
        await free_leases(database_url)
        async with pipeline_process(database_url) as second:
            await until(lambda: holds_all(second), seconds=30)
            opened.set()
            await second.until_row("SELECT count(DISTINCT seq) = 100 FROM hookledger.attempt", seconds=30)
            proxy.restore()
            # It learns that, drops its deliveries, and gets its share again.
            await second.until_row("SELECT count(*) = 2 FROM hookledger.process", seconds=30)
            await until(lambda: is_shared(first, second), seconds=30)
            assert first.pipeline._ledger.pairs == 0
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in ids}
            counts = ids_of(there)
            assert set(counts) == set(ids)
            # While stalled it sent deliveries until its last look at the routes was a second old.
            assert counts.total() <= 100 + 100
        await until(lambda: holds_all(first), seconds=30)
        more = await first.publish(count=50)
        await first.until_accounted(seconds=30)
        assert await first.outcomes(route.id) == {event_id: ["delivered"] for event_id in ids + more}
        assert all(ids_of(there)[event_id] == 1 for event_id in more)


async def test_two_daemons_that_take_the_shards_from_each_other_lose_nothing(database_url: str) -> None:
    published: list[str] = []
    async with receiver() as there, pipeline_process(database_url) as one, pipeline_process(database_url) as other:
        route = await one.route(there.url)
        await other.projection.catch_up()
        for n in range(6):
            published += await one.publish(count=100)
            await there.count(n * 100 + 30)
            await free_leases(database_url)
            (other if n % 2 else one).pipeline._leases.wakeup.set()
        await one.until_row("SELECT count(DISTINCT seq) = 600 FROM hookledger.attempt WHERE outcome = 'delivered'")
        await one.until_row("SELECT count(*) = 0 FROM hookledger.parked")
        assert set(ids_of(there)) == set(published)
        assert set(await one.outcomes(route.id)) == set(published)


async def test_a_shard_lost_and_retaken_in_the_middle_of_a_cut_is_read_from_its_beginning(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page is decided and then withdrawn with the lease. The second page must not count as the whole tick."""
    monkeypatch.setattr(tail, "PAGE_ROWS", 100)
    decided = asyncio.Event()
    goes_on = asyncio.Event()
    read_cut = tail.read_cut

    async def paused(*arguments: object, **options: object) -> AsyncIterator[list[domain_events.StoredEvent]]:
        pages = read_cut(*arguments, **options)  # type: ignore[arg-type] # the original's arguments
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
        async with pipeline_process(database_url, run=False) as it:
            await it.route(there.url + "/")
            ids = await it.publish(count=300)
        monkeypatch.setattr(tail, "read_cut", paused)
        async with pipeline_process(database_url) as it:
            await decided.wait()
            shards = it.pipeline.shards.held
            for shard in shards:
                it.pipeline.shards.lose(shard)
            await until(lambda: holds_all(it), seconds=8)
            goes_on.set()
            opened.set()
            await it.until_accounted()
            await it.until_row("SELECT count(DISTINCT seq) = 300 FROM hookledger.attempt", seconds=30)
            assert set(await it.outcomes()) == set(ids)
            assert set(ids_of(there)) == set(ids)


async def test_a_process_that_let_go_in_doubt_takes_its_own_shards_back_at_once(database_url: str) -> None:
    """The lease row names the process for ten more seconds. No other may have it, and the process need not wait for itself."""
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await until(lambda: holds_all(it))
        for shard in range(SHARDS):
            it.pipeline.shards.lose(shard)
        await until(lambda: holds_all(it), seconds=8)
        ids = await it.publish(count=20)
        await it.until_row("SELECT count(*) >= 20 FROM hookledger.attempt")
        await it.until_accounted()
        assert ids_of(there) == dict.fromkeys(ids, 1)
        assert await it.rows("SELECT DISTINCT epoch FROM hookledger.lease") == [{"epoch": 2}]


async def test_retries_taken_up_while_a_shard_changes_hands_are_not_forgotten(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_seq = domain_events.by_seq
    in_between = asyncio.Event()
    goes_on = asyncio.Event()

    async def paused(*arguments: object) -> object:
        found = await by_seq(*arguments)  # type: ignore[arg-type] # the original's arguments
        if arguments[1] and not in_between.is_set():
            in_between.set()
            await goes_on.wait()
        return found

    policy = RetryPolicy(first=timedelta(seconds=0.2), cap=timedelta(seconds=1))
    async with receiver() as there, pipeline_process(database_url, retry=policy) as it:
        there.answer["/"] = status(500)
        await it.route(there.url + "/")
        monkeypatch.setattr(domain_events, "by_seq", paused)
        await it.publish(count=10)
        await there.count(10)
        there.answer.clear()
        await in_between.wait()
        for shard in range(SHARDS):
            it.pipeline.shards.lose(shard)
        await until(lambda: holds_all(it), seconds=8)
        goes_on.set()
        await it.until_row("SELECT count(*) = 10 FROM hookledger.attempt WHERE outcome = 'delivered'", seconds=60)
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")


OnTaken = Callable[[Mapping[int, int]], Awaitable[Takeover]]


class Member:
    """A stage that notes which shards it was given, and which it lost."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.lost: list[int] = []

    def adopt(self, takeover: Takeover) -> None:
        self.started += takeover.checkpoints

    async def part(self, shards: Collection[int]) -> None:
        raise AssertionError("the leases part by `on_parting` here")

    def drop(self, shard: int) -> None:
        self.lost.append(shard)


@asynccontextmanager
async def leases_of(
    database_url: str, owner: str, on_taken: OnTaken | None = None, *, tunables: Tunables = DEFAULTS
) -> AsyncIterator[tuple[Leases, SendGate, Member]]:
    """Leases without a pipeline, their send gate, and the list of lost shards."""
    database = Database(database_url)
    await database.open()
    shards = HeldShards()
    send_gate = SendGate(shards)
    member = Member()
    shards.members = (member,)

    async def taken(epochs: Mapping[int, int]) -> Takeover:
        return Takeover(checkpoints=dict.fromkeys(epochs, 0))

    async def parting(_shards: Collection[int]) -> None:
        pass

    try:
        yield (
            Leases(
                database,
                process(owner),
                shards,
                Lifelines(owner, shards),
                on_taken=on_taken or taken,
                on_parting=parting,
                tunables=tunables,
            ),
            send_gate,
            member,
        )
    finally:
        await database.close()


async def test_a_lease_past_its_end_is_in_doubt_and_goes_on_if_nobody_took_it(
    database_url: str,
) -> None:
    in_doubt = Tunables(lease_margin_seconds=lease.TTL.total_seconds() + 1)
    async with leases_of(database_url, "me", tunables=in_doubt) as (held, send_gate, member):
        send_gate.known(1e12)
        await held._beat()
        await held._take([3, 4])
        assert not send_gate.allows(3)
        assert sorted(held._shards.held) == [3, 4]
        held._certain_seconds = lease.TTL.total_seconds() - DEFAULTS.lease_margin_seconds
        await free_leases(database_url)
        await held._beat()
        assert send_gate.allows(3)
        assert (sorted(held._shards.held), member.lost) == ([3, 4], [])
        assert held._shards.epoch(3) == 1


async def test_a_lease_in_doubt_that_another_took_is_lost(database_url: str) -> None:
    async with (
        leases_of(database_url, "me") as (held, send_gate, member),
        leases_of(database_url, "another") as (other, *_),
    ):
        send_gate.known(1e12)
        await held._take([3, 4])
        assert send_gate.allows(3)
        await free_leases(database_url)
        await other._take([3])
        await held._beat()
        assert (held._shards.held, member.lost) == ([4], [3])
        assert not send_gate.allows(3)
        assert send_gate.allows(4)


async def test_what_is_being_taken_over_is_renewed_however_long_that_takes(database_url: str) -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(epochs: Mapping[int, int]) -> Takeover:
        began.set()
        await goes_on.wait()
        return Takeover(checkpoints=dict.fromkeys(epochs, 0))

    async with (
        leases_of(database_url, "me", slowly) as (held, send_gate, member),
        leases_of(database_url, "other") as (other, *_),
    ):
        send_gate.known(1e12)
        taking = asyncio.ensure_future(held._take([3, 4]))
        await began.wait()
        await free_leases(database_url)
        await other._take([4])
        await held._beat()
        assert await lease.acquire(other._database, "other", [3]) == {}
        assert not send_gate.allows(3)
        goes_on.set()
        await taking
        assert member.started == held._shards.held == [3]
        assert send_gate.allows(3)


async def test_leaving_during_a_takeover_frees_what_was_just_taken(database_url: str) -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(epochs: Mapping[int, int]) -> Takeover:
        began.set()
        await goes_on.wait()
        return Takeover(checkpoints=dict.fromkeys(epochs, 0))

    async with leases_of(database_url, "me", slowly) as (held, _, member):
        await held._beat()
        taking = asyncio.ensure_future(held._take(list(range(SHARDS))))
        await began.wait()
        await held.leave()
        goes_on.set()
        await taking
        assert held._shards.held == member.started == []
        await held._beat()
        await held._take([1])
        assert (await lease.survey(held._database)).live == frozenset()
        assert len(await lease.acquire(held._database, "another", list(range(SHARDS)))) == SHARDS


async def test_a_shard_that_is_handed_over_is_neither_used_nor_found_lost(database_url: str) -> None:
    async with leases_of(database_url, "me") as (held, send_gate, member):
        send_gate.known(1e12)
        began, goes_on = asyncio.Event(), asyncio.Event()

        async def slowly(_shards: Collection[int]) -> None:
            began.set()
            await goes_on.wait()

        held._on_parting = slowly
        await held._take([3, 4])
        handing_over = asyncio.ensure_future(held._hand_over([3], {}))
        await began.wait()
        await held._beat()
        assert (held._shards.held, held._shards.epoch(3), send_gate.allows(3)) == ([4], None, False)
        assert await lease.acquire(held._database, "another", [3]) == {}
        goes_on.set()
        await handing_over
        await held._beat()
        assert (held._shards.held, member.lost) == ([4], [])
        assert await lease.acquire(held._database, "another", [3, 4]) == {3: 2}


async def test_the_audit_finds_nothing_after_all_this(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await it.publish(count=30)
        for shard in range(SHARDS):
            it.pipeline.shards.lose(shard)
        await it.publish(count=30)
        await it.until_accounted()
        report = await audit.audit(
            it.database, start=datetime(2000, 1, 1, tzinfo=UTC), end=datetime(2100, 1, 1, tzinfo=UTC)
        )
        assert (report.events, report.deliveries, report.unread, report.findings) == (60, 60, 0, [])
