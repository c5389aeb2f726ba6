"""Events whose filters are too heavy for the event loop: they wait here, tenant by tenant, and are decided later.

A tenant's events are decided in the order of the log, since each of its routes gets them in that order: while one
waits, those after it wait too. Other tenants go on meanwhile. The ledger counts a deferred event like a part of its
tick that was not read yet, so no checkpoint passes it, and a crash or a handover loses nothing: the next owner reads it
again.

Only places in the log are kept here, not payloads. A tenant that publishes faster than its filters can be evaluated
costs memory for numbers, and beyond a limit its shard is left behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database


class ShardCursor:
    """The last tick that was read of an adopted shard, and its snapshot if that is known; of the next one the events
    below `next_seq` are decided too. A shard that `is_behind` is read apart from the others.

    So a failure between two pages of a tick repeats none of them. A shard that is dropped and adopted again gets a new
    cursor, though it may be at the same tick. Then a tick that was partly read before is read again as a whole.
    """

    __slots__ = ("is_behind", "is_dropped", "next_seq", "snap", "tick")

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.snap: str | None = None
        self.next_seq = 0
        self.is_behind = False
        self.is_dropped = False

    def advance(self, cut: Tick) -> None:
        """Notes that all of a tick was decided or deferred."""
        self.tick, self.snap, self.next_seq = cut.tick, cut.snap, 0


@dataclass(frozen=True, slots=True)
class DeferredEvent:
    """Where an event is in the log. It is forgotten if its cursor was dropped meanwhile."""

    seq: int
    recorded_at: datetime
    shard: int
    cut: Tick
    cursor: ShardCursor

    def is_forgotten(self) -> bool:
        """True if its shard is no longer ours, or is read anew."""
        return self.cursor.is_dropped


class DeferredEvents:
    """`add` defers an event, `turn` hands out the oldest one of a tenant in turn. `full` are the shards with so many
    that they are not to be read further for now.
    """

    def __init__(self, database: Database, tunables: Tunables = DEFAULTS) -> None:
        self.full: dict[int, asyncio.Event] = {}
        self._database = database
        self._tunables = tunables
        self._queues: dict[str, deque[DeferredEvent]] = {}
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._by_shard: Counter[int] = Counter()
        self._room = asyncio.Event()
        self._room.set()

    def holds_up(self, tenant: str) -> bool:
        """True if the tenant's next event has to wait for earlier ones. On the hot path."""
        return tenant in self._queues

    @property
    def has_room(self) -> bool:
        """True if there is memory for more. On the hot path."""
        return self._room.is_set()

    async def room(self) -> None:
        """Waits until there is memory for more."""
        await self._room.wait()

    async def room_of(self, shard: int) -> None:
        """Waits until there is memory for more, and few enough are of this shard."""
        await self._room.wait()
        if shard in self.full:
            await self.full[shard].wait()

    def add(self, event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
        """Defers an event, behind those of its tenant."""
        queue = self._queues.get(event.tenant)
        if queue is None:
            queue = self._queues[event.tenant] = deque()
            self._turns.put_nowait(event.tenant)
        queue.append(DeferredEvent(event.seq, event.recorded_at, event.shard, cut, cursor))
        self._by_shard[event.shard] += 1
        if self._by_shard[event.shard] >= self._tunables.deferred_of_shard:
            self.full.setdefault(event.shard, asyncio.Event())
        if self._by_shard.total() >= self._tunables.deferred_events:
            self._room.clear()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[DeferredEvent]:
        """The oldest event of the tenant whose turn it is. It is done with if the block ends without an error."""
        tenant = await self._turns.get()
        queue = self._queues[tenant]
        try:
            deferred = queue[0]
            yield deferred
            queue.popleft()
            self._leave(deferred.shard)
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

    def _leave(self, shard: int) -> None:
        self._by_shard[shard] -= 1
        if shard in self.full and self._by_shard[shard] < self._tunables.deferred_of_shard:
            self.full.pop(shard).set()
        if self._by_shard.total() < self._tunables.deferred_events:
            self._room.set()
