"""Events whose filters are too heavy for the event loop: they wait here, tenant by tenant, and are decided later.

A tenant's events are decided in the order of the log, since each of its routes gets them in that order: while one
waits, those after it wait too. Other tenants go on meanwhile. The ledger counts a deferred event like a part of its
tick that was not read yet, so no checkpoint passes it, and a crash or a handover loses nothing: the next owner reads it
again.

Only places in the log are kept here, not payloads. A tenant that publishes faster than its filters can be evaluated
costs memory for numbers, and beyond a limit its shard is left behind, until the tenant is set aside of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from daemon.pipeline.intake.cursors import ShardCursor
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database


@dataclass(frozen=True, slots=True)
class DeferredEvent:
    """Where an event is in the log. It is forgotten if its cursor was dropped meanwhile."""

    seq: int
    recorded_at: datetime
    tenant: str
    shard: int
    cut: Tick
    cursor: ShardCursor

    def is_forgotten(self) -> bool:
        """True if its shard is no longer ours, or is read anew."""
        return self.cursor.is_dropped


class NoRoom(Exception):
    """Ends a turn without its event, which stays deferred: the others have theirs before it is tried again."""


class DeferredEvents:
    """`add` defers an event, `turn` hands out the oldest one of a tenant in turn. `has_room` while there is memory for
    more.
    """

    def __init__(self, database: Database, tunables: Tunables = DEFAULTS) -> None:
        self._database = database
        self._tunables = tunables
        self._queues: dict[str, deque[DeferredEvent]] = {}
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._aside: set[str] = set()
        # By shard, and by tenant that is set aside of its own: how many there are, and which have so many that they
        # are not to be read further for now.
        self._counts: Counter[int | str] = Counter()
        self._full: dict[int | str, asyncio.Event] = {}
        self.has_room = True
        self._room = asyncio.Event()
        self._room.set()

    def holds_up(self, tenant: str) -> bool:
        """True if the tenant's next event has to wait for earlier ones. On the hot path."""
        return tenant in self._queues

    async def room(self) -> None:
        """Waits until there is memory for more."""
        await self._room.wait()

    def is_full(self, shard: int, tenant: str | None = None) -> bool:
        """True if a shard, or a tenant that is set aside of it, is not to be read further for now. On the hot path."""
        return bool(self._full) and self._whose(shard, tenant) in self._full

    async def room_of(self, shard: int, tenant: str | None = None) -> None:
        """Waits until there is memory for more, and few enough are of this shard, or of this tenant set aside of it."""
        await self._room.wait()
        full = self._full.get(self._whose(shard, tenant))
        if full is not None:
            await full.wait()

    def largest_tenant(self, shard: int) -> str | None:
        """The tenant that most events are of by which a shard is full; None if it is not, or none has most of them."""
        if shard not in self._full:
            return None
        found = ((len(queue), tenant) for tenant, queue in self._queues.items() if queue and queue[-1].shard == shard)
        count, tenant = max((each for each in found if each[1] not in self._aside), default=(0, ""))
        return tenant if count > self._counts[shard] / 2 else None

    def set_aside(self, shard: int, tenant: str) -> None:
        """Counts the events of a tenant apart from those of its shard."""
        count = len(self._queues.get(tenant, ()))
        self._count(shard, -count)
        self._aside.add(tenant)
        self._count(tenant, count)

    def rejoin(self, shard: int, tenant: str) -> None:
        """Counts them with those of its shard again."""
        self._aside.discard(tenant)
        count = self._counts[tenant]
        self._count(tenant, -count)
        self._count(shard, count)

    def add(self, event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
        """Defers an event, behind those of its tenant."""
        queue = self._queues.get(event.tenant)
        if queue is None:
            queue = self._queues[event.tenant] = deque()
            self._turns.put_nowait(event.tenant)
        queue.append(DeferredEvent(event.seq, event.recorded_at, event.tenant, event.shard, cut, cursor))
        self._count(self._whose(event.shard, event.tenant), 1)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[DeferredEvent]:
        """The oldest event of the tenant whose turn it is. It is done with if the block ends without an error. If that
        is NoRoom, it ends here.
        """
        tenant = await self._turns.get()
        queue = self._queues[tenant]
        try:
            deferred = queue[0]
            yield deferred
            queue.popleft()
            self._count(self._whose(deferred.shard, tenant), -1)
        except NoRoom:
            pass
        finally:
            if queue:
                self._turns.put_nowait(tenant)
            else:
                del self._queues[tenant]

    async def load(self, deferred: DeferredEvent) -> StoredEvent | None:
        """The event itself, None if it is no longer kept. Raises StoreUnavailable."""
        found = await domain_events.by_seq(self._database, {deferred.seq: deferred.recorded_at})
        event = found.get(deferred.seq)
        if event is not None:
            event.tick, event.closed_upto = deferred.cut.tick, deferred.cut.closed_upto
        return event

    def _whose(self, shard: int, tenant: str | None) -> int | str:
        return tenant if tenant is not None and tenant in self._aside else shard

    def _count(self, whose: int | str, more: int) -> None:
        self._counts[whose] += more
        if self._counts[whose] >= self._tunables.deferred_of_shard:
            self._full.setdefault(whose, asyncio.Event())
        elif whose in self._full:
            self._full.pop(whose).set()
        if not self._counts[whose]:
            del self._counts[whose]
        if self._counts.total() >= self._tunables.deferred_events:
            self.has_room = False
            self._room.clear()
        else:
            self.has_room = True
            self._room.set()
