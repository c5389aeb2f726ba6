"""Several processes on one database: they share the shards, hand them over without loss or repetition, and send nothing
without a lease."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import timedelta

import pytest
from aiohttp import web

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.rendezvous import preferred
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events.events import SHARDS
from tests.support.pipeline.crash import crashing_process, possible_duplicates
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.receivers.receiver import Receiver, receiver, status
from tests.support.until import until
from tests.support.values.builders import TENANTS

LONG = 30.0


class HeldReceiver:
    """Holds each request to a path until `release`, then answers with `status`."""

    def __init__(self, there: Receiver, path: str = "/") -> None:
        self.status = 200
        self._passes = asyncio.Semaphore(0)
        there.answer[path] = self._answer

    def release(self, count: int) -> None:
        for _ in range(count):
            self._passes.release()

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        await self._passes.acquire()
        return web.Response(status=self.status)


def ids_of(there: Receiver) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.received)


def holds_all(it: PipelineProcess) -> bool:
    return len(it.pipeline.shards.held) == SHARDS


async def until_shared(*processes: PipelineProcess) -> None:
    """Waits until database and processes agree that each shard is at its right owner."""
    owners = {it.pipeline._leases._this.owner: it for it in processes}
    wanted = {shard: preferred(shard, owners) for shard in range(SHARDS)}
    async with asyncio.timeout(LONG):
        while True:
            rows = await processes[0].rows(
                "SELECT shard, owner FROM hookledger.lease WHERE expires_at > clock_timestamp()"
            )
            held = {(shard, owner) for owner, it in owners.items() for shard in it.pipeline.shards.held}
            if {row["shard"]: row["owner"] for row in rows} == wanted and held == set(wanted.items()):
                return
            await asyncio.sleep(0.02)


async def routes_everywhere(it: PipelineProcess, there: Receiver) -> None:
    """Creates a route in each shard."""
    for tenant in TENANTS:
        await it.route(there.url, tenant=tenant)


async def publish_everywhere(it: PipelineProcess, *, count: int) -> list[str]:
    return [event_id for tenant in TENANTS for event_id in await it.publish(tenant=tenant, count=count)]


async def test_processes_share_the_shards_without_overlap_as_they_come_and_go(database_url: str) -> None:
    async with pipeline_process(database_url) as one:
        await until_shared(one)
        async with pipeline_process(database_url) as two:
            await until_shared(one, two)
            async with pipeline_process(database_url) as three:
                await until_shared(one, two, three)
            await until_shared(one, two)
        await until_shared(one)
        assert [row["owner"] for row in await one.rows("SELECT owner FROM hookledger.process")] == [
            one.pipeline._leases._this.owner
        ]
    assert await _rows(database_url, "SELECT owner FROM hookledger.process") == []


async def test_nothing_is_lost_or_doubled_while_shards_move_under_load(database_url: str) -> None:
    async def slowly(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.Response()

    published: list[str] = []
    async with receiver() as there, pipeline_process(database_url, timeout_seconds=20) as one:
        there.answer["/"] = slowly
        await routes_everywhere(one, there)
        for _ in range(3):
            published += await publish_everywhere(one, count=3)
            async with pipeline_process(database_url, timeout_seconds=20) as other:
                published += await publish_everywhere(other, count=3)
                await until(lambda it=other: it.pipeline.shards.held, seconds=LONG)  # type: ignore[misc] # binds the loop variable
                published += await publish_everywhere(one, count=3)
                await until_shared(one, other)
                published += await publish_everywhere(other, count=3)
        await one.until_row("SELECT count(*) >= $1 FROM hookledger.attempt", len(published), seconds=LONG)
        await one.until_accounted(seconds=LONG)
        assert ids_of(there) == dict.fromkeys(published, 1)
        assert await one.outcomes() == {event_id: ["delivered"] for event_id in published}
        for table in ("retry", "parked"):
            await one.until_row(f"SELECT count(*) = 0 FROM hookledger.{table}", seconds=LONG)


async def test_a_crash_of_one_loses_nothing_and_the_other_goes_on(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as one:
        await routes_everywhere(one, there)
        async with crashing_process(database_url) as other:
            await until_shared(one, other)
            published = await publish_everywhere(one, count=10)
            await there.count(40, seconds=LONG)
        allowed = possible_duplicates(other)
        await until_shared(one)
        published += await publish_everywhere(one, count=2)
        await one.until_row("SELECT count(DISTINCT seq) = $1 FROM hookledger.attempt", len(published), seconds=LONG)
        counts = ids_of(there)
        assert set(counts) == set(published)
        assert counts.total() - len(published) <= allowed
        assert await one.outcomes() == {event_id: ["delivered"] for event_id in published}


@pytest.mark.long
async def test_shards_of_a_crashed_process_move_within_the_ttl_and_a_second(database_url: str) -> None:
    async with pipeline_process(database_url) as one, pipeline_process(database_url, run=False) as other:
        running = asyncio.ensure_future(other.pipeline.run())
        await until_shared(one, other)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        began = time.monotonic()
        await until(lambda: holds_all(one), seconds=LONG)
        assert time.monotonic() - began < 11


async def test_a_busy_receiver_delays_no_hand_over_and_its_request_is_recorded_once(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, run=False, timeout_seconds=60) as first:
        held = HeldReceiver(there)
        running = asyncio.ensure_future(first.pipeline.run())
        route = await first.route(there.url + "/", "order.*")
        await first.route(there.url + "/free", "item.*")
        (busy,) = await first.publish("order.create")
        await there.count(1, seconds=LONG)
        async with pipeline_process(database_url, timeout_seconds=60) as second:
            first.pipeline.stop()
            await until(lambda: holds_all(second), seconds=LONG)
            await second.publish("item.change", count=3)
            await there.count(3, path="/free", seconds=LONG)
            assert not running.done()
            (row,) = await second.rows(
                "SELECT holder, due_at > clock_timestamp() AS is_left_alone FROM hookledger.retry"
            )
            assert row == {"holder": first.pipeline._leases._this.owner, "is_left_alone": True}
            held.release(1)
            async with asyncio.timeout(LONG):
                await running
            assert await second.outcomes(route.id) == {busy: ["delivered"]}
            assert len(there.at("/")) == 1
            await second.until_row("SELECT count(*) = 0 FROM hookledger.retry")


async def test_a_request_that_fails_after_the_hand_over_is_retried_by_the_successor(database_url: str) -> None:
    policy = RetryPolicy(attempts=3)
    async with (
        receiver() as there,
        pipeline_process(database_url, run=False, timeout_seconds=60, retry=policy) as first,
    ):
        held = HeldReceiver(there)
        held.status = 500
        running = asyncio.ensure_future(first.pipeline.run())
        await first.route(there.url + "/")
        (event_id,) = await first.publish()
        await there.count(1, seconds=LONG)
        first.pipeline.stop()
        async with pipeline_process(database_url, timeout_seconds=60) as second:
            await until(lambda: holds_all(second), seconds=LONG)
            held.release(1)
            async with asyncio.timeout(LONG):
                await running
            (row,) = await second.rows("SELECT failures, holder FROM hookledger.retry")
            assert row == {"failures": 1, "holder": None}
            held.status = 200
            held.release(1)
            await second.rows("UPDATE hookledger.retry SET due_at = '-infinity' RETURNING 1")
            await second.until_row("SELECT count(*) = 2 FROM hookledger.attempt", seconds=LONG)
            assert await second.outcomes() == {event_id: ["retrying", "delivered"]}
            assert len(there.received) == 2


async def test_parked_deliveries_under_way_at_a_hand_over_are_not_sent_again(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, run=False, timeout_seconds=60, route_concurrency=2) as first,
    ):
        held = HeldReceiver(there)
        running = asyncio.ensure_future(first.pipeline.run())
        route = await first.route(there.url + "/")
        published = await first.publish(count=10)
        await there.count(2, seconds=LONG)
        first.pipeline._lanes.park(first.pipeline._lanes.lane(route.id, domain_events.shard_of("acme")))
        await first.until_row("SELECT coalesce(sum(cardinality(seqs)), 0) = 8 FROM hookledger.parked", seconds=LONG)
        held.release(2)
        await there.count(4, seconds=LONG)
        async with pipeline_process(database_url, timeout_seconds=60) as second:
            first.pipeline.stop()
            await until(lambda: holds_all(second), seconds=LONG)
            await there.count(10, seconds=LONG)
            held.release(100)
            async with asyncio.timeout(LONG):
                await running
            await second.until_row("SELECT count(*) >= 10 FROM hookledger.attempt", seconds=LONG)
            await second.until_row("SELECT count(*) = 0 FROM hookledger.parked", seconds=LONG)
            assert ids_of(there) == dict.fromkeys(published, 1)
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in published}


async def test_nothing_is_taken_up_of_shards_that_went_during_the_wait(database_url: str) -> None:
    """Otherwise it would stay in memory until the shard is back, and be sent although another process had sent it."""
    policy = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with (
        receiver() as there,
        pipeline_process(database_url, timeout_seconds=60, retry=policy, route_concurrency=2) as it,
    ):
        held = HeldReceiver(there, "/parked")
        there.answer["/retrying"] = status(500)
        await it.route(there.url + "/retrying", "order.*")
        route = await it.route(there.url + "/parked", "item.*")
        pipeline = it.pipeline
        intake = pipeline._working_set.moving
        await it.publish("order.create")
        await it.publish("item.change", count=10)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry WHERE failures = 1", seconds=LONG)
        await there.count(2, path="/parked", seconds=LONG)
        pipeline._leases.close()  # it takes no shard again
        async with intake:
            lane = pipeline._lanes.lane(route.id, domain_events.shard_of("acme"))
            pipeline._lanes.park(lane)
            await it.rows("UPDATE hookledger.retry SET due_at = '-infinity' RETURNING 1")
            pipeline._backlog.retrier.wakeup.set()
            await until(lambda: len(intake._waiters or ()) == 2, seconds=LONG)
            await pipeline._leases._hand_over(list(range(SHARDS)), {})
            await it.until_row("SELECT sum(cardinality(seqs)) = 8 FROM hookledger.parked", seconds=LONG)
        await until(lambda: not intake.locked() and not intake._waiters, seconds=LONG)
        assert not list(pipeline._working_set.with_retry_row())
        assert not pipeline._backlog.parking._drains
        assert pipeline._lanes.queued == 0
        for delivery in list(pipeline._lanes.in_flight):
            assert delivery.is_handed_over
        held.release(2)


async def test_a_lease_in_doubt_forgets_nothing_and_sends_nothing_twice(database_url: str) -> None:
    """PostgreSQL is down for longer than a lease lasts. Requests that end meanwhile are recorded once it is back."""
    tunables = Tunables(
        lease_renew_seconds=0.1, lease_margin_seconds=9.0
    )  # of ten seconds, so a lease is certain for one
    async with (
        receiver() as there,
        fault_proxy(database_url) as proxy,
        pipeline_process(proxy.url, timeout_seconds=60, tunables=tunables) as it,
    ):
        held = HeldReceiver(there)
        await it.route(there.url + "/")
        published = await it.publish(count=50)
        await there.count(16, seconds=LONG)
        proxy.cut()
        shard = domain_events.shard_of("acme")
        held.release(10)
        await until(lambda: time.monotonic() > it.pipeline.shards._leases[shard].valid_until, seconds=LONG)
        held.release(100)
        await until(lambda: not any(d.sent_at for d in it.pipeline._lanes.in_flight), seconds=LONG)
        sent = len(there.received)
        await _rows(database_url, "UPDATE hookledger.lease SET expires_at = '-infinity' RETURNING 1")
        assert it.pipeline.shards.epoch(shard) == 1
        assert len(there.received) == sent < 50
        proxy.restore()
        await it.until_row("SELECT count(*) >= 50 FROM hookledger.attempt", seconds=LONG)
        await it.until_accounted(seconds=LONG)
        assert ids_of(there) == dict.fromkeys(published, 1)
        assert await it.outcomes() == {event_id: ["delivered"] for event_id in published}
        assert await it.rows("SELECT DISTINCT epoch FROM hookledger.lease") == [{"epoch": 1}]


async def test_cut_off_from_postgresql_no_request_starts_a_second_after_a_disable(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, run=False) as elsewhere,
        fault_proxy(database_url) as proxy,
        pipeline_process(proxy.url, timeout_seconds=60, route_concurrency=1) as it,
    ):
        held = HeldReceiver(there)
        route = await it.route(there.url + "/")
        published = await it.publish(count=20)
        await there.count(1, seconds=LONG)
        await elsewhere.projection.catch_up()
        proxy.stall()
        await elsewhere.disable(route)
        acknowledged_at = time.monotonic()
        assert it.pipeline._gate._known_until <= acknowledged_at + 1.0
        await until(lambda: time.monotonic() >= acknowledged_at + 1.0, seconds=LONG)
        held.release(100)
        await until(lambda: it.pipeline.shards._is_awaited, seconds=LONG)  # the next request waits and does not start
        assert len(there.received) == 1
        proxy.restore()
        await elsewhere.until_row("SELECT count(*) = 20 FROM hookledger.attempt", seconds=LONG)
        assert len(there.received) == 1
        outcomes = await elsewhere.outcomes()
        assert outcomes.pop(published[0]) == ["delivered"]
        assert set(map(tuple, outcomes.values())) == {("suppressed",)}


async def test_what_waited_to_be_sent_at_a_hand_over_is_sent_by_the_successor_at_once(database_url: str) -> None:
    """The delivery was recorded as in flight for as long as a request may take, and then no request was made."""
    async with receiver() as there, fault_proxy(database_url) as proxy:
        held = HeldReceiver(there)
        async with pipeline_process(proxy.url, run=False, timeout_seconds=60, route_concurrency=4) as first:
            running = asyncio.ensure_future(first.pipeline.run())
            await first.route(there.url + "/")
            published = await first.publish(count=8)
            await there.count(4, seconds=LONG)
            proxy.stall()
            send_gate, in_flight = first.pipeline._gate, first.pipeline._lanes.in_flight
            await until(lambda: time.monotonic() > send_gate._known_until, seconds=LONG)
            held.release(100)
            await until(lambda: first.pipeline.shards._is_awaited, seconds=LONG)
            await until(lambda: in_flight and all(d.has_retry_row for d in in_flight), seconds=LONG)
            first.pipeline.stop()
            await until(lambda: not in_flight, seconds=LONG)
            proxy.restore()
            async with asyncio.timeout(LONG):
                await running
        async with pipeline_process(database_url, timeout_seconds=60) as second:
            await second.until_row("SELECT count(*) = 8 FROM hookledger.attempt", seconds=LONG)
            assert ids_of(there) == dict.fromkeys(published, 1)
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in published}


async def test_a_stop_while_postgresql_is_away_ends_in_time(database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        async with pipeline_process(proxy.url, timeout_seconds=0.5) as it:
            await until(lambda: holds_all(it), seconds=LONG)
            proxy.cut()
            began = time.monotonic()
        assert time.monotonic() - began < LONG


async def _rows(database_url: str, query: str) -> list[object]:
    async with pipeline_process(database_url, run=False) as beside:
        return [tuple(row.values()) for row in await beside.rows(query)]
