"""Lanes without other stages: fair turns, limits, overflow, withdrawal."""

from __future__ import annotations

import asyncio
import time
from itertools import count, islice
from random import Random
from uuid import UUID, uuid4

import pytest

from daemon.core.delivery.states.lane_states import LaneStep
from daemon.core.delivery.states.phases import DeliveryStep
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEventType
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events.ticks import LogPosition
from tests.support.values.deliveries import delivery
from tests.support.values.lifecycles import after, config, created


def make(
    limit: int = 2, *, concurrency: int = 8, tunables: Tunables = DEFAULTS, index: RouteIndex | None = None
) -> tuple[Lanes, list[Delivery]]:
    parked: list[Delivery] = []
    limits = SendingLimits(concurrency=concurrency, route_concurrency=limit, breaker_failures=3)
    return Lanes(limits, Parked(parked), WorkingSet(), index or RouteIndex(), tunables), parked


class Parked:
    """A writer that takes parked deliveries only."""

    def __init__(self, parked: list[Delivery]) -> None:
        self._parked = parked

    def park(self, delivery: Delivery) -> None:
        self._parked.append(delivery)

    def extend_range(self, delivery: Delivery, range_from: LogPosition) -> None:
        raise AssertionError("nothing is ranged here")

    def persist_in_flight(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is ordered here")

    def hand_over(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is handed over here")

    def return_to_table(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is handed over here")

    def put_back(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is a test here")


async def taken(lanes: Lanes) -> Delivery:
    async with asyncio.timeout(1):
        found = await lanes.take()
    assert found is not None
    return found


async def is_idle(lanes: Lanes) -> bool:
    waiting = asyncio.ensure_future(lanes.take())
    await asyncio.sleep(0)
    waiting.cancel()
    return not waiting.done()


async def test_workers_take_turns_over_the_lanes() -> None:
    lanes, _ = make(limit=10)
    busy, quiet = uuid4(), uuid4()
    for seq in range(5):
        lanes.offer(delivery(seq, route_id=busy))
    lanes.offer(delivery(9, route_id=quiet))
    order = [(await taken(lanes)).event.seq for _ in range(6)]
    assert order == [0, 9, 1, 2, 3, 4]


async def test_tenants_take_turns_whatever_number_of_lanes_they_have() -> None:
    index, routes = RouteIndex(), [uuid4() for _ in range(6)]
    for place, route in enumerate(routes, start=1):
        index.apply(created(route_id=route, pos=place, tenant="few" if place == 6 else "many"))
    lanes, _ = make(limit=10, index=index)
    for seq, route in enumerate(routes[:5]):
        lanes.offer(delivery(seq, route_id=route))
    for seq in (7, 8, 9):
        lanes.offer(delivery(seq, route_id=routes[5]))
    order = [(await taken(lanes)).event.seq for _ in range(8)]
    assert order == [0, 7, 1, 8, 2, 9, 3, 4]


async def test_a_lane_has_at_most_its_limit_under_way() -> None:
    lanes, _ = make(limit=2)
    route = uuid4()
    for seq in range(4):
        lanes.offer(delivery(seq, route_id=route))
    first, _second = await taken(lanes), await taken(lanes)
    assert await is_idle(lanes)
    lanes.done(first)
    assert (await taken(lanes)).event.seq == 2
    assert lanes.queued == 1


async def test_a_worker_that_waits_is_woken_for_each_delivery() -> None:
    lanes, _ = make(limit=10)
    workers = [asyncio.ensure_future(lanes.take()) for _ in range(5)]
    await asyncio.sleep(0)
    for seq in range(5):
        lanes.offer(delivery(seq))
    async with asyncio.timeout(1):
        found = await asyncio.gather(*workers)
    assert sorted(d.event.seq for d in found if d) == list(range(5))


async def test_a_lane_may_queue_what_it_gets_rid_of_in_time_and_never_less_than_a_least() -> None:
    lanes, _ = make()
    lane = lanes.lane(uuid4(), 0)
    lanes.offer(delivery(1, route_id=lane.route_id))
    lane.measure(0.25)
    assert lane.capacity == DEFAULTS.unmeasured_lane_queue, "it was not busy for all of the time"
    lane.measure(0.25)
    assert lane.capacity == DEFAULTS.lane_queue, "it completed nothing"
    lane.completed = 300
    lane.measure(0.25)
    assert lane.capacity == 300 * 4 * 2


async def test_a_lane_that_overflows_parks_all_it_has_in_order() -> None:
    lanes, parked = make(tunables=Tunables(unmeasured_lane_queue=3))
    route = uuid4()
    retried = delivery(100, route_id=route)
    retried.is_accounted = True
    lane = lanes.lane(route, 0)
    lanes.take_up(lane, retried)
    for seq in range(6):
        lanes.offer(delivery(seq, route_id=route))
    assert [d.event.seq for d in parked] == list(range(6))
    assert [d.event.seq for d in lane.queue] == [100]
    assert lane.is_parking
    assert lane.parkings == 6
    lanes.offer(delivery(7))
    assert len(parked) == 6


async def test_a_dropped_shard_withdraws_what_waits_and_what_is_under_way() -> None:
    lanes, _ = make(limit=1)
    route = uuid4()
    ours, theirs = [delivery(n, route_id=route, shard=1) for n in range(3)], delivery(9, shard=2)
    for each in (*ours, theirs):
        lanes.offer(each)
    under_way = await taken(lanes)
    assert under_way is ours[0]
    lanes.drop(1)
    assert [d.is_withdrawn for d in (*ours, theirs)] == [True, True, True, False]
    assert (await taken(lanes)) is theirs
    lanes.done(under_way)
    assert await is_idle(lanes)


async def test_a_parking_lane_rings_when_it_runs_low() -> None:
    lanes, _ = make(limit=10, tunables=Tunables(low_water=2))
    lane = lanes.lane(uuid4(), 0)
    lanes.park(lane)
    for seq in range(3):
        lanes.take_up(lane, delivery(seq, route_id=lane.route_id))
    lanes.room.clear()
    first, second = await taken(lanes), await taken(lanes)
    lanes.done(first)
    assert not lanes.room.is_set
    lanes.done(second)
    assert lanes.room.is_set


async def test_closed_lanes_hand_out_nothing_and_wake_all() -> None:
    lanes, _ = make()
    workers = [asyncio.ensure_future(lanes.take()) for _ in range(3)]
    await asyncio.sleep(0)
    lanes.close()
    async with asyncio.timeout(1):
        assert await asyncio.gather(*workers) == [None] * 3
    lanes.offer(delivery())
    assert await lanes.take() is None


# ---- lanes that are let go ----

IDLE, LEARNED = DEFAULTS.idle_lane_seconds, DEFAULTS.learned_lane_seconds


async def after_a_delivery(lanes: Lanes, route: UUID, *, succeeded: bool | None = True) -> None:
    """Sends one delivery of the route, and lets its lane rest at the moment 0."""
    lanes.offer(delivery(1, route_id=route))
    sent = await taken(lanes)
    sent.advance(DeliveryStep.SEND)
    sent.advance(DeliveryStep.END)
    sent.succeeded = succeeded
    lanes.done(sent)
    lanes.rest(0.0)


def let_go(lanes: Lanes, seconds: float, *, unwritten: bool = False) -> int:
    """How many lanes are let go after so many seconds of rest."""
    return len(lanes.let_go(seconds, has_unwritten=lambda _: unwritten))


async def test_a_lane_that_rests_is_let_go_and_made_anew_when_it_is_needed() -> None:
    lanes, _ = make()
    route = uuid4()
    await after_a_delivery(lanes, route)
    assert (let_go(lanes, IDLE - 1), let_go(lanes, IDLE, unwritten=True), let_go(lanes, IDLE)) == (0, 0, 1)
    assert (list(lanes), lanes.are_resting) == ([], False)
    lanes.offer(delivery(2, route_id=route))
    assert (await taken(lanes)).event.seq == 2


async def test_a_lane_that_has_work_again_is_not_let_go() -> None:
    lanes, _ = make()
    route = uuid4()
    await after_a_delivery(lanes, route)
    lanes.offer(delivery(2, route_id=route))
    assert let_go(lanes, 10 * LEARNED) == 0
    await taken(lanes)
    lanes.rest(0.0)
    assert let_go(lanes, 10 * LEARNED) == 0
    assert len(list(lanes)) == 1


async def test_a_parking_lane_is_not_let_go() -> None:
    lanes, _ = make()
    await after_a_delivery(lanes, route := uuid4())
    lanes.park(lanes.lane(route, 0))
    lanes.rest(0.0)
    assert let_go(lanes, 10 * LEARNED) == 0


async def test_what_a_lane_has_learned_keeps_it_for_longer() -> None:
    lanes, _ = make()
    slow, failing = uuid4(), uuid4()
    await after_a_delivery(lanes, slow)
    lanes.lane(slow, 0).found_slow()
    await after_a_delivery(lanes, failing, succeeded=False)
    assert (let_go(lanes, IDLE), let_go(lanes, LEARNED - 1), let_go(lanes, LEARNED)) == (0, 0, 2)


async def test_an_open_breaker_keeps_a_lane_until_it_closes() -> None:
    lanes, _ = make()
    route = uuid4()
    for _ in range(3):
        await after_a_delivery(lanes, route, succeeded=False)
    lane = lanes.lane(route, 0)
    lane.advance(LaneStep.REREAD)
    lane.emptied()
    lanes.rest(0.0)
    assert not lane.breaker.is_closed
    assert let_go(lanes, 10 * LEARNED) == 0
    lane.breaker.reset()
    assert let_go(lanes, 10 * LEARNED) == 1


async def test_a_pace_keeps_a_lane_for_as_long_as_it_makes_wait() -> None:
    lanes, _ = make()
    route = uuid4()
    lanes.lane(route, 0).configure(config(rate_limit_per_second=1 / (3 * LEARNED)))
    began = time.monotonic()
    await after_a_delivery(lanes, route)
    assert let_go(lanes, began + 2 * LEARNED) == 0
    assert let_go(lanes, began + 4 * LEARNED) == 1


async def test_of_a_deleted_route_nothing_is_kept_longer() -> None:
    index = RouteIndex()
    lanes, _ = make(index=index)
    route = index.apply(created())
    for _ in range(3):
        await after_a_delivery(lanes, route.id, succeeded=False)
    lane = lanes.lane(route.id, 0)
    lane.advance(LaneStep.REREAD)
    lane.emptied()
    lanes.rest(0.0)
    assert let_go(lanes, IDLE) == 0
    index.apply(after(route, LifecycleEventType.DELETED))
    assert let_go(lanes, IDLE) == 1


class Workers:
    """Workers as the supervisor has them. What they have `under_way` ends when its future does."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.waiting = 0
        self.under_way: dict[Delivery, asyncio.Future[None]] = {}

    async def work(self) -> None:
        while (found := await self.next()) is not None:
            self.under_way[found] = asyncio.get_running_loop().create_future()
            await self.under_way[found]
            found.advance(DeliveryStep.END)
            found.succeeded = True
            self.lanes.done(found, takes_next=True)
            await asyncio.sleep(0)

    async def next(self) -> Delivery | None:
        self.waiting += 1
        found = await self.lanes.take()
        self.waiting -= 1
        return found

    def end(self, deliveries: list[Delivery]) -> None:
        for each in deliveries:
            self.under_way.pop(each).set_result(None)

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_no_worker_waits_while_there_is_something_to_start(seed: int) -> None:
    """Workers pause between two attempts, and meanwhile are counted on for what is put in line."""
    dice, (lanes, _) = Random(seed), make(limit=3, concurrency=6)
    workers, routes, seqs = Workers(lanes), [uuid4() for _ in range(5)], count(1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(workers.work())
        for _ in range(100):
            for seq in islice(seqs, dice.randrange(4)):
                lanes.offer(delivery(seq, route_id=dice.choice(routes)))
            ending = dice.sample(list(workers.under_way), dice.randint(0, len(workers.under_way)))
            for each in ending[: dice.randrange(2)]:
                lanes.found_slow(each)
            workers.end(ending)
            if dice.random() < 0.5:
                await workers.settle()
                assert not workers.waiting or lanes.next() is None
            else:
                await asyncio.sleep(0)
        while lanes.queued or workers.under_way:
            workers.end(list(workers.under_way))
            await workers.settle()
        lanes.close()
