"""Parking: what waits too long is written down, and comes back in order when its lane has room.

The checkpoint depends on PostgreSQL only, never on a receiver. So four times a second this looks for deliveries that
hold it up: a request under way for more than a second gets a row in `retry` that falls due only if we die; a delivery
queued for more than two seconds sends its whole lane to parking. A parking lane is drained from the table, oldest
packed row first, a chunk at a time; when the table has nothing left for it and nothing is on its way there, it is live
again.
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

from daemon.pipeline.bell import Bell
from daemon.pipeline.lanes import LOW_WATER, PATIENCE_SECONDS, Lane, Lanes
from daemon.pipeline.recorder import Recorder
from daemon.pipeline.work import Delivery, Ledger, PackedRow
from eventstore import backlog, stream
from eventstore.backlog import Waiting
from eventstore.connect import Database
from eventstore.progress import ParkedKey

SWEEP_SECONDS = 0.25
# Between two looks at the tables, however fast a lane is drained.
PAUSE_SECONDS = 0.02
SPILL_SECONDS = 1.0
CHUNK_EVENTS = 200
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
    left: deque[Waiting] = field(default_factory=deque)


class Parking:
    """`bell` says that lanes have room again, `hold` hears of deliveries that got a row in `retry` while under way."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        lanes: Lanes,
        recorder: Recorder,
        *,
        timeout_seconds: float,
        hold: Callable[[Delivery], None],
    ) -> None:
        self.bell: Bell = lanes.room
        self._database = database
        self._ledger = ledger
        self._lanes = lanes
        self._recorder = recorder
        self._spill_for = timedelta(seconds=timeout_seconds) + GRACE
        self._hold = hold
        self._drains: dict[UUID, _Drain] = {}
        self._measured_at = time.monotonic()

    def adopt(self, routes: dict[UUID, int]) -> None:
        """Takes over the parked deliveries of these routes (route → shard)."""
        for route_id, shard in routes.items():
            self._lanes.lane(route_id, shard).is_parking = True
        self.bell.ring()

    def drop(self, shard: int) -> None:
        """Forgets what belongs to a shard that is no longer ours."""
        for lane in self._lanes:
            if lane.shard == shard:
                self._drains.pop(lane.route_id, None)

    def seqs(self, route_id: UUID) -> set[int]:
        """What of a route is in hand and not yet in its lane."""
        drain = self._drains.get(route_id)
        return set() if drain is None else {row.seq for row in drain.left}

    async def run_once(self) -> None:
        self.bell.hush()
        now = time.monotonic()
        if now - self._measured_at >= SWEEP_SECONDS:
            self._measure(now - self._measured_at)
            self._measured_at = now
        self._sweep(now)
        for lane in [lane for lane in self._lanes if lane.is_parking]:
            if lane.load < LOW_WATER:
                async with self._lanes.intake:
                    await self._refill(lane)
        if await self.bell.wait(SWEEP_SECONDS):
            await asyncio.sleep(PAUSE_SECONDS)

    def _measure(self, seconds: float) -> None:
        for lane in self._lanes:
            lane.measure(seconds)
            if len(lane.queue) > lane.capacity:
                self._lanes.park(lane)

    def _sweep(self, now: float) -> None:
        for delivery in self._ledger.older_than(now - SPILL_SECONDS):
            if delivery.is_accounted:
                continue
            if delivery.is_started:
                self._hold(delivery)
                self._recorder.spill(delivery, due_after=self._spill_for)
            elif delivery.read_at < now - PATIENCE_SECONDS:
                self._lanes.park(self._lanes.lane(delivery.route_id, delivery.shard))

    async def _refill(self, lane: Lane) -> None:
        """Takes up the next chunk, or declares the lane live."""
        drain = self._drains.setdefault(lane.route_id, _Drain())
        if not drain.left and not await self._next_row(lane, drain):
            return
        chunk = list(islice(drain.left, CHUNK_EVENTS))
        events = await stream.by_seq(self._database, {row.seq: row.recorded_at for row in chunk})
        if self._drains.get(lane.route_id) is not drain or drain.row is None:
            return
        for row in chunk:
            drain.left.popleft()
            event = events.get(row.seq)
            if event is None:
                self._recorder.passed_over(drain.row)
            else:
                delivery = Delivery.waiting(row, event, read_at=time.monotonic(), packed=drain.row)
                self._lanes.enqueue(lane, delivery)

    async def _next_row(self, lane: Lane, drain: _Drain) -> bool:
        """Fetches the next packed row with something left to do; False if there is none."""
        while True:
            parked, is_unwritten = lane.parked, self._recorder.is_parking(lane.route_id)
            packed = await backlog.oldest_packed(self._database, lane.route_id, after=drain.after)
            if self._drains.get(lane.route_id) is not drain:
                return False
            if packed is None:
                # Live, unless something was parked that this query could not see yet.
                lane.is_parking = is_unwritten or lane.parked != parked
                return False
            drain.after = packed.key
            drain.row = PackedRow(packed)
            drain.left.extend(packed.deliveries)
            if drain.left:
                return True
            self._recorder.drained(drain.row)
