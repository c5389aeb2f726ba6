"""Whether the counts of deliveries by hour are those of the outcome log: a trigger counts each outcome when recorded.

What is not added up yet is counted too, and a day is compared in one statement, so neither clocks nor a flush under way
make a difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.queries.metrics.route_metrics import COUNTS, KEPT_DAYS

_SECONDS = 600.0
_DAY = timedelta(days=1)
_NAMES = tuple(COUNTS.split(", "))

_TODAY = "SELECT date_trunc('day', clock_timestamp(), 'UTC')"

# $1 and $2 the hours. As hookledger.tally_attempts counts, which leaves out tests.
_WRONG = f"""
WITH told AS (
    SELECT route_id, hour, {", ".join(f"sum({name})::bigint AS {name}" for name in _NAMES)}
      FROM (SELECT route_id, hour, {COUNTS} FROM hookledger.route_metric WHERE hour >= $1 AND hour < $2
             UNION ALL
            SELECT u.route_id, t.hour, {", ".join(f"u.{name}" for name in _NAMES)}
              FROM hookledger.route_tally t,
                   unnest(t.route_ids, {", ".join(f"t.{name}" for name in _NAMES)}) AS u (route_id, {COUNTS})
             WHERE t.hour >= $1 AND t.hour < $2) counted
     GROUP BY route_id, hour
), recorded AS (
    SELECT route_id, date_trunc('hour', at, 'UTC') AS hour,
           count(*) FILTER (WHERE outcome = 'delivered') AS successful,
           count(*) FILTER (WHERE outcome = 'delivered' AND number > 1) AS successful_retries,
           count(*) FILTER (WHERE outcome = 'failed') AS failed,
           count(*) FILTER (WHERE outcome = 'suppressed') AS suppressed,
           count(*) FILTER (WHERE outcome = 'expired') AS expired
      FROM hookledger.attempt WHERE at >= $1 AND at < $2 AND NOT is_test GROUP BY route_id, 2
)
SELECT route_id, hour, {", ".join(f"coalesce(t.{name}, 0) AS told_{name}" for name in _NAMES)},
       {", ".join(f"coalesce(r.{name}, 0) AS real_{name}" for name in _NAMES)}
  FROM told t FULL JOIN recorded r USING (route_id, hour)
 WHERE {" OR ".join(f"coalesce(t.{name}, 0) <> coalesce(r.{name}, 0)" for name in _NAMES)}
 ORDER BY hour, route_id LIMIT 100
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongCount:
    """An hour of a route of which the counts, `told` by name, are not those that are `recorded`."""

    route_id: UUID
    hour: datetime
    told: Mapping[str, int]
    recorded: Mapping[str, int]


async def wrong_hours(database: Database, start: datetime, end: datetime) -> AsyncIterator[WrongCount]:
    """The first hundred such hours of each day, of the hours in [start, end) of which counts are kept."""
    async with database.connection(seconds=_SECONDS) as connection:
        today: datetime = await connection.fetchval(_TODAY)
    begin, ends = max(today - (KEPT_DAYS - 1) * _DAY, _next_hour(start)), _hour(end)
    while begin < ends:
        # What is of later days than today, since a clock was ahead, is little.
        following = min(ends, begin.replace(hour=0) + _DAY) if begin <= today else ends
        async with database.connection(seconds=_SECONDS) as connection:
            rows = await connection.fetch(_WRONG, begin, following)
        for row in rows:
            yield WrongCount(
                route_id=row["route_id"],
                hour=row["hour"],
                told={name: row[f"told_{name}"] for name in _NAMES},
                recorded={name: row[f"real_{name}"] for name in _NAMES},
            )
        begin = following


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _next_hour(at: datetime) -> datetime:
    hour = _hour(at)
    return hour if hour == at else hour + timedelta(hours=1)
