"""Events of a tenant whose data has a value in a field, newest first: for lists of deliveries, and of events.

No index knows the fields of payloads, so events are walked, in stretches that grow while that is quick. The caller
decides when to stop: after each stretch it hears how far that went, also if it found nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from daemon.core.events.field_condition import FieldCondition
from daemon.expressions import searching
from daemon.expressions.judging import FilterPlaces
from eventstore.postgres.connect import Database
from eventstore.queries.events import field_search
from eventstore.queries.events.field_search import SearchBounds
from eventstore.queries.events.listing import LoggedEvent

# A search looks at so many events before its caller can ask whether it is late: more of them while that is quick, fewer
# when it is not. Payloads are read up to so many bytes, and so many of them are parsed.
_FIRST_SEARCHED_ROWS = 500
_MAX_SEARCHED_ROWS = 8000
_SEARCHED_BYTES = 8 << 20
_QUICK_SECONDS = 0.1
_CANDIDATES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedStretch:
    """The events that fit of a stretch. `down_to` is the time and seq of the last one that was looked at, None if there
    are no more.
    """

    events: list[LoggedEvent]
    down_to: tuple[datetime, int] | None


async def stretches(
    database: Database,
    tenant: str,
    begin: tuple[datetime, int],
    where: FieldCondition,
    *,
    since: datetime,
    event_type: str | None,
    places: FilterPlaces | None,
) -> AsyncIterator[SearchedStretch]:
    """The stretches below the time and seq `begin`, of one type or of any. `places` are where data is looked into."""
    top: tuple[datetime, int] | None = begin
    rows = _FIRST_SEARCHED_ROWS
    while top is not None:
        began_at = time.monotonic()
        looked = await field_search.candidates(
            database,
            tenant,
            top,
            since=since,
            event_type=event_type,
            needles=where.needles,
            bounds=SearchBounds(rows=rows, data_bytes=_SEARCHED_BYTES, hits=_CANDIDATES),
        )
        is_quick = time.monotonic() - began_at < _QUICK_SECONDS
        rows = min(2 * rows, _MAX_SEARCHED_ROWS) if is_quick else max(rows // 2, _FIRST_SEARCHED_ROWS)
        fits = await searching.fitting(places, tenant, [data for _, data in looked.events], where)
        top = looked.down_to
        found = [event for (event, _), is_fit in zip(looked.events, fits, strict=True) if is_fit]
        yield SearchedStretch(events=found, down_to=top)
