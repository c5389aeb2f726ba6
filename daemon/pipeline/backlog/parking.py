"""Parking: deliveries that wait too long are written to the tables, and taken up in order when their lane has room.

The checkpoint depends on PostgreSQL only, never on a receiver. So four times a second this looks for deliveries that
hold it up. A request in flight for more than a second gets a row in `retry`, which falls due only if the process dies.
A delivery queued for more than two seconds has its whole lane parked. A test event is not parked: after a second it
gets a row that is due, and is taken up again like a retry, but comes first then too.

A parking lane is drained from the table, oldest packed row first, a chunk at a time, and no more than its breaker
allows as probes, than its rate lets it send soon, or than its slow receiver takes. While the events in memory are too
large altogether, each lane gets one delivery, once the outcome of the last one is written. The lane is live again when
the table has nothing left for it and no row for it is about to be written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from daemon.core.delivery.states.lane_states import LaneState, LaneStep
from daemon.pipeline.backlog.ranges import Ranges
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery, PackedRow
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.progress import backlog
from eventstore.progress.backlog import WaitingDelivery
from eventstore.progress.rows import AttemptRow, ParkedKey

# So many lanes are looked at between two turns of the event loop.
_LANES_AT_ONCE = 1000
# A look at all lanes takes a microsecond for each, and a fifth of the time at most.
_PAUSE_SECONDS_OF_LANE = 4e-6


@dataclass(slots=True)
class _Drain:
    """How far a lane is drained: the packed row in hand, and the deliveries of it that are not taken up yet.

    It stays when the lane goes live, because the last rows stay in the table until all deliveries in them have an
    outcome. If the lane is parked again meanwhile, they must not be taken up twice.
    """

    after: ParkedKey | None = None
    row: PackedRow | None = None
    left: deque[WaitingDelivery] = field(default_factory=deque)


class Parking:
    """`wakeup` says that lanes have room again."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        lanes: Lanes,
        recorder: Recorder,
        ranges: Ranges,
        working_set: WorkingSet,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.wakeup: Wakeup = lanes.room
        self._database = database
        self._ledger = ledger
        self._lanes = lanes
        self._recorder = recorder
        self._ranges = ranges
        self._working_set = working_set
        self._tunables = tunables
        self._drains: dict[UUID, _Drain] = {}
        self._drops = 0
        self._waits_for_flush = False
        self._measured_at = self._swept_at = self._looked_at = self._aged_at = self._let_go_at = time.monotonic()

    def recorded(self, _rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        """Hears of a flush: events of outcomes are out of memory, and rows of parked deliveries can be read."""
        if self._waits_for_flush:
            self.wakeup.set()

    def adopt(self, takeover: Takeover) -> None:
        """Takes over what is parked of these shards."""
        for shard in takeover.checkpoints:
            self.drop(shard)
        for route_id, parked in takeover.parked.items():
            lane = self._lanes.lane(route_id, parked.shard)
            lane.restore(parked, takeover.newest_tick)
            self._lanes.park(lane)
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Forgets these shards: what is parked of them lies in the tables."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Forgets what belongs to a shard that is no longer ours."""
        self._drops += 1
        for lane in self._lanes:
            if lane.shard == shard:
                self._forget(lane)

    async def run_once(self) -> None:
        self.wakeup.clear()
        now = time.monotonic()
        if now - self._measured_at >= self._tunables.sweep_seconds:
            self._measure(now - self._measured_at)
            self._measured_at = now
        self._sweep(now)
        await self._look_for_failing(now)
        await self._refill_all()
        if now - self._aged_at >= self._tunables.age_seconds:
            self._aged_at = now
            await self._save_old()
        self._lanes.rest(now)
        if now - self._let_go_at >= self._tunables.idle_lane_seconds / 4:
            self._let_go_at = now
            for route_id in self._lanes.let_go(now, has_unwritten=self._recorder.has_unwritten):
                self._drains.pop(route_id, None)
        if not self._lanes.active:
            await self._wait_idle()
        elif await self.wakeup.wait(self._tunables.sweep_seconds):
            pause = len(self._lanes.active) * _PAUSE_SECONDS_OF_LANE
            await asyncio.sleep(max(self._tunables.parking_pause_seconds, pause))

    async def _refill_all(self) -> None:
        queued: int | None = None  # counted once: there may be thousands of lanes
        ours = set(self._ledger.shards())
        self._waits_for_flush = False
        for place, lane in enumerate([lane for lane in self._lanes.active.values() if lane.is_parking], start=1):
            if place % _LANES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if lane.shard not in ours or (lane.breaker.wait(time.monotonic()) and lane.state is LaneState.PARKING):
                continue  # the latter, as of very many lanes at once whose receivers are down: it takes nothing yet
            if (now := time.monotonic()) - self._swept_at >= self._tunables.sweep_seconds:
                self._sweep(now)  # to refill a thousand lanes takes seconds
            if self._is_full_of_bytes and self._working_set.has(lane.route_id):
                self._waits_for_flush = True
            elif lane.load < self._tunables.low_water:
                async with self._working_set.moving:
                    if lane.is_parking:  # still: while it waited, the shard may have gone
                        if queued is None:
                            queued = self._lanes.queued
                        chunk = self._tunables.chunk_events if queued < self._tunables.crowded_events else 1
                        queued += await self._refill(lane, chunk)

    @property
    def _is_full_of_bytes(self) -> bool:
        return self._working_set.size_bytes >= self._tunables.max_bytes

    def _places(self, lane: Lane) -> int:
        """How many more deliveries of a lane are worth being in memory. The others would wait there for long."""
        most = 2 * lane.limit if lane.is_slow else self._tunables.low_water + self._tunables.chunk_events
        seconds = self._tunables.paced_seconds
        return lane.due_places(time.monotonic(), most=most, seconds=seconds) - lane.load

    async def _wait_idle(self) -> None:
        """Waits for work; while lanes are resting, no longer than until some of them may be let go."""
        if self._lanes.are_resting:
            await self.wakeup.wait(self._tunables.idle_lane_seconds / 4)
        else:
            await self.wakeup.wait_set()

    def _measure(self, seconds: float) -> None:
        for lane in self._lanes.active.values():
            lane.measure(seconds)
            if len(lane.queue) > lane.capacity and not lane.is_parking:
                self._lanes.park(lane)

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        self._lanes.sweep(now)
        for delivery in self._ledger.older_than(now - self._tunables.persist_seconds):
            if delivery.is_accounted or delivery.is_withdrawn:
                continue  # the latter: its shard is being handed over
            if not delivery.is_waiting:
                self._recorder.persist_in_flight(delivery)
            elif delivery.is_test:
                self._lanes.put_back_tests(self._lanes.lane(delivery.route_id, delivery.shard))
            elif delivery.read_at < now - self._tunables.max_queued_seconds:
                self._lanes.park(self._lanes.lane(delivery.route_id, delivery.shard))

    async def _look_for_failing(self, now: float) -> None:
        """Finds out what ordered lanes have to wait for."""
        again = now - self._looked_at >= self._tunables.look_again_seconds
        if again:
            self._looked_at = now
        stuck = [lane for lane in self._lanes.active.values() if lane.is_ordered and _may_be_stuck(lane, again=again)]
        asked = {lane: _copy(lane.failing) for lane in stuck if not self._recorder.has_unwritten(lane.route_id)}
        if not asked:
            return
        # By one question: there may be thousands, and others wait for this loop.
        drops = self._drops
        routes = [lane.route_id for lane in asked]
        failing = await backlog.failing(self._database, routes, each=self._tunables.failing_positions)
        for lane, known in asked.items():
            if drops == self._drops and not lane.in_flight and lane.failing == known:
                self._lanes.resume(lane, failing[lane.route_id])

    async def _save_old(self) -> None:
        for lane in [lane for lane in self._lanes.active.values() if lane.range_from is not None]:
            await self._ranges.save(lane)

    async def _refill(self, lane: Lane, chunk_events: int) -> int:
        """Takes up the next chunk, or declares the lane live. Returns how many deliveries are in memory now because of
        that.
        """
        if lane.state is LaneState.RETURNED:
            # What is under way, or ended and is not written yet, would be found in its row once more.
            self._forget(lane)
            if self._lanes.has_packed_in_flight(lane) or self._recorder.has_unwritten(lane.route_id):
                return 0
            lane.advance(LaneStep.REREAD)
        room, places = lane.breaker.capacity(time.monotonic()), self._places(lane)
        if not room or places <= 0:
            return 0
        chunk_events = min(chunk_events, places, 1 if self._is_full_of_bytes else places)
        drain = self._drains.setdefault(lane.route_id, _Drain())
        if not drain.left and not await self._next_row(lane, drain):
            return 0
        chunk = list(islice(drain.left, chunk_events if lane.breaker.is_closed else min(room, places)))
        events = await domain_events.first_by_seq(self._database, {row.seq: row.recorded_at for row in chunk})
        if self._drains.get(lane.route_id) is not drain or drain.row is None or lane.state is LaneState.RETURNED:
            return 0
        taken = 0
        for row in chunk[: len(events)]:
            drain.left.popleft()
            event = events[row.seq]
            if event is None:
                lane.took_up()
                self._recorder.skip_missing(drain.row)
            else:
                delivery = Delivery.waiting(row, event, read_at=time.monotonic(), packed=drain.row)
                self._lanes.take_up(lane, delivery)
                taken += 1
        self._working_set.read(lane.route_id, {row.seq for row in drain.left})
        return taken

    def _forget(self, lane: Lane) -> None:
        """Forgets how far the lane was drained."""
        self._drains.pop(lane.route_id, None)
        self._ranges.forget(lane.route_id)
        self._working_set.read(lane.route_id, ())

    async def _next_row(self, lane: Lane, drain: _Drain) -> bool:
        """Fetches the next packed row with something left to do; False if there is none."""
        while not self._ranges.is_awaited(lane.route_id):
            parkings, is_unwritten = lane.parkings, self._recorder.is_parking(lane.route_id)
            packed = await backlog.oldest_packed(self._database, lane.route_id, after=drain.after)
            if self._drains.get(lane.route_id) is not drain or lane.state is LaneState.RETURNED:
                return False
            if packed is None:
                # Live, unless something was parked that this query could not see yet.
                is_empty = not is_unwritten and lane.parkings == parkings
                if is_empty and lane.range_from is not None:
                    self._ranges.ask(lane)
                elif is_empty:
                    lane.emptied()
                else:
                    self._waits_for_flush = True
                return False
            drain.after = packed.key
            drain.row = PackedRow(packed)
            drain.left.extend(packed.deliveries)
            self._working_set.read(lane.route_id, {row.seq for row in drain.left})
            if drain.left:
                return True
            self._recorder.drained(drain.row)
        return False


def _may_be_stuck(lane: Lane, *, again: bool) -> bool:
    """True if an ordered lane may wait for nothing: it is not known for what, or was looked up long ago (`again`)."""
    return not lane.in_flight and (lane.failing is None or (again and bool(lane.failing)))


def _copy(failing: set[LogPosition] | None) -> set[LogPosition] | None:
    return None if failing is None else set(failing)
