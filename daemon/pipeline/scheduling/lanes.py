"""Lanes keep routes apart: each route has a queue and limits of its own, and a lane that cannot keep up is parked.

Workers take turns over the lanes that have something to do, one delivery at a time, so a full lane gets no more of
them than an empty one. A lane is either *live*, queueing what the tailer decides, or *parking*: then what arrives is
written down instead, and comes back through `daemon.pipeline.backlog.parking` in order, until nothing is left behind
and it is live again.

    live --queue full, breaker open, or a delivery waited too long--> parking
    parking --everything parked was taken up again--> live

A lane starts its requests in one of two pools (daemon.pipeline.scheduling.pools), by whether its receiver is prompt or
slow.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from random import random
from uuid import UUID

from daemon.core.routing.route import Route
from daemon.pipeline.scheduling.delivery import Delivery, LogPosition
from daemon.pipeline.scheduling.lane import SLOW_SECONDS, Lane
from daemon.pipeline.scheduling.pools import Pool, SendingLimits
from daemon.pipeline.wakeup import Wakeup

# A parking lane with fewer than this in memory has room for the next chunk.
LOW_WATER = 100
# Of a lane with so many parked deliveries, the rest is a range of ticks instead of a list
# (daemon.pipeline.backlog.ranges).
RANGE_PAIRS = 100_000


class Lanes:
    """All lanes of a process.

    `park` is called with a delivery that is to be written down instead of queued, `extend_range` with one that a range
    stands for, `persist_in_flight` with one that is under way. `route_of` finds a route as it is now. `room` rings when
    a parking lane runs low, or lanes that were idle have work. `intake` is held by whoever moves deliveries from the
    tables into lanes, and by whoever suppresses them there, so that none is handled by both.
    """

    def __init__(
        self,
        limits: SendingLimits,
        *,
        park: Callable[[Delivery], None],
        extend_range: Callable[[Delivery, int], None],
        persist_in_flight: Callable[[Delivery], None],
        route_of: Callable[[UUID], Route | None],
    ) -> None:
        self._limits = limits
        self._park = park
        self._extend_range = extend_range
        self._persist_in_flight = persist_in_flight
        self._route_of = route_of
        self._lanes: dict[UUID, Lane] = {}
        self._fast = Pool(limits.concurrency)
        self._slow = Pool(limits.slow_places)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._is_closed = False
        self.active: dict[UUID, Lane] = {}
        self.in_flight: dict[Delivery, None] = {}
        self.room = Wakeup()
        self.intake = asyncio.Lock()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def lane(self, route_id: UUID, shard: int) -> Lane:
        """The lane of a route, made when it is first needed."""
        lane = self._lanes.get(route_id)
        if lane is None:
            limits = self._limits
            lane = self._lanes[route_id] = Lane(
                route_id, shard=shard, limit=limits.route_concurrency, failures_to_open=limits.breaker_failures
            )
            route = self._route_of(route_id)
            if route is not None:
                lane.configure(route.config)
        return lane

    def configure(self, route: Route) -> None:
        """Takes over what a route says now. Another target deserves another chance, and a closed one needs none."""
        lane = self._lanes.get(route.id)
        if lane is not None:
            lane.configure(route.config)
            lane.breaker.reset()
            self._list(lane)

    def offer(self, delivery: Delivery) -> None:
        """Queues a delivery that was just decided, or parks it."""
        lane = self.lane(delivery.route_id, delivery.shard)
        if not lane.is_parking and (len(lane.queue) >= lane.capacity or not lane.breaker.is_closed):
            self.park(lane)
        if lane.is_parking:
            self._write_down(lane, delivery)
            return
        self.enqueue(lane, delivery)

    def park(self, lane: Lane) -> None:
        """Has all that a lane has queued written down, and what comes after it too, until the lane is live again.

        All of it, since the table is drained in order: were the rest written down later, it would come last. What has a
        row already stays. In an ordered lane what is under way is written down with it: should we die, it must not come
        after the rest.
        """
        self._activate(lane)
        lane.is_parking = True
        if lane.is_ordered:
            for delivery in [d for d in self.in_flight if d.route_id == lane.route_id and not d.is_accounted]:
                self._persist_in_flight(delivery)
        waiting, lane.queue = lane.queue, deque(d for d in lane.queue if d.is_accounted)
        for delivery in waiting:
            if not delivery.is_accounted:
                self._write_down(lane, delivery)

    def enqueue(self, lane: Lane, delivery: Delivery) -> None:
        """Queues a first attempt whatever the state of its lane."""
        lane.add(delivery)
        self._activate(lane)
        self._list(lane)
        if lane.is_ordered and lane.failing is None:
            self.room.set()

    def enqueue_due(self, lane: Lane, delivery: Delivery) -> None:
        """Queues a retry."""
        lane.add_due(delivery)
        self._activate(lane)
        self._list(lane)

    async def take(self) -> Delivery | None:
        """The next delivery to attempt; None once the lanes are closed. Give it back with `done`."""
        while not self._is_closed:
            # Once more the first one: the second may have found a lane that belongs there by now.
            delivery = self._next(self._fast) or self._next(self._slow) or self._next(self._fast)
            if delivery is not None:
                return delivery
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
        return None

    def done(self, delivery: Delivery) -> None:
        """Ends a delivery's turn."""
        del self.in_flight[delivery]
        (self._slow if delivery.is_slow else self._fast).in_flight -= 1
        lane = self._lanes[delivery.route_id]
        roll = random()  # noqa: S311 - spreads probes, hides nothing
        # A request that ends after its shard has gone says nothing that the lane could act on: its rows are another's.
        if lane.done(delivery, time.monotonic(), roll=roll) and not delivery.is_withdrawn:
            self._break(lane)
        if lane.is_parking and lane.load < LOW_WATER:
            self.room.set()
        self._list(lane)

    def sweep(self, now: float) -> None:
        """Moves requests that are under way for long to the slow pool."""
        for delivery in self.in_flight:
            if delivery.sent_at and delivery.sent_at <= now - SLOW_SECONDS and not delivery.is_slow:
                delivery.is_slow = True
                self._fast.in_flight -= 1
                self._slow.in_flight += 1
                (lane := self._lanes[delivery.route_id]).found_slow()
                self._list(lane)  # held to one request as one that never answered, it may have lost its place in line
                self._wake()

    def resume(self, lane: Lane, failing: set[LogPosition]) -> None:
        """Tells an ordered lane what it has to wait for."""
        lane.failing = failing
        self._list(lane)

    def is_ordered(self, route_id: UUID) -> bool:
        """True if the route has a lane, and wants its deliveries in order."""
        lane = self._lanes.get(route_id)
        return lane is not None and lane.is_ordered

    def rest(self) -> None:
        """Forgets lanes that have nothing to do from those that are looked after."""
        for lane in [lane for lane in self.active.values() if not lane.load and not lane.is_parking]:
            lane.busy_measures = lane.completed = 0
            del self.active[lane.route_id]

    def drop(self, shard: int) -> None:
        """Withdraws everything of a shard. What is under way ends, and nobody asks for its outcome."""
        for delivery in self.in_flight:
            if delivery.shard == shard:
                delivery.is_withdrawn = True
        for lane in [lane for lane in self._lanes.values() if lane.shard == shard]:
            lane.clear()

    def close(self) -> None:
        """No delivery is handed out any more; whoever waits is told so."""
        self._is_closed = True
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def seqs(self, route_id: UUID) -> set[int]:
        """What of a route is in memory, waiting or under way."""
        lane = self._lanes.get(route_id)
        waiting = set() if lane is None else {delivery.event.seq for delivery in (*lane.queue, *lane.due)}
        return waiting | {delivery.event.seq for delivery in self.in_flight if delivery.route_id == route_id}

    def has_packed_under_way(self, lane: Lane) -> bool:
        """True if a delivery that was drained from the lane's parked ones is under way."""
        return any(d.packed is not None for d in self.in_flight if d.route_id == lane.route_id)

    @property
    def queued(self) -> int:
        return sum(len(lane.queue) + len(lane.due) for lane in self.active.values())

    @property
    def broken(self) -> int:
        """Lanes whose breaker is not closed."""
        return sum(not lane.breaker.is_closed for lane in self._lanes.values())

    def _write_down(self, lane: Lane, delivery: Delivery) -> None:
        """Parks one delivery: as a row, or by the range that stands for all of its tick."""
        if lane.range_from is not None and delivery.tick >= lane.range_from:
            lane.ranged_upto = delivery.tick
            self._extend_range(delivery, lane.range_from)
            return
        lane.parked += 1
        lane.parked_pairs += 1
        self._park(delivery)
        if lane.parked_pairs >= RANGE_PAIRS and lane.range_from is None:
            lane.range_from = delivery.tick + 1

    def _break(self, lane: Lane) -> None:
        """The breaker opened: parks the lane, and gives back what it had taken up from the parked ones.

        That stays in its rows, and is found there again: a thousand dead lanes must not hold a hundred events each.
        """
        self.park(lane)
        for delivery in lane.queue:
            delivery.is_withdrawn = True
        lane.parked_pairs += len(lane.queue)
        lane.queue.clear()
        lane.returned_to_table = True

    def _activate(self, lane: Lane) -> None:
        """Has the lane looked after."""
        if lane.route_id not in self.active:
            if not self.active:
                self.room.set()
            self.active[lane.route_id] = lane

    def _next(self, pool: Pool) -> Delivery | None:
        while pool.has_turn:
            now = time.monotonic()
            lane = pool.ready.popleft()
            lane.is_in_ready_queue = False
            if lane.is_slow is not (pool is self._slow):
                self._list(lane)
                continue
            if lane.in_flight and not lane.is_known and pool.in_flight >= self._limits.trial_places:
                continue  # it is in line again when the request ends that it has under way
            delivery = lane.start(now)
            if delivery is None:
                self._list(lane)
                continue
            delivery.started_at = now
            delivery.succeeded = None
            delivery.is_started = True
            delivery.is_slow = pool is self._slow
            pool.in_flight += 1
            self.in_flight[delivery] = None
            self._list(lane)
            return delivery
        return None

    def _list(self, lane: Lane) -> None:
        """Puts a lane that can start something in line and wakes a worker; later, if all it takes is time."""
        if lane.is_in_ready_queue:
            return
        now = time.monotonic()
        wait = lane.wait(now)
        if wait == 0:
            lane.is_in_ready_queue = True
            pool = self._slow if lane.is_slow else self._fast
            pool.ready.append(lane)
            if pool.in_flight < pool.places:
                self._wake()
        elif now + wait < lane.timer_at:
            lane.timer_at = now + wait
            asyncio.get_running_loop().call_later(wait, self._list_again, lane)

    def _list_again(self, lane: Lane) -> None:
        lane.timer_at = float("inf")
        self._list(lane)

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
