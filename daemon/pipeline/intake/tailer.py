"""Reads the events tick by tick, decides each, and offers the deliveries to their lanes.

A tick names a position of the route log, and it is read only after the projection has applied that position. So a live
decision equals every later recomputation of it. A tick that has no event of the shards held here is passed over, and
the few events of the newest tick have often come with the news of it. Shards that were adopted at different checkpoints
advance separately until they are at the same tick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.deferred import ShardCursor
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.polls import NOTHING_READ, ReadUpto
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

# The ticker tells each new tick; a notification tells earlier of those of other processes.
POLL_SECONDS = 15.0
# So many ticks that were told of are kept for a tailer that waits for room; it asks for the others.
TOLD_TICKS = 16


@dataclass(frozen=True, slots=True)
class _ToldTick:
    """A tick, and its events in the shards whose bits are in `shards`, if they came with it."""

    tick: Tick
    events: Sequence[StoredEvent] | None
    shards: int

    def has_events_of(self, shards: int) -> bool:
        return self.events is not None and shards & ~self.shards == 0


class Tailer:
    """`adopt` and `drop` add and remove shards. `run_once` reads all ticks there are, then waits for the wakeup."""

    def __init__(
        self,
        database: Database,
        projection: Projection,
        ledger: Ledger,
        decider: Decider,
        *,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._projection = projection
        self._ledger = ledger
        self._decider = decider
        self._tunables = tunables
        self._cursors: dict[int, ShardCursor] = {}
        self._accounted_upto = 0
        self._snaps: dict[int, str] = {0: ticks.EMPTY_SNAP}
        # What was told: ticks, and the events of some of them.
        self._told: dict[int, _ToldTick] = {}
        self._newest: int | None = None
        self._began_at = time.monotonic()
        decider.on_decided = self._decided
        decider.deferred.on_room = self.wakeup.set

    def adopt(self, takeover: Takeover) -> None:
        """Starts to read shards after their checkpoints. The accounted pairs of `takeover` are skipped."""
        for shard, tick in takeover.checkpoints.items():
            self.drop(shard)
            self._cursors[shard] = ShardCursor(tick)
        self._decider.accounted |= takeover.accounted
        self._accounted_upto = max(self._accounted_upto, takeover.newest_tick)
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Stops reading these shards."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Stops reading a shard; what was deferred of it is forgotten."""
        cursor = self._cursors.pop(shard, None)
        if cursor is not None:
            cursor.is_dropped = True

    def told(self, newest: Tick, events: Sequence[StoredEvent] | None = None, *, shards: int = 0) -> None:
        """This is the newest tick that there is; `events` are those of the shards in the bits of `shards`, if they came
        with it. What was told of need not be asked for.
        """
        self._told[newest.tick] = _ToldTick(newest, events, shards)
        if len(self._told) > TOLD_TICKS:
            del self._told[min(self._told)]
        self._newest = newest.tick
        self.wakeup.set()

    def must_ask(self) -> None:
        """There may be ticks that nobody told of."""
        self._newest = None
        self.wakeup.set()

    def forget(self) -> None:
        """Forgets what was read of ticks, since they may be gone. No shard is held at that moment."""
        self._snaps = {0: ticks.EMPTY_SNAP}
        self._told.clear()
        self._newest = None
        self._decider.accounted.clear()
        self._accounted_upto = 0

    @property
    def read_upto(self) -> ReadUpto:
        """What is read of all shards, or will be without a question. The events of the next tick may come with its
        news, unless there is no room for them.
        """
        upto = self.position
        if not self._ledger.has_room or any(cursor.tick != upto for cursor in self._cursors.values()):
            return NOTHING_READ
        while upto + 1 in self._told:
            upto += 1
        return ReadUpto(upto, ticks.bits_of(self._cursors))

    @property
    def position(self) -> int:
        """The oldest tick among the cursors; 0 without shards."""
        return min((cursor.tick for cursor in self._cursors.values()), default=0)

    async def run_once(self) -> None:
        """Reads what there is. Whatever comes after the last question sets the wakeup."""
        self.wakeup.clear()
        is_more = True
        while is_more and (begin := self._next_position()) is not None:
            cuts = await self._after(begin)
            for cut in cuts:
                await self._read(cut)
            is_more = len(cuts) == ticks.PAGE_TICKS
        await self.wakeup.wait(POLL_SECONDS)

    async def _after(self, begin: int) -> list[Tick]:
        """The ticks after number `begin`, as was told or as the database has them."""
        newest, self._newest = self._newest, None
        if newest is None or not all(number in self._told for number in range(begin + 1, newest + 1)):
            return await ticks.after(self._database, begin)
        return [self._told[number].tick for number in range(begin + 1, newest + 1)]

    def _next_position(self) -> int | None:
        """The oldest tick among the shards that may be read, None if there are none.

        A shard of which too many events are deferred falls behind, and the others are read without it.
        """
        readable = [cursor.tick for shard, cursor in self._cursors.items() if not self._decider.deferred.is_full(shard)]
        return min(readable, default=None)

    async def _read(self, cut: Tick) -> None:
        """Reads one tick for the shards whose cursor is right before it."""
        before = cut.tick - 1
        is_full = self._decider.deferred.is_full
        cursors = {s: cursor for s, cursor in self._cursors.items() if cursor.tick == before and not is_full(s)}
        if not cursors:
            return
        await self._projection.reach(cut.route_pos)
        async for events in self._events(cut, cursors):
            for event in events:
                if not self._may_go_on():
                    await self._turn()
                cursor = cursors.get(event.shard)
                if cursor is not None and not cursor.is_dropped and event.seq >= cursor.next_seq:
                    self._decider.decide(event, cut, cursor)
            if events:
                for cursor in cursors.values():
                    cursor.next_seq = max(cursor.next_seq, events[-1].seq + 1)
        held = {shard: cursor for shard, cursor in cursors.items() if not cursor.is_dropped}
        for shard, cursor in held.items():
            cursor.tick, cursor.next_seq = cut.tick, 0
            self._ledger.read(shard, cut.tick)
        if held:  # else the tick may be gone, and `forget` was called meanwhile
            self._snaps = {cut.tick: cut.snap}
        self._decided()

    async def _events(self, cut: Tick, cursors: Mapping[int, ShardCursor]) -> AsyncIterator[Sequence[StoredEvent]]:
        """The events of a tick in these shards, page by page: none, as they were told, or as the database has them.

        After a failure between two pages they begin with the first one that is not decided.
        """
        bits = ticks.bits_of(cursors)
        told = self._told.pop(cut.tick, None)
        if not cut.may_touch(bits):
            return
        if told is not None and told.tick == cut and told.has_events_of(bits):
            yield told.events or ()
            return
        before = cut.tick - 1
        if before not in self._snaps:
            self._snaps[before] = await ticks.snap_of(self._database, before)
        from_seq = min(cursor.next_seq for cursor in cursors.values())
        pages = tail.read_cut(
            self._database, before=self._snaps[before], tick=cut, shards=list(cursors), from_seq=from_seq
        )
        async for page in pages:
            yield page

    def _may_go_on(self) -> bool:
        is_in_time = time.monotonic() - self._began_at <= self._tunables.yield_seconds
        return is_in_time and self._ledger.has_room and self._decider.deferred.has_room

    async def _turn(self) -> None:
        """Waits for room in memory, and lets others work after a while: events of one tick may take seconds."""
        if not self._ledger.has_room:
            await self._ledger.room()
        if not self._decider.deferred.has_room:
            await self._decider.deferred.room()
        if time.monotonic() - self._began_at > self._tunables.yield_seconds:
            await asyncio.sleep(0)
            self._began_at = time.monotonic()

    def _decided(self) -> None:
        accounted = self._decider.accounted
        if accounted and all(self._ledger.read_upto(shard) >= self._accounted_upto for shard in self._cursors):
            accounted.clear()
