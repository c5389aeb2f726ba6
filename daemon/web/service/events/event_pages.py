"""The events of a tenant, page by page, newest first.

A page is read until it is full: by walking a few of the tenant's events, which is enough where most of them fit. Then
those of a few types have an index; those of very many types, and those with a value in a field, are found by walking
on, and only there a page may end early, after PAGE_SECONDS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.core.events.field_condition import FieldCondition
from daemon.core.routing.index import ALL, patterns_of
from daemon.deliveries import event_search
from daemon.expressions.judging import FilterPlaces
from daemon.web.http.paging import EventPosition
from eventstore.postgres.connect import Database
from eventstore.queries.events import listing
from eventstore.queries.events.listing import LoggedEvent

_BEGIN_OF_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)

# After this time a page that is not full ends early, as it does only if its types are more than MAX_TYPES, or with a
# condition on data. Not sooner: people take an empty page for an answer.
PAGE_SECONDS = 1.0

# The newest events of each of these types are read for a page: a hundred take ten milliseconds.
MAX_TYPES = 200

# Before anybody asks for types, so many events are looked at for each that is wanted: where most events are of these
# types, that fills the page. With more than MAX_TYPES the walk goes on, with twice as many each time, up to the second.
_FIRST_PART = 4
_WALKED_ROWS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; every condition must hold. `patterns` are patterns of types, as routes have them. The
    period [since, until) is of the time that events claim. `where` is a condition on their data.
    """

    tenant: str
    patterns: tuple[str, ...] = (ALL,)
    since: datetime | None = None
    until: datetime | None = None
    where: FieldCondition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A page, perhaps empty. `next` is the position after which the list continues, None if this is the end."""

    events: list[LoggedEvent]
    next: EventPosition | None


async def page(
    database: Database,
    event_filter: EventFilter,
    *,
    begin: EventPosition | None,
    limit: int,
    places: FilterPlaces | None = None,
) -> EventPage:
    """At most `limit` events after the position `begin`, or from the newest on. `places` are where data is looked into.
    Raises StoreUnavailable, and Saturated if there is a condition on data.
    """
    tops = [(_END_OF_TIME, 0) if begin is None else begin]
    if event_filter.until is not None:
        tops.append((event_filter.until, -1))
    if event_filter.where is None:
        events, down_to = await _events(database, event_filter, min(tops), limit + 1)
    else:
        events, down_to = await _searched(database, event_filter, event_filter.where, min(tops), limit + 1, places)
    if len(events) <= limit:
        return EventPage(events=events, next=down_to)
    last = events[limit - 1]
    return EventPage(events=events[:limit], next=(last.claimed, last.seq))


async def _searched(
    database: Database,
    event_filter: EventFilter,
    where: FieldCondition,
    top: EventPosition,
    most: int,
    places: FilterPlaces | None,
) -> tuple[list[LoggedEvent], EventPosition | None]:
    """The same for a condition on data."""
    wanted = frozenset(event_filter.patterns)
    only_type = event_filter.patterns[0] if len(wanted) == 1 and not event_filter.patterns[0].endswith("*") else None
    stretches = event_search.stretches(
        database,
        event_filter.tenant,
        top,
        where,
        since=event_filter.since or _BEGIN_OF_TIME,
        event_type=only_type,
        places=places,
    )
    events: list[LoggedEvent] = []
    ends_at = time.monotonic() + PAGE_SECONDS
    async for stretch in stretches:
        events += [event for event in stretch.events if not wanted.isdisjoint(patterns_of(event.type))]
        if stretch.down_to is None or len(events) >= most or time.monotonic() > ends_at:
            return events, stretch.down_to
    return events, None


async def _events(
    database: Database, event_filter: EventFilter, top: EventPosition, most: int
) -> tuple[list[LoggedEvent], EventPosition | None]:
    """At most so many events below `top`, and where the search ended early, None if it did not."""
    tenant, patterns, since = event_filter.tenant, event_filter.patterns, event_filter.since or _BEGIN_OF_TIME
    events: list[LoggedEvent] = []
    rows = most if ALL in patterns else min(most * _FIRST_PART, _WALKED_ROWS)
    is_first, ends_at = True, time.monotonic() + PAGE_SECONDS
    while True:
        found = await listing.listed(
            database, tenant, top, since=since, patterns=patterns, rows=rows, limit=most - len(events)
        )
        events += found.events
        if found.down_to is None or len(events) >= most or time.monotonic() > ends_at:
            return events, found.down_to
        top = found.down_to
        if is_first and ALL not in patterns:
            names = await listing.names(database, tenant, patterns, most=MAX_TYPES)
            if names is not None:
                left = most - len(events)
                rest = await listing.of_names(database, tenant, top, since=since, names=names, limit=left)
                return events + rest, None
        is_first, rows = False, min(2 * rows, _WALKED_ROWS)
