"""Counts the events that a route missed while it was disabled: those of its types in that period, without test events
and backfilled ones.

Events are counted by their claimed time, as in lists (domain_events/listing.py). The count stops at MAX_COUNTED, and
after MAX_LOOKED_AT events, which takes a few milliseconds. A count that stopped is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eventstore.postgres.connect import Database
from eventstore.queries.events.listing import CLAIMED, READ_SECONDS, of_types

MAX_COUNTED = 1000
# A million events of other types before the first one of the route's types would take seconds.
MAX_LOOKED_AT = 15_000

# $1 the tenant, $2 and $3 the period, $4 events to look at, $5 events to count, $6 patterns. An event is never recorded
# before its claimed time, so partitions before $2 are excluded.
_COUNT = f"""
SELECT count(*) FILTER (WHERE is_missed) AS missed, coalesce(max(nth), 0) AS looked_at
  FROM (SELECT nth, is_missed
          FROM (SELECT row_number() OVER () AS nth, NOT backfill AND test_route IS NULL AND {{condition}} AS is_missed
                  FROM (SELECT type, backfill, test_route FROM hookledger.domain_event
                         WHERE tenant = $1 AND {CLAIMED} >= $2 AND {CLAIMED} < $3 AND recorded_at >= $2
                         LIMIT $4) candidates) judged
         WHERE is_missed OR nth = $4
         LIMIT $5) counted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEvents:
    """`is_exact` is False if `number` is a lower bound."""

    number: int
    is_exact: bool


async def count(
    database: Database, tenant: str, event_types: Sequence[str], *, since: datetime, until: datetime
) -> MissedEvents:
    """Counts a tenant's events in [since, until) of these types, which are patterns as in a route."""
    condition, bound = of_types(event_types, parameter="$6")
    statement = _COUNT.format(condition=condition)
    async with database.connection(seconds=READ_SECONDS) as connection:
        (row,) = await connection.fetch(statement, tenant, since, until, MAX_LOOKED_AT + 1, MAX_COUNTED + 1, *bound)
    return MissedEvents(
        number=min(row["missed"], MAX_COUNTED),
        is_exact=row["missed"] <= MAX_COUNTED and row["looked_at"] <= MAX_LOOKED_AT,
    )
