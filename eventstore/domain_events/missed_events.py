"""How many events a route missed while it was off: those of its types that happened then, test events and backfilled
ones left out.

Counted by the time that events claim, as lists are ordered (event_log.py). Neither more is counted than anybody wants
to read, nor more looked at than takes a few milliseconds: beyond that the number is what there is at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eventstore.domain_events.listing import CLAIMED, READ_SECONDS, of_types
from eventstore.postgres.connect import Database

MAX_COUNTED = 1000
# A million events of other types before the first of a route's own would take seconds.
MAX_LOOKED_AT = 15_000

# $1 the tenant, $2 and $3 the period, $4 events to look at, $5 those to count, $6 patterns. What happened since a
# moment was recorded since then: so older partitions are left alone.
_COUNT = f"""
SELECT count(*) FILTER (WHERE is_missed) AS missed, coalesce(max(nth), 0) AS looked_at
  FROM (SELECT nth, is_missed
          FROM (SELECT row_number() OVER () AS nth, NOT backfill AND test_route IS NULL AND {{is_wanted}} AS is_missed
                  FROM (SELECT type, backfill, test_route FROM hookledger.domain_event
                         WHERE tenant = $1 AND {CLAIMED} >= $2 AND {CLAIMED} < $3 AND recorded_at >= $2
                         LIMIT $4) happened) judged
         WHERE is_missed OR nth = $4
         LIMIT $5) counted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEvents:
    """`is_exact` is False if there may be more."""

    number: int
    is_exact: bool


async def count(
    database: Database, tenant: str, event_types: Sequence[str], *, since: datetime, until: datetime
) -> MissedEvents:
    """What of these types (patterns, as a route has them) happened to a tenant in [since, until)."""
    is_wanted, bound = of_types(event_types, place="$6")
    statement = _COUNT.format(is_wanted=is_wanted)
    async with database.connection(seconds=READ_SECONDS) as connection:
        (row,) = await connection.fetch(statement, tenant, since, until, MAX_LOOKED_AT + 1, MAX_COUNTED + 1, *bound)
    return MissedEvents(
        number=min(row["missed"], MAX_COUNTED),
        is_exact=row["missed"] <= MAX_COUNTED and row["looked_at"] <= MAX_LOOKED_AT,
    )
