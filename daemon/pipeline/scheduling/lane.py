"""The lane of one route: what waits for it, how much of it may be under way, and what may start next.

Two queues. `queue` holds first attempts: what the tailer decided, or what was drained from the parked ones. `due` holds
retries, which keep their schedule whatever the breaker says; the two take turns. An `ordered` lane has one delivery
under way and goes by the order of events alone: behind one that failed everything waits, also while its retry is only a
row in a table (`failing`).
"""

from __future__ import annotations

import math
from collections import deque
from uuid import UUID

from daemon.core.delivery.breaker import Breaker
from daemon.core.gcra import RequestRate
from daemon.core.routing.route import RouteConfig
from daemon.pipeline.scheduling.delivery import Delivery, LogPosition
from daemon.pipeline.scheduling.ledger import MAX_PAIRS

# What a lane may queue is what it gets rid of in this time, by its present rate, but never less than LANE_QUEUE. More
# of one route in memory serves nobody: it is parked, and memory is left to the others.
MAX_QUEUED_SECONDS = 2.0
LANE_QUEUE = 500
# A lane whose requests take longer than this, on a moving average, is slow; below half of it, it is prompt again.
SLOW_SECONDS = 1.0
_AVERAGE_WEIGHT = 0.2


class Lane:
    """See the head of this file.

    `parked` counts what was ever written down, `listed` about what of it waits in packed rows. All pairs of ticks from
    `range_from` on are in a range instead of rows, and `ranged_upto` is the last tick that has any there. `failing` are
    places of deliveries that have a row in `retry`, for an ordered lane; None while that is not known. `is_known` tells
    that the receiver has once answered or failed.
    """

    __slots__ = (
        "breaker",
        "busy_measures",
        "capacity",
        "completed",
        "due",
        "failing",
        "in_flight",
        "is_in_ready_queue",
        "is_known",
        "is_ordered",
        "is_parking",
        "is_retry_next",
        "is_slow",
        "limit",
        "pace",
        "parked",
        "parked_pairs",
        "queue",
        "range_from",
        "ranged_upto",
        "returned_to_table",
        "route_id",
        "shard",
        "timer_at",
        "typical_seconds",
    )

    def __init__(self, route_id: UUID, *, shard: int, limit: int, failures_to_open: int) -> None:
        self.route_id = route_id
        self.shard = shard
        self.limit = limit
        self.queue: deque[Delivery] = deque()
        self.due: deque[Delivery] = deque()
        self.breaker = Breaker(failures_to_open=failures_to_open, limit=limit)
        self.pace: RequestRate | None = None
        self.is_ordered = False
        self.failing: set[LogPosition] | None = None
        self.in_flight = 0
        self.completed = 0
        self.busy_measures = 0
        self.capacity = MAX_PAIRS
        self.parked = 0
        self.parked_pairs = 0
        self.range_from: int | None = None
        self.ranged_upto = 0
        self.is_parking = False
        self.returned_to_table = False
        self.is_in_ready_queue = False
        self.is_known = False
        self.is_slow = False
        self.is_retry_next = False
        self.timer_at = math.inf
        self.typical_seconds = 0.0

    def configure(self, config: RouteConfig) -> None:
        """Takes over what the route says now."""
        rate = config.rate_limit_per_second
        if rate is None:
            self.pace = None
        elif self.pace is None or self.pace.rate != rate:
            self.pace = RequestRate(rate)
        if config.ordered and not self.is_ordered:
            self.failing = None
            self.queue = deque(sorted(self.queue, key=_place))
            self.due = deque(sorted(self.due, key=_place))
        self.is_ordered = config.ordered

    @property
    def load(self) -> int:
        """Deliveries in memory, waiting or under way."""
        return len(self.queue) + len(self.due) + self.in_flight

    def add(self, delivery: Delivery) -> None:
        """Queues a first attempt."""
        self._insert(self.queue, delivery)

    def add_due(self, delivery: Delivery) -> None:
        """Queues a retry."""
        self._insert(self.due, delivery)

    def wait(self, now: float) -> float:
        """Seconds until something may start: 0 for now, infinite if it takes an event and not time."""
        queue = self._startable(now)
        if queue is None:
            return self.breaker.wait(now) or math.inf if self.queue and self.in_flight < self.limit else math.inf
        return 0.0 if self.pace is None else self.pace.wait(now)

    def start(self, now: float) -> Delivery | None:
        """Takes out the next delivery that may start now, if there is one."""
        while True:
            queue = self._startable(now)
            if queue is None or (self.pace is not None and self.pace.wait(now) > 0):
                return None
            delivery = queue.popleft()
            if delivery.is_withdrawn:
                continue
            self.is_retry_next = queue is self.queue
            self.in_flight += 1
            if self.pace is not None:
                self.pace.start(now)
            return delivery

    def done(self, delivery: Delivery, now: float, *, roll: float) -> bool:
        """Ends a delivery's turn; True if it opened the breaker."""
        self.in_flight -= 1
        self.completed += 1
        if self.is_ordered and self.failing is not None and not delivery.is_withdrawn:
            (self.failing.add if delivery.has_retry_row else self.failing.discard)(delivery.place)
        if delivery.succeeded is None:
            if self.pace is not None:
                self.pace.return_to_table()
            return False
        self.is_known = True
        self._average(now - delivery.started_at)
        if delivery.succeeded:
            self.breaker.succeeded()
            return False
        return self.breaker.failed(now, roll=roll)

    def found_slow(self) -> None:
        """Notes that a request is under way for longer than SLOW_SECONDS."""
        self.typical_seconds = max(self.typical_seconds, SLOW_SECONDS)
        self.is_slow = True

    def measure(self, seconds: float) -> None:
        """Sets the capacity by what was completed in the last `seconds`, once the lane was busy for all of them."""
        self.busy_measures = self.busy_measures + 1 if self.queue else 0
        if self.busy_measures > 1:
            self.capacity = max(LANE_QUEUE, int(self.completed / seconds * MAX_QUEUED_SECONDS))
        self.completed = 0

    def clear(self) -> None:
        """Withdraws all that waits, and forgets what was known of the tables."""
        for delivery in (*self.queue, *self.due):
            delivery.is_withdrawn = True
        self.queue.clear()
        self.due.clear()
        self.is_parking = self.returned_to_table = False
        self.range_from, self.parked_pairs = None, 0
        self.failing = None

    def _startable(self, now: float) -> deque[Delivery] | None:
        """The queue whose head may start now, but for the rate."""
        if self.is_ordered:
            return self._next_in_order(now)
        if self.in_flight >= self.limit:
            return None
        if self.due and (self.is_retry_next or not self.queue):
            return self.due
        if self.queue and (self.breaker.is_closed or self.in_flight < self.breaker.room(now)):
            return self.queue
        return self.due or None

    def _next_in_order(self, now: float) -> deque[Delivery] | None:
        if self.in_flight or self.failing is None:
            return None
        heads = [queue for queue in (self.due, self.queue) if queue]
        if not heads:
            return None
        first = min(heads, key=lambda queue: queue[0].place)
        if self.failing and min(self.failing) < first[0].place:
            return None
        return None if first is self.queue and not self.breaker.room(now) else first

    def _insert(self, queue: deque[Delivery], delivery: Delivery) -> None:
        queue.append(delivery)
        if self.is_ordered:
            place = len(queue) - 1
            while place and queue[place - 1].place > delivery.place:
                queue[place] = queue[place - 1]
                place -= 1
            queue[place] = delivery

    def _average(self, seconds: float) -> None:
        self.typical_seconds += (seconds - self.typical_seconds) * _AVERAGE_WEIGHT
        if self.typical_seconds > SLOW_SECONDS:
            self.is_slow = True
        elif self.typical_seconds < SLOW_SECONDS / 2:
            self.is_slow = False


def _place(delivery: Delivery) -> LogPosition:
    return delivery.place
