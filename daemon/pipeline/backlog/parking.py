"""Parking: what waits too long is written down, and comes back in order when its lane has room.

The checkpoint depends on PostgreSQL only, never on a receiver. So four times a second this looks for deliveries that
hold it up: a request under way for more than a second gets a row in `retry` that falls due only if we die; a delivery
queued for more than two seconds sends its whole lane to parking. A parking lane is drained from the table, oldest
packed row first, a chunk at a time and no more than its breaker lets it probe with; when the table has nothing left
for it and nothing is on its way there, it is live again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from uuid import UUID

from daemon.pipeline.backlog.ranges import Ranges
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery, PackedRow
from daemon.pipeline.scheduling.lane import MAX_QUEUED_SECONDS, Lane
from daemon.pipeline.scheduling.lanes import LOW_WATER, Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.progress import backlog
from eventstore.progress.backlog import ParkedRoute, WaitingDelivery
from eventstore.progress.recording import ParkedKey

SWEEP_SECONDS = 0.25
# Between two looks at the tables, however fast a lane is drained.
PAUSE_SECONDS = 0.02
PERSIST_SECONDS = 1.0
CHUNK_EVENTS = 200
# With so much in memory, lanes are drained by small chunks, so that thousands that recover together do not fill it.
CROWDED_EVENTS = 20_000
# An ordered lane that waits for a retry looks again whether it is still there: it may have been suppressed or expired.
LOOK_AGAIN_SECONDS = 1.0
# Ranges of routes that stay dead are looked at now and then, lest they outlive their events.
AGE_SECONDS = 600.0
# How long after its timeout a request that is under way is taken for lost with its process.
GRACE = timedelta(seconds=5)


@dataclass(slots=True)
class _Drain:
    """Where the draining of a lane stands: the packed row in hand, and what of it is not taken up yet.

    It outlives the parking, because the last rows stay in the table until all in them have an outcome: if the lane were
    parked anew meanwhile, they would be taken up twice.
    """

    after: ParkedKey | None = None
    row: PackedRow | None = None
    left: deque[WaitingDelivery] = field(default_factory=deque)


class Parking:
    """`wakeup` says that lanes have room again; `hold` is told of deliveries in flight that got a row in `retry`."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        lanes: Lanes,
        recorder: Recorder,
        ranges: Ranges,
        *,
        timeout_seconds: float,
        hold: Callable[[Delivery], None],
    ) -> None:
        self.wakeup: Wakeup = lanes.room
        self._database = database
        self._ledger = ledger
        self._lanes = lanes
        self._recorder = recorder
        self._ranges = ranges
        self._persisted_for = timedelta(seconds=timeout_seconds) + GRACE
        self._hold = hold
        self._drains: dict[UUID, _Drain] = {}
        self._drops = 0
        self._measured_at = self._looked_at = self._aged_at = time.monotonic()

    def adopt(self, routes: dict[UUID, ParkedRoute], newest_tick: int) -> None:
        """Takes over what is parked of these routes; ranges may reach up to `newest_tick`."""
        for route_id, parked in routes.items():
            self._drains.pop(route_id, None)
            lane = self._lanes.lane(route_id, parked.shard)
            lane.parked_pairs = parked.listed
            lane.range_from, lane.ranged_upto = parked.range_from, newest_tick
            self._lanes.park(lane)
        self.wakeup.set()

    def drop(self, shard: int) -> None:
        """Forgets what belongs to a shard that is no longer ours."""
        self._drops += 1
        for lane in self._lanes:
            if lane.shard == shard:
                self._drains.pop(lane.route_id, None)

    def seqs(self, route_id: UUID) -> set[int]:
        """What of a route is in hand and not yet in its lane."""
        drain = self._drains.get(route_id)
        return set() if drain is None else {row.seq for row in drain.left}

    def persist_in_flight(self, delivery: Delivery) -> None:
        """Writes down a delivery that is under way, so that nothing need wait for its end."""
        self._hold(delivery)
        self._recorder.persist_in_flight(delivery, due_after=self._persisted_for)

    async def run_once(self) -> None:
        self.wakeup.clear()
        now = time.monotonic()
        if now - self._measured_at >= SWEEP_SECONDS:
            self._measure(now - self._measured_at)
            self._measured_at = now
        self._sweep(now)
        await self._look_for_failing(now)
        chunk = CHUNK_EVENTS if self._lanes.queued < CROWDED_EVENTS else 1
        ours = set(self._ledger.shards())
        for lane in [lane for lane in self._lanes.active.values() if lane.is_parking and lane.shard in ours]:
            if lane.load < LOW_WATER:
                async with self._lanes.intake:
                    if lane.is_parking:  # still: while it waited, the shard may have gone
                        await self._refill(lane, chunk)
        if now - self._aged_at >= AGE_SECONDS:
            self._aged_at = now
            await self._expand_old()
        self._lanes.rest()
        if not self._lanes.active:
            await self.wakeup.wait_set()
        elif await self.wakeup.wait(SWEEP_SECONDS):
            await asyncio.sleep(PAUSE_SECONDS)

    def _measure(self, seconds: float) -> None:
        for lane in self._lanes.active.values():
            lane.measure(seconds)
            if len(lane.queue) > lane.capacity and not lane.is_parking:
                self._lanes.park(lane)

    def _sweep(self, now: float) -> None:
        self._lanes.sweep(now)
        for delivery in self._ledger.older_than(now - PERSIST_SECONDS):
            if delivery.is_accounted or delivery.is_withdrawn:
                continue  # the latter: its shard is being handed over
            if delivery.is_started:
                self.persist_in_flight(delivery)
            elif delivery.read_at < now - MAX_QUEUED_SECONDS:
                self._lanes.park(self._lanes.lane(delivery.route_id, delivery.shard))

    async def _look_for_failing(self, now: float) -> None:
        """Finds out what ordered lanes have to wait for."""
        again = now - self._looked_at >= LOOK_AGAIN_SECONDS
        if again:
            self._looked_at = now
        for lane in [lane for lane in self._lanes.active.values() if lane.is_ordered and not lane.in_flight]:
            is_stuck = again and bool(lane.failing)
            known = lane.failing and set(lane.failing)
            if (lane.failing is None or is_stuck) and not self._recorder.seqs(lane.route_id):
                drops = self._drops
                failing = await backlog.failing(self._database, lane.route_id)
                if drops == self._drops and not lane.in_flight and lane.failing == known:
                    self._lanes.resume(lane, failing)

    async def _expand_old(self) -> None:
        for lane in [lane for lane in self._lanes.active.values() if lane.range_from is not None]:
            while not lane.breaker.is_closed and await self._ranges.is_old(lane):
                begin = lane.range_from
                await self._ranges.expand(lane)
                await asyncio.shield(self._recorder.flush())  # cancelled, it would lose what others noted
                if lane.range_from == begin:
                    break

    async def _refill(self, lane: Lane, chunk_events: int) -> None:
        """Takes up the next chunk, or declares the lane live."""
        if lane.returned_to_table:
            # What is under way, or ended and is not written yet, would be found in its row once more.
            self._drains.pop(lane.route_id, None)
            if self._lanes.has_packed_under_way(lane) or self._recorder.seqs(lane.route_id):
                return
            lane.returned_to_table = False
        room = lane.breaker.room(time.monotonic())
        if not room:
            return
        drain = self._drains.setdefault(lane.route_id, _Drain())
        if not drain.left and not await self._next_row(lane, drain):
            return
        chunk = list(islice(drain.left, chunk_events if lane.breaker.is_closed else room))
        events = await domain_events.by_seq(self._database, {row.seq: row.recorded_at for row in chunk})
        if self._drains.get(lane.route_id) is not drain or drain.row is None or lane.returned_to_table:
            return
        for row in chunk:
            drain.left.popleft()
            lane.parked_pairs -= 1
            event = events.get(row.seq)
            if event is None:
                self._recorder.skip_missing(drain.row)
            else:
                delivery = Delivery.waiting(row, event, read_at=time.monotonic(), packed=drain.row)
                self._lanes.enqueue(lane, delivery)

    async def _next_row(self, lane: Lane, drain: _Drain) -> bool:
        """Fetches the next packed row with something left to do; False if there is none."""
        while True:
            parked, is_unwritten = lane.parked, self._recorder.is_parking(lane.route_id)
            packed = await backlog.oldest_packed(self._database, lane.route_id, after=drain.after)
            if self._drains.get(lane.route_id) is not drain or lane.returned_to_table:
                return False
            if packed is None:
                # Live, unless something was parked that this query could not see yet.
                is_empty = not is_unwritten and lane.parked == parked
                if is_empty and lane.range_from is not None:
                    await self._ranges.expand(lane)
                elif is_empty:
                    lane.is_parking, lane.parked_pairs = False, 0
                return False
            drain.after = packed.key
            drain.row = PackedRow(packed)
            drain.left.extend(packed.deliveries)
            if drain.left:
                return True
            self._recorder.drained(drain.row)
