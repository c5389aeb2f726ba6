"""Metrics of routes: how many of their deliveries ended in each hour of 30 days, and how; and the routes that only
fail.

    attempt --trigger--> route_tally --add_up--> route_metric, route_failing

A trigger on `attempt` writes a packed row with the counts of each route, in the transaction that records the outcomes
(`hookledger.tally_attempts` in schema.sql). `add_up` moves these rows into the hours every few seconds. A row that is
not committed yet is moved the next time. A reader adds both tables in one snapshot, so its figures are those of the log
at that moment. No times are compared, so clocks may jump, and the tables of a restored dump agree.

Three designs were measured, for flushes of 150 and 500 outcomes of 100 routes, which cost 2.5 and 7.0 ms and about 500
bytes of write-ahead log an outcome. Packed rows add 5 to 15 bytes and 0.3 to 0.9 ms. Adding to the hours in the flush
itself adds 25 to 90 bytes and 0.4 to 1.8 ms, and leaves 20 versions a second of the row of each busy route, which pile
up behind any transaction that stays open. Reading the log after a watermark would add nothing, but the log has no order
that late commits and clocks that are set back respect.

Ends of deliveries are counted, in the hour in which they were recorded: a delivery that failed and was sent again by
hand ends twice. Test deliveries are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

KEPT_DAYS = 30

# One process adds up at a time, and the others skip it. See the head of schema.sql for the mode.
_ADD_UP_LOCK = "LOCK TABLE hookledger.tally_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"
_ADD_UP_SECONDS = 30.0
# Longer than what any reader asks for, by a day that is not over.
_FORGOTTEN_AFTER = timedelta(days=KEPT_DAYS + 1)

_COUNTS = "successful, successful_retries, failed, suppressed, expired"

# If a route succeeded, only failures of later statements count. If it did not, `since` stays.
_ADD_UP = f"""
WITH taken AS (
    DELETE FROM hookledger.route_tally RETURNING *
), each AS MATERIALIZED (
    SELECT t.id, t.hour, t.at, u.*
      FROM taken t, unnest(t.route_ids, t.successful, t.successful_retries, t.failed, t.suppressed, t.expired,
                           t.failures) AS u (route_id, {_COUNTS}, failures)
), counted AS (
    INSERT INTO hookledger.route_metric AS m (route_id, hour, {_COUNTS})
    SELECT route_id, hour, sum(successful), sum(successful_retries), sum(failed), sum(suppressed), sum(expired)
      FROM each GROUP BY route_id, hour
    HAVING sum(successful) + sum(failed) + sum(suppressed) + sum(expired) > 0
    ON CONFLICT (route_id, hour) DO UPDATE
       SET successful = m.successful + excluded.successful,
           successful_retries = m.successful_retries + excluded.successful_retries,
           failed = m.failed + excluded.failed,
           suppressed = m.suppressed + excluded.suppressed,
           expired = m.expired + excluded.expired
), succeeded AS MATERIALIZED (
    SELECT route_id, max(id) AS last FROM each WHERE successful > 0 GROUP BY route_id
), failed AS MATERIALIZED (
    SELECT e.route_id, s.last IS NULL AS is_unbroken, min(e.at) AS since, max(e.at) AS last_at
      FROM each e LEFT JOIN succeeded s USING (route_id)
     WHERE e.failures > 0 AND e.id > coalesce(s.last, 0)
     GROUP BY e.route_id, s.last
), failing AS (
    INSERT INTO hookledger.route_failing (route_id, since, last_at)
    SELECT f.route_id, coalesce(old.since, f.since), f.last_at
      FROM failed f LEFT JOIN hookledger.route_failing old ON old.route_id = f.route_id AND f.is_unbroken
    ON CONFLICT (route_id) DO UPDATE SET since = excluded.since, last_at = excluded.last_at
), recovered AS (
    DELETE FROM hookledger.route_failing f USING succeeded s
     WHERE f.route_id = s.route_id AND f.route_id NOT IN (SELECT route_id FROM failed)
)
SELECT count(*) FROM taken
"""

# $1 the route, $2 days before today
_READ = f"""
SELECT n.now, n.pending, h.*
  FROM (SELECT statement_timestamp() AS now,
               ((SELECT count(*) FROM hookledger.retry WHERE route_id = $1)
                + coalesce((SELECT sum(pairs) FROM hookledger.parked WHERE route_id = $1), 0)
                + coalesce((SELECT pairs FROM hookledger.parked_range WHERE route_id = $1), 0))::bigint AS pending) n
  LEFT JOIN (
        SELECT hour, sum(successful)::bigint AS successful, sum(successful_retries)::bigint AS successful_retries,
               sum(failed)::bigint AS failed, sum(suppressed)::bigint AS suppressed, sum(expired)::bigint AS expired
          FROM (SELECT hour, {_COUNTS} FROM hookledger.route_metric WHERE route_id = $1
                 UNION ALL
                SELECT hour, successful[n], successful_retries[n], failed[n], suppressed[n], expired[n]
                  FROM (SELECT *, array_position(route_ids, $1) AS n FROM hookledger.route_tally) t
                 WHERE n IS NOT NULL) counted
         WHERE hour >= date_trunc('day', statement_timestamp(), 'UTC') - make_interval(days => $2)
         GROUP BY hour) h ON true
 ORDER BY h.hour
"""

# $1 routes, $2 hours before this one. route_tally has few rows at a time.
_RECENT = """
SELECT r.route_id, f.since AS failing_since, coalesce(sum(c.successful), 0)::bigint AS successful,
       coalesce(sum(c.failed), 0)::bigint AS failed
  FROM unnest($1::uuid[]) AS r (route_id)
  LEFT JOIN (
        SELECT route_id, hour, successful, failed FROM hookledger.route_metric WHERE route_id = ANY ($1)
         UNION ALL
        SELECT u.route_id, t.hour, u.successful, u.failed
          FROM hookledger.route_tally t, unnest(t.route_ids, t.successful, t.failed) AS u (route_id, successful, failed)
         WHERE u.route_id = ANY ($1)) c
    ON c.route_id = r.route_id
   AND c.hour >= date_trunc('hour', statement_timestamp(), 'UTC') - make_interval(hours => $2)
  LEFT JOIN hookledger.route_failing f ON f.route_id = r.route_id
 GROUP BY r.route_id, f.since
"""

_FAILING = "SELECT route_id, since, last_at FROM hookledger.route_failing WHERE last_at - since >= $1"

# $1 the route, $2 the time to begin at, $3 errors that do not count as failures of the receiver
_FAILURES = """
SELECT count(*) AS failures, min(at) AS first_at, max(at) AS last_at
  FROM hookledger.attempt
 WHERE route_id = $1 AND at >= $2 AND outcome IN ('retrying', 'failed') AND NOT is_test
   AND (error IS NULL OR error <> ALL ($3::text[]))
   AND NOT EXISTS (SELECT FROM hookledger.attempt
                    WHERE route_id = $1 AND at >= $2 AND outcome = 'delivered' AND NOT is_test)
"""


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
    """`hours` maps the beginning of each UTC hour in which a delivery ended to its counts, as of `now`.

    `pending` counts the waiting deliveries. A packed row counts with all its deliveries until the last one is sent.
    """

    now: datetime
    pending: int
    hours: dict[datetime, Counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentCounts:
    """The counts of a route in the last hours. `failing_since` is the time since which only failures were recorded, as
    far as they are added up; None if the newest request succeeded, or there was none.
    """

    successful: int
    failed: int
    failing_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingRoute:
    """A route with only failures between these times, as far as they are added up."""

    route_id: UUID
    since: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRun:
    """The number of failed requests, and the times of the first and the last one."""

    count: int
    first_at: datetime
    last_at: datetime


async def add_up(database: Database) -> int | None:
    """Moves the rows of route_tally into the hours. Returns how many, or None if another process is doing it."""
    async with database.transaction(seconds=_ADD_UP_SECONDS) as connection:
        # A separate statement, so that the next one sees what the previous process has added.
        try:
            await connection.execute(_ADD_UP_LOCK)
        except asyncpg.LockNotAvailableError:
            return None
        return int(await connection.fetchval(_ADD_UP))


async def read(database: Database, route_id: UUID) -> RouteMetrics:
    """The metrics of a route for today and the 29 days before, by UTC."""
    async with database.connection() as connection:
        rows = await connection.fetch(_READ, route_id, KEPT_DAYS - 1)
    return RouteMetrics(
        now=rows[0]["now"],
        pending=rows[0]["pending"],
        hours={
            row["hour"]: Counts(
                successful=row["successful"],
                successful_retries=row["successful_retries"],
                failed=row["failed"],
                suppressed=row["suppressed"],
                expired=row["expired"],
            )
            for row in rows
            if row["hour"] is not None
        },
    )


async def recent(database: Database, route_ids: Sequence[UUID], *, hours: int) -> dict[UUID, RecentCounts]:
    """Route → its counts in this hour and the hours before it, `hours` in all."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RECENT, route_ids, hours - 1)
    return {
        row["route_id"]: RecentCounts(
            successful=row["successful"], failed=row["failed"], failing_since=row["failing_since"]
        )
        for row in rows
    }


async def forget(database: Database) -> int:
    """Deletes hours that are older than any reader asks for, and failing routes without a failure since then. Returns
    the number of hours.
    """
    async with database.transaction(seconds=_ADD_UP_SECONDS) as connection:
        before = "clock_timestamp() - $1::interval"
        done = await connection.execute(f"DELETE FROM hookledger.route_metric WHERE hour < {before}", _FORGOTTEN_AFTER)
        await connection.execute(f"DELETE FROM hookledger.route_failing WHERE last_at < {before}", _FORGOTTEN_AFTER)
    return int(done.split()[-1])


async def failing(database: Database, *, for_at_least: timedelta) -> list[FailingRoute]:
    """Routes whose first and last failure are at least so far apart, with no success in between."""
    async with database.connection() as connection:
        rows = await connection.fetch(_FAILING, for_at_least)
    return [FailingRoute(**row) for row in rows]


async def failures(
    database: Database, route_id: UUID, *, since: datetime, excluding: Sequence[str] = ()
) -> FailureRun | None:
    """The failures of a route from `since` on, read from `attempt`, without those with an error in `excluding`. None if
    there are none, or if anything was delivered.
    """
    async with database.connection(seconds=30) as connection:
        (row,) = await connection.fetch(_FAILURES, route_id, since, excluding)
    if not row["failures"]:
        return None
    return FailureRun(count=row["failures"], first_at=row["first_at"], last_at=row["last_at"])
