"""The lane of one route: what waits for it, how much of it may be under way, and what may start next.

Three queues. `queue` holds first attempts: what the tailer decided, or what was drained from the parked ones. `due`
holds retries, which keep their schedule whatever the breaker says; the two take turns. An `ordered` lane has one
delivery under way and goes by the order of events alone: behind one that failed everything waits, also while its retry
is only a row in a table (`failing`). `tests` holds first attempts of test events, which somebody waits for: they come
first, are never parked, and neither breaker nor order holds them back. Nor does anything wait behind one that failed: a
receiver may know no tests. What waits for long lies in `retry` meanwhile.

Whether a lane queues or parks what arrives is its `state` (`core.delivery.states.lane_states`). What is parked lies in
packed rows (about `parked_pairs` of them), or from the position `range_from` on in a range, which needs no rows.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from uuid import UUID

from daemon.core.delivery.breaker import Breaker
from daemon.core.delivery.states import lane_states
from daemon.core.delivery.states.lane_states import LaneState, LaneStep
from daemon.core.delivery.states.phases import DeliveryStep
from daemon.core.gcra import RequestRate
from daemon.core.routing.route import RouteConfig
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events.ticks import LogPosition
from eventstore.progress.backlog import ParkedRoute

# A lane whose requests take longer than this, on a moving average, is slow; below half of it, it is prompt again.
SLOW_SECONDS = 1.0
_AVERAGE_WEIGHT = 0.2

# A receiver is answering if it has answered within so many of its typical times, and in any case within so long.
_ANSWERING_TIMES = 3.0
_ANSWERING_SECONDS = 0.1

# Looking up a member of an Enum takes 40 ns.
_START = DeliveryStep.START


class Lane:
    """See the head of this file.

    `is_parking` tells that what arrives is written down. `parkings` counts what was ever written down. `ranged_upto` is
    the last tick that has anything in the range. `failing` are the positions of deliveries that have a row in `retry`,
    but for test events, for an ordered lane: all of them, or the first ones up to `failing_upto`. None while that is
    not known. `host` is that of its receiver, with the port. `answered_at` is when the receiver has last answered or
    failed, by the clock of `start` and `done`.
    """

    __slots__ = (
        "_tunables",
        "answered_at",
        "breaker",
        "busy_measures",
        "capacity",
        "completed",
        "due",
        "failing",
        "failing_upto",
        "host",
        "in_flight",
        "is_in_ready_queue",
        "is_ordered",
        "is_parking",
        "is_retry_next",
        "is_slow",
        "limit",
        "pace",
        "parked_pairs",
        "parkings",
        "queue",
        "range_from",
        "ranged_upto",
        "route_id",
        "shard",
        "state",
        "tenant",
        "tests",
        "timer_at",
        "typical_seconds",
    )

    def __init__(
        self, route_id: UUID, *, tenant: str, shard: int, limit: int, failures_to_open: int, tunables: Tunables
    ) -> None:
        self._tunables = tunables
        self.route_id = route_id
        self.tenant = tenant
        self.shard = shard
        self.limit = limit
        self.state = LaneState.LIVE
        self.is_parking = False
        self.queue: deque[Delivery] = deque()
        self.due: deque[Delivery] = deque()
        self.tests: deque[Delivery] = deque()
        self.breaker = Breaker(
            failures_to_open=failures_to_open,
            limit=limit,
            first_pause_seconds=tunables.breaker_first_pause_seconds,
            longest_pause_seconds=tunables.breaker_longest_pause_seconds,
        )
        self.pace: RequestRate | None = None
        self.host = ""
        self.is_ordered = False
        self.failing: set[LogPosition] | None = None
        self.failing_upto: LogPosition | None = None
        self.in_flight = 0
        self.answered_at = -math.inf
        self.completed = 0
        self.busy_measures = 0
        self.capacity = tunables.unmeasured_lane_queue
        self.parkings = 0
        self.parked_pairs = 0
        self.range_from: LogPosition | None = None
        self.ranged_upto = 0
        self.is_in_ready_queue = False
        self.is_slow = False
        self.is_retry_next = False
        self.timer_at = math.inf
        self.typical_seconds = 0.0

    # ---- State, and what is parked

    def advance(self, step: LaneStep) -> None:
        """Takes a step of the state machine. Raises ImpossibleStep."""
        self.state = lane_states.evolve(self.state, step)
        self.is_parking = self.state is not LaneState.LIVE

    def restore(self, parked: ParkedRoute, newest_tick: int) -> None:
        """Parks a lane of which something was parked before; its range may reach up to `newest_tick`."""
        self.advance(LaneStep.PARK)
        self.parked_pairs = parked.listed
        self.range_from, self.ranged_upto = parked.range_from, newest_tick

    def write_down(self, delivery: Delivery) -> LogPosition | None:
        """Counts a delivery that is parked; the beginning of the range that stands for it, None if it needs a row."""
        delivery.advance(DeliveryStep.PARK)
        if self.range_from is not None and delivery.position >= self.range_from:
            self.ranged_upto = delivery.tick
            return self.range_from
        self.parkings += 1
        self.parked_pairs += 1
        if self.parked_pairs >= self._tunables.range_pairs and self.range_from is None:
            self.range_from = (delivery.tick + 1, 0)
        return None

    def expanded(self, pairs: int, upto: LogPosition) -> bool:
        """Notes that the range below `upto` was written out as `pairs` rows; True if the range ends.

        It ends if nothing lies behind. The tailer has finished the ticks that were written out, so what it decides from
        now on gets rows again.
        """
        self.parked_pairs += pairs
        self.parkings += pairs
        is_over = self.ranged_upto < upto[0]
        self.range_from = None if is_over else upto
        return is_over

    def took_up(self) -> None:
        """Notes that one delivery of a packed row is in memory again, or that its event is gone."""
        self.parked_pairs -= 1

    def emptied(self) -> None:
        """Goes live: the tables have nothing left for this lane."""
        self.advance(LaneStep.EMPTIED)
        self.parked_pairs = 0

    def give_back(self) -> list[Delivery]:
        """Lets go of what had been taken up from packed rows, since the breaker opened; returns it.

        It stays in its rows and is found there again: a thousand dead lanes must not hold a hundred events each.
        """
        self.advance(LaneStep.BREAK)
        given, self.queue = list(self.queue), deque()
        for delivery in given:
            delivery.advance(DeliveryStep.WITHDRAW)
        self.parked_pairs += len(given)
        return given

    def clear(self) -> None:
        """Withdraws all that waits, and forgets what was known of the tables."""
        for waiting in (self.queue, self.due, self.tests):
            for delivery in waiting:
                delivery.advance(DeliveryStep.WITHDRAW)
            waiting.clear()
        self.advance(LaneStep.DROP)
        self.range_from, self.parked_pairs = None, 0
        self.failing = None

    # ---- Queues

    def configure(self, config: RouteConfig) -> None:
        """Applies the route's present configuration."""
        self.host = sys.intern(config.target_url.partition("://")[2].partition("/")[0].lower())
        rate = config.rate_limit_per_second
        if rate is None:
            self.pace = None
        elif self.pace is None or self.pace.rate != rate:
            self.pace = RequestRate(rate)
        if config.ordered and not self.is_ordered:
            self.failing = None
            self.queue = deque(sorted(self.queue, key=_position))
            self.due = deque(sorted(self.due, key=_position))
        self.is_ordered = config.ordered

    @property
    def load(self) -> int:
        """Deliveries in memory, waiting or under way."""
        return self.queued + self.in_flight

    @property
    def queued(self) -> int:
        """Deliveries that no worker has taken."""
        return len(self.queue) + len(self.due) + len(self.tests)

    @property
    def is_full(self) -> bool:
        """True if no first attempt is to be queued any more."""
        return len(self.queue) >= self.capacity or not self.breaker.is_closed

    def add(self, delivery: Delivery) -> None:
        """Queues a first attempt."""
        self._insert(self.queue, delivery)

    def add_due(self, delivery: Delivery) -> None:
        """Queues a retry."""
        self._insert(self.due, delivery)

    def add_test(self, delivery: Delivery) -> None:
        """Queues the first attempt of a test event."""
        self.tests.append(delivery)

    def let_go(self, waiting: deque[Delivery], *, keep: int = 0) -> list[Delivery]:
        """Takes out of `due` or `tests` all but the first few, and returns it: its rows go on without it."""
        gone = list(waiting)[keep:]
        for _ in gone:
            waiting.pop()
        for delivery in gone:
            delivery.advance(DeliveryStep.WITHDRAW)
        return gone

    def due_places(self, now: float, *, most: int, seconds: float) -> int:
        """How many deliveries of the tables are worth a place in memory: `most`, or what the route's rate lets start in
        so many seconds.
        """
        if self.pace is None:
            return most
        left = seconds - self.pace.wait(now)
        return 0 if left < 0 else min(most, 1 + int(left * self.pace.rate))

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
            delivery.advance(_START)
            delivery.started_at = now
            delivery.succeeded = None
            self.is_retry_next = queue is self.queue
            self.in_flight += 1
            if self.pace is not None:
                self.pace.start(now)
            return delivery

    def done(self, delivery: Delivery, now: float, roll: float) -> bool:
        """Ends a delivery's turn; True if it opened the breaker. `roll` in [0, 1) spreads its probes."""
        self.in_flight -= 1
        self.completed += 1
        if self.is_ordered and self.failing is not None and not delivery.is_withdrawn and not delivery.is_test:
            self._note_failing(self.failing, delivery)
        if delivery.succeeded is None:
            if self.pace is not None:
                self.pace.cancel_start()
            return False
        self.answered_at = now
        self._average(now - delivery.started_at)
        if delivery.succeeded:
            self.breaker.succeeded()
            return False
        return self.breaker.failed(now, roll=roll)

    def is_answering(self, now: float) -> bool:
        """True if the receiver has answered or failed so lately that it does not seem to hang."""
        return now - self.answered_at <= max(_ANSWERING_SECONDS, _ANSWERING_TIMES * self.typical_seconds)

    def wait_for(self, failing: set[LogPosition], *, most: int) -> None:
        """Tells an ordered lane what it has to wait for. If these are `most`, there may be more behind them."""
        self.failing = failing
        self.failing_upto = max(failing) if len(failing) >= most else None

    def found_slow(self) -> None:
        """Notes that a request is under way for longer than SLOW_SECONDS."""
        self.typical_seconds = max(self.typical_seconds, SLOW_SECONDS)
        self.is_slow = True

    def measure(self, seconds: float) -> None:
        """Sets the capacity by what was completed in the last `seconds`, once the lane was busy for all of them."""
        self.busy_measures = self.busy_measures + 1 if self.queue else 0
        if self.busy_measures > 1:
            rate = self.completed / seconds
            self.capacity = max(self._tunables.lane_queue, int(rate * self._tunables.max_queued_seconds))
        self.completed = 0

    def rest(self) -> None:
        """Begins to measure anew: the lane has nothing to do for now."""
        self.busy_measures = self.completed = 0

    def has_memory(self, now: float) -> bool:
        """True if a new lane would behave otherwise, although nothing waits and nothing is under way."""
        return (
            self.is_slow
            or self.breaker.failures > 0
            or not self.breaker.is_closed
            or (self.pace is not None and not self.pace.is_rested(now))
        )

    def _startable(self, now: float) -> deque[Delivery] | None:
        """The queue whose head may start now, but for the rate."""
        if self.tests and self.in_flight < (1 if self.is_ordered else self.limit):
            return self.tests
        if self.is_ordered:
            return self._next_in_order(now)
        if self.in_flight >= self.limit:
            return None
        if self.due and (self.is_retry_next or not self.queue):
            return self.due
        if self.queue and (self.breaker.is_closed or self.in_flight < self.breaker.capacity(now)):
            return self.queue
        return self.due or None

    def _next_in_order(self, now: float) -> deque[Delivery] | None:
        if self.in_flight or self.failing is None:
            return None
        heads = [queue for queue in (self.due, self.queue) if queue]
        if not heads:
            return None
        first = min(heads, key=lambda queue: queue[0].position)
        if self.failing and min(self.failing) < first[0].position:
            return None
        return None if first is self.queue and not self.breaker.capacity(now) else first

    def _note_failing(self, failing: set[LogPosition], delivery: Delivery) -> None:
        """Notes whether a delivery has a row in `retry` now."""
        position, upto = delivery.position, self.failing_upto
        if not delivery.has_retry_row:
            failing.discard(position)
            if not failing and upto is not None:
                self.failing = None
        elif upto is None or position <= upto:
            failing.add(position)

    def _insert(self, queue: deque[Delivery], delivery: Delivery) -> None:
        queue.append(delivery)
        if self.is_ordered:
            place = len(queue) - 1
            while place and queue[place - 1].position > delivery.position:
                queue[place] = queue[place - 1]
                place -= 1
            queue[place] = delivery

    def _average(self, seconds: float) -> None:
        self.typical_seconds += (seconds - self.typical_seconds) * _AVERAGE_WEIGHT
        if self.typical_seconds > SLOW_SECONDS:
            self.is_slow = True
        elif self.typical_seconds < SLOW_SECONDS / 2:
            self.is_slow = False


def _position(delivery: Delivery) -> LogPosition:
    return delivery.position
