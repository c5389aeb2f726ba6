"""Lanes keep routes apart: each route has a queue and a limit of its own, and a lane that cannot keep up is parked.

Workers take turns over the lanes that have something to do, one delivery at a time, so a full lane gets no more of
them than an empty one. A lane is either *live*, queueing what the tailer decides, or *parking*: then what arrives is
written down instead, and comes back through `daemon.pipeline.parking` in order, until nothing is left behind and it is
live again.

    live --queue full, or a delivery waited too long--> parking --everything parked was taken up again--> live
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from uuid import UUID

from daemon.pipeline.bell import Bell
from daemon.pipeline.work import MAX_PAIRS, Delivery

# What a lane may queue is what it gets rid of in this time, by its present rate, but never less than LANE_QUEUE. More
# of one route in memory serves nobody: it is parked, and memory is left to the others.
PATIENCE_SECONDS = 2.0
LANE_QUEUE = 500
# A parking lane with fewer than this in memory has room for the next chunk.
LOW_WATER = 100


class Lane:
    """The queue of one route."""

    __slots__ = (
        "busy_measures",
        "capacity",
        "completed",
        "in_flight",
        "is_listed",
        "is_parking",
        "limit",
        "parked",
        "queue",
        "route_id",
        "shard",
    )

    def __init__(self, route_id: UUID, *, shard: int, limit: int) -> None:
        self.route_id = route_id
        self.shard = shard
        self.limit = limit
        self.queue: deque[Delivery] = deque()
        self.in_flight = 0
        self.completed = 0
        self.busy_measures = 0
        self.capacity = MAX_PAIRS
        self.parked = 0
        self.is_parking = False
        self.is_listed = False

    @property
    def can_start(self) -> bool:
        return self.in_flight < self.limit and bool(self.queue)

    def measure(self, seconds: float) -> None:
        """Sets the capacity by what was completed in the last `seconds`, once the lane was busy for all of them."""
        self.busy_measures = self.busy_measures + 1 if self.queue else 0
        if self.busy_measures > 1:
            self.capacity = max(LANE_QUEUE, int(self.completed / seconds * PATIENCE_SECONDS))
        self.completed = 0

    @property
    def load(self) -> int:
        """Deliveries in memory, waiting or under way."""
        return len(self.queue) + self.in_flight


class Lanes:
    """All lanes of a process. `park` is called with a delivery that is to be written down instead of queued.

    `room` rings when a parking lane runs low. `intake` is held by whoever moves deliveries from the tables into lanes,
    and by whoever suppresses them there, so that none is handled by both.
    """

    def __init__(self, *, route_concurrency: int, park: Callable[[Delivery], None]) -> None:
        self._route_concurrency = route_concurrency
        self._park = park
        self._lanes: dict[UUID, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._is_closed = False
        self.in_flight: dict[Delivery, None] = {}
        self.room = Bell()
        self.intake = asyncio.Lock()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def lane(self, route_id: UUID, shard: int) -> Lane:
        """The lane of a route, made when it is first needed."""
        lane = self._lanes.get(route_id)
        if lane is None:
            lane = self._lanes[route_id] = Lane(route_id, shard=shard, limit=self._route_concurrency)
        return lane

    def offer(self, delivery: Delivery) -> None:
        """Queues a delivery that was just decided, or parks it."""
        lane = self.lane(delivery.route_id, delivery.shard)
        if not lane.is_parking and len(lane.queue) >= lane.capacity:
            self.park(lane)
        if lane.is_parking:
            lane.parked += 1
            self._park(delivery)
            return
        self.enqueue(lane, delivery)

    def park(self, lane: Lane) -> None:
        """Has all that a lane has queued written down, and what comes after it too, until the lane is live again.

        All of it, since the table is drained in order: were the rest written down later, it would come last. What has a
        row already stays.
        """
        lane.is_parking = True
        waiting, lane.queue = lane.queue, deque(d for d in lane.queue if d.is_accounted)
        for delivery in waiting:
            if not delivery.is_accounted:
                lane.parked += 1
                self._park(delivery)

    def enqueue(self, lane: Lane, delivery: Delivery) -> None:
        """Queues a delivery whatever the state of its lane."""
        lane.queue.append(delivery)
        self._list(lane)

    async def take(self) -> Delivery | None:
        """The next delivery to attempt; None once the lanes are closed. Give it back with `done`."""
        while not self._is_closed:
            delivery = self._next()
            if delivery is not None:
                return delivery
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
        return None

    def done(self, delivery: Delivery) -> None:
        """Ends a delivery's turn."""
        del self.in_flight[delivery]
        lane = self._lanes[delivery.route_id]
        lane.in_flight -= 1
        lane.completed += 1
        if lane.is_parking and lane.load < LOW_WATER:
            self.room.ring()
        self._list(lane)

    def drop(self, shard: int) -> None:
        """Withdraws everything of a shard. What is under way ends, and nobody asks for its outcome."""
        for delivery in self.in_flight:
            if delivery.shard == shard:
                delivery.is_withdrawn = True
        for lane in [lane for lane in self._lanes.values() if lane.shard == shard]:
            for delivery in lane.queue:
                delivery.is_withdrawn = True
            lane.queue.clear()
            lane.is_parking = False

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
        waiting = set() if lane is None else {delivery.event.seq for delivery in lane.queue}
        return waiting | {delivery.event.seq for delivery in self.in_flight if delivery.route_id == route_id}

    @property
    def queued(self) -> int:
        return sum(len(lane.queue) for lane in self._lanes.values())

    def _next(self) -> Delivery | None:
        while self._ready:
            lane = self._ready.popleft()
            lane.is_listed = False
            while lane.can_start:
                delivery = lane.queue.popleft()
                if delivery.is_withdrawn:
                    continue
                lane.in_flight += 1
                delivery.is_started = True
                self.in_flight[delivery] = None
                self._list(lane)
                return delivery
        return None

    def _list(self, lane: Lane) -> None:
        """Puts a lane that can start something in line, and wakes a worker for it."""
        if lane.is_listed or not lane.can_start:
            return
        lane.is_listed = True
        self._ready.append(lane)
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
