"""A list of deliveries, newest event first, merged from what outcomes, retries, parked rows and undecided events say.

Each of these is read in stretches, and what is above the lowest place that all of them have reached is complete. How
much is looked at for one page is bounded by rows and time. So a page may be short, or even empty, though there is more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from daemon.core.delivery.answer import Outcome, delivery_id
from daemon.core.delivery.status import DeliveryStatus, FinalOutcome, status_of
from daemon.core.routing.index import RouteIndex
from daemon.deliveries.merge import DeliverySource, Merge
from daemon.deliveries.undecided import UndecidedReader
from eventstore.domain_events import listing
from eventstore.postgres.connect import Database
from eventstore.queries import attempts, delivery_log
from eventstore.queries.attempts import AttemptSummary
from eventstore.queries.delivery_log import BOTTOM, TOP, FoundDelivery, ListPosition, ListScope, Stretch

# How long more is looked at for a page that is not full yet.
PAGE_SECONDS = 0.02

# How many are looked up at once.
_BATCH = 100
# Of a type that no more routes than these ever subscribed to, each is looked at by itself.
_FEW_ROUTES = 8
# Packed rows have a few pairs, or hundreds: so many rows are read as would do if they had these.
_PAIRS_OF_ROW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries: all that is given must fit. The period is of event time, [since, until)."""

    tenant: str
    route_id: UUID | None = None
    status: DeliveryStatus | None = None
    event_type: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDelivery:
    """A delivery in a list. The route's name is None while this process has not heard of the route."""

    id: str
    found: FoundDelivery
    route_name: str | None
    status: DeliveryStatus
    gist: AttemptSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """A part of a list, and the place below which it goes on; None if this is the end."""

    items: list[ListedDelivery]
    next: ListPosition | None


async def page(
    database: Database,
    index: RouteIndex,
    wanted: DeliveryFilter,
    *,
    begin: ListPosition | None,
    limit: int,
    seconds: float | None = None,
    matches: Callable[[FoundDelivery], bool] | None = None,
) -> DeliveryPage:
    """At most `limit` deliveries below `begin`; if `matches` is given, only those that it is true of."""
    ends_at = time.monotonic() + (PAGE_SECONDS if seconds is None else seconds)
    filling = _Filling(database, index, wanted.status, size=limit + 1, ends_at=ends_at)
    for top, bottom in await _spans(database, wanted, begin or TOP):
        # Of a delivery that was tried again two rows are found.
        merge = Merge(_stages(database, index, wanted, bottom), top, rows=2 * filling.size)
        while not merge.is_over:
            complete = [found for found in await merge.advance() if matches is None or matches(found)]
            looked_upto = await filling.fill(complete)
            if filling.is_full:
                return DeliveryPage(items=filling.items[:limit], next=filling.items[limit - 1].found.place)
            if looked_upto is not None:
                return DeliveryPage(items=filling.items, next=looked_upto)
            if filling.is_late and not merge.is_over:
                return DeliveryPage(items=filling.items, next=merge.reached)
    return DeliveryPage(items=filling.items, next=None)


@dataclass(slots=True)
class _Filling:
    """Takes deliveries that stand as wanted, until it is full or late."""

    database: Database
    index: RouteIndex
    wanted: DeliveryStatus | None
    size: int
    ends_at: float
    items: list[ListedDelivery] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.items) >= self.size

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.ends_at

    async def fill(self, complete: Sequence[FoundDelivery]) -> ListPosition | None:
        """Looks at deliveries, downwards. At which it stopped, being late; None if it did not, or the page is full."""
        for start in range(0, len(complete), _BATCH):
            batch = complete[start : start + _BATCH]
            for item in await described(self.database, self.index, batch):
                if self.wanted in (None, item.status) and not self.is_full:
                    self.items.append(item)
            if self.is_full:
                return None
            if self.is_late and start + _BATCH < len(complete):
                return batch[-1].place
        return None


def _stages(
    database: Database, index: RouteIndex, wanted: DeliveryFilter, bottom: ListPosition
) -> list[list[DeliverySource]]:
    """Where the wanted deliveries may be found, in the order in which they move on: see
    eventstore/queries/delivery_log.py.
    """
    whole = ListScope(tenant=wanted.tenant, route_id=wanted.route_id, event_type=wanted.event_type, bottom=bottom)
    scopes = _narrowed(index, whole)
    attempted: list[DeliverySource] = [partial(_attempted, database, scope, wanted.status) for scope in scopes]
    if wanted.status not in (None, DeliveryStatus.PENDING):
        return [attempted]
    return [
        [UndecidedReader(database, index, whole).read],
        [partial(_parked, database, scope) for scope in scopes],
        [partial(delivery_log.retrying, database, scope) for scope in scopes],
        *([attempted] if wanted.status is None else []),
    ]


def _narrowed(index: RouteIndex, scope: ListScope) -> list[ListScope]:
    """The same scope, cut into its routes if only few ever subscribed to the type that is wanted: a rare type is found
    sooner among what they got than among all of the tenant's.
    """
    if scope.event_type is None or scope.route_id is not None:
        return [scope]
    routes = [timeline.current.id for timeline in index.candidates(scope.tenant, scope.event_type)]
    return [scope] if len(routes) > _FEW_ROUTES else [replace(scope, route_id=route_id) for route_id in routes]


async def _attempted(
    database: Database, scope: ListScope, wanted: DeliveryStatus | None, begin: ListPosition, rows: int
) -> Stretch:
    return await delivery_log.attempted(database, scope, begin, rows, outcome=wanted)


async def _parked(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    return await delivery_log.parked(database, scope, begin, rows, packed=max(2, rows // _PAIRS_OF_ROW))


async def _spans(
    database: Database, wanted: DeliveryFilter, begin: ListPosition
) -> list[tuple[ListPosition, ListPosition]]:
    """The parts of the list to look at, downwards, each from below a place down to another one."""
    if wanted.until is not None:
        begin = min(begin, delivery_log.before(wanted.until))
    bottom = BOTTOM if wanted.since is None else delivery_log.before(wanted.since)
    if wanted.event_id is None:
        return [(begin, bottom)]
    events = await listing.named(database, wanted.tenant, wanted.event_id)
    spans = [
        (
            min(begin, ListPosition(event.event_time, event.seq + 1, UUID(int=0))),
            ListPosition(event.event_time, event.seq, UUID(int=0)),
        )
        for event in events
    ]
    return sorted((span for span in spans if span[0] > span[1] >= bottom), reverse=True)


async def described(database: Database, index: RouteIndex, found: Sequence[FoundDelivery]) -> list[ListedDelivery]:
    """Deliveries with how they stand."""
    pairs = [(each.place.route_id, each.place.seq, each.place.event_time) for each in found]
    gists = await attempts.summaries(database, pairs)
    return [_item(index, each, gists[each.place.route_id, each.place.seq]) for each in found]


def _item(index: RouteIndex, found: FoundDelivery, gist: AttemptSummary) -> ListedDelivery:
    route_id = found.place.route_id
    timeline = index.timeline(route_id)
    return ListedDelivery(
        id=delivery_id(route_id, found.event_id),
        found=found,
        route_name=None if timeline is None else timeline.current.config.name,
        status=status_of_summary(gist),
        gist=gist,
    )


def status_of_summary(gist: AttemptSummary) -> DeliveryStatus:
    """How a delivery stands by what it came to so far."""
    end = None
    if gist.end_outcome is not None and gist.end_number is not None:
        end = FinalOutcome(outcome=Outcome(gist.end_outcome), number=gist.end_number)
    return status_of(was_delivered=gist.was_delivered, end=end, retry_after=gist.retry_failures)
