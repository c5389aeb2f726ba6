"""The ledger: which deliveries of a tick have no row in PostgreSQL yet, and so how far the checkpoint may go.

The checkpoint of a shard is the last tick of which every delivery is accounted. It never waits for a receiver, because
whatever takes long is written down as waiting (`daemon.pipeline.backlog.parking`). The ledger also bounds what is
held in memory: when it is full the tailer stops reading, and lag grows in the log alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from daemon.core.delivery.phases import DeliveryStep
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup


class Ledger:
    """Counts what is unaccounted, by shard and tick, and bounds it by `max_pairs` and `max_bytes`. `moved` is set when
    a checkpoint may have moved: the recorder sleeps until then.
    """

    def __init__(self, tunables: Tunables = DEFAULTS) -> None:
        self.moved = Wakeup()
        self._max_pairs = tunables.max_pairs
        self._max_bytes = tunables.max_bytes
        self._room_pairs = tunables.max_pairs * tunables.room_part
        self._room_bytes = tunables.max_bytes * tunables.room_part
        self._open: dict[int, dict[int, int]] = {}
        self._deferred: dict[int, dict[int, int]] = {}
        self._read_upto: dict[int, int] = {}
        self._pairs = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._is_full = False
        self._unaccounted: dict[Delivery, int] = {}  # with its size in memory

    def adopt(self, takeover: Takeover) -> None:
        """Begins to count for shards whose ticks up to their checkpoint are done."""
        for shard, checkpoint in takeover.checkpoints.items():
            self._open[shard] = {}
            self._deferred[shard] = {}
            self._read_upto[shard] = checkpoint

    async def part(self, shards: Collection[int]) -> None:
        """Forgets these shards: what they had in memory is written by now."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Forgets a shard that is no longer ours; its deliveries are withdrawn."""
        for delivery in [d for d in self._unaccounted if d.shard == shard]:
            delivery.advance(DeliveryStep.WITHDRAW)
            self.account(delivery)
        self._open.pop(shard, None)
        self._deferred.pop(shard, None)
        self._read_upto.pop(shard, None)

    def add(self, delivery: Delivery) -> None:
        """Takes in a delivery that was just decided."""
        ticks, tick = self._open[delivery.shard], delivery.tick
        ticks[tick] = ticks.get(tick, 0) + 1
        size_bytes = self._unaccounted[delivery] = delivery.event.size_bytes
        self._pairs += 1
        self._bytes += size_bytes
        if self._pairs >= self._max_pairs or self._bytes >= self._max_bytes:
            self._is_full = True
            self._room.clear()

    def account(self, delivery: Delivery) -> None:
        """Notes that the next flush writes a row for it. Once only; a delivery that was written down before is."""
        if delivery.is_accounted:
            return
        delivery.is_accounted = True
        ticks, tick = self._open[delivery.shard], delivery.tick
        left = ticks[tick] - 1
        if left:
            ticks[tick] = left
        else:
            del ticks[tick]
        self._pairs -= 1
        self._bytes -= self._unaccounted.pop(delivery)
        if self._is_full and self._pairs < self._room_pairs and self._bytes < self._room_bytes:
            self._is_full = False
            self._room.set()

    def defer(self, shard: int, tick: int) -> None:
        """Notes an event of a tick that is decided later: until then the tick counts as unread."""
        ticks = self._deferred[shard]
        ticks[tick] = ticks.get(tick, 0) + 1

    def decided(self, shard: int, tick: int) -> None:
        """Notes that a deferred event is decided: its deliveries were added."""
        ticks = self._deferred[shard]
        ticks[tick] -= 1
        if ticks[tick] == 0:
            del ticks[tick]
            self.moved.set()

    def read(self, shard: int, tick: int) -> None:
        """Notes that all of a tick was decided or deferred."""
        if shard in self._read_upto:
            self._read_upto[shard] = tick
            self.moved.set()

    def read_upto(self, shard: int) -> int:
        """The last tick up to which all was decided; 0 for a shard that is not ours."""
        deferred = self._deferred.get(shard)
        return min(deferred) - 1 if deferred else self._read_upto.get(shard, 0)

    def checkpoint(self, shard: int) -> int:
        """The last tick of which everything is accounted for, if the next flush succeeds."""
        ticks = self._open[shard]
        read_upto = self.read_upto(shard)
        return min(min(ticks) - 1, read_upto) if ticks else read_upto

    def shards(self) -> list[int]:
        return list(self._read_upto)

    @property
    def has_room(self) -> bool:
        """True if memory takes more deliveries."""
        return not self._is_full

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
