"""Lanes keep routes apart: each route has a queue and limits of its own, and a lane that cannot keep up is parked.

Workers take turns over the tenants that have something to do, and over the lanes of each, one delivery at a time: a
full lane gets no more of them than an empty one, and a tenant with a thousand lanes no more than one with a single
lane. A lane either queues what the tailer decides, or has it written down; then it is filled through
`daemon.pipeline.backlog.parking`, in order, until nothing is left in the tables (`core.delivery.states.lane_states`).

A lane starts its requests in one of two pools (`daemon.pipeline.scheduling.pools`), by whether its receiver is prompt
or slow. Where the host of very many lanes hangs, most of them wait (`daemon.pipeline.scheduling.hanging_hosts`). This
module owns all lanes and the deliveries in flight; nothing else changes them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from random import random
from typing import Protocol
from uuid import UUID

from daemon.core.delivery.states.lane_states import LaneStep
from daemon.core.delivery.states.phases import DeliveryStep
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.hanging_hosts import HangingHosts
from daemon.pipeline.scheduling.lane import SLOW_SECONDS, Lane
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.pools import TENANT_PART, Pool, SendingLimits
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events.ticks import LogPosition


class DeliveryWriter(Protocol):
    """What writes down deliveries that need not stay in memory (`daemon.pipeline.recording.recorder`)."""

    def park(self, delivery: Delivery) -> None:
        """Notes a delivery that waits for its lane."""

    def extend_range(self, delivery: Delivery, range_from: LogPosition) -> None:
        """Notes a delivery that waits for its lane, among all of its route from a position on."""

    def persist_in_flight(self, delivery: Delivery) -> None:
        """Notes a delivery whose request is under way, so that nothing need wait for its end."""

    def hand_over(self, delivery: Delivery) -> None:
        """Notes a delivery whose request is under way while its shard goes to another process."""

    def return_to_table(self, delivery: Delivery) -> None:
        """Notes that a delivery is not under way, whatever was written down of it."""

    def put_back(self, delivery: Delivery) -> None:
        """Notes a delivery that waits and is let go of, to be taken up again."""


class Lanes:
    """All lanes of a process. `room` is set when a parking lane runs low, or when lanes that were idle have work."""

    def __init__(
        self,
        limits: SendingLimits,
        writer: DeliveryWriter,
        working_set: WorkingSet,
        index: RouteIndex,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._limits = limits
        self._writer = writer
        self._working_set = working_set
        self._index = index
        self._tunables = tunables
        self._lanes: dict[UUID, Lane] = {}
        self._fast = Pool(limits.concurrency)
        self._slow = Pool(limits.slow_places)
        self._hosts = HangingHosts(limits.many_slow)
        self._idle: deque[asyncio.Future[None]] = deque()
        # Workers that will look for a delivery in the next turns of the event loop: those that are counted on, since
        # something was put in line, and those that have just ended an attempt and are free.
        self._expected = 0
        self._returning = 0
        # Lanes that nobody looks after, and since when, in that order.
        self._resting: dict[UUID, float] = {}
        self._is_closed = False
        self.active: dict[UUID, Lane] = {}
        self.in_flight: dict[Delivery, None] = {}
        self._in_flight_of: dict[str, int] = {}  # by tenant
        # With fewer requests in flight no tenant has its share of the workers.
        self._crowded = int(TENANT_PART * limits.workers)
        self.room = Wakeup()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def lane(self, route_id: UUID, shard: int) -> Lane:
        """The lane of a route, made when it is first needed."""
        lane = self._lanes.get(route_id)
        if lane is None:
            limits, timeline = self._limits, self._index.timeline(route_id)
            lane = self._lanes[route_id] = Lane(
                route_id,
                tenant="" if timeline is None else timeline.current.tenant,
                shard=shard,
                limit=limits.route_concurrency,
                failures_to_open=limits.breaker_failures,
                tunables=self._tunables,
            )
            if timeline is not None:
                lane.configure(timeline.current.config)
        return lane

    def known(self, route_id: UUID) -> Lane | None:
        """The lane of a route, None if none was needed yet."""
        return self._lanes.get(route_id)

    def configure(self, route: Route) -> None:
        """Applies a route's present configuration. A new target deserves another chance; a closed breaker stays so."""
        lane = self._lanes.get(route.id)
        if lane is not None:
            former_host = lane.host
            lane.configure(route.config)
            lane.breaker.reset()
            if lane.host != former_host:
                self._let_go_on(lane, former_host)
            self._line_up(lane, time.monotonic())

    def configure_anew(self) -> None:
        """Applies the present configuration of all routes that have a lane."""
        for lane in list(self._lanes.values()):
            timeline = self._index.timeline(lane.route_id)
            if timeline is not None:
                self.configure(timeline.current)

    def offer(self, delivery: Delivery) -> None:
        """Queues a delivery that was just decided, or parks it. A test event is never parked."""
        self._working_set.add(delivery)
        lane = self.lane(delivery.route_id, delivery.shard)
        if delivery.is_test:
            lane.add_test(delivery)
            self._let_go_on(lane, lane.host)
            self._activate(lane)
            self._line_up(lane, time.monotonic())
            return
        if not lane.is_parking and lane.is_full:
            self.park(lane)
        if lane.is_parking:
            self._write_down(lane, delivery)
        else:
            self._enqueue(lane, delivery)

    def park(self, lane: Lane) -> None:
        """Has all that a lane has queued written down, and what comes after it too, until the lane is live again.

        All of it, since the table is drained in order: were the rest written down later, it would come last. What has a
        row already stays. In an ordered lane what is under way is written down with it: should we die, it must not come
        after the rest.
        """
        self._activate(lane)
        lane.advance(LaneStep.PARK)
        if lane.is_ordered:
            for delivery in [d for d in self.in_flight if d.route_id == lane.route_id and not d.is_accounted]:
                self._writer.persist_in_flight(delivery)
        waiting, lane.queue = lane.queue, deque(d for d in lane.queue if d.is_accounted)
        for delivery in waiting:
            if not delivery.is_accounted:
                self._write_down(lane, delivery)

    def take_up(self, lane: Lane, delivery: Delivery) -> None:
        """Queues a delivery that was parked."""
        self._working_set.add(delivery)
        lane.took_up()
        self._enqueue(lane, delivery)

    def take_up_due(self, lane: Lane, delivery: Delivery) -> None:
        """Queues a retry that is due, or a test event that has waited for its first attempt in the table."""
        self._working_set.add(delivery)
        if delivery.is_test and not delivery.failures:
            lane.add_test(delivery)
            self._let_go_on(lane, lane.host)
        else:
            lane.add_due(delivery)
        self._activate(lane)
        self._line_up(lane, time.monotonic())

    async def take(self) -> Delivery | None:
        """The next delivery to attempt; None once the lanes are closed. Give it back with `done`."""
        if self._expected:
            self._expected -= 1
        elif self._returning:
            self._returning -= 1
        while not self._is_closed:
            delivery = self.next()
            if delivery is not None:
                if not (self._expected or self._returning) and self._has_more():
                    self._wake()  # one was counted on for this, and has found something else
                return delivery
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
            if self._expected:
                self._expected -= 1
        return None

    def next(self) -> Delivery | None:
        """The next delivery to attempt, None if there is none now. Give it back with `done`."""
        if self._is_closed or not (self._fast.turns or self._slow.turns):
            return None
        # Once more the first one: the second may have found a lane that belongs there by now.
        return self._next(self._fast) or self._next(self._slow) or self._next(self._fast)

    def done(self, delivery: Delivery, *, takes_next: bool = False) -> None:
        """Ends a delivery's turn. If the worker that calls this `takes_next`, it is counted on for what is put in line
        until then, and no other is woken: that one would find nothing, at the cost of a step of its task and three
        looks at the pools for each delivery.
        """
        if takes_next:
            self._returning += 1
        del self.in_flight[delivery]
        if delivery.has_place:
            (self._slow if delivery.is_slow else self._fast).in_flight -= 1
        lane = self._lanes[delivery.route_id]
        if left := self._in_flight_of[lane.tenant] - 1:
            self._in_flight_of[lane.tenant] = left
        else:
            del self._in_flight_of[lane.tenant]
        now, roll = time.monotonic(), random()  # noqa: S311 - spreads probes, hides nothing
        # A request that ends after its shard has gone says nothing that the lane could act on: its rows are another's.
        if lane.done(delivery, now, roll) and not delivery.is_withdrawn:
            self._break(lane)
        if lane.is_parking and lane.load < self._tunables.low_water:
            self.room.set()
        if self._fast.withheld or self._slow.withheld:
            self._fast.release()
            self._slow.release()
        self._line_up(lane, now)
        if delivery.slow_host or self._hosts.held:
            self._tell_host(delivery, lane.host, now)

    def sweep(self, now: float) -> None:
        """Frees the places of requests that are under way for long, and looks for hosts that hang."""
        for delivery in self.in_flight:
            if delivery.sent_at and delivery.sent_at <= now - SLOW_SECONDS:
                self.found_slow(delivery)
                if not delivery.slow_host and (host := self._lanes[delivery.route_id].host):
                    delivery.slow_host = host
                    self._hosts.slow_began(host, now)
        for host in list(self._hosts.held):
            self._line_up_held(host, now, has_succeeded=False)
        self._hosts.review(now)

    def found_slow(self, delivery: Delivery) -> None:
        """Frees the place of a delivery that a worker has: its request takes long, or the rendering of its body. Its
        lane starts the next ones in the slow pool.
        """
        if delivery.is_slow:
            return
        delivery.is_slow, delivery.has_place = True, False
        self._fast.in_flight -= 1
        lane = self._lanes[delivery.route_id]
        lane.found_slow()
        self._line_up(lane, time.monotonic())  # a lane that does not answer may have lost its place in line
        self._wake()

    def resume(self, lane: Lane, failing: set[LogPosition]) -> None:
        """Tells an ordered lane what it has to wait for."""
        lane.wait_for(failing, most=self._tunables.failing_positions)
        self._line_up(lane, time.monotonic())

    def withdraw(self, delivery: Delivery) -> None:
        """Lets go of a delivery that no worker has taken: its row goes on without it, or is gone."""
        delivery.advance(DeliveryStep.WITHDRAW)
        self._working_set.discard(delivery)

    def let_go_due(self, lane: Lane, *, keep: int) -> None:
        """Lets go of all retries of a lane but the first few, which wait: they are found in their rows again."""
        for delivery in lane.let_go(lane.due, keep=keep):
            self._working_set.discard(delivery)

    def put_back_tests(self, lane: Lane) -> None:
        """Writes down which test events of a lane wait, and lets go of them."""
        for delivery in lane.let_go(lane.tests):
            if not delivery.is_accounted:
                self._writer.put_back(delivery)
            self._working_set.discard(delivery)

    def rest(self, now: float) -> None:
        """No longer looks after lanes that have nothing to do."""
        for lane in [lane for lane in self.active.values() if not lane.is_parking and not lane.load]:
            lane.rest()
            del self.active[lane.route_id]
            self._resting[lane.route_id] = now

    def let_go(self, now: float, *, has_unwritten: Callable[[UUID], bool]) -> list[UUID]:
        """Forgets lanes that have rested for long; returns their routes. A new lane is made when it is needed.

        What a lane has learned of its receiver - that it is slow, or failing - is kept for longer, an open breaker and
        a pace that was used for as long as they last. Nothing of a deleted route matters any more.
        """
        gone: list[UUID] = []
        for route_id, since in list(self._resting.items()):
            if since > now - self._tunables.idle_lane_seconds:
                break
            lane = self._lanes[route_id]
            if not self._is_needed(lane, now - since, now) and not has_unwritten(route_id):
                del self._lanes[route_id], self._resting[route_id]
                gone.append(route_id)
        return gone

    @property
    def are_resting(self) -> bool:
        """True if there are lanes that may be let go later."""
        return bool(self._resting)

    def adopt(self, takeover: Takeover) -> None:
        """Forgets what was learned of these shards before they were given away: it is old."""
        for shard in takeover.checkpoints:
            self.drop(shard)

    async def part(self, shards: Collection[int]) -> None:
        """Drops what was not sent yet: it is found again in the log or in its row.

        What is under way gets a row in `retry` that falls due once its request must have ended, so that the next owner
        leaves it alone until then.
        """
        for delivery in self.in_flight:
            if delivery.shard not in shards or delivery.is_withdrawn:
                continue
            if delivery.is_sending:
                self._writer.hand_over(delivery)
            else:
                self._writer.return_to_table(delivery)
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Withdraws everything of a shard. What is under way ends, and nobody asks for its outcome."""
        for delivery in self.in_flight:
            if delivery.shard == shard:
                delivery.advance(DeliveryStep.WITHDRAW)
        for lane in [lane for lane in self._lanes.values() if lane.shard == shard]:
            lane.clear()
        self._working_set.drop(shard)

    def close(self) -> None:
        """No delivery is handed out any more; workers that wait are told so."""
        self._is_closed = True
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def has_packed_in_flight(self, lane: Lane) -> bool:
        """True if a delivery that was drained from the lane's packed rows is under way."""
        return any(d.packed is not None for d in self.in_flight if d.route_id == lane.route_id)

    def probe_wait(self, route_id: UUID) -> float | None:
        """Seconds for which the breaker of a route holds back what waits; None if it holds back nothing."""
        lane = self._lanes.get(route_id)
        return None if lane is None or lane.breaker.is_closed else lane.breaker.wait(time.monotonic())

    @property
    def queued(self) -> int:
        return sum(lane.queued for lane in self.active.values())

    @property
    def broken(self) -> int:
        """Lanes whose breaker is not closed."""
        return sum(not lane.breaker.is_closed for lane in self._lanes.values())

    def _enqueue(self, lane: Lane, delivery: Delivery) -> None:
        lane.add(delivery)
        self._activate(lane)
        self._line_up(lane, time.monotonic())
        if lane.is_ordered and lane.failing is None:
            self.room.set()

    def _write_down(self, lane: Lane, delivery: Delivery) -> None:
        """Parks one delivery: as a row, or by the range that stands for all of its tick."""
        range_from = lane.write_down(delivery)
        self._working_set.discard(delivery)
        if range_from is None:
            self._writer.park(delivery)
        else:
            self._writer.extend_range(delivery, range_from)

    def _break(self, lane: Lane) -> None:
        """The breaker opened: parks the lane, and lets go of what it had taken up from the parked ones."""
        self.park(lane)
        for delivery in lane.give_back():
            self._working_set.discard(delivery)

    def _activate(self, lane: Lane) -> None:
        """Has the lane looked after."""
        if lane.route_id not in self.active:
            if not self.active:
                self.room.set()
            self.active[lane.route_id] = lane
            self._resting.pop(lane.route_id, None)

    def _is_needed(self, lane: Lane, rested_seconds: float, now: float) -> bool:
        if lane.is_in_ready_queue:
            return True
        timeline = self._index.timeline(lane.route_id)
        if timeline is not None and timeline.current.status is RouteStatus.DELETED:
            return False
        is_fleeting = lane.breaker.is_closed and (lane.pace is None or lane.pace.is_rested(now))
        return lane.has_memory(now) and not (is_fleeting and rested_seconds >= self._tunables.learned_lane_seconds)

    def _next(self, pool: Pool) -> Delivery | None:
        while pool.turns and pool.in_flight < pool.places:
            if len(self.in_flight) >= self._crowded and self._has_share(pool.turns[0]):
                pool.withhold()
                continue
            now = time.monotonic()
            lane = pool.next_lane()
            lane.is_in_ready_queue = False
            if lane.is_slow is not (pool is self._slow):
                self._line_up(lane, now)
                continue
            if lane.in_flight and pool.in_flight >= self._limits.trial_places and not lane.is_answering(now):
                continue  # it is in line again when the request ends that it has under way
            if self._hosts.held and self._has_to_wait(lane):
                lane.is_in_ready_queue = True
                self._hosts.hold(lane)
                continue
            delivery = lane.start(now)
            if delivery is None:
                self._line_up(lane, now)
                continue
            delivery.is_slow, delivery.has_place = pool is self._slow, True
            pool.in_flight += 1
            self.in_flight[delivery] = None
            self._in_flight_of[lane.tenant] = self._in_flight_of.get(lane.tenant, 0) + 1
            self._line_up(lane, now)
            return delivery
        return None

    def _has_share(self, tenant: str) -> bool:
        """True if a tenant has so many workers that the rest is left to the others."""
        own, limits = self._in_flight_of.get(tenant, 0), self._limits
        others = len(self.in_flight) - own
        return own > limits.route_concurrency and own >= TENANT_PART * (limits.workers - others)

    def _has_to_wait(self, lane: Lane) -> bool:
        """True if the host of a lane hangs, and has its probes. A test event does not wait."""
        return lane.host in self._hosts.held and not lane.tests and self._probes_left(lane.host) <= 0

    def _probes_left(self, host: str) -> int:
        """Counted anew each time: it is asked only of hosts that hang, and nothing has to be kept right for it."""
        under_way = sum(not each.slow_host and self._lanes[each.route_id].host == host for each in self.in_flight)
        return self._limits.probes - under_way

    def _tell_host(self, delivery: Delivery, host: str, now: float) -> None:
        """Notes what the end of a delivery says of its host, while that may hang."""
        has_succeeded = delivery.succeeded is True
        if delivery.slow_host:
            host, delivery.slow_host = delivery.slow_host, ""
            self._hosts.slow_ended(host, now, has_succeeded=has_succeeded)
        self._line_up_held(host, now, has_succeeded=has_succeeded)

    def _line_up_held(self, host: str, now: float, *, has_succeeded: bool) -> None:
        """Puts lanes in line that were held for a host: all of them if it answers, else as many as may probe it."""
        if host not in self._hosts.held:
            return
        hosts = self._hosts
        for lane in hosts.succeeded(host, now) if has_succeeded else hosts.probing(host, self._probes_left(host)):
            lane.is_in_ready_queue = False
            self._line_up(lane, now)

    def _let_go_on(self, lane: Lane, host: str) -> None:
        """Has a lane wait no longer for a host, if it does: it may be put in line."""
        if self._hosts.let_go(lane, host):
            lane.is_in_ready_queue = False

    def _line_up(self, lane: Lane, now: float) -> None:
        """Puts a lane that can start something in line and wakes a worker; later, if all it takes is time."""
        if lane.is_in_ready_queue or lane.in_flight >= lane.limit:
            return
        wait = lane.wait(now)
        if wait == 0:
            lane.is_in_ready_queue = True
            pool = self._slow if lane.is_slow else self._fast
            pool.line_up(lane)
            if pool.in_flight < pool.places:
                self._wake()
        elif now + wait < lane.timer_at:
            lane.timer_at = now + wait
            asyncio.get_running_loop().call_later(wait, self._line_up_again, lane)

    def _line_up_again(self, lane: Lane) -> None:
        lane.timer_at = float("inf")
        self._line_up(lane, time.monotonic())

    def _has_more(self) -> bool:
        """True if a lane is in line, and there is a place for what it starts."""
        return any(pool.turns and pool.in_flight < pool.places for pool in (self._fast, self._slow))

    def _wake(self) -> None:
        """Has one more worker look for a delivery: one that is about to look anyway, if there is one."""
        if self._returning:
            self._returning -= 1
            self._expected += 1
            return
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._expected += 1
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """What is in memory, as the stages that fill and empty it share it."""

    ledger: Ledger
    working_set: WorkingSet
    lanes: Lanes
