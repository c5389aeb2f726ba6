"""Adds up what the trigger on `attempt` has counted; and the routes that only fail.

    attempt --trigger--> route_tally --add_up--> route_metric, route_recent, route_failing

A trigger on `attempt` writes a packed row with the counts of each route, in the transaction that records the outcomes
(`hookledger.tally_attempts` in schema.sql). `add_up` moves these rows into hours and into periods of five minutes every
few seconds. A row that is not committed yet is moved the next time. A reader (`route_metrics`) adds the tables in one
snapshot, so its figures are those of the log at that moment. No times are compared, so clocks may jump, and the tables
of a restored dump agree.

Three designs were measured, for flushes of 150 and 500 outcomes of 100 routes, which cost 2.5 and 7.0 ms and about 500
bytes of write-ahead log an outcome. Packed rows add 5 to 15 bytes and 0.3 to 0.9 ms. Adding to the hours in the flush
itself adds 25 to 90 bytes and 0.4 to 1.8 ms, and leaves 20 versions a second of the row of each busy route, which pile
up behind any transaction that stays open. Reading the log after a watermark would add nothing, but the log has no order
that late commits and clocks that are set back respect.

Ends of deliveries are counted, in the period in which they were recorded: a delivery that failed and was sent again by
hand ends twice. Requests are counted by cell: the class of the answer, and the place of the duration in a histogram
(`hookledger.request_cell`). Test deliveries are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.queries.metrics.route_metrics import COUNTS, KEPT_DAYS

# One process adds up at a time, and the others skip it. See the head of schema.sql for the mode.
_ADD_UP_LOCK = "LOCK TABLE hookledger.tally_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"
_ADD_UP_SECONDS = 30.0
# The most rows of one transaction, which takes a second or two. A day of a busy installation at once would never end in
# time, and each further second would make it worse.
MOST_ROWS = 2000
# Longer than what any reader asks for, by a day and by an hour that are not over.
_FORGOTTEN_AFTER = timedelta(days=KEPT_DAYS + 1)
_RECENT_FORGOTTEN_AFTER = timedelta(hours=2)

# What is added up late, after an outage, may be older than what is kept by five minutes.
_IS_RECENT = "period > clock_timestamp() - interval '2 hours'"

# Adds what was taken to a table of sums. Cells that stand there already grow, others are added.
_SUM = f"""
    INSERT INTO hookledger.{{table}} AS m (route_id, {{by}}, {COUNTS}, cells, requests)
    SELECT route_id, {{by}}, sum(successful), sum(successful_retries), sum(failed), sum(suppressed), sum(expired),
           coalesce(array_agg(cell ORDER BY cell) FILTER (WHERE cell >= 0), '{{{{}}}}'),
           coalesce(array_agg(requests ORDER BY cell) FILTER (WHERE cell >= 0), '{{{{}}}}')
      FROM (SELECT route_id, {{by}}, cell, sum(successful) AS successful, sum(successful_retries) AS successful_retries,
                   sum(failed) AS failed, sum(suppressed) AS suppressed, sum(expired) AS expired,
                   sum(requests)::integer AS requests
              FROM each WHERE {{which}} GROUP BY route_id, {{by}}, cell) by_cell
     GROUP BY route_id, {{by}}
    ON CONFLICT (route_id, {{by}}) DO UPDATE
       SET successful = m.successful + excluded.successful,
           successful_retries = m.successful_retries + excluded.successful_retries,
           failed = m.failed + excluded.failed,
           suppressed = m.suppressed + excluded.suppressed,
           expired = m.expired + excluded.expired,
           (cells, requests) = (
               SELECT coalesce(array_agg(cell ORDER BY cell), '{{{{}}}}'),
                      coalesce(array_agg(requests ORDER BY cell), '{{{{}}}}')
                 FROM (SELECT cell, sum(requests)::integer AS requests
                         FROM unnest(m.cells || excluded.cells, m.requests || excluded.requests) AS u (cell, requests)
                        GROUP BY cell) both_of_them)
"""

# $1 the most rows, in the order of their statements. If a route succeeded, only failures of later statements count. If
# it did not, `since` stays.
_ADD_UP = f"""
WITH taken AS (
    DELETE FROM hookledger.route_tally
     WHERE id IN (SELECT id FROM hookledger.route_tally ORDER BY id LIMIT $1) RETURNING *
), each AS MATERIALIZED (
    SELECT t.id, t.hour, date_bin('5 minutes', t.at, 'epoch') AS period, t.at, u.*
      FROM taken t, unnest(t.route_ids, t.successful, t.successful_retries, t.failed, t.suppressed, t.expired,
                           t.failures, t.cells, t.requests) AS u (route_id, {COUNTS}, failures, cell, requests)
), by_hour AS ({_SUM.format(table="route_metric", by="hour", which="true")}
), by_period AS ({_SUM.format(table="route_recent", by="period", which=_IS_RECENT)}
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
    """Moves the rows of route_tally into the sums. Returns how many, or None if another process is doing it."""
    added = 0
    while (some := await _add_up_some(database)) is not None:
        added += some
        if some < MOST_ROWS:
            break
    return added or some


async def _add_up_some(database: Database) -> int | None:
    async with database.transaction(seconds=_ADD_UP_SECONDS) as connection:
        # A separate statement, so that the next one sees what the previous process has added.
        try:
            await connection.execute(_ADD_UP_LOCK)
        except asyncpg.LockNotAvailableError:
            return None
        return int(await connection.fetchval(_ADD_UP, MOST_ROWS))


async def forget(database: Database) -> int:
    """Deletes periods that are older than any reader asks for, and what is known of routes without a request since
    then. Returns the number of hours.
    """
    async with database.transaction(seconds=_ADD_UP_SECONDS) as connection:
        old = "< clock_timestamp() - $1::interval"
        done = await connection.execute(f"DELETE FROM hookledger.route_metric WHERE hour {old}", _FORGOTTEN_AFTER)
        await connection.execute(f"DELETE FROM hookledger.route_failing WHERE last_at {old}", _FORGOTTEN_AFTER)
        seen = "greatest(failed_at, delivered_at)"
        await connection.execute(f"DELETE FROM hookledger.route_health WHERE {seen} {old}", _FORGOTTEN_AFTER)
        await connection.execute(f"DELETE FROM hookledger.route_recent WHERE period {old}", _RECENT_FORGOTTEN_AFTER)
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
