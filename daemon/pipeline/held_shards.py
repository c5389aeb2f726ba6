"""The shards that this process holds: one object, built first, that every stage asks.

A shard's lease passes through three states here; `daemon.pipeline.shards.leases` moves it, nobody else:

    (not ours) --take--> TAKING --hold--> HELD --part--> PARTING --free--> (not ours)
    TAKING, HELD, PARTING --lose--> (not ours)

TAKING   what is done of the shard is being read; the lease is renewed meanwhile
HELD     the shard is tailed, sent and recorded
PARTING  nothing new starts; what was noted is still written

Every stage that keeps something of a shard in memory is a `ShardMember`. Members are told together, in one order, when
a shard comes, goes or is lost, so that none works on a shard that another one has left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol
from uuid import UUID

import structlog

from daemon.pipeline.wakeup import Wakeup
from eventstore.progress.backlog import ParkedRoute

log = structlog.get_logger()


class ShardState(Enum):
    """See the head of this file."""

    TAKING = "taking"
    HELD = "held"
    PARTING = "parting"


_HELD = ShardState.HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What was read of shards before they are worked on.

    `checkpoints` maps each shard to the last tick of which everything is accounted for. `accounted` are, for
    each shard, the (route, seq) pairs above its checkpoint, up to `newest_tick`, that are accounted for. `parked` has
    the routes of which something is parked, `retrying` the routes with rows in `retry`.
    """

    checkpoints: Mapping[int, int]
    newest_tick: int = 0
    accounted: Mapping[int, AbstractSet[tuple[UUID, int]]] = field(default_factory=dict)
    parked: Mapping[UUID, ParkedRoute] = field(default_factory=dict)
    retrying: frozenset[UUID] = frozenset()

    def only(self, shards: Collection[int]) -> Takeover:
        """The same for some of the shards. `retrying` stays whole: more routes than needed do no harm there."""
        return replace(
            self,
            checkpoints={shard: self.checkpoints[shard] for shard in shards},
            accounted={shard: pairs for shard, pairs in self.accounted.items() if shard in shards},
            parked={route_id: row for route_id, row in self.parked.items() if row.shard in shards},
        )


class ShardMember(Protocol):
    """A stage that keeps something of a shard in memory."""

    def adopt(self, takeover: Takeover) -> None:
        """Begins to work on these shards. Does not wait: all members begin in one step of the event loop."""

    async def part(self, shards: Collection[int]) -> None:
        """Ends the work on these shards, so that their next owner loses nothing and repeats nothing."""

    def drop(self, shard: int) -> None:
        """Forgets a shard that belongs to another process by now."""


class _Lease:
    __slots__ = ("epoch", "state", "valid_until")

    def __init__(self, epoch: int, valid_until: float) -> None:
        self.epoch = epoch
        self.state = ShardState.TAKING
        self.valid_until = valid_until


class HeldShards:
    """Which shards are ours, under which epoch, and until when that is certain (monotonic seconds)."""

    def __init__(self) -> None:
        self.members: tuple[ShardMember, ...] = ()
        # Are told of shards that all members have begun to work on.
        self.on_adopted: list[Callable[[Takeover], None]] = []
        self.changed = Wakeup()  # a shard was lost, or may be taken: the leases look again
        self._leases: dict[int, _Lease] = {}
        # Until when others let us send, however long the leases last (daemon/pipeline/shards/lifelines).
        self._permitted_until = math.inf
        self._news = asyncio.Event()
        self._is_awaited = False

    @property
    def held(self) -> list[int]:
        """The shards to work on."""
        return [shard for shard, lease in self._leases.items() if lease.state is ShardState.HELD]

    def epoch(self, shard: int) -> int | None:
        """The epoch under which a shard is held; None if it is not, or no longer for long."""
        lease = self._leases.get(shard)
        return lease.epoch if lease is not None and lease.state is ShardState.HELD else None

    def writable(self) -> dict[int, int]:
        """Shard → epoch of those that outcomes may be written for."""
        return {s: lease.epoch for s, lease in self._leases.items() if lease.state is not ShardState.TAKING}

    def renewable(self) -> dict[int, int]:
        """Shard → epoch of all leases."""
        return {shard: lease.epoch for shard, lease in self._leases.items()}

    def is_certain(self, shard: int, now: float) -> bool:
        """True if the shard is held, and no other process can have taken it by `now`. On the hot path."""
        lease = self._leases.get(shard)
        return lease is not None and now < lease.valid_until and now < self._permitted_until and lease.state is _HELD

    def count_valid(self, now: float) -> int:
        """How many of the shards to work on nobody else can have taken by `now`: none while the database is away."""
        return sum(lease.state is ShardState.HELD and now < lease.valid_until for lease in self._leases.values())

    @property
    def permitted_until(self) -> float:
        return self._permitted_until

    def permit(self, until: float) -> None:
        """Notes until when leases may count as certain at all."""
        self._permitted_until = until
        self.notify()

    def is_held(self, shard: int) -> bool:
        """True if the shard is held, or was when PostgreSQL was last heard of."""
        lease = self._leases.get(shard)
        return lease is not None and lease.state is ShardState.HELD

    async def wait_changed(self) -> None:
        """Returns when there is other evidence. How long that takes depends on PostgreSQL."""
        self._is_awaited = True
        await self._news.wait()

    def notify(self) -> None:
        """Ends the wait of everybody in `wait_changed`."""
        if self._is_awaited:
            self._news.set()
            self._news = asyncio.Event()
            self._is_awaited = False

    def take(self, epochs: Mapping[int, int], valid_until: float) -> None:
        """Notes leases that were just acquired."""
        for shard, epoch in epochs.items():
            self._leases[shard] = _Lease(epoch, valid_until)

    def renew(self, shard: int, epoch: int, valid_until: float) -> None:
        """Notes until when a lease is certain, unless it changed hands since that was asked."""
        lease = self._leases.get(shard)
        if lease is not None and lease.epoch == epoch:
            lease.valid_until = valid_until
            self.notify()

    def hold(self, takeover: Takeover, epochs: Mapping[int, int]) -> list[int]:
        """Sets all members to work on those shards of a takeover that are still ours; returns them.

        `epochs` are those under which the shards were taken: a shard may have been lost and taken again meanwhile.
        """
        taking = {s: lease.epoch for s, lease in self._leases.items() if lease.state is ShardState.TAKING}
        ours = [shard for shard in takeover.checkpoints if taking.get(shard, 0) == epochs[shard]]
        if ours:
            of_ours = takeover.only(ours)
            for member in self.members:
                member.adopt(of_ours)
            for shard in ours:
                self._leases[shard].state = ShardState.HELD
            for notify in self.on_adopted:
                notify(of_ours)
            self.notify()
        return ours

    def part(self, shards: Collection[int]) -> dict[int, int]:
        """Nothing starts for these shards any more; shard → epoch of those that are held."""
        parting = {s: self._leases[s].epoch for s in shards if self.is_held(s)}
        for shard in parting:
            self._leases[shard].state = ShardState.PARTING
        self.notify()
        return parting

    def free(self, epochs: Mapping[int, int]) -> dict[int, int]:
        """Forgets leases whose shards were parted from, or never worked on; shard → epoch of those still ours."""
        freed = {s: epoch for s, epoch in epochs.items() if s in self._leases and self._leases[s].epoch == epoch}
        for shard in freed:
            del self._leases[shard]
        self.notify()
        return freed

    def abandon_taking(self) -> None:
        """Forgets leases that nobody works on yet. They stay in the table until their row is freed or expires."""
        self.free({s: lease.epoch for s, lease in self._leases.items() if lease.state is ShardState.TAKING})

    def lose_all(self) -> None:
        """Lets go of all shards at once. They may be taken again."""
        for shard in list(self._leases):
            self.lose(shard)
        self.changed.set()

    def lose(self, shard: int) -> None:
        """Lets go of a shard that belongs to another process."""
        lease = self._leases.pop(shard, None)
        if lease is None:
            return
        self.notify()
        if lease.state is not ShardState.TAKING:
            log.warning("lease.lost", shard=shard)
            for member in self.members:
                member.drop(shard)
            self.changed.set()
