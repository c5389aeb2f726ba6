"""Reads the shards that were left behind, each by a loop of its own, and the tenants that are set aside of them.

A shard that is behind waits for room for each of its events, until it is where the others are. So order holds within a
shard, and none waits for another one.

Nor does a tenant wait for long for the burst of another one in its shard. If one tenant keeps a shard that is behind
full, it is set aside: the shard is read without its events, and they by a loop of its own, in their order. The
checkpoint of the shard stays behind both. At a tick up to which both are read they are read together again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial

import structlog

from daemon.pipeline.intake.cursors import Place, ShardCursor, TenantCursor
from daemon.pipeline.intake.tail.tick_reading import TickReading, TimeSlice, passed
from daemon.pipeline.loops import Loops
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import ticks
from eventstore.domain_events.events import SHARDS
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

log = structlog.get_logger()

# Smaller than those of the shards that keep up, since many shards may be behind at once.
PAGE_BYTES = 1024 * 1024


class ShardsApart:
    """`leave_behind` has a shard read here; `on_caught_up` is called when it is where the others are."""

    def __init__(self, database: Database, reading: TickReading, *, on_caught_up: Callable[[], None]) -> None:
        self._database = database
        self._reading = reading
        self._on_caught_up = on_caught_up
        self._left_behind = {shard: Wakeup() for shard in range(SHARDS)}
        self._aside: asyncio.Queue[TenantCursor] = asyncio.Queue()

    def loops(self) -> Loops:
        """One for each shard, and as many as tenants may be set aside."""
        behind: Loops = {f"tailer of shard {shard}": partial(self.catch_up, shard) for shard in range(SHARDS)}
        count = self._reading.tunables.aside_tenants
        return {**behind, **{f"tailer of a tenant {n}": self.read_aside for n in range(count)}}

    def leave_behind(self, shard: int, cursor: ShardCursor) -> None:
        """Has a shard read by its own loop from now on."""
        cursor.behind_since = time.monotonic()
        cursor.is_reading = False
        self._left_behind[shard].set()

    async def catch_up(self, shard: int) -> None:
        """Reads a shard that was left behind until it is where the others are, at most a page of ticks at a time. Waits
        while it keeps up.
        """
        bell = self._left_behind[shard]
        bell.clear()
        cursor = self._reading.cursors.get(shard)
        if cursor is None or not cursor.is_behind:
            await bell.wait_set()
            return
        cuts = await ticks.after(self._database, cursor.tick)
        for cut in cuts:
            await self._read_shard(cut, shard, cursor)
            if cursor.is_dropped:
                return
            if cursor.tick >= self._reading.read_together >= 0:
                break
        else:
            if len(cuts) == ticks.PAGE_TICKS:
                return
        cursor.behind_since = None
        self._on_caught_up()

    async def read_aside(self) -> None:
        """Reads for a tenant that was set aside, at most a page of ticks at a time. Waits while there is none.

        It may get one tick ahead of its shard, of which that one is just reading; then they meet at its end.
        """
        cursor = await self._aside.get()
        try:
            for cut in await ticks.after(self._database, cursor.tick):
                if not cursor.is_aside or cursor.is_level or cursor.is_ahead:
                    break
                await self._read_tenant(cut, cursor)
        finally:
            if cursor.is_aside:
                if cursor.is_level:
                    self._reading.rejoin(cursor)
                elif not cursor.is_ahead:
                    self._aside.put_nowait(cursor)

    async def _read_shard(self, cut: Tick, shard: int, cursor: ShardCursor) -> None:
        """Reads one tick for a shard that is behind. Waits for room for each event, or sets aside who takes it."""
        await self._reading.projection.reach(cut.route_pos)
        cursor.is_reading = True
        try:
            while not await self._read_pages(cut, shard, cursor, cursor):
                pass
            self._reading.advance(cut, {shard: cursor})
        finally:
            cursor.is_reading = False

    async def _read_tenant(self, cut: Tick, cursor: TenantCursor) -> None:
        """Reads one tick for a tenant that was set aside. Waits for room for each event."""
        await self._reading.projection.reach(cut.route_pos)
        await self._read_pages(cut, cursor.shard, cursor.of, cursor, cursor.tenant)
        self._reading.advance_tenant(cut, cursor)

    async def _read_pages(
        self, cut: Tick, shard: int, cursor: ShardCursor, place: Place, tenant: str | None = None
    ) -> bool:
        """Decides the events of a tick in a shard, or of one tenant in it, from a place on. False if another tenant was
        set aside meanwhile, so that the rest of the tick is to be read without it.
        """
        if not cut.may_touch(1 << shard):
            return True
        reading = self._reading
        slice_seconds = reading.tunables.yield_seconds / max(1, len(reading.behind) + len(reading.aside))
        time_slice, places = TimeSlice(), {shard: place}
        without = list(cursor.aside) if tenant is None else []
        async with aclosing(reading.stored(cut, places, without=without, page_bytes=PAGE_BYTES)) as pages:
            async for page in pages:
                for event in page:
                    if tenant not in (None, event.tenant):
                        continue
                    while not cursor.is_dropped and not reading.has_room_of(shard, tenant):
                        if tenant is None and self._sets_aside(shard, cursor):
                            return False
                        await self._wait_for_room(shard, cursor, tenant)
                    if time_slice.is_over(slice_seconds):
                        await time_slice.pause()
                    if cursor.is_dropped:
                        return True
                    if event.seq >= place.next_seq:
                        reading.decider.decide(event, cut, cursor)
                        place.next_seq = event.seq + 1
                passed(page, places)
        return True

    async def _wait_for_room(self, shard: int, cursor: ShardCursor, tenant: str | None) -> None:
        """Waits until there may be room, or until somebody may be set aside."""
        until = (cursor.behind_since or 0.0) + self._reading.tunables.aside_seconds
        seconds = until - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if tenant is None and seconds > 0 else None):
                await self._reading.ledger.room_of(shard, tenant)
                await self._reading.decider.deferred.room_of(shard, tenant)

    def _sets_aside(self, shard: int, cursor: ShardCursor) -> bool:
        """Sets aside the tenant that keeps a shard full, if there is one."""
        reading, now = self._reading, time.monotonic()
        if cursor.behind_since is None or now < cursor.behind_since + reading.tunables.aside_seconds:
            return False
        if len(reading.aside) >= reading.tunables.aside_tenants:
            return False
        tenant = reading.ledger.largest_tenant(shard) or reading.decider.deferred.largest_tenant(shard)
        if tenant is None:
            return False
        cursor.behind_since = now  # the next one is set aside no sooner
        self._aside.put_nowait(reading.set_aside(tenant, shard))
        log.info("tenant.set_aside", tenant=tenant, shard=shard)
        return True
