"""The slow pool: receivers that hang hold up no other receiver."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import pairwise

from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.lanes import Lanes
from tests.pipeline.scheduling.test_lanes import is_idle, make, taken
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import gate, receiver
from tests.support.until import until
from tests.support.values.deliveries import delivery


async def test_hanging_routes_that_fill_every_place_let_the_others_pass(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, concurrency=16, route_concurrency=8, timeout_seconds=30) as it,
    ):
        for _ in range(16):
            await it.route(there.url + "/hangs", "order.create")
        await it.route(there.url + "/prompt", "customer.create")
        await it.publish("order.create")
        await there.count(16, path="/hangs")
        await it.until_row("SELECT count(*) = 16 FROM hookledger.attempt")
        there.received.clear()
        opened = gate(there, "/hangs")
        await it.publish("order.create", count=10)
        await there.count(16, path="/hangs")
        await it.publish("customer.create", count=200)
        await there.count(200, path="/prompt", seconds=20)
        assert not opened.is_set()
        assert len(there.at("/hangs")) <= 32, "the slow pool has its limit"
        opened.set()
        await there.count(160, path="/hangs", seconds=20)
        await it.until_row("SELECT count(*) = 376 FROM hookledger.attempt", seconds=20)
        lanes = it.pipeline._lanes
        await until(lambda: not lanes.in_flight)
        assert (lanes._fast.in_flight, lanes._slow.in_flight) == (0, 0)


async def test_receivers_of_many_tenants_that_hang_at_once_leave_workers_to_the_others(database_url: str) -> None:
    tenants = [f"t{number}" for number in range(20)]
    async with (
        receiver() as there,
        pipeline_process(database_url, concurrency=32, route_concurrency=8, timeout_seconds=60) as it,
    ):
        for tenant in tenants:
            await it.route(f"{there.url}/hangs", tenant=tenant)
        await it.route(f"{there.url}/prompt", tenant="quiet")
        for tenant in (*tenants, "quiet"):
            await it.publish(tenant=tenant)
        await it.until_row("SELECT count(*) = 21 FROM hookledger.attempt")
        there.received.clear()
        opened = gate(there, "/hangs")
        await until(lambda: not any(lane.is_answering(time.monotonic()) for lane in it.pipeline._lanes))
        for tenant in tenants:
            await it.publish(tenant=tenant, count=8)
        await there.until(lambda: len(there.received) >= len(tenants))
        for number in range(1, 4):
            await it.publish(tenant="quiet")
            await there.count(number, path="/prompt")
        assert not opened.is_set()
        assert len(there.at("/hangs")) <= 32, "the places that are free for all, and one request of each"
        opened.set()
        await there.count(160, path="/hangs", seconds=20)


async def test_of_many_receivers_that_never_answered_each_has_one_request_under_way(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, concurrency=32, route_concurrency=4, timeout_seconds=30) as it,
    ):
        opened = gate(there, "/hangs")
        for _ in range(20):
            await it.route(there.url + "/hangs", "order.create")
        await it.route(there.url + "/prompt", "customer.create")
        await it.publish("order.create", count=4)
        await there.count(20, path="/hangs")
        (event_id,) = await it.publish("customer.create")
        await there.count(1, path="/prompt")
        lanes = it.pipeline._lanes
        assert lanes._fast.in_flight < 32, "there is a place without finding anybody slow"
        assert len(lanes.in_flight) <= 20 + 4
        opened.set()
        await there.count(80, path="/hangs")
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", event_id)


async def test_a_receiver_that_never_answered_is_in_line_again_once_it_is_found_slow() -> None:
    lanes, _ = make(limit=2)
    busy, new = [delivery(n) for n in range(2)], delivery(10)
    for each in (*busy, new, delivery(11, route_id=new.route_id)):
        lanes.offer(each)
    under_way = [await taken(lanes) for _ in range(3)]
    assert await is_idle(lanes), "places are taken, so the new one has one request under way"
    for each in busy:
        lanes.done(each)
    new.sent_at = new.started_at
    assert new in under_way
    lanes.sweep(new.started_at + 2)
    assert (await taken(lanes)).event.seq == 11, "nobody else is at work: it need not wait for its answer"


async def test_a_thousand_new_receivers_take_every_place_at_once() -> None:
    lanes, _ = make(limit=16, concurrency=256)
    for first in [delivery() for _ in range(1000)]:
        for seq in range(3):
            lanes.offer(delivery(seq, route_id=first.route_id))
    under_way = deque([await taken(lanes) for _ in range(256)])
    assert len({each.route_id for each in under_way}) == 256
    for _ in range(3000 - 256):
        ended = under_way.popleft()
        ended.succeeded = True
        lanes.done(ended)
        under_way.append(await taken(lanes))
    assert lanes.queued == 0


async def test_a_busy_receiver_of_which_nothing_is_ever_known_gets_its_turns_beside_others() -> None:
    lanes, _ = make(limit=2)
    routes = [delivery().route_id for _ in range(8)]
    for seq in range(20):
        for route in routes:
            lanes.offer(delivery(seq, route_id=route))
    under_way, ended = deque(await startable(lanes)), []
    while under_way:
        ended.append(under_way.popleft())
        ended[-1].succeeded = (
            None if ended[-1].route_id == routes[0] else True
        )  # None: the proxy failed, or no body could be rendered
        lanes.done(ended[-1])
        under_way += await startable(lanes)
    turns = [turn for turn, each in enumerate(ended) if each.route_id == routes[0]]
    assert len(turns) == 20
    assert max(later - turn for turn, later in pairwise(turns)) <= 2 * len(routes)


async def startable(lanes: Lanes) -> list[Delivery]:
    """Takes all deliveries that may start now."""
    found: list[Delivery] = []
    while True:
        waiting = asyncio.ensure_future(lanes.take())
        await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return found
        if (each := waiting.result()) is not None:
            found.append(each)


async def test_a_request_found_slow_gives_its_place_to_a_worker_that_waits() -> None:
    lanes, _ = make(limit=8)
    slow = delivery(0).route_id
    for seq in range(8):
        lanes.offer(delivery(seq, route_id=slow))
    under_way = [await taken(lanes) for _ in range(8)]
    for each in under_way:
        each.sent_at = each.started_at
    lanes.offer(delivery(100))
    waiting = asyncio.ensure_future(lanes.take())
    await asyncio.sleep(0)
    assert not waiting.done(), "every place is taken"
    lanes.sweep(under_way[0].started_at + 2)
    async with asyncio.timeout(1):
        found = await waiting
    assert found is not None
    assert found.event.seq == 100
    assert all(each.is_slow for each in under_way)


async def test_a_slow_lane_starts_no_more_than_the_slow_pool_has_places_and_is_prompt_again_in_time() -> None:
    lanes, _ = make(limit=8)
    route = delivery(0).route_id
    lane = lanes.lane(route, 0)
    lane.found_slow()
    for seq in range(20):
        lanes.offer(delivery(seq, route_id=route))
    first, second = await taken(lanes), await taken(lanes)
    assert await is_idle(lanes), "a quarter of eight"
    for each in (first, second):
        each.succeeded = True
        lanes.done(each)
    for _ in range(4):
        each = await taken(lanes)
        each.succeeded = True
        lanes.done(each)
    assert not lane.is_slow
    assert len([await taken(lanes) for _ in range(8)]) == 8
