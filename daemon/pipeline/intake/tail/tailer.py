"""Reads the events tick by tick, decides each, and offers the deliveries to their lanes.

A tick names a position of the route log, and it is read only after the projection has applied that position. So a live
decision equals every later recomputation of it. A tick that has no event of the shards held here is passed over, and
the few events of the newest tick have often come with the news of it. Shards that were adopted at different checkpoints
advance separately until they are at the same tick.

All shards that keep up are read together: one question for each tick. A shard is left behind if it has its share of the
ledger, if too many of its events are deferred, if most of a tick of several pages is its own, or if it was adopted many
ticks behind the others. Then `shards_apart` reads it until it is where the others are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.cursors import ShardCursor
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.tail.shards_apart import ShardsApart
from daemon.pipeline.intake.tail.tick_reading import TickReading, TimeSlice, passed
from daemon.pipeline.intake.tail.told_ticks import ToldTicks
from daemon.pipeline.loops import Loops
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.polls import NOTHING_READ, ReadUpto
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

# The ticker tells each new tick; a notification tells earlier of those of other processes.
POLL_SECONDS = 15.0
# A shard that is further behind the others than this is not read with them; it would hold them up.
BEHIND_TICKS = 16
# Whose events are more than this part of a page is left behind if the tick has another one.
BEHIND_PART = 0.25


class Tailer:
    """`adopt` and `drop` add and remove shards. `run_once` reads all ticks there are for the shards that keep up, then
    waits for the wakeup. `loops` are that and those of the shards that do not.
    """

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
        self._reading = TickReading(database, projection, ledger, decider, tunables)
        self._apart = ShardsApart(database, self._reading, on_caught_up=self.wakeup.set)
        self._told = ToldTicks()
        self._slice = TimeSlice()

    def loops(self) -> Loops:
        """What reads the shards that keep up, each one that is left behind, and the tenants that are set aside."""
        return {"tailer": self.run_once, **self._apart.loops()}

    def adopt(self, takeover: Takeover) -> None:
        """Starts to read shards after their checkpoints. The accounted pairs of `takeover` are skipped."""
        self._reading.adopt(takeover)
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Stops reading these shards."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Stops reading a shard; what was deferred of it is forgotten."""
        self._reading.drop(shard)

    def told(self, newest: Tick, events: Sequence[StoredEvent] | None = None, *, shards: int = 0) -> None:
        """This is the newest tick that there is; `events` are those of the shards in the bits of `shards`, if they came
        with it. What was told of need not be asked for. A tick that was read is nothing new.
        """
        if newest.tick <= self._reading.read_together:
            return
        self._told.add(newest, events, shards)
        self.wakeup.set()

    def must_ask(self) -> None:
        """There may be ticks that nobody told of."""
        self._told.must_ask()
        self.wakeup.set()

    def forget(self) -> None:
        """Forgets what was read of ticks, since they may be gone. No shard is held at that moment."""
        self._told.clear()
        self._reading.forget()

    @property
    def read_upto(self) -> ReadUpto:
        """What is read of all shards that keep up, or will be without a question. The events of the next tick may come
        with its news, unless there is no room for them.
        """
        together, upto = self._reading.together, self._reading.read_together
        if upto < 0 or not self._reading.ledger.has_room or any(tick != upto for tick in together.values()):
            return NOTHING_READ
        return ReadUpto(self._told.known_from(upto), ticks.bits_of(together))

    @property
    def position(self) -> int:
        """The oldest tick among the cursors; 0 without shards."""
        cursors = (*self._reading.cursors.values(), *self._reading.aside)
        return min((cursor.tick for cursor in cursors), default=0)

    @property
    def behind(self) -> list[int]:
        """The shards that were left behind."""
        return self._reading.behind

    async def run_once(self) -> None:
        """Reads what there is. Whatever comes after the last question sets the wakeup."""
        self.wakeup.clear()
        is_more = True
        while is_more and (begin := self._reading.read_together) >= 0:
            cuts = self._told.take_after(begin)
            if cuts is None:
                cuts = await ticks.after(self._database, begin)
            for cut in cuts:
                await self._read(cut)
                self._told.forget(self._reading.read_together)
            is_more = len(cuts) == ticks.PAGE_TICKS
        await self.wakeup.wait(POLL_SECONDS)

    async def _read(self, cut: Tick) -> None:
        """Reads one tick for the shards that keep up and whose cursor is right before it."""
        together, before = self._reading.together, cut.tick - 1
        cursors = {shard: self._reading.cursors[shard] for shard, tick in together.items() if tick == before}
        if not cursors:
            return
        newest = max(together.values())
        if newest - before > BEHIND_TICKS:
            self._leave_behind(cursors, list(cursors))
            return
        await self._reading.projection.reach(cut.route_pos)
        try:
            for cursor in cursors.values():
                cursor.is_reading = True
            while not await self._read_pages(cut, cursors, are_others_ahead=newest > before):
                pass
            self._reading.advance(cut, cursors)
        finally:
            for cursor in cursors.values():
                cursor.is_reading = False

    async def _read_pages(self, cut: Tick, cursors: dict[int, ShardCursor], *, are_others_ahead: bool) -> bool:
        """Decides the events of a tick, page by page. False if shards were left behind, so that the rest of the tick is
        to be read without them; they are taken out of `cursors`.
        """
        reading, is_behind, count = self._reading, list[int](), len(cursors)
        async with aclosing(self._events(cut, cursors)) as pages:
            async for page in pages:
                self._leave_behind(cursors, is_behind)
                if len(cursors) < count:
                    return not cursors
                for event in page:
                    if (shard := event.shard) not in cursors:
                        continue
                    if not reading.has_room_of(shard) or self._slice.is_over(reading.tunables.yield_seconds):
                        await self._turn(shard)
                    if reading.is_full(shard):
                        self._leave_behind(cursors, (shard,))
                    else:
                        reading.decide(event, cut, cursors[shard])
                if not cursors:
                    return True
                passed(page, cursors)
                is_behind = list(cursors) if are_others_ahead else _most_of(page)
        return True

    async def _events(
        self, cut: Tick, cursors: Mapping[int, ShardCursor]
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """The events of a tick in these shards, page by page: none, as they were told, or as the database has them."""
        bits = ticks.bits_of(cursors)
        told = self._told.take_events(cut, bits)
        if not cut.may_touch(bits):
            return
        if told is not None:
            yield told
            return
        without = [tenant for cursor in cursors.values() for tenant in cursor.aside]
        async with aclosing(self._reading.stored(cut, cursors, without=without)) as pages:
            async for page in pages:
                yield page

    def _leave_behind(self, cursors: dict[int, ShardCursor], shards: Collection[int]) -> None:
        """Has shards read apart from now on, and takes them out of `cursors`."""
        for shard in shards:
            cursor = cursors.pop(shard, None)
            if cursor is not None:
                self._apart.leave_behind(shard, cursor)

    async def _turn(self, shard: int) -> None:
        """Waits for room in memory, unless the shard is to be left behind, and lets others work after a while."""
        ledger, deferred = self._reading.ledger, self._reading.decider.deferred
        if not self._reading.is_full(shard):
            if not ledger.has_room_of(shard):
                await ledger.room()
            if not deferred.has_room:
                await deferred.room()
        if self._slice.is_over(self._reading.tunables.yield_seconds):
            await self._slice.pause()


def _most_of(page: Sequence[StoredEvent]) -> list[int]:
    """The shards that have much of a page."""
    counts = Counter(event.shard for event in page)
    return [shard for shard, count in counts.items() if count > len(page) * BEHIND_PART]
