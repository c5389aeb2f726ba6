"""How much the whole installation does: events taken in, deliveries that ended, requests that were made.

Reading it must be cheap, as it is read every few seconds. So events are counted among the newest ones only, and what
ended is taken from the sums by five minutes (see `tally`), with what was not added up yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.postgres.connect import Database
from eventstore.queries.metrics.route_metrics import RECENT_PERIOD, Counts, RequestCells

READ_SECONDS = 5.0

# Events are counted for so long, and not more of them than these: under load the newest ones tell the rate as well.
EVENTS_WITHIN = timedelta(minutes=1)
COUNTED_EVENTS = 10_000
# What counted events were recorded in, at least: a batch is recorded at one moment.
_LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationRates:
    """`events_per_second` is that of the last minute, or of the newest events if they are many. `ended` and `cells` are
    the deliveries that ended and the requests that were made in [since, until), of five to ten minutes.
    """

    events_per_second: float
    since: datetime
    until: datetime
    ended: Counts
    cells: RequestCells

    @property
    def seconds(self) -> float:
        """How long the period is."""
        return (self.until - self.since).total_seconds()


# $1 within, $2 events
_EVENTS = """
SELECT count(*) AS events,
       extract(epoch FROM statement_timestamp() - min(recorded_at))::float8 AS oldest_seconds
  FROM (SELECT recorded_at FROM hookledger.domain_event ORDER BY seq DESC LIMIT $2) newest
 WHERE recorded_at > statement_timestamp() - $1::interval
"""

# $1 the length of a period
_ENDED = """
WITH now AS (
    SELECT date_bin($1::interval, statement_timestamp(), 'epoch') - $1::interval AS since,
           statement_timestamp() AS until
), recent AS MATERIALIZED (
    SELECT successful, successful_retries, failed, suppressed, expired, cells, requests
      FROM hookledger.route_recent
     WHERE period >= date_bin($1::interval, statement_timestamp(), 'epoch') - $1::interval
     UNION ALL
    SELECT u.successful, u.successful_retries, u.failed, u.suppressed, u.expired, ARRAY[u.cell], ARRAY[u.requests]
      FROM hookledger.route_tally t,
           unnest(t.successful, t.successful_retries, t.failed, t.suppressed, t.expired, t.cells, t.requests)
               AS u (successful, successful_retries, failed, suppressed, expired, cell, requests)
     WHERE t.at >= date_bin($1::interval, statement_timestamp(), 'epoch') - $1::interval
), ended AS (
    SELECT coalesce(sum(successful), 0)::bigint AS successful,
           coalesce(sum(successful_retries), 0)::bigint AS successful_retries,
           coalesce(sum(failed), 0)::bigint AS failed,
           coalesce(sum(suppressed), 0)::bigint AS suppressed,
           coalesce(sum(expired), 0)::bigint AS expired
      FROM recent
), requested AS (
    SELECT u.cell, sum(u.requests)::bigint AS requests
      FROM recent r, unnest(r.cells, r.requests) AS u (cell, requests)
     WHERE u.cell >= 0
     GROUP BY u.cell
)
SELECT n.since, n.until, e.*, r.cell, r.requests FROM now n, ended e LEFT JOIN requested r ON true
"""


async def read(database: Database) -> InstallationRates:
    """The rates of all tenants together, by the database's clock."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        (newest,) = await connection.fetch(_EVENTS, EVENTS_WITHIN, COUNTED_EVENTS)
        rows = await connection.fetch(_ENDED, RECENT_PERIOD)
    first = rows[0]
    return InstallationRates(
        events_per_second=_per_second(newest["events"], newest["oldest_seconds"]),
        since=first["since"],
        until=first["until"],
        ended=Counts(
            successful=first["successful"],
            successful_retries=first["successful_retries"],
            failed=first["failed"],
            suppressed=first["suppressed"],
            expired=first["expired"],
        ),
        cells={row["cell"]: row["requests"] for row in rows if row["cell"] is not None},
    )


def _per_second(events: int, oldest_seconds: float | None) -> float:
    if oldest_seconds is None or events < COUNTED_EVENTS:
        return events / EVENTS_WITHIN.total_seconds()
    return events / max(_LEAST_SECONDS, oldest_seconds)
