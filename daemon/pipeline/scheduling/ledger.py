"""The ledger: which deliveries of a tick have no row in PostgreSQL yet, and so how far the checkpoint may go.

The checkpoint of a shard is the last tick of which every delivery is accounted. It never waits for a receiver, because
whatever takes long is written down as waiting (`daemon.pipeline.backlog.parking`). The ledger also bounds what is
held in memory: when it is full the tailer stops reading, and lag grows in the log alone.

No shard fills it alone. One that has most of what the others leave is full by itself: the tailer leaves it behind and
reads on for the others, so the deliveries of a tenant do not wait for the burst of another one. Nor do those of a shard
that has little, when the ledger is full. A tenant that keeps its shard full is set aside, and has a share of its own
then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator

from daemon.core.delivery.states.phases import DeliveryStep
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup


class _Share:
    """What is unaccounted of a shard, or of a tenant that was set aside of it, and up to which tick all was decided.
    It `is_full` while it has its share of the ledger; `room` is clear then.
    """

    __slots__ = ("bytes", "is_full", "pairs", "read_upto", "room")

    def __init__(self, read_upto: int) -> None:
        self.read_upto = read_upto
        self.pairs = 0
        self.bytes = 0
        self.is_full = False
        self.room = asyncio.Event()
        self.room.set()

    def close(self) -> None:
        self.is_full = True
        self.room.clear()

    def open(self) -> None:
        self.is_full = False
        self.room.set()


class _Shard:
    """What is unaccounted of a shard by tick, and the shares of it: its own, and those of tenants set aside. `ahead`
    pairs were decided since it leads one of those.
    """

    __slots__ = ("ahead", "aside", "deferred", "open", "own")

    def __init__(self, checkpoint: int) -> None:
        self.open: dict[int, int] = {}
        self.deferred: dict[int, int] = {}
        self.own = _Share(checkpoint)
        self.aside: dict[str, _Share] = {}
        self.ahead = 0

    def share(self, tenant: str | None) -> _Share:
        """That of a tenant, which is the shard's unless the tenant is set aside."""
        return self.aside.get(tenant, self.own) if self.aside and tenant is not None else self.own

    def shares(self) -> list[_Share]:
        return [self.own, *self.aside.values()]

    def leads(self) -> bool:
        """True if a tenant that was set aside has not read the tick that is read of the shard."""
        return any(share.read_upto <= self.own.read_upto for share in self.aside.values())


class Ledger:
    """Counts what is unaccounted, by shard and tick, and bounds it by `max_pairs` and `max_bytes`. It `has_room` while
    memory takes more deliveries, of whatever shard. `moved` is set when a checkpoint may have moved: the recorder
    sleeps until then.
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
        self._light_pairs = tunables.max_pairs * tunables.light_shard_part
        self._light_bytes = tunables.max_bytes * tunables.light_shard_part
        # What a pair weighs beside its event, so that many small ones weigh as much as a few large ones.
        self._pair_bytes = tunables.max_bytes // tunables.max_pairs
        self._ahead_pairs = tunables.ahead_pairs
        self._shards: dict[int, _Shard] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self.has_room = True
        self._unaccounted: dict[Delivery, None] = {}

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
            for share in dropped.shares():
                share.open()

    def add(self, delivery: Delivery) -> None:
        """Takes in a delivery that was just decided."""
        shard, tick = self._shards[delivery.shard], delivery.tick
        shard.open[tick] = shard.open.get(tick, 0) + 1
        size_bytes = delivery.size_bytes
        self._unaccounted[delivery] = None
        share = shard.own
        if shard.aside:
            share = shard.share(delivery.event.tenant)
            if share is shard.own and shard.leads():
                shard.ahead += 1
                if shard.ahead >= self._ahead_pairs:
                    share.close()
        share.pairs += 1
        share.bytes += size_bytes
        self._bytes += size_bytes
        if (share.pairs >= self._least_pairs or share.bytes >= self._least_bytes) and self._has_share(share, 1.0):
            share.close()
        if len(self._unaccounted) >= self._max_pairs or self._bytes >= self._max_bytes:
            self.has_room = False
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
        size_bytes = delivery.size_bytes
        del self._unaccounted[delivery]
        share = shard.share(delivery.event.tenant) if shard.aside else shard.own
        share.pairs -= 1
        share.bytes -= size_bytes
        self._bytes -= size_bytes
        if share.is_full:
            self._make_room(shard, share)
        if not self.has_room and len(self._unaccounted) < self._room_pairs and self._bytes < self._room_bytes:
            self.has_room = True
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

    def read(self, shard: int, tick: int, tenant: str | None = None) -> None:
        """Notes that all of a tick was decided or deferred: of a shard, or of a tenant that was set aside of it."""
        found = self._shards.get(shard)
        if found is not None:
            found.share(tenant).read_upto = tick
            if found.ahead and not found.leads():
                found.ahead = 0
                self._make_room(found, found.own)
            self.moved.set()

    def read_upto(self, shard: int, tenant: str | None = None) -> int:
        """The last tick up to which all was decided, or all of one tenant; 0 for a shard that is not ours."""
        found = self._shards.get(shard)
        if found is None:
            return 0
        shares = found.shares() if tenant is None else [found.share(tenant)]
        read_upto = min(share.read_upto for share in shares)
        return min(min(found.deferred) - 1, read_upto) if found.deferred else read_upto

    def largest_tenant(self, shard: int) -> str | None:
        """The tenant that has most of the share by which a shard is full; None if none has, or if it is not full."""
        found = self._shards.get(shard)
        if found is None or not self._has_share(found.own, self._room_part):
            return None
        weights: Counter[str] = Counter()
        for delivery in self._unaccounted:
            if delivery.shard == shard and found.share(delivery.event.tenant) is found.own:
                weights[delivery.event.tenant] += delivery.size_bytes + self._pair_bytes
        ((tenant, weight),) = weights.most_common(1)
        return tenant if weight > weights.total() / 2 else None

    def set_aside(self, shard: int, tenant: str) -> None:
        """Gives a tenant of a shard a share of its own, which takes what it has in memory along. Its events are read
        apart from those of its shard, up to the same tick at first.
        """
        found = self._shards[shard]
        share = found.aside[tenant] = _Share(found.own.read_upto)
        for delivery in self._unaccounted:
            if delivery.shard == shard and delivery.event.tenant == tenant:
                share.pairs += 1
                share.bytes += delivery.size_bytes
        found.own.pairs -= share.pairs
        found.own.bytes -= share.bytes
        if self._has_share(share, 1.0):
            share.close()
        self._make_room(found, found.own)

    def rejoin(self, shard: int, tenant: str) -> None:
        """Ends what `set_aside` began: the tenant is read up to where its shard is."""
        found = self._shards.get(shard)
        share = None if found is None else found.aside.pop(tenant, None)
        if found is None or share is None:  # the shard was dropped
            return
        found.own.pairs += share.pairs
        found.own.bytes += share.bytes
        if not found.leads():
            found.ahead = 0
        if self._has_share(found.own, 1.0):
            found.own.close()
        else:
            self._make_room(found, found.own)
        share.open()
        self.moved.set()

    def checkpoint(self, shard: int) -> int:
        """The last tick of which everything is accounted for, if the next flush succeeds."""
        ticks = self._shards[shard].open
        read_upto = self.read_upto(shard)
        return min(min(ticks) - 1, read_upto) if ticks else read_upto

    def shards(self) -> list[int]:
        return list(self._shards)

    async def room(self) -> None:
        """Waits until there is room in memory for more."""
        await self._room.wait()

    def has_room_of(self, shard: int, tenant: str | None = None) -> bool:
        """True if memory takes more of this shard, or of this tenant if it was set aside. On the hot path."""
        found = self._shards.get(shard)
        if found is None:
            return self.has_room
        share = found.share(tenant)
        return not share.is_full and (
            self.has_room or (share.pairs < self._light_pairs and share.bytes < self._light_bytes)
        )

    def has_share(self, shard: int, tenant: str | None = None) -> bool:
        """True if a shard, or a tenant that was set aside of it, has so much of the ledger that the rest is left to the
        others. On the hot path.
        """
        found = self._shards.get(shard)
        if found is None:
            return False
        share = found.share(tenant)
        return share.is_full or (
            not self.has_room and (share.pairs >= self._least_pairs or share.bytes >= self._least_bytes)
        )

    async def room_of(self, shard: int, tenant: str | None = None) -> None:
        """Waits until there is room in memory for more of a shard, or of a tenant that was set aside of it; or until
        the shard is dropped.
        """
        while not self.has_room_of(shard, tenant):
            if not self.has_room:
                await self._room.wait()
            else:
                await self._shards[shard].share(tenant).room.wait()

    def older_than(self, read_at: float) -> Iterator[Delivery]:
        """Unaccounted deliveries read before that moment, oldest first. They may be accounted while iterating."""
        for delivery in list(self._unaccounted):
            if delivery.read_at >= read_at:
                return
            yield delivery

    @property
    def pairs(self) -> int:
        return len(self._unaccounted)

    def _make_room(self, shard: _Shard, share: _Share) -> None:
        """Says that there is room for a share, if there is."""
        is_too_far_ahead = share is shard.own and shard.ahead >= self._ahead_pairs
        if not is_too_far_ahead and not self._has_share(share, self._room_part):
            share.open()

    def _has_share(self, share: _Share, part: float) -> bool:
        """True if this part of a share of the pairs or bytes is taken: of most of what the others leave."""
        pairs = max(self._least_pairs, (self._max_pairs - len(self._unaccounted) + share.pairs) * self._shard_part)
        if share.pairs >= pairs * part:
            return True
        most_bytes = max(self._least_bytes, (self._max_bytes - self._bytes + share.bytes) * self._shard_part)
        return share.bytes >= most_bytes * part
