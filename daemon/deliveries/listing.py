"""A list of deliveries, newest event first, merged from outcomes, retries, parked rows and undecided events.

Each of them is scanned in stretches of a bounded number of rows. The list is complete down to the lowest position that
every scan has reached. A page is read until it is full; indexes by status and by type make what is looked at few. Only
where none helps a page may end early, after PAGE_SECONDS: then it is short, or even empty, though there is more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from daemon.core.delivery.answer import Outcome, delivery_id
from daemon.core.delivery.status import DeliveryStatus, FinalOutcome, ListStatus, status_of
from daemon.core.events.field_condition import FieldCondition
from daemon.core.routing.index import RouteIndex
from daemon.deliveries import event_search
from daemon.deliveries.scanning import scans
from daemon.deliveries.scanning.merge import Merge
from daemon.expressions.judging import FilterPlaces
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import attempts, delivery_log
from eventstore.queries.deliveries.attempts import AttemptSummary
from eventstore.queries.deliveries.delivery_log import BOTTOM, TOP, FoundDelivery, ListPosition, ListScope
from eventstore.queries.events import listing
from eventstore.queries.events.listing import LoggedEvent

# After this time a page that is not full ends early. Not sooner: people take an empty page for an answer.
PAGE_SECONDS = 1.0

# So many deliveries are summarised by one query.
_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries: all given conditions must hold. [since, until) is a period of event time. `where` is a
    condition on the data of the event, None if there is an `event_id`.
    """

    tenant: str
    route_id: UUID | None = None
    status: ListStatus | None = None
    event_type: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    where: FieldCondition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDelivery:
    """A delivery in a list. `route_name` is None while the projection of this process does not know the route."""

    id: str
    found: FoundDelivery
    route_name: str | None
    status: DeliveryStatus
    summary: AttemptSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """A part of a list, and the position below which the next page begins, None if there is none."""

    items: list[ListedDelivery]
    next: ListPosition | None


async def page(
    database: Database,
    index: RouteIndex,
    delivery_filter: DeliveryFilter,
    *,
    begin: ListPosition | None,
    limit: int,
    seconds: float | None = None,
    matches: Callable[[FoundDelivery], bool] | None = None,
    places: FilterPlaces | None = None,
) -> DeliveryPage:
    """At most `limit` deliveries below `begin`. If `matches` is given, only those for which it is true.

    `seconds` is the time after which a page that is not full ends early, PAGE_SECONDS if None. `places` are where the
    filters of undecided events are evaluated, and where data is looked into.
    """
    ends_at = time.monotonic() + (PAGE_SECONDS if seconds is None else seconds)
    builder = _PageBuilder(database, index, delivery_filter.status, size=limit + 1, ends_at=ends_at)
    async for top, bottom in _spans(database, delivery_filter, begin or TOP, places):
        scope = ListScope(
            tenant=delivery_filter.tenant,
            route_id=delivery_filter.route_id,
            event_type=delivery_filter.event_type,
            bottom=bottom,
        )
        # A delivery that was tried more than once is found in two rows.
        stages = scans.stages(database, index, scope, delivery_filter.status, places=places)
        merge = Merge(stages, top, rows=2 * builder.size)
        while not merge.is_over:
            complete = [found for found in await merge.advance() if matches is None or matches(found)]
            stopped_at = await builder.add(complete)
            if builder.is_full:
                return DeliveryPage(items=builder.items[:limit], next=builder.items[limit - 1].found.position)
            if stopped_at is not None:
                return DeliveryPage(items=builder.items, next=stopped_at)
            if builder.is_late and not merge.is_over:
                return DeliveryPage(items=builder.items, next=merge.reached)
        if builder.is_late and delivery_filter.where is not None:  # there may be no other span, but nobody knows yet
            return DeliveryPage(items=builder.items, next=bottom)
    return DeliveryPage(items=builder.items, next=None)


@dataclass(slots=True)
class _PageBuilder:
    """Collects the deliveries of the status, any if None, until it is full or late."""

    database: Database
    index: RouteIndex
    status: ListStatus | None
    size: int
    ends_at: float
    items: list[ListedDelivery] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.items) >= self.size

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.ends_at

    async def add(self, complete: Sequence[FoundDelivery]) -> ListPosition | None:
        """Adds deliveries, downwards. Returns where it stopped because it was late, else None."""
        for start in range(0, len(complete), _BATCH):
            batch = complete[start : start + _BATCH]
            for item in await described(self.database, self.index, batch):
                fits = self.status is None or self.status.fits(item.status, requests=item.summary.requests)
                if fits and not self.is_full:
                    self.items.append(item)
            if self.is_full:
                return None
            if self.is_late and start + _BATCH < len(complete):
                return batch[-1].position
        return None


async def _spans(
    database: Database, delivery_filter: DeliveryFilter, begin: ListPosition, places: FilterPlaces | None
) -> AsyncIterator[tuple[ListPosition, ListPosition]]:
    """The parts of the list to read, downwards: each from below its first position down to its second one."""
    if delivery_filter.until is not None:
        begin = min(begin, delivery_log.before(delivery_filter.until))
    bottom = BOTTOM if delivery_filter.since is None else delivery_log.before(delivery_filter.since)
    if delivery_filter.event_id is not None:
        events = await listing.by_id(database, delivery_filter.tenant, delivery_filter.event_id)
        for span in sorted((_span(event, begin) for event in events), reverse=True):
            if span[0] > span[1] >= bottom:
                yield span
    elif delivery_filter.where is not None:
        async for span in _spans_where(database, delivery_filter, delivery_filter.where, begin, bottom, places):
            yield span
    else:
        yield begin, bottom


async def _spans_where(
    database: Database,
    delivery_filter: DeliveryFilter,
    where: FieldCondition,
    begin: ListPosition,
    bottom: ListPosition,
    places: FilterPlaces | None,
) -> AsyncIterator[tuple[ListPosition, ListPosition]]:
    """A span for each event that fits, and an empty one wherever the search has come without finding any."""
    # Deliveries of the event at `begin` may still be below it.
    top = (begin.event_time, begin.seq + (begin.route_id > UUID(int=0)))
    stretches = event_search.stretches(
        database,
        delivery_filter.tenant,
        top,
        where,
        since=bottom.event_time,
        event_type=delivery_filter.event_type,
        places=places,
    )
    async for stretch in stretches:
        for event in stretch.events:
            span = _span(event, begin)
            if span[0] > span[1] >= bottom:
                yield span
        if stretch.down_to is not None:
            reached = ListPosition(*stretch.down_to, UUID(int=0))
            yield reached, reached


def _span(event: LoggedEvent, begin: ListPosition) -> tuple[ListPosition, ListPosition]:
    """The part of the list below `begin` that has the deliveries of one event."""
    return (
        min(begin, ListPosition(event.event_time, event.seq + 1, UUID(int=0))),
        ListPosition(event.event_time, event.seq, UUID(int=0)),
    )


async def described(database: Database, index: RouteIndex, found: Sequence[FoundDelivery]) -> list[ListedDelivery]:
    """The deliveries with their status and a summary of their attempts, in the same order."""
    pairs = [(each.position.route_id, each.position.seq, each.position.event_time) for each in found]
    summaries = await attempts.summaries(database, pairs)
    return [_item(index, each, summaries[each.position.route_id, each.position.seq]) for each in found]


def _item(index: RouteIndex, found: FoundDelivery, summary: AttemptSummary) -> ListedDelivery:
    route_id = found.position.route_id
    route = index.route(route_id)
    return ListedDelivery(
        id=delivery_id(route_id, found.event_id, found.position.event_time),
        found=found,
        route_name=None if route is None else route.config.name,
        status=status_of_summary(summary),
        summary=summary,
    )


def status_of_summary(summary: AttemptSummary) -> DeliveryStatus:
    """The status of a delivery by the summary of its attempts."""
    end = None
    if summary.end_outcome is not None and summary.end_number is not None:
        end = FinalOutcome(outcome=Outcome(summary.end_outcome), number=summary.end_number)
    return status_of(was_delivered=summary.was_delivered, end=end, retry_after=summary.retry_failures)
