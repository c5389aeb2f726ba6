"""Metrics of routes: how many of their deliveries ended, and how, and which answers their requests got and when.

`tally` has the way of these counts. What it has not added up yet is added here, so the figures are those of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.queries.metrics.route_health import TAKEN_UP

KEPT_DAYS = 30
RECENT_PERIOD = timedelta(minutes=5)

COUNTS = "successful, successful_retries, failed, suppressed, expired"

# $1 the route, $2 the unit to begin at, $3 how long before the present one
_READ = f"""
SELECT n.now, n.pending, c.*
  FROM (SELECT statement_timestamp() AS now,
               ((SELECT count(*) FROM hookledger.retry WHERE route_id = $1)
                + coalesce((SELECT sum(pairs) FROM hookledger.parked WHERE route_id = $1), 0)
                - ({TAKEN_UP.format(route="$1")})
                + coalesce((SELECT pairs FROM hookledger.parked_range WHERE route_id = $1), 0))::bigint AS pending) n
  LEFT JOIN (
        SELECT {{by}} AS period, {COUNTS}, cells, requests FROM hookledger.{{table}} WHERE route_id = $1
         UNION ALL
        SELECT {{by_of_tally}}, successful[n], successful_retries[n], failed[n], suppressed[n], expired[n],
               cells[n:n], requests[n:n]
          FROM hookledger.route_tally t, unnest(array_positions(t.route_ids, $1)) AS n) c
    ON c.period >= {{begin}}
"""

_BY_HOUR = _READ.format(
    table="route_metric", by="hour", by_of_tally="hour",
    begin="date_trunc($2, statement_timestamp(), 'UTC') - $3::interval",
)  # fmt: skip
_BY_FIVE_MINUTES = _READ.format(
    table="route_recent", by="period", by_of_tally="date_bin('5 minutes', t.at, 'epoch')",
    begin="date_bin($2::interval, statement_timestamp(), 'epoch') - $3::interval",
)  # fmt: skip

# $1 routes, $2 hours before this one. route_tally has few rows at a time.
_RECENT = """
SELECT date_trunc('hour', statement_timestamp(), 'UTC') AS this_hour, r.route_id, c.*
  FROM unnest($1::uuid[]) AS r (route_id)
  LEFT JOIN (
        SELECT route_id AS of_route, hour, cells, requests
          FROM hookledger.route_metric WHERE route_id = ANY ($1)
         UNION ALL
        SELECT u.route_id, t.hour, ARRAY[u.cell], ARRAY[u.requests]
          FROM hookledger.route_tally t, unnest(t.route_ids, t.cells, t.requests) AS u (route_id, cell, requests)
         WHERE t.route_ids && $1 AND u.route_id = ANY ($1)) c
    ON c.of_route = r.route_id
   AND c.hour >= date_trunc('hour', statement_timestamp(), 'UTC') - make_interval(hours => $2)
"""

# Cell of hookledger.request_cell → how many requests were of it.
RequestCells = Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of deliveries by how they ended.

    `successful_retries` are the successful ones with more than one request.
    """

    successful: int = 0
    successful_retries: int = 0
    failed: int = 0
    suppressed: int = 0
    expired: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            successful=self.successful + other.successful,
            successful_retries=self.successful_retries + other.successful_retries,
            failed=self.failed + other.failed,
            suppressed=self.suppressed + other.suppressed,
            expired=self.expired + other.expired,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMetrics:
    """`periods` maps the beginning of each period in which a delivery ended, or a request was made, to its counts, as
    of `now`; `cells` does the same with its requests.

    `pending` counts the waiting deliveries.
    """

    now: datetime
    pending: int
    periods: Mapping[datetime, Counts]
    cells: Mapping[datetime, RequestCells] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRequests:
    """The requests of a route in the last hours, by hour, as of `this_hour`."""

    this_hour: datetime
    cells: Mapping[datetime, RequestCells]


async def read(database: Database, route_id: UUID, *, days: int = KEPT_DAYS) -> RouteMetrics:
    """The metrics of a route by hour, for today and the days before it, by UTC."""
    return await _read(database, _BY_HOUR, route_id, "day", timedelta(days=days - 1))


async def read_hours(database: Database, route_id: UUID, *, hours: int) -> RouteMetrics:
    """The metrics of a route by hour, for this hour and the hours before it."""
    return await _read(database, _BY_HOUR, route_id, "hour", timedelta(hours=hours - 1))


async def read_last_hour(database: Database, route_id: UUID) -> RouteMetrics:
    """The metrics of a route by five minutes, for these five minutes and those before it, an hour in all."""
    before = timedelta(hours=1) - RECENT_PERIOD
    return await _read(database, _BY_FIVE_MINUTES, route_id, RECENT_PERIOD, before)


async def recent(database: Database, route_ids: Sequence[UUID], *, hours: int) -> dict[UUID, RecentRequests]:
    """Route → its requests in this hour and the hours before it, `hours` in all."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RECENT, route_ids, hours - 1)
    cells: dict[UUID, dict[datetime, dict[int, int]]] = {}
    for row in rows:
        of_route = cells.setdefault(row["route_id"], {})
        if row["hour"] is not None:
            _add_cells(of_route.setdefault(row["hour"], {}), row["cells"], row["requests"])
    return {
        route_id: RecentRequests(this_hour=rows[0]["this_hour"], cells=of_route) for route_id, of_route in cells.items()
    }


async def _read(
    database: Database, statement: str, route_id: UUID, unit: str | timedelta, before: timedelta
) -> RouteMetrics:
    async with database.connection() as connection:
        rows = await connection.fetch(statement, route_id, unit, before)
    periods: dict[datetime, Counts] = {}
    cells: dict[datetime, dict[int, int]] = {}
    for row in rows:
        period = row["period"]
        if period is None:
            continue
        counts = Counts(
            successful=row["successful"],
            successful_retries=row["successful_retries"],
            failed=row["failed"],
            suppressed=row["suppressed"],
            expired=row["expired"],
        )
        periods[period] = periods[period] + counts if period in periods else counts
        _add_cells(cells.setdefault(period, {}), row["cells"], row["requests"])
    return RouteMetrics(now=rows[0]["now"], pending=rows[0]["pending"], periods=periods, cells=cells)


def _add_cells(to: dict[int, int], cells: Iterable[int | None], requests: Iterable[int | None]) -> None:
    """A tally that an older version wrote has no cells, and what ended without a request has the cell -1."""
    for cell, count in zip(cells, requests, strict=True):
        if cell is not None and count is not None and cell >= 0:
            to[cell] = to.get(cell, 0) + count
