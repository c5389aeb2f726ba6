"""Reads the events tick by tick, decides each, and offers the deliveries to their lanes.

A tick names a position of the route log, and it is read only after the projection has applied that position. So a live
decision equals every later recomputation of it. Shards that were adopted at different checkpoints advance separately
until they are at the same tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial

from daemon.core.routing.decision import Decision, eligible
from daemon.core.webhook import payload
from daemon.metrics import Metrics
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.scheduling.delivery import Delivery, RouteAndSeq
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

# The ticker sets the wakeup for each new tick; a notification sets it earlier for ticks of other processes.
POLL_SECONDS = 5.0


class _Cursor:
    """The last tick that was read of an adopted shard.

    A shard that is dropped and adopted again gets a new cursor, though it may be at the same tick. Then a tick that was
    partly read before is read again as a whole.
    """

    __slots__ = ("tick",)

    def __init__(self, tick: int) -> None:
        self.tick = tick


class Tailer:
    """`adopt` and `drop` add and remove shards. `run_once` reads all ticks there are, then waits for the wakeup."""

    def __init__(
        self,
        database: Database,
        projection: Projection,
        ledger: Ledger,
        lanes: Lanes,
        metrics: Metrics,
        seen_types: SeenTypes,
        *,
        on_read: Callable[[], None],
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._projection = projection
        self._ledger = ledger
        self._lanes = lanes
        self._metrics = metrics
        self._seen_types = seen_types
        self._on_read = on_read
        self._cursors: dict[int, _Cursor] = {}
        self._accounted: set[RouteAndSeq] = set()
        self._accounted_upto = 0
        self._snaps: dict[int, str] = {0: ticks.EMPTY_SNAP}

    def adopt(self, takeover: Takeover) -> None:
        """Starts to read shards after their checkpoints. The accounted pairs of `takeover` are skipped."""
        self._cursors |= {shard: _Cursor(tick) for shard, tick in takeover.checkpoints.items()}
        self._accounted |= takeover.accounted
        self._accounted_upto = max(self._accounted_upto, takeover.newest_tick)
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Stops reading these shards."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Stops reading a shard."""
        self._cursors.pop(shard, None)

    @property
    def position(self) -> int:
        """The oldest tick among the cursors; 0 without shards."""
        return min((cursor.tick for cursor in self._cursors.values()), default=0)

    async def run_once(self) -> None:
        self.wakeup.clear()
        while self._cursors and (cuts := await ticks.after(self._database, self.position)):
            for cut in cuts:
                await self._read(cut)
        await self.wakeup.wait(POLL_SECONDS)

    async def _read(self, cut: Tick) -> None:
        """Reads one tick for the shards whose cursor is right before it."""
        before = cut.tick - 1
        cursors = {shard: cursor for shard, cursor in self._cursors.items() if cursor.tick == before}
        if before not in self._snaps:
            self._snaps[before] = await ticks.snap_of(self._database, before)
        await self._projection.reach(cut.route_pos)
        async for events in tail.read_cut(self._database, before=self._snaps[before], tick=cut, shards=list(cursors)):
            for event in events:
                if not self._ledger.has_room:
                    await self._ledger.room()
                if self._cursors.get(event.shard) is cursors[event.shard]:
                    self._decide(event, cut)
        for shard, cursor in cursors.items():
            if self._cursors.get(shard) is cursor:
                cursor.tick = cut.tick
                self._ledger.read(shard, cut.tick)
        self._snaps = {cut.tick: cut.snap}
        if self._accounted and self.position >= self._accounted_upto:
            self._accounted.clear()
        self._on_read()

    def _decide(self, event: StoredEvent, cut: Tick) -> None:
        at = event.event_time
        if event.occurred_at is not None and event.occurred_at > event.recorded_at:
            self._metrics.skewed((event.occurred_at - event.recorded_at).total_seconds())
        routes = eligible(
            self._projection.index,
            tenant=event.tenant,
            event_type=event.type,
            at=at,
            backfill=event.backfill,
            passes=partial(passes, event=event),
            on_skip=self._metrics.decided if event.test_route is None else _ignore,
            test_route=event.test_route,
        )
        self._seen_types.note(event.type)
        if routes and event.test_route is None:
            self._metrics.decided(Decision.DELIVER, len(routes))
        read_at = time.monotonic()
        for route in routes:
            if self._accounted and (route.id, event.seq) in self._accounted:
                continue
            delivery = Delivery(route_id=route.id, event=event, event_time=at, tick=cut.tick, read_at=read_at)
            self._ledger.add(delivery)
            self._lanes.offer(delivery)


def _ignore(_decision: Decision) -> None:
    """Test events do not count as traffic."""


def passes(expression: str, *, event: StoredEvent) -> bool:
    """True if the event passes a route's filter expression."""
    return payload.passes(
        expression,
        payload.PayloadSource(
            event_id=event.id,
            event_type=event.type,
            created=event.event_time,
            data=event.data,
            context=event.context,
            snapshot=event.snapshot,
        ),
    )
