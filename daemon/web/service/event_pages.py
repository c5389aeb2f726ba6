"""The events of a tenant, page by page, newest first. The number of rows that one page reads is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.core.routing.index import ALL
from daemon.web.http.paging import EventPosition
from eventstore.domain_events import listing
from eventstore.domain_events.listing import LoggedEvent
from eventstore.postgres.connect import Database

_BEGIN_OF_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)

# Rows that a page reads at most if it is filtered by type.
_FILTERED_ROWS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; every condition must hold. `patterns` are patterns of types, as routes have them. The
    period [since, until) is of the time that events claim.
    """

    tenant: str
    patterns: tuple[str, ...] = (ALL,)
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A page, perhaps empty. `next` is the position after which the list continues, None if this is the end."""

    events: list[LoggedEvent]
    next: EventPosition | None


async def page(database: Database, event_filter: EventFilter, *, begin: EventPosition | None, limit: int) -> EventPage:
    """At most `limit` events after the position `begin`, or from the newest on. Raises StoreUnavailable."""
    tops = [(_END_OF_TIME, 0) if begin is None else begin]
    if event_filter.until is not None:
        tops.append((event_filter.until, -1))
    found = await listing.listed(
        database,
        event_filter.tenant,
        min(tops),
        since=event_filter.since or _BEGIN_OF_TIME,
        patterns=event_filter.patterns,
        rows=limit + 1 if ALL in event_filter.patterns else _FILTERED_ROWS,
        limit=limit + 1,
    )
    if len(found.events) <= limit:
        return EventPage(events=found.events, next=found.down_to)
    last = found.events[limit - 1]
    return EventPage(events=found.events[:limit], next=(last.claimed, last.seq))
