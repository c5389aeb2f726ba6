"""A delivery in memory, and the ledger that knows when each tick is accounted for.

A delivery is *accounted* once a row in PostgreSQL stands for it: an outcome, a retry, a parked entry. The checkpoint of
a shard is the last tick of which every delivery is; it never waits for a receiver, because whatever takes long is
written down as waiting (`pipeline.backlog.parking`). The ledger also bounds what is held in memory: when it is full the
tailer stops reading, and lag grows in the log alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from eventstore.domain_events.events import StoredEvent
from eventstore.progress.backlog import Packed, Waiting
from eventstore.progress.recording import ParkedKey

# What may be unaccounted at once. A second of work: enough to keep every connection busy between two flushes, and not
# so much that the last one waits long enough to be parked.
MAX_PAIRS = 2000
MAX_BYTES = 64 * 1024 * 1024
# Full, it has room again only below this part of either: the tailer wakes up for many deliveries, not for each.
ROOM_PART = 0.75

Pair = tuple[UUID, int]
# Where a delivery stands in the order of events: tick and seq.
Place = tuple[int, int]


class PackedRow:
    """A packed row of parked deliveries that is being drained; `remaining` are those without an outcome yet."""

    __slots__ = ("key", "remaining")

    def __init__(self, packed: Packed) -> None:
        self.key: ParkedKey = packed.key
        self.remaining = len(packed.deliveries)


class Delivery:
    """One pair of event and route on its way. Identity is equality.

    `read_at` and `started_at` are monotonic times. `succeeded` says what the receiver made of the last request, and is
    None while there was none, or none that says anything about the receiver. `sent_at` is 0 unless a request is under
    way; one that is when its shard is handed over is `is_parting`, and ends with a farewell.
    """

    __slots__ = (
        "event",
        "event_time",
        "failures",
        "has_retry_row",
        "is_accounted",
        "is_parting",
        "is_slow",
        "is_started",
        "is_withdrawn",
        "packed",
        "read_at",
        "replay",
        "route_id",
        "sent_at",
        "shard",
        "started_at",
        "succeeded",
        "tick",
    )

    def __init__(self, *, route_id: UUID, event: StoredEvent, event_time: datetime, tick: int, read_at: float) -> None:
        self.route_id = route_id
        self.event = event
        self.event_time = event_time
        self.tick = tick
        self.read_at = read_at
        self.shard = event.shard
        self.failures = 0
        self.succeeded: bool | None = None
        self.started_at = 0.0
        self.sent_at = 0.0
        self.is_accounted = False
        self.is_parting = False
        self.is_slow = False
        self.is_started = False
        self.is_withdrawn = False
        self.has_retry_row = False
        self.packed: PackedRow | None = None
        self.replay: UUID | None = None

    @classmethod
    def waiting(cls, row: Waiting, event: StoredEvent, *, read_at: float, packed: PackedRow | None) -> Delivery:
        """A delivery that was written down and is taken up again."""
        delivery = cls(route_id=row.route_id, event=event, event_time=row.event_time, tick=row.tick, read_at=read_at)
        delivery.failures = row.failures
        delivery.is_accounted = True
        delivery.has_retry_row = packed is None
        delivery.packed = packed
        delivery.replay = row.replay
        return delivery

    @property
    def pair(self) -> Pair:
        return self.route_id, self.event.seq

    @property
    def is_test(self) -> bool:
        """True if somebody tries a route out. It goes the way of all deliveries, and is counted by no metric."""
        return self.event.test_route is not None

    @property
    def place(self) -> Place:
        return self.tick, self.event.seq


class Ledger:
    """Counts what is unaccounted, by shard and tick, and bounds it."""

    def __init__(self) -> None:
        self._open: dict[int, dict[int, int]] = {}
        self._read_upto: dict[int, int] = {}
        self._pairs = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._unaccounted: dict[Delivery, None] = {}

    def adopt(self, shard: int, checkpoint: int) -> None:
        """Begins to count for a shard whose ticks up to `checkpoint` are done."""
        self._open[shard] = {}
        self._read_upto[shard] = checkpoint

    def drop(self, shard: int) -> None:
        """Forgets a shard that is no longer ours; its deliveries are withdrawn."""
        for delivery in [d for d in self._unaccounted if d.shard == shard]:
            delivery.is_withdrawn = True
            self.account(delivery)
        self._open.pop(shard, None)
        self._read_upto.pop(shard, None)

    def add(self, delivery: Delivery) -> None:
        """Takes in a delivery that was just decided."""
        ticks = self._open[delivery.shard]
        ticks[delivery.tick] = ticks.get(delivery.tick, 0) + 1
        self._unaccounted[delivery] = None
        self._pairs += 1
        self._bytes += delivery.event.size_bytes
        if self._pairs >= MAX_PAIRS or self._bytes >= MAX_BYTES:
            self._room.clear()

    def account(self, delivery: Delivery) -> None:
        """Notes that the next flush writes a row for it. Once only; a delivery that was written down before is."""
        if delivery.is_accounted:
            return
        delivery.is_accounted = True
        del self._unaccounted[delivery]
        ticks = self._open[delivery.shard]
        ticks[delivery.tick] -= 1
        if ticks[delivery.tick] == 0:
            del ticks[delivery.tick]
        self._pairs -= 1
        self._bytes -= delivery.event.size_bytes
        if self._pairs < MAX_PAIRS * ROOM_PART and self._bytes < MAX_BYTES * ROOM_PART:
            self._room.set()

    def read(self, shard: int, tick: int) -> None:
        """Notes that all of a tick was decided."""
        if shard in self._read_upto:
            self._read_upto[shard] = tick

    def read_upto(self, shard: int) -> int:
        """The last tick of which all was decided; 0 for a shard that is not ours."""
        return self._read_upto.get(shard, 0)

    def checkpoint(self, shard: int) -> int:
        """The last tick of which everything is accounted for, if the next flush succeeds."""
        ticks = self._open[shard]
        return min(ticks) - 1 if ticks else self._read_upto[shard]

    def shards(self) -> list[int]:
        return list(self._read_upto)

    @property
    def has_room(self) -> bool:
        """True if memory takes more deliveries."""
        return self._room.is_set()

    async def room(self) -> None:
        """Waits until there is room in memory for more."""
        await self._room.wait()

    def older_than(self, read_at: float) -> Iterator[Delivery]:
        """Unaccounted deliveries read before that moment, oldest first. They may be accounted while iterating."""
        for delivery in list(self._unaccounted):
            if delivery.read_at >= read_at:
                return
            yield delivery

    @property
    def pairs(self) -> int:
        return self._pairs
