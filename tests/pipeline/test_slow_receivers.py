"""The slow pool: receivers that hang hold up nobody but themselves."""

from __future__ import annotations

import asyncio

from tests.pipeline.test_lanes import is_idle, make, taken
from tests.pipeline.test_parking import gate
from tests.support.deliveries import delivery
from tests.support.house import house
from tests.support.receiver import receiver
from tests.support.until import until


async def test_hanging_routes_that_fill_every_place_let_the_others_pass(database_url: str) -> None:
    async with receiver() as there, house(database_url, concurrency=16, route_concurrency=8, timeout_seconds=30) as it:
        opened = gate(there, "/hangs")
        for _ in range(4):
            await it.route(there.url + "/hangs", "order.create")
        await it.route(there.url + "/prompt", "customer.create")
        await it.publish("order.create", count=40)
        await there.count(16, path="/hangs")
        await it.publish("customer.create", count=200)
        await there.count(200, path="/prompt", seconds=20)
        assert not opened.is_set()
        assert len(there.at("/hangs")) <= 32, "the slow pool has its limit"
        opened.set()
        await there.count(160, path="/hangs", seconds=20)
        await it.until_row("SELECT count(*) = 360 FROM hookledger.attempt", seconds=20)
        lanes = it.pipeline._lanes
        await until(lambda: not lanes.in_flight)
        assert (lanes._fast.in_flight, lanes._slow.in_flight) == (0, 0)


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
