"""Reads the events tick by tick, decides each, and offers the deliveries to their lanes.

A tick names a position of the route log, and it is read only after the projection has applied that position. So a live
decision equals every later recomputation of it. A tick that has no event of the shards held here is passed over, and
the few events of the newest tick have often come with the news of it. Shards that were adopted at different checkpoints
advance separately until they are at the same tick.

All shards that keep up are read together: one question for each tick. A shard is left behind if it has its share of the
ledger, if too many of its events are deferred, if most of a tick of several pages is its own, or if it was adopted many
ticks behind the others. It is then read by a loop of its own, which waits for room, until it is where the others are.
So order holds within a shard, and none waits for another one.

Nor does a tenant wait for long for the burst of another one in its shard. If one tenant keeps a shard that was left
behind full, it is set aside: the shard is read without its events, and they by a loop of its own, in their order. The
checkpoint of the shard stays behind both. At a tick up to which both are read they are read together again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import structlog

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.cursors import Place, ShardCursor, TenantCursor
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.loops import Loops
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import SHARDS, StoredEvent
from eventstore.domain_events.polls import NOTHING_READ, ReadUpto
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

log = structlog.get_logger()

# The ticker tells each new tick; a notification tells earlier of those of other processes.
POLL_SECONDS = 15.0
# So many ticks that were told of are kept for a tailer that waits for room; it asks for the others.
TOLD_TICKS = 16
# A shard that is further behind the others than this is not read with them; it would hold them up.
BEHIND_TICKS = 16
# Whose events are more than this part of a page is left behind if the tick has another one.
BEHIND_PART = 0.25
# The pages of a shard that is left behind are smaller, since many may be at once.
BEHIND_PAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _ToldTick:
    """A tick, and its events in the shards whose bits are in `shards`, if they came with it."""

    tick: Tick
    events: Sequence[StoredEvent] | None
    shards: int

    def has_events_of(self, shards: int) -> bool:
        return self.events is not None and shards & ~self.shards == 0


class _TimeSlice:
    """How long somebody has worked without a pause: events of one tick may take seconds."""

    __slots__ = ("_began_at",)

    def __init__(self) -> None:
        self._began_at = time.monotonic()

    def is_over(self, seconds: float) -> bool:
        """True after so many seconds. On the hot path."""
        return time.monotonic() - self._began_at > seconds

    async def pause(self) -> None:
        """Lets others work."""
        await asyncio.sleep(0)
        self._began_at = time.monotonic()


class Tailer:
    """`adopt` and `drop` add and remove shards. `run_once` reads all ticks there are for the shards that keep up, then
    waits for the wakeup; `catch_up` reads for one that was left behind.
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
        self._projection = projection
        self._ledger = ledger
        self._decider = decider
        self._tunables = tunables
        self._cursors: dict[int, ShardCursor] = {}
        self._accounted_upto: dict[int, int] = {}  # by shard: the last tick with pairs that are accounted for
        self._left_behind = {shard: Wakeup() for shard in range(SHARDS)}
        self._aside: asyncio.Queue[TenantCursor] = asyncio.Queue()
        # What was told: ticks, and the events of some of them.
        self._told: dict[int, _ToldTick] = {}
        self._newest: int | None = None
        self._slice = _TimeSlice()
        decider.on_decided = self._decided

    def loops(self) -> Loops:
        """What reads the shards that keep up, each one that is left behind, and the tenants that are set aside."""
        behind: Loops = {f"tailer of shard {shard}": partial(self.catch_up, shard) for shard in range(SHARDS)}
        aside: Loops = {f"tailer of a tenant {n}": self.read_aside for n in range(self._tunables.aside_tenants)}
        return {"tailer": self.run_once, **behind, **aside}

    def adopt(self, takeover: Takeover) -> None:
        """Starts to read shards after their checkpoints. The accounted pairs of `takeover` are skipped."""
        for shard, tick in takeover.checkpoints.items():
            self.drop(shard)
            self._cursors[shard] = ShardCursor(tick)
        self._decider.accounted |= takeover.accounted
        self._accounted_upto |= dict.fromkeys(takeover.accounted, takeover.newest_tick)
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Stops reading these shards."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Stops reading a shard; what was deferred of it is forgotten."""
        cursor = self._cursors.pop(shard, None)
        self._forget_accounted(shard)
        if cursor is not None:
            cursor.is_dropped = True
            for aside in list(cursor.aside.values()):
                self._rejoin(aside)

    def told(self, newest: Tick, events: Sequence[StoredEvent] | None = None, *, shards: int = 0) -> None:
        """This is the newest tick that there is; `events` are those of the shards in the bits of `shards`, if they came
        with it. What was told of need not be asked for. A tick that was read is nothing new.
        """
        if newest.tick <= self._read_together:
            return
        self._told[newest.tick] = _ToldTick(newest, events, shards)
        if len(self._told) > TOLD_TICKS:
            del self._told[min(self._told)]
        self._newest = newest.tick if self._newest is None else max(self._newest, newest.tick)
        self.wakeup.set()

    def must_ask(self) -> None:
        """There may be ticks that nobody told of."""
        self._newest = None
        self.wakeup.set()

    def forget(self) -> None:
        """Forgets what was read of ticks, since they may be gone. No shard is held at that moment."""
        self._told.clear()
        self._newest = None
        for shard in list(self._accounted_upto):
            self._forget_accounted(shard)

    @property
    def read_upto(self) -> ReadUpto:
        """What is read of all shards that keep up, or will be without a question. The events of the next tick may come
        with its news, unless there is no room for them.
        """
        together, upto = self._together, self._read_together
        if upto < 0 or not self._ledger.has_room or any(tick != upto for tick in together.values()):
            return NOTHING_READ
        while upto + 1 in self._told:
            upto += 1
        return ReadUpto(upto, ticks.bits_of(together))

    @property
    def position(self) -> int:
        """The oldest tick among the cursors; 0 without shards."""
        aside = (each.tick for cursor in self._cursors.values() for each in cursor.aside.values())
        return min((*(cursor.tick for cursor in self._cursors.values()), *aside), default=0)

    @property
    def behind(self) -> list[int]:
        """The shards that were left behind."""
        return [shard for shard, cursor in self._cursors.items() if cursor.is_behind]

    async def run_once(self) -> None:
        """Reads what there is. Whatever comes after the last question sets the wakeup."""
        self.wakeup.clear()
        is_more = True
        while is_more and (begin := self._read_together) >= 0:
            cuts = await self._after(begin)
            for cut in cuts:
                await self._read(cut)
                self._forget_read()
            is_more = len(cuts) == ticks.PAGE_TICKS
        await self.wakeup.wait(POLL_SECONDS)

    async def catch_up(self, shard: int) -> None:
        """Reads a shard that was left behind until it is where the others are, at most a page of ticks at a time. Waits
        while it keeps up.
        """
        bell = self._left_behind[shard]
        bell.clear()
        cursor = self._cursors.get(shard)
        if cursor is None or not cursor.is_behind:
            await bell.wait_set()
            return
        cuts = await ticks.after(self._database, cursor.tick)
        for cut in cuts:
            await self._read_alone(cut, shard, cursor)
            if cursor.is_dropped:
                return
            if cursor.tick >= self._read_together >= 0:
                break
        else:
            if len(cuts) == ticks.PAGE_TICKS:
                return
        cursor.behind_since = None
        self.wakeup.set()

    async def read_aside(self) -> None:
        """Reads for a tenant that was set aside, at most a page of ticks at a time. Waits while there is none.

        It may get one tick ahead of its shard, of which that one is just reading; then they meet at its end.
        """
        cursor = await self._aside.get()
        try:
            for cut in await ticks.after(self._database, cursor.tick):
                if not self._is_aside(cursor) or cursor.is_level or cursor.is_ahead:
                    break
                await self._read_tenant(cut, cursor)
        finally:
            if self._is_aside(cursor):
                if cursor.is_level:
                    self._rejoin(cursor)
                elif not cursor.is_ahead:
                    self._aside.put_nowait(cursor)

    @property
    def _together(self) -> dict[int, int]:
        """The last tick that was read of each shard that keeps up."""
        return {shard: cursor.tick for shard, cursor in self._cursors.items() if not cursor.is_behind}

    @property
    def _read_together(self) -> int:
        """The last tick that was read of all shards that keep up; -1 if there are none."""
        return min((cursor.tick for cursor in self._cursors.values() if not cursor.is_behind), default=-1)

    def _forget_read(self) -> None:
        """Forgets what was told of ticks that are read: their events take memory that the ledger does not count."""
        upto = self._read_together
        for number in [number for number in self._told if number <= upto]:
            del self._told[number]

    async def _after(self, begin: int) -> list[Tick]:
        """The ticks after number `begin`, as was told or as the database has them."""
        newest, self._newest = self._newest, None
        if newest is None or not all(number in self._told for number in range(begin + 1, newest + 1)):
            return await ticks.after(self._database, begin)
        return [self._told[number].tick for number in range(begin + 1, newest + 1)]

    async def _read(self, cut: Tick) -> None:
        """Reads one tick for the shards that keep up and whose cursor is right before it."""
        together, before = self._together, cut.tick - 1
        cursors = {shard: self._cursors[shard] for shard, tick in together.items() if tick == before}
        if not cursors:
            return
        newest = max(together.values())
        if newest - before > BEHIND_TICKS:
            self._leave_behind(cursors, list(cursors))
            return
        await self._projection.reach(cut.route_pos)
        try:
            for cursor in cursors.values():
                cursor.is_reading = True
            while not await self._read_pages(cut, cursors, are_others_ahead=newest > before):
                pass
            self._advance(cut, cursors)
        finally:
            for cursor in cursors.values():
                cursor.is_reading = False

    async def _read_pages(self, cut: Tick, cursors: dict[int, ShardCursor], *, are_others_ahead: bool) -> bool:
        """Decides the events of a tick, page by page. False if shards were left behind, so that the rest of the tick is
        to be read without them; they are taken out of `cursors`.
        """
        is_behind: Collection[int] = ()
        count = len(cursors)
        async with aclosing(self._events(cut, cursors)) as pages:
            async for page in pages:
                self._leave_behind(cursors, is_behind)
                if len(cursors) < count:
                    return not cursors
                for event in page:
                    if (shard := event.shard) not in cursors:
                        continue
                    if not self._may_go_on():
                        await self._turn()
                    if self._is_full(shard):
                        self._leave_behind(cursors, (shard,))
                    else:
                        self._decide(event, cut, cursors[shard])
                if not cursors:
                    return True
                _passed(page, cursors)
                is_behind = list(cursors) if are_others_ahead else _most_of(page)
        return True

    async def _read_alone(self, cut: Tick, shard: int, cursor: ShardCursor) -> None:
        """Reads one tick for a shard that is behind. Waits for room for each event, or sets aside who takes it."""
        await self._projection.reach(cut.route_pos)
        cursor.is_reading = True
        try:
            while not await self._read_pages_alone(cut, shard, cursor, cursor):
                pass
            self._advance(cut, {shard: cursor})
        finally:
            cursor.is_reading = False

    async def _read_tenant(self, cut: Tick, cursor: TenantCursor) -> None:
        """Reads one tick for a tenant that was set aside. Waits for room for each event."""
        await self._projection.reach(cut.route_pos)
        await self._read_pages_alone(cut, cursor.shard, cursor.of, cursor, cursor.tenant)
        if not cursor.of.is_dropped:
            cursor.advance(cut)
            self._ledger.read(cursor.shard, cut.tick, cursor.tenant)
            self._decided()

    async def _read_pages_alone(
        self, cut: Tick, shard: int, cursor: ShardCursor, place: Place, tenant: str | None = None
    ) -> bool:
        """Decides the events of a tick in a shard, or of one tenant in it, from a place on. False if another tenant was
        set aside meanwhile, so that the rest of the tick is to be read without it.
        """
        if not cut.may_touch(1 << shard):
            return True
        slice_seconds = self._tunables.yield_seconds / max(1, len(self.behind) + self._count_aside)
        time_slice, places = _TimeSlice(), {shard: place}
        without = list(cursor.aside) if tenant is None else []
        async with aclosing(self._stored(cut, places, without=without, page_bytes=BEHIND_PAGE_BYTES)) as pages:
            async for page in pages:
                for event in page:
                    if tenant not in (None, event.tenant):
                        continue
                    while not cursor.is_dropped and (self._is_full(shard, tenant) or not self._has_room):
                        if tenant is None and self._sets_aside(shard, cursor):
                            return False
                        await self._wait_for_room(shard, cursor, tenant)
                    if time_slice.is_over(slice_seconds):
                        await time_slice.pause()
                    if cursor.is_dropped:
                        return True
                    if event.seq >= place.next_seq:
                        self._decider.decide(event, cut, cursor)
                        place.next_seq = event.seq + 1
                _passed(page, places)
        return True

    async def _wait_for_room(self, shard: int, cursor: ShardCursor, tenant: str | None) -> None:
        """Waits until there may be room, or until somebody may be set aside."""
        until = (cursor.behind_since or 0.0) + self._tunables.aside_seconds
        seconds = until - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if tenant is None and seconds > 0 else None):
                await self._ledger.room_of(shard, tenant)
                await self._decider.deferred.room_of(shard, tenant)

    def _sets_aside(self, shard: int, cursor: ShardCursor) -> bool:
        """Sets aside the tenant that keeps a shard full, if there is one."""
        now = time.monotonic()
        if cursor.behind_since is None or now < cursor.behind_since + self._tunables.aside_seconds:
            return False
        if self._count_aside >= self._tunables.aside_tenants:
            return False
        tenant = self._ledger.largest_tenant(shard) or self._decider.deferred.largest_tenant(shard)
        if tenant is None:
            return False
        cursor.behind_since = now  # the next one is set aside no sooner
        aside = cursor.aside[tenant] = TenantCursor(tenant, shard, cursor)
        self._ledger.set_aside(shard, tenant)
        self._decider.deferred.set_aside(shard, tenant)
        self._aside.put_nowait(aside)
        log.info("tenant.set_aside", tenant=tenant, shard=shard)
        return True

    def _rejoin(self, cursor: TenantCursor) -> None:
        """Has a tenant read together with its shard again."""
        del cursor.of.aside[cursor.tenant]
        self._ledger.rejoin(cursor.shard, cursor.tenant)
        self._decider.deferred.rejoin(cursor.shard, cursor.tenant)

    def _is_aside(self, cursor: TenantCursor) -> bool:
        return not cursor.of.is_dropped and cursor.of.aside.get(cursor.tenant) is cursor

    @property
    def _count_aside(self) -> int:
        return sum(len(cursor.aside) for cursor in self._cursors.values())

    def _decide(self, event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
        if event.seq >= cursor.next_seq and not cursor.is_dropped:
            if not cursor.aside or event.tenant not in cursor.aside:
                self._decider.decide(event, cut, cursor)
            cursor.next_seq = event.seq + 1

    def _advance(self, cut: Tick, cursors: Mapping[int, ShardCursor]) -> None:
        """Notes that a tick was read for these shards."""
        for shard, cursor in cursors.items():
            if not cursor.is_dropped:
                cursor.advance(cut)
                self._ledger.read(shard, cut.tick)
                for aside in [each for each in cursor.aside.values() if each.tick == cut.tick]:
                    self._rejoin(aside)
        self._decided()

    def _leave_behind(self, cursors: dict[int, ShardCursor], shards: Collection[int]) -> None:
        """Has shards read by their own loops from now on, and takes them out of `cursors`."""
        for shard in shards:
            cursor = cursors.pop(shard, None)
            if cursor is not None:
                cursor.behind_since = time.monotonic()
                cursor.is_reading = False
                self._left_behind[shard].set()

    async def _events(
        self, cut: Tick, cursors: Mapping[int, ShardCursor]
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """The events of a tick in these shards, page by page: none, as they were told, or as the database has them."""
        bits = ticks.bits_of(cursors)
        told = self._told.pop(cut.tick, None)
        if not cut.may_touch(bits):
            return
        if told is not None and told.tick == cut and told.has_events_of(bits):
            yield told.events or ()
            return
        without = [tenant for cursor in cursors.values() for tenant in cursor.aside]
        async with aclosing(self._stored(cut, cursors, without=without)) as pages:
            async for page in pages:
                yield page

    async def _stored(
        self, cut: Tick, places: Mapping[int, Place], *, without: Sequence[str], page_bytes: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """The events of a tick as the database has them, from the first one that is not decided; `without` tenants."""
        before = next((place.snap for place in places.values() if place.snap is not None), None)
        if before is None:
            before = await ticks.snap_of(self._database, cut.tick - 1)
        found = tail.read_cut(
            self._database,
            before=before,
            tick=cut,
            shards=list(places),
            from_seq=min(place.next_seq for place in places.values()),
            without=without,
            page_bytes=page_bytes,
        )
        async with aclosing(found) as pages:
            async for page in pages:
                yield page

    def _is_full(self, shard: int, tenant: str | None = None) -> bool:
        """True if a shard, or a tenant that was set aside of it, is not to be read further for now. On the hot path."""
        return self._ledger.has_share(shard, tenant) or self._decider.deferred.is_full(shard, tenant)

    @property
    def _has_room(self) -> bool:
        return self._ledger.has_room and self._decider.deferred.has_room

    def _may_go_on(self) -> bool:
        return self._has_room and not self._slice.is_over(self._tunables.yield_seconds)

    async def _turn(self) -> None:
        """Waits for room in memory, and lets others work after a while."""
        if not self._ledger.has_room:
            await self._ledger.room()
        if not self._decider.deferred.has_room:
            await self._decider.deferred.room()
        if self._slice.is_over(self._tunables.yield_seconds):
            await self._slice.pause()

    def _decided(self) -> None:
        for shard, upto in list(self._accounted_upto.items()):
            if self._ledger.read_upto(shard) >= upto:
                self._forget_accounted(shard)

    def _forget_accounted(self, shard: int) -> None:
        self._decider.accounted.pop(shard, None)
        self._accounted_upto.pop(shard, None)


def _passed(page: Sequence[StoredEvent], places: Mapping[int, Place]) -> None:
    """Notes that a page was decided."""
    if page:
        for place in places.values():
            place.next_seq = max(place.next_seq, page[-1].seq + 1)


def _most_of(page: Sequence[StoredEvent]) -> list[int]:
    """The shards that have much of a page."""
    counts = Counter(event.shard for event in page)
    return [shard for shard, count in counts.items() if count > len(page) * BEHIND_PART]
