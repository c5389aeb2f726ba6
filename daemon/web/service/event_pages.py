"""The events of a tenant, page by page, newest first. How much is looked at for one page is bounded."""

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

# Rows that a page looks at if it is to have those of some types only.
_ROWS_OF_TYPES = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events: all that is given must fit. Types are patterns, as a route has them; the period is of the time that
    events claim, [since, until).
    """

    tenant: str
    patterns: tuple[str, ...] = (ALL,)
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A part of a list, perhaps empty, and the place below which it goes on; None if this is the end."""

    events: list[LoggedEvent]
    next: EventPosition | None


async def page(database: Database, wanted: EventFilter, *, begin: EventPosition | None, limit: int) -> EventPage:
    """At most `limit` events below `begin`. Raises StoreUnavailable."""
    tops = [(_END_OF_TIME, 0) if begin is None else begin, *([] if wanted.until is None else [(wanted.until, -1)])]
    found = await listing.listed(
        database,
        wanted.tenant,
        min(tops),
        since=wanted.since or _BEGIN_OF_TIME,
        patterns=wanted.patterns,
        rows=limit + 1 if ALL in wanted.patterns else _ROWS_OF_TYPES,
        most=limit + 1,
    )
    if len(found.events) <= limit:
        return EventPage(events=found.events, next=found.down_to)
    last = found.events[limit - 1]
    return EventPage(events=found.events[:limit], next=(last.claimed, last.seq))
