"""Pages of a tenant's feed: its events in the order in which they are read, from a place of the log on.

A place is a tick that was read wholly, and a seq within the next one. So nothing is skipped and nothing comes twice,
whichever process is asked. What is new comes from the memory of the process (daemon.pipeline.intake.event_feed), where
one question to the database serves all who wait. A follower that is behind reads the log by itself, for READ_SECONDS a
page, with the connections that its queries may have.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from daemon.core.routing.index import patterns_of
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.pipeline.wakeup import Wakeup
from daemon.web.http.problems import Problem
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent, shard_of
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database

# Requests that wait at once, of one tenant and of all.
MAX_WAITING_OF_TENANT = 16
MAX_WAITING = 256

PAGE_BYTES = 1 << 20
# For how long a page is looked for in the log.
READ_SECONDS = 1.0
# How often somebody who waits is looked at: whether the connection is open, and the log goes on.
LOOK_SECONDS = 1.0

_RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlace:
    """After a tick, and after the event with that seq in the next one; 0 for its beginning."""

    tick: Tick
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedQuestion:
    """Which events somebody wants. `patterns` are those of types, as routes have them."""

    tenant: str
    patterns: frozenset[str]
    limit: int

    def fits(self, event: StoredEvent) -> bool:
        return event.tenant == self.tenant and not self.patterns.isdisjoint(patterns_of(event.type))


@dataclass(slots=True, kw_only=True)
class FeedPage:
    """What was found so far, and the place after it."""

    place: FeedPlace
    events: list[StoredEvent] = field(default_factory=list)
    _size_bytes: int = 0

    def take(self, events: Sequence[StoredEvent], question: FeedQuestion) -> bool:
        """Takes events of the tick after `place` as far as there is room. Returns False if there was not enough."""
        before = self.place.tick
        for event in events:
            if self.is_full(question):
                return False
            if event.seq <= self.place.seq:
                continue
            if question.fits(event):
                self.events.append(event)
                self._size_bytes += event.size_bytes
            self.place = FeedPlace(tick=before, seq=event.seq)
        return True

    def ended(self, tick: Tick) -> None:
        """All of a tick was taken."""
        self.place = FeedPlace(tick=tick)

    def is_full(self, question: FeedQuestion) -> bool:
        return len(self.events) >= question.limit or self._size_bytes >= PAGE_BYTES


class WaitingRequests:
    """How many requests wait, by tenant."""

    def __init__(self) -> None:
        self._by_tenant: Counter[str] = Counter()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Counts a request that may wait. Raises Problem if the tenant, or the process, has too many."""
        waiting, headers = self._by_tenant, {"Retry-After": str(_RETRY_AFTER_SECONDS)}
        if waiting[tenant] >= MAX_WAITING_OF_TENANT:
            detail = f"{MAX_WAITING_OF_TENANT} are following this tenant already: end one of them, or wait"
            raise Problem(429, detail, headers=headers, is_busy=True)
        if waiting.total() >= MAX_WAITING:
            raise Problem(503, "too many are following now: try again later", headers=headers, is_busy=True)
        waiting[tenant] += 1
        try:
            yield
        finally:
            waiting[tenant] -= 1
            if not waiting[tenant]:
                del waiting[tenant]


async def begin(feed: EventFeed, database: Database) -> FeedPlace:
    """The place after all that was read. Raises StoreUnavailable."""
    return FeedPlace(tick=feed.last or await ticks.newest_tick(database))


async def find(feed: EventFeed, database: Database, number: int) -> Tick | None:
    """A tick by its number, None if it is not kept. Raises StoreUnavailable."""
    return feed.find(number) or await ticks.find(database, number)


async def advance(feed: EventFeed, database: Database, page: FeedPage, question: FeedQuestion) -> bool:
    """Adds what there is. Returns False if more was there than fits, or than could be read in time. Raises
    StoreUnavailable.
    """
    while (found := feed.after(page.place.tick, question.tenant)) is not None:
        tick, events = found
        if not page.take(events, question):
            return False
        page.ended(tick)
    if page.is_full(question):
        return False
    return not feed.is_behind(page.place.tick) or await _read_log(database, page, question)


async def wait(feed: EventFeed, bell: Wakeup, seconds: float) -> None:
    """Waits until there may be more, or somebody should look; `bell` was cleared before the last look."""
    if not feed.is_closed:
        await bell.wait(min(seconds, LOOK_SECONDS))


async def _read_log(database: Database, page: FeedPage, question: FeedQuestion) -> bool:
    clock = asyncio.get_running_loop().time
    ends_at = clock() + READ_SECONDS
    shard = shard_of(question.tenant)
    cuts = await ticks.after(database, page.place.tick.tick)
    for cut in cuts:
        if cut.may_touch(ticks.bits_of([shard])) and not await _read_tick(database, cut, page, question, ends_at):
            return False
        page.ended(cut)
        if clock() >= ends_at:
            return False
    return len(cuts) < ticks.PAGE_TICKS


async def _read_tick(database: Database, cut: Tick, page: FeedPage, question: FeedQuestion, ends_at: float) -> bool:
    """Adds the events of a tick. Returns False if that was not all of them."""
    clock = asyncio.get_running_loop().time
    before, from_seq = page.place.tick, page.place.seq + 1
    pages = tail.read_cut(database, before=before.snap, tick=cut, shards=[shard_of(question.tenant)], from_seq=from_seq)
    async with aclosing(pages):
        async for events in pages:
            if not page.take(events, question) or clock() >= ends_at:
                return False
    return True
