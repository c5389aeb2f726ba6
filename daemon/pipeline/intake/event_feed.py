"""The newest events of tenants whom somebody follows, in memory: however many follow, each tick is read once.

A follower asks for what comes after a tick, and waits if that is nothing (daemon.web.service.events.feed_pages).
While a tenant is followed, and for LINGER_SECONDS after the last question, each new tick is read for all followed
tenants together, by one question to the database or by none: a tick that touches none of their shards is passed over.
What was read stays for a while, so that somebody who asks again, or reads slowly, finds it here. What is not here any
more, or was too large for here, they read from the log themselves, page by page; so nobody who is slow takes memory of
others.

The one thing to know: `FedTick.tenants` are those that the tick was read for. Somebody who began to follow later must
not take its silence for "nothing happened".
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent, shard_of
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

# Between two questions of the same follower there is a moment in which nobody waits.
LINGER_SECONDS = 30.0
POLL_SECONDS = 5.0

_NO_EVENTS: Mapping[str, Sequence[StoredEvent]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FedTick:
    """A tick with its events of these tenants, None if they were too large to keep."""

    tick: Tick
    tenants: frozenset[str]
    events: Mapping[str, Sequence[StoredEvent]] | None
    size_bytes: int = 0


class EventFeed:
    """`told` hears of each tick, `run_once` reads it. `following` is for somebody who waits, `after` for what came."""

    def __init__(self, database: Database, *, tunables: Tunables = DEFAULTS) -> None:
        self.wakeup = Wakeup()
        self.is_closed = False
        self._database = database
        self._tunables = tunables
        self._bells: dict[str, set[Wakeup]] = {}
        # Tenant → until when it counts as followed, in monotonic seconds.
        self._followed: dict[str, float] = {}
        # The tick that was read last, None while nobody follows; and those up to it that are kept, the oldest first.
        self._last: Tick | None = None
        self._kept: dict[int, FedTick] = {}
        self._kept_bytes = 0
        self._told: Tick | None = None
        self._log = object()

    @property
    def log(self) -> object:
        """What is the log now: another object once another log is it, in which no tick is known to be as before."""
        return self._log

    @property
    def last(self) -> Tick | None:
        """The tick that was read last, None if nobody has followed of late."""
        return self._last

    def told(self, newest: Tick | None) -> None:
        """There is a newer tick; None if nothing is known of it but that."""
        self._told = newest
        if self._followed:
            self.wakeup.set()

    def forget(self) -> None:
        """Another log is the log now: its ticks are others, also where their numbers are the same."""
        self._log = object()
        self._told = None
        self._let_go()
        self._ring_all()

    def close(self) -> None:
        """The process ends: nobody waits any longer."""
        self.is_closed = True
        self._ring_all()

    @contextmanager
    def following(self, tenant: str) -> Iterator[Wakeup]:
        """For the time in which somebody may wait for events of this tenant. The wakeup is set when there are some."""
        bell = Wakeup()
        self._bells.setdefault(tenant, set()).add(bell)
        self._follow(tenant)
        try:
            yield bell
        finally:
            self._bells[tenant].discard(bell)
            if not self._bells[tenant]:
                del self._bells[tenant]
                self._follow(tenant)

    def find(self, number: int) -> Tick | None:
        """The tick of that number, None if it is not here."""
        if self._last is not None and self._last.tick == number:
            return self._last
        fed = self._kept.get(number)
        return None if fed is None else fed.tick

    def after(self, tick: Tick, tenant: str) -> tuple[Tick, Sequence[StoredEvent]] | None:
        """The tick after this one, with the tenant's events; None if it is not here."""
        fed = self._kept.get(tick.tick + 1)
        if fed is None or fed.events is None or tenant not in fed.tenants:
            return None
        return fed.tick, fed.events.get(tenant, ())

    def is_behind(self, tick: Tick) -> bool:
        """True if what comes after this tick will not come here, so that it must be read from the log."""
        return self._last is None or tick.tick < self._last.tick

    async def run_once(self) -> None:
        """Reads what came, if anybody follows, and waits for more."""
        self.wakeup.clear()
        if self._is_followed():
            await self._read()
        else:
            self._let_go()
        await self.wakeup.wait(POLL_SECONDS)

    def _follow(self, tenant: str) -> None:
        self._followed[tenant] = time.monotonic() + LINGER_SECONDS
        if self._last is None:
            self.wakeup.set()

    def _is_followed(self) -> bool:
        now = time.monotonic()
        for tenant in [each for each, until in self._followed.items() if until < now and each not in self._bells]:
            del self._followed[tenant]
        return bool(self._followed)

    async def _read(self) -> None:
        log = self._log
        if self._last is None:
            begin = await ticks.newest_tick(self._database)
            if log is self._log:
                self._last = begin
                self._ring_all()
            return
        is_more = True
        while is_more and self._last is not None:
            cuts = await self._cuts(self._last)
            for cut in cuts:
                if log is not self._log:
                    return
                fed = await self._fed(self._last, cut)
                if log is not self._log:
                    return
                self._keep(fed)
            is_more = len(cuts) == ticks.PAGE_TICKS

    async def _cuts(self, last: Tick) -> list[Tick]:
        told, self._told = self._told, None
        if told is not None and told.tick <= last.tick + 1:
            return [told] if told.tick > last.tick else []
        return await ticks.after(self._database, last.tick)

    async def _fed(self, before: Tick, cut: Tick) -> FedTick:
        """The tick, read for everybody who is followed now."""
        tenants = frozenset(self._followed)
        shards = sorted({shard_of(tenant) for tenant in tenants})
        if not cut.may_touch(ticks.bits_of(shards)):
            return FedTick(tick=cut, tenants=tenants, events=_NO_EVENTS)
        events: dict[str, list[StoredEvent]] = {}
        size_bytes = 0
        async with aclosing(tail.read_cut(self._database, before=before.snap, tick=cut, shards=shards)) as pages:
            async for page in pages:
                for event in page:
                    if event.tenant in tenants:
                        events.setdefault(event.tenant, []).append(event)
                        size_bytes += event.size_bytes
                if size_bytes > self._tunables.fed_tick_bytes:
                    return FedTick(tick=cut, tenants=tenants, events=None)
        return FedTick(tick=cut, tenants=tenants, events=events, size_bytes=size_bytes)

    def _keep(self, fed: FedTick) -> None:
        self._last = fed.tick
        self._kept[fed.tick.tick] = fed
        self._kept_bytes += fed.size_bytes
        while len(self._kept) > self._tunables.fed_ticks or self._kept_bytes > self._tunables.fed_bytes:
            oldest = self._kept.pop(next(iter(self._kept)))
            self._kept_bytes -= oldest.size_bytes
        for tenant in fed.tenants if fed.events is None else fed.events:
            self._ring(tenant)

    def _let_go(self) -> None:
        self._last = None
        self._kept.clear()
        self._kept_bytes = 0

    def _ring(self, tenant: str) -> None:
        for bell in self._bells.get(tenant, ()):
            bell.set()

    def _ring_all(self) -> None:
        for tenant in self._bells:
            self._ring(tenant)
