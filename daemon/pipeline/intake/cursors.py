"""How far the log is read: of each shard that is held here, and of the tenants that were set aside of it."""

from __future__ import annotations

from eventstore.domain_events.ticks import Tick


class Place:
    """The last tick that was read, and its snapshot if that is known; of the next one the events below `next_seq` are
    decided too. So a failure between two pages of a tick repeats none of them.
    """

    __slots__ = ("next_seq", "snap", "tick")

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.snap: str | None = None
        self.next_seq = 0

    def advance(self, cut: Tick) -> None:
        """Notes that all of a tick was decided or deferred."""
        self.tick, self.snap, self.next_seq = cut.tick, cut.snap, 0


class ShardCursor(Place):
    """How far an adopted shard is read. One that is `behind_since` that moment, of the monotonic clock, is read apart
    from the others. `is_reading` is true while a tick is read of it, and may have been fetched without the events of
    the tenants in `aside`.

    A shard that is dropped and adopted again gets a new cursor, though it may be at the same tick. Then a tick that was
    partly read before is read again as a whole.
    """

    __slots__ = ("aside", "behind_since", "is_dropped", "is_reading")

    def __init__(self, tick: int) -> None:
        super().__init__(tick)
        self.behind_since: float | None = None
        self.is_dropped = False
        self.is_reading = False
        self.aside: dict[str, TenantCursor] = {}

    @property
    def is_behind(self) -> bool:
        """True if it is read apart from the others."""
        return self.behind_since is not None


class TenantCursor(Place):
    """How far a tenant is read that was set aside of its shard, whose cursor is `of`. It begins where that one is."""

    __slots__ = ("of", "shard", "tenant")

    def __init__(self, tenant: str, shard: int, of: ShardCursor) -> None:
        super().__init__(of.tick)
        self.snap, self.next_seq = of.snap, of.next_seq
        self.tenant = tenant
        self.shard = shard
        self.of = of

    @property
    def is_aside(self) -> bool:
        """True until it is read together with its shard again, or that one is dropped."""
        return not self.of.is_dropped and self.of.aside.get(self.tenant) is self

    @property
    def is_level(self) -> bool:
        """True if it is where its shard is, and nothing of the next tick was decided or fetched for that one."""
        return self.tick == self.of.tick and not self.of.is_reading and not self.of.next_seq

    @property
    def is_ahead(self) -> bool:
        """True if it has read the tick that is just read of its shard."""
        return self.tick > self.of.tick
