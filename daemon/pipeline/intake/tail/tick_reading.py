"""What the two ways to read ticks have in common: how far each shard is read, the events of a tick as the database has
them, whether there is room for more, and what follows when a tick was read.

`tailer` reads the shards that keep up together, `shards_apart` one by one those that do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.cursors import Place, ShardCursor, TenantCursor
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database


class TimeSlice:
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


class TickReading:
    """The cursors of the shards held here, by shard, and what is done with each event and each tick."""

    def __init__(
        self, database: Database, projection: Projection, ledger: Ledger, decider: Decider, tunables: Tunables
    ) -> None:
        self.cursors: dict[int, ShardCursor] = {}
        self.projection = projection
        self.ledger = ledger
        self.decider = decider
        self.tunables = tunables
        self._database = database
        self._accounted_upto: dict[int, int] = {}  # by shard: the last tick with pairs that are accounted for
        decider.on_decided = self.decided

    @property
    def together(self) -> dict[int, int]:
        """The last tick that was read of each shard that keeps up."""
        return {shard: cursor.tick for shard, cursor in self.cursors.items() if not cursor.is_behind}

    @property
    def read_together(self) -> int:
        """The last tick that was read of all shards that keep up; -1 if there are none."""
        return min((cursor.tick for cursor in self.cursors.values() if not cursor.is_behind), default=-1)

    @property
    def behind(self) -> list[int]:
        """The shards that were left behind."""
        return [shard for shard, cursor in self.cursors.items() if cursor.is_behind]

    @property
    def aside(self) -> list[TenantCursor]:
        """The tenants that are set aside."""
        return [tenant for cursor in self.cursors.values() for tenant in cursor.aside.values()]

    def has_room_of(self, shard: int, tenant: str | None = None) -> bool:
        """True if memory takes more of a shard, or of a tenant that was set aside of it. On the hot path."""
        deferred = self.decider.deferred
        return deferred.has_room and self.ledger.has_room_of(shard, tenant) and not deferred.is_full(shard, tenant)

    def is_full(self, shard: int, tenant: str | None = None) -> bool:
        """True if a shard, or a tenant that was set aside of it, has its share, and the others go on without it. On the
        hot path.
        """
        return self.ledger.has_share(shard, tenant) or self.decider.deferred.is_full(shard, tenant)

    def adopt(self, takeover: Takeover) -> None:
        """Shards are read after their checkpoints from now on. The accounted pairs of `takeover` are skipped."""
        for shard, tick in takeover.checkpoints.items():
            self.drop(shard)
            self.cursors[shard] = ShardCursor(tick)
        self.decider.accounted |= takeover.accounted
        self._accounted_upto |= dict.fromkeys(takeover.accounted, takeover.newest_tick)

    def drop(self, shard: int) -> None:
        """A shard is not read any more; what was deferred of it is forgotten."""
        cursor = self.cursors.pop(shard, None)
        self._forget_accounted(shard)
        if cursor is not None:
            cursor.is_dropped = True
            for tenant in list(cursor.aside.values()):
                self.rejoin(tenant)

    def forget(self) -> None:
        """Forgets the accounted pairs, since their ticks may be gone. No shard is held at that moment."""
        for shard in list(self._accounted_upto):
            self._forget_accounted(shard)

    async def stored(
        self, cut: Tick, places: Mapping[int, Place], *, without: Sequence[str], page_bytes: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """The events of a tick in the shards of these places as the database has them, page by page, from the first one
        that is not decided; `without` tenants.
        """
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

    def decide(self, event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
        """Decides an event of a shard, if that was not done before and its tenant is not read apart."""
        if event.seq >= cursor.next_seq and not cursor.is_dropped:
            if not cursor.aside or event.tenant not in cursor.aside:
                self.decider.decide(event, cut, cursor)
            cursor.next_seq = event.seq + 1

    def advance(self, cut: Tick, cursors: Mapping[int, ShardCursor]) -> None:
        """Notes that a tick was read for these shards."""
        for shard, cursor in cursors.items():
            if not cursor.is_dropped:
                cursor.advance(cut)
                self.ledger.read(shard, cut.tick)
                for tenant in [each for each in cursor.aside.values() if each.tick == cut.tick]:
                    self.rejoin(tenant)
        self.decided()

    def advance_tenant(self, cut: Tick, cursor: TenantCursor) -> None:
        """Notes that a tick was read for a tenant that is set aside."""
        if not cursor.of.is_dropped:
            cursor.advance(cut)
            self.ledger.read(cursor.shard, cut.tick, cursor.tenant)
            self.decided()

    def set_aside(self, tenant: str, shard: int) -> TenantCursor:
        """Has a tenant read apart from its shard."""
        cursor = self.cursors[shard]
        aside = cursor.aside[tenant] = TenantCursor(tenant, shard, cursor)
        self.ledger.set_aside(shard, tenant)
        self.decider.deferred.set_aside(shard, tenant)
        return aside

    def rejoin(self, cursor: TenantCursor) -> None:
        """Has a tenant read together with its shard again."""
        del cursor.of.aside[cursor.tenant]
        self.ledger.rejoin(cursor.shard, cursor.tenant)
        self.decider.deferred.rejoin(cursor.shard, cursor.tenant)

    def decided(self) -> None:
        """More was read or decided: pairs that were accounted for are forgotten once their ticks are read."""
        for shard, upto in list(self._accounted_upto.items()):
            if self.ledger.read_upto(shard) >= upto:
                self._forget_accounted(shard)

    def _forget_accounted(self, shard: int) -> None:
        self.decider.accounted.pop(shard, None)
        self._accounted_upto.pop(shard, None)


def passed(page: Sequence[StoredEvent], places: Mapping[int, Place]) -> None:
    """Notes that a page was decided."""
    if page:
        for place in places.values():
            place.next_seq = max(place.next_seq, page[-1].seq + 1)
