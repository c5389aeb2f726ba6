"""Several processes on one database: shards shared out, handed over without losing or doubling, and nothing sent
without right."""

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
from daemon.pipeline.shards import leases
from eventstore import domain_events
from eventstore.domain_events.events import SHARDS
from tests.support.builders import TENANTS
from tests.support.cable import cable
from tests.support.crash import doomed_house, exposed
from tests.support.house import House, house
from tests.support.receiver import Receiver, receiver, status
from tests.support.until import until

LONG = 30.0


class Turnstile:
    """A receiver that holds each request until it is let go, and then answers with `status`."""

    def __init__(self, there: Receiver, path: str = "/") -> None:
        self.status = 200
        self._passes = asyncio.Semaphore(0)
        there.answer[path] = self._answer

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self._passes.release()

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        await self._passes.acquire()
        return web.Response(status=self.status)


def ids_of(there: Receiver) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.received)


def holds_all(it: House) -> bool:
    return len(it.pipeline._leases.shards) == SHARDS


async def until_shared(*houses: House) -> None:
    """Waits until each shard is where it belongs, as seen by the database and by the processes."""
    owners = {it.pipeline._leases._this.owner: it for it in houses}
    wanted = {shard: preferred(shard, owners) for shard in range(SHARDS)}
    async with asyncio.timeout(LONG):
        while True:
            rows = await houses[0].rows(
                "SELECT shard, owner FROM hookledger.lease WHERE expires_at > clock_timestamp()"
            )
            held = {(shard, owner) for owner, it in owners.items() for shard in it.pipeline._leases.shards}
            if {row["shard"]: row["owner"] for row in rows} == wanted and held == set(wanted.items()):
                return
            await asyncio.sleep(0.02)


async def routes_everywhere(it: House, there: Receiver) -> None:
    """A route in each shard."""
    for tenant in TENANTS:
        await it.route(there.url, tenant=tenant)


async def publish_everywhere(it: House, *, count: int) -> list[str]:
    return [event_id for tenant in TENANTS for event_id in await it.publish(tenant=tenant, count=count)]


async def test_processes_share_the_shards_without_overlap_as_they_come_and_go(database_url: str) -> None:
    async with house(database_url) as one:
        await until_shared(one)
        async with house(database_url) as two:
            await until_shared(one, two)
            async with house(database_url) as three:
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
    async with receiver() as there, house(database_url, timeout_seconds=20) as one:
        there.answer["/"] = slowly
        await routes_everywhere(one, there)
        for _ in range(3):
            published += await publish_everywhere(one, count=3)
            async with house(database_url, timeout_seconds=20) as other:
                published += await publish_everywhere(other, count=3)
                await until(lambda it=other: it.pipeline._leases.shards, seconds=LONG)  # type: ignore[misc] # bound now
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
    async with receiver() as there, house(database_url) as one:
        await routes_everywhere(one, there)
        async with doomed_house(database_url) as other:
            await until_shared(one, other)
            published = await publish_everywhere(one, count=10)
            await there.count(40, seconds=LONG)
        allowed = exposed(other)
        await until_shared(one)
        published += await publish_everywhere(one, count=2)
        await one.until_row("SELECT count(DISTINCT seq) = $1 FROM hookledger.attempt", len(published), seconds=LONG)
        counts = ids_of(there)
        assert set(counts) == set(published)
        assert counts.total() - len(published) <= allowed
        assert await one.outcomes() == {event_id: ["delivered"] for event_id in published}


@pytest.mark.long
async def test_shards_of_a_crashed_process_move_within_the_ttl_and_a_second(database_url: str) -> None:
    async with house(database_url) as one, house(database_url, run=False) as other:
        running = asyncio.ensure_future(other.pipeline.run())
        await until_shared(one, other)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        began = time.monotonic()
        await until(lambda: holds_all(one), seconds=LONG)
        assert time.monotonic() - began < 11


async def test_a_busy_receiver_delays_no_hand_over_and_its_request_is_recorded_once(database_url: str) -> None:
    async with receiver() as there, house(database_url, run=False, timeout_seconds=60) as first:
        turnstile = Turnstile(there)
        running = asyncio.ensure_future(first.pipeline.run())
        route = await first.route(there.url + "/", "order.*")
        await first.route(there.url + "/free", "item.*")
        (busy,) = await first.publish("order.create")
        await there.count(1, seconds=LONG)
        async with house(database_url, timeout_seconds=60) as second:
            first.pipeline.stop()
            await until(lambda: holds_all(second), seconds=LONG)
            await second.publish("item.change", count=3)
            await there.count(3, path="/free", seconds=LONG)
            assert not running.done()
            (row,) = await second.rows(
                "SELECT holder, due_at > clock_timestamp() AS is_left_alone FROM hookledger.retry"
            )
            assert row == {"holder": first.pipeline._leases._this.owner, "is_left_alone": True}
            turnstile.let_go(1)
            async with asyncio.timeout(LONG):
                await running
            assert await second.outcomes(route.id) == {busy: ["delivered"]}
            assert len(there.at("/")) == 1
            await second.until_row("SELECT count(*) = 0 FROM hookledger.retry")


async def test_a_request_that_fails_after_the_hand_over_is_retried_by_the_successor(database_url: str) -> None:
    policy = RetryPolicy(attempts=3)
    async with receiver() as there, house(database_url, run=False, timeout_seconds=60, retry=policy) as first:
        turnstile = Turnstile(there)
        turnstile.status = 500
        running = asyncio.ensure_future(first.pipeline.run())
        await first.route(there.url + "/")
        (event_id,) = await first.publish()
        await there.count(1, seconds=LONG)
        first.pipeline.stop()
        async with house(database_url, timeout_seconds=60) as second:
            await until(lambda: holds_all(second), seconds=LONG)
            turnstile.let_go(1)
            async with asyncio.timeout(LONG):
                await running
            (row,) = await second.rows("SELECT failures, holder FROM hookledger.retry")
            assert row == {"failures": 1, "holder": None}
            turnstile.status = 200
            turnstile.let_go(1)
            await second.rows("UPDATE hookledger.retry SET due_at = '-infinity' RETURNING 1")
            await second.until_row("SELECT count(*) = 2 FROM hookledger.attempt", seconds=LONG)
            assert await second.outcomes() == {event_id: ["retrying", "delivered"]}
            assert len(there.received) == 2


async def test_parked_deliveries_under_way_at_a_hand_over_are_not_sent_again(database_url: str) -> None:
    async with receiver() as there, house(database_url, run=False, timeout_seconds=60, route_concurrency=2) as first:
        turnstile = Turnstile(there)
        running = asyncio.ensure_future(first.pipeline.run())
        route = await first.route(there.url + "/")
        published = await first.publish(count=10)
        await there.count(2, seconds=LONG)
        first.pipeline._lanes.park(first.pipeline._lanes.lane(route.id, domain_events.shard_of("acme")))
        await first.until_row("SELECT coalesce(sum(cardinality(seqs)), 0) = 8 FROM hookledger.parked", seconds=LONG)
        turnstile.let_go(2)
        await there.count(4, seconds=LONG)
        async with house(database_url, timeout_seconds=60) as second:
            first.pipeline.stop()
            await until(lambda: holds_all(second), seconds=LONG)
            await there.count(10, seconds=LONG)
            turnstile.let_go(100)
            async with asyncio.timeout(LONG):
                await running
            await second.until_row("SELECT count(*) >= 10 FROM hookledger.attempt", seconds=LONG)
            await second.until_row("SELECT count(*) = 0 FROM hookledger.parked", seconds=LONG)
            assert ids_of(there) == dict.fromkeys(published, 1)
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in published}


async def test_nothing_is_taken_up_of_shards_that_went_while_whoever_takes_it_up_waited(database_url: str) -> None:
    """It would lie in memory until the shard is back, and be sent then although somebody else had sent it."""
    policy = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, house(database_url, timeout_seconds=60, retry=policy, route_concurrency=2) as it:
        turnstile = Turnstile(there, "/parked")
        there.answer["/retrying"] = status(500)
        await it.route(there.url + "/retrying", "order.*")
        route = await it.route(there.url + "/parked", "item.*")
        pipeline = it.pipeline
        intake = pipeline._lanes.intake
        await it.publish("order.create")
        await it.publish("item.change", count=10)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry WHERE failures = 1", seconds=LONG)
        await there.count(2, path="/parked", seconds=LONG)
        pipeline._leases.close()  # takes nothing back
        async with intake:
            lane = pipeline._lanes.lane(route.id, domain_events.shard_of("acme"))
            pipeline._lanes.park(lane)
            await it.rows("UPDATE hookledger.retry SET due_at = '-infinity' RETURNING 1")
            pipeline._retrier.wakeup.set()
            await until(lambda: len(intake._waiters or ()) == 2, seconds=LONG)
            await pipeline._leases._hand_over(list(range(SHARDS)), {})
            await it.until_row("SELECT sum(cardinality(seqs)) = 8 FROM hookledger.parked", seconds=LONG)
        await until(lambda: not intake.locked() and not intake._waiters, seconds=LONG)
        assert not pipeline._retrier._held
        assert not pipeline._parking._drains
        assert pipeline._lanes.queued == 0
        for delivery in list(pipeline._lanes.in_flight):
            assert delivery.is_parting
        turnstile.let_go(2)


async def test_a_lease_in_doubt_forgets_nothing_and_sends_nothing_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is away for longer than a lease lasts; what ended meanwhile is recorded when it is back."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(leases, "MARGIN_SECONDS", 9.0)  # of ten: certain for one
    async with receiver() as there, cable(database_url) as line, house(line.url, timeout_seconds=60) as it:
        turnstile = Turnstile(there)
        await it.route(there.url + "/")
        published = await it.publish(count=50)
        await there.count(16, seconds=LONG)
        line.cut()
        shard = domain_events.shard_of("acme")
        turnstile.let_go(10)
        send_gate = it.pipeline._send_gate
        await until(lambda: time.monotonic() > send_gate._held_until[shard], seconds=LONG)
        turnstile.let_go(100)
        await until(lambda: not any(d.sent_at for d in it.pipeline._lanes.in_flight), seconds=LONG)
        sent = len(there.received)
        await _rows(database_url, "UPDATE hookledger.lease SET expires_at = '-infinity' RETURNING 1")
        assert it.pipeline._leases.epoch(shard) == 1
        assert len(there.received) == sent < 50
        line.mend()
        await it.until_row("SELECT count(*) >= 50 FROM hookledger.attempt", seconds=LONG)
        await it.until_accounted(seconds=LONG)
        assert ids_of(there) == dict.fromkeys(published, 1)
        assert await it.outcomes() == {event_id: ["delivered"] for event_id in published}
        assert await it.rows("SELECT DISTINCT epoch FROM hookledger.lease") == [{"epoch": 1}]


async def test_cut_off_from_postgresql_no_request_starts_a_second_after_a_disable(database_url: str) -> None:
    async with (
        receiver() as there,
        house(database_url, run=False) as elsewhere,
        cable(database_url) as line,
        house(line.url, timeout_seconds=60, route_concurrency=1) as it,
    ):
        turnstile = Turnstile(there)
        route = await it.route(there.url + "/")
        published = await it.publish(count=20)
        await there.count(1, seconds=LONG)
        await elsewhere.projection.catch_up()
        line.hold()
        await elsewhere.disable(route)
        acknowledged_at = time.monotonic()
        assert it.pipeline._send_gate._known_until <= acknowledged_at + 1.0
        await until(lambda: time.monotonic() >= acknowledged_at + 1.0, seconds=LONG)
        turnstile.let_go(100)
        await until(
            lambda: it.pipeline._send_gate._is_awaited, seconds=LONG
        )  # the next one wants to start, and does not
        assert len(there.received) == 1
        line.mend()
        await elsewhere.until_row("SELECT count(*) = 20 FROM hookledger.attempt", seconds=LONG)
        assert len(there.received) == 1
        outcomes = await elsewhere.outcomes()
        assert outcomes.pop(published[0]) == ["delivered"]
        assert set(map(tuple, outcomes.values())) == {("suppressed",)}


async def test_what_waited_to_be_sent_at_a_hand_over_is_sent_by_the_successor_at_once(database_url: str) -> None:
    """It was written down as under way, for as long as a request may take, and then no request was made."""
    async with receiver() as there, cable(database_url) as line:
        turnstile = Turnstile(there)
        async with house(line.url, run=False, timeout_seconds=60, route_concurrency=4) as first:
            running = asyncio.ensure_future(first.pipeline.run())
            await first.route(there.url + "/")
            published = await first.publish(count=8)
            await there.count(4, seconds=LONG)
            line.hold()
            send_gate, in_flight = first.pipeline._send_gate, first.pipeline._lanes.in_flight
            await until(lambda: time.monotonic() > send_gate._known_until, seconds=LONG)
            turnstile.let_go(100)
            await until(lambda: send_gate._is_awaited, seconds=LONG)
            await until(lambda: in_flight and all(d.has_retry_row for d in in_flight), seconds=LONG)
            first.pipeline.stop()
            await until(lambda: not in_flight, seconds=LONG)
            line.mend()
            async with asyncio.timeout(LONG):
                await running
        async with house(database_url, timeout_seconds=60) as second:
            await second.until_row("SELECT count(*) = 8 FROM hookledger.attempt", seconds=LONG)
            assert ids_of(there) == dict.fromkeys(published, 1)
            assert await second.outcomes() == {event_id: ["delivered"] for event_id in published}


async def test_a_stop_while_postgresql_is_away_ends_in_time(database_url: str) -> None:
    async with cable(database_url) as line:
        async with house(line.url, timeout_seconds=0.5) as it:
            await until(lambda: holds_all(it), seconds=LONG)
            line.cut()
            began = time.monotonic()
        assert time.monotonic() - began < LONG


async def _rows(database_url: str, query: str) -> list[object]:
    async with house(database_url, run=False) as beside:
        return [tuple(row.values()) for row in await beside.rows(query)]
