"""The ledger: which deliveries of a tick have no row in PostgreSQL yet, and so how far the checkpoint may go.

The checkpoint of a shard is the last tick of which every delivery is accounted. It never waits for a receiver, because
whatever takes long is written down as waiting (`daemon.pipeline.backlog.parking`). The ledger also bounds what is
held in memory: when it is full the tailer stops reading, and lag grows in the log alone.

No shard fills it alone. One that has most of what the others leave is full by itself: the tailer leaves it behind and
reads on for the others, so the deliveries of a tenant do not wait for the burst of another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from daemon.core.delivery.phases import DeliveryStep
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup


class _Shard:
    """What is unaccounted of a shard, by tick and altogether. `room` is clear while it has its share of the ledger."""

    __slots__ = ("bytes", "deferred", "open", "pairs", "read_upto", "room")

    def __init__(self, checkpoint: int) -> None:
        self.open: dict[int, int] = {}
        self.deferred: dict[int, int] = {}
        self.read_upto = checkpoint
        self.pairs = 0
        self.bytes = 0
        self.room = asyncio.Event()
        self.room.set()


class Ledger:
    """Counts what is unaccounted, by shard and tick, and bounds it by `max_pairs` and `max_bytes`. `moved` is set when
    a checkpoint may have moved: the recorder sleeps until then.
    """

    def __init__(self, tunables: Tunables = DEFAULTS) -> None:
        self.moved = Wakeup()
        self._max_pairs = tunables.max_pairs
        self._max_bytes = tunables.max_bytes
        self._room_part = tunables.room_part
        self._room_pairs = tunables.max_pairs * tunables.room_part
        self._room_bytes = tunables.max_bytes * tunables.room_part
        self._shard_part = tunables.shard_part
        self._least_pairs = tunables.max_pairs * tunables.least_shard_part
        self._least_bytes = tunables.max_bytes * tunables.least_shard_part
        self._shards: dict[int, _Shard] = {}
        self._pairs = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._is_full = False
        self._unaccounted: dict[Delivery, int] = {}  # with its size in memory

    def adopt(self, takeover: Takeover) -> None:
        """Begins to count for shards whose ticks up to their checkpoint are done."""
        for shard, checkpoint in takeover.checkpoints.items():
            self._shards[shard] = _Shard(checkpoint)

    async def part(self, shards: Collection[int]) -> None:
        """Forgets these shards: what they had in memory is written by now."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Forgets a shard that is no longer ours; its deliveries are withdrawn."""
        for delivery in [d for d in self._unaccounted if d.shard == shard]:
            delivery.advance(DeliveryStep.WITHDRAW)
            self.account(delivery)
        dropped = self._shards.pop(shard, None)
        if dropped is not None:
            dropped.room.set()

    def add(self, delivery: Delivery) -> None:
        """Takes in a delivery that was just decided."""
        shard, tick = self._shards[delivery.shard], delivery.tick
        shard.open[tick] = shard.open.get(tick, 0) + 1
        size_bytes = self._unaccounted[delivery] = delivery.event.size_bytes
        shard.pairs += 1
        shard.bytes += size_bytes
        self._pairs += 1
        self._bytes += size_bytes
        if (shard.pairs >= self._least_pairs or shard.bytes >= self._least_bytes) and self._has_share(shard, 1.0):
            shard.room.clear()
        if self._pairs >= self._max_pairs or self._bytes >= self._max_bytes:
            self._is_full = True
            self._room.clear()

    def account(self, delivery: Delivery) -> None:
        """Notes that the next flush writes a row for it. Once only; a delivery that was written down before is."""
        if delivery.is_accounted:
            return
        delivery.is_accounted = True
        shard, tick = self._shards[delivery.shard], delivery.tick
        left = shard.open[tick] - 1
        if left:
            shard.open[tick] = left
        else:
            del shard.open[tick]
        size_bytes = self._unaccounted.pop(delivery)
        shard.pairs -= 1
        shard.bytes -= size_bytes
        self._pairs -= 1
        self._bytes -= size_bytes
        if not shard.room.is_set() and not self._has_share(shard, self._room_part):
            shard.room.set()
        if self._is_full and self._pairs < self._room_pairs and self._bytes < self._room_bytes:
            self._is_full = False
            self._room.set()

    def defer(self, shard: int, tick: int) -> None:
        """Notes an event of a tick that is decided later: until then the tick counts as unread."""
        ticks = self._shards[shard].deferred
        ticks[tick] = ticks.get(tick, 0) + 1

    def decided(self, shard: int, tick: int) -> None:
        """Notes that a deferred event is decided: its deliveries were added."""
        ticks = self._shards[shard].deferred
        ticks[tick] -= 1
        if ticks[tick] == 0:
            del ticks[tick]
            self.moved.set()

    def read(self, shard: int, tick: int) -> None:
        """Notes that all of a tick was decided or deferred."""
        if shard in self._shards:
            self._shards[shard].read_upto = tick
            self.moved.set()

    def read_upto(self, shard: int) -> int:
        """The last tick up to which all was decided; 0 for a shard that is not ours."""
        found = self._shards.get(shard)
        if found is None:
            return 0
        return min(found.deferred) - 1 if found.deferred else found.read_upto

    def checkpoint(self, shard: int) -> int:
        """The last tick of which everything is accounted for, if the next flush succeeds."""
        ticks = self._shards[shard].open
        read_upto = self.read_upto(shard)
        return min(min(ticks) - 1, read_upto) if ticks else read_upto

    def shards(self) -> list[int]:
        return list(self._shards)

    @property
    def has_room(self) -> bool:
        """True if memory takes more deliveries."""
        return not self._is_full

    async def room(self) -> None:
        """Waits until there is room in memory for more."""
        await self._room.wait()

    def has_room_of(self, shard: int) -> bool:
        """True if memory takes more deliveries, and more of this shard. On the hot path."""
        found = self._shards.get(shard)
        return not self._is_full and (found is None or found.room.is_set())

    def has_share(self, shard: int) -> bool:
        """True if a shard has so much of the ledger that the rest is left to the others. On the hot path."""
        found = self._shards.get(shard)
        return found is not None and not found.room.is_set()

    async def room_of(self, shard: int) -> None:
        """Waits until there is room in memory for more of a shard, or until it is dropped."""
        while not self.has_room_of(shard):
            if self._is_full:
                await self._room.wait()
            else:
                await self._shards[shard].room.wait()

    def older_than(self, read_at: float) -> Iterator[Delivery]:
        """Unaccounted deliveries read before that moment, oldest first. They may be accounted while iterating."""
        for delivery in list(self._unaccounted):
            if delivery.read_at >= read_at:
                return
            yield delivery

    @property
    def pairs(self) -> int:
        return self._pairs

    def _has_share(self, shard: _Shard, part: float) -> bool:
        """True if a shard has this part of its share of the pairs or bytes: of most of what the others leave."""
        pairs = max(self._least_pairs, (self._max_pairs - self._pairs + shard.pairs) * self._shard_part)
        if shard.pairs >= pairs * part:
            return True
        most_bytes = max(self._least_bytes, (self._max_bytes - self._bytes + shard.bytes) * self._shard_part)
        return shard.bytes >= most_bytes * part
