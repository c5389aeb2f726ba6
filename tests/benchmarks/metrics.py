"""The time to read the metrics of a route with 10,000,000 attempts in the table, and the cost of counting in a flush.

The table has 30 days and 100 routes, one of which has a tenth of it. The last flushes, as many as a busy daemon makes
in 10 s, are not added up yet. The metrics must equal the counts of the table.

The metrics are read from hourly sums, so the number of attempts does not matter: a route without any is read beside.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import uvloop

from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.metrics import tally
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import attempt
from tests.support.web.application import App, app, path

ROWS = 10_000_000
QUICK_ROWS = 1_000_000
ROUTES = 100
DAYS = 30
READS = 200
RANGES = ("1h", "24h", "7d", "30d")
FLUSHES, FLUSH_ROWS = 200, 150
MOST_MS = 50

_TRIGGER = "ALTER TABLE hookledger.attempt {} TRIGGER attempt_tally"

# $1 the day, $2 how many, $3 the routes; the first route gets a tenth.
_FILL = """
INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, number, duration_ms,
       route_version, outcome, tenant, event_id, event_type)
SELECT r.at, r.n, r.n / 100, ($3::uuid[])[CASE WHEN r.n % 10 = 0 THEN 1 ELSE 1 + r.n % 100 END], r.at, r.at, 0,
       1 + r.n % 3, 20, 1, (ARRAY['delivered', 'delivered', 'delivered', 'retrying', 'failed', 'suppressed'])[1 + r.n % 6],
       'acme', 'evt_' || r.n, 'order.create'
  FROM (SELECT n, $1::timestamptz + n * (interval '1 day' / ($2 + 1)) AS at FROM generate_series(1, $2::bigint) n) r
"""

_OF_THE_LOG = """
SELECT count(*) FILTER (WHERE outcome = 'delivered') AS successful,
       count(*) FILTER (WHERE outcome = 'delivered' AND number > 1) AS successful_retries,
       count(*) FILTER (WHERE outcome = 'failed') AS failed,
       count(*) FILTER (WHERE outcome = 'suppressed') AS suppressed
  FROM hookledger.attempt WHERE route_id = $1
"""


async def run(rows: int) -> None:
    async with fresh_database() as url, app(url) as it:
        routes = [await it.route(name=f"route {number}") for number in range(ROUTES)]
        ids = [UUID(route["id"]) for route in routes]
        sql = await asyncpg.connect(url)
        await fill(sql, rows, ids)
        await tally.add_up(it.database)
        await sql.execute("VACUUM ANALYZE")
        bare = await flush(it.database, sql, ids, is_counting=False)
        counting = await flush(it.database, sql, ids, is_counting=True)
        behind = await read(it, routes[0])
        behind_of_range = [time for each in RANGES for time in await read(it, routes[0], f"?range={each}")]
        await require_exact(it, sql, routes[0])
        started = time.monotonic()
        added = await tally.add_up(it.database)
        adding_up = time.monotonic() - started
        after = await read(it, routes[0])
        of_range = [time for each in RANGES for time in await read(it, routes[0], f"?range={each}")]
        quiet = await it.route(name="no attempts")
        of_quiet = [time for each in RANGES for time in await read(it, quiet, f"?range={each}")]
        await require_exact(it, sql, routes[0])
        await sql.close()
    table(
        f"metrics of a route, {rows:,} outcomes in the log",
        [
            BenchmarkResult(name=f"read, {added} flushes to add up, p50", value=percentile(behind, 0.5), unit="ms"),
            BenchmarkResult(name="the same, p99", value=percentile(behind, 0.99), unit="ms", limit=MOST_MS),
            BenchmarkResult(
                name="of a range, flushes to add up, p99",
                value=percentile(behind_of_range, 0.99),
                unit="ms",
                limit=MOST_MS,
            ),
            BenchmarkResult(name="read, all added up, p50", value=percentile(after, 0.5), unit="ms"),
            BenchmarkResult(name="the same, p99", value=percentile(after, 0.99), unit="ms", limit=MOST_MS),
            BenchmarkResult(name="of a range, p50", value=percentile(of_range, 0.5), unit="ms"),
            BenchmarkResult(name="the same, p99", value=percentile(of_range, 0.99), unit="ms", limit=MOST_MS),
            BenchmarkResult(name="the same without any attempt, p50", value=percentile(of_quiet, 0.5), unit="ms"),
            BenchmarkResult(name="adding up", value=adding_up * 1000, unit="ms"),
            BenchmarkResult(name=f"a flush of {FLUSH_ROWS}, not counted", value=bare, unit="ms"),
            BenchmarkResult(name="the same, counted", value=counting, unit="ms"),
        ],
    )


async def fill(sql: asyncpg.Connection, rows: int, ids: list[UUID]) -> None:
    """Fills the table for the 29 days before today, with yesterday twice."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=DAYS - 1)
    await sql.execute("SELECT hookledger.ensure_partitions($1, $2)", first.date(), today.date())
    for day in range(DAYS):
        await sql.execute(_FILL, first + timedelta(days=min(day, DAYS - 2)), rows // DAYS, ids)
        await sql.execute("CHECKPOINT")


async def flush(database: Database, sql: asyncpg.Connection, ids: list[UUID], *, is_counting: bool) -> float:
    """The median time of a flush, in ms."""
    await sql.execute(_TRIGGER.format("ENABLE" if is_counting else "DISABLE"))
    epochs = await lease.acquire(database, "benchmark", [is_counting], ttl=timedelta(hours=1))
    times = []
    for number in range(1, FLUSHES + 1):
        rows = [
            attempt(shard=int(is_counting), seq=number * FLUSH_ROWS + n, route_id=ids[n % ROUTES])
            for n in range(FLUSH_ROWS)
        ]
        started = time.monotonic()
        await recording.flush(database, "benchmark", epochs, Flush(attempts=rows), number=number, macs=LOG_MACS)
        times.append((time.monotonic() - started) * 1000)
    return statistics.median(times)


async def read(it: App, route: dict[str, Any], query: str = "") -> list[float]:
    """The times of the requests, in ms."""
    times = []
    for _ in range(READS):
        started = time.monotonic()
        answer = await it.ask("GET", path(route, f"/metrics{query}"))
        times.append((time.monotonic() - started) * 1000)
        if answer.status != 200:
            raise SystemExit(f"the daemon answers {answer.status}: {answer.text}")
    return times


async def require_exact(it: App, sql: asyncpg.Connection, route: dict[str, Any]) -> None:
    """Compares the metrics with the table, less the flushes that were not counted."""
    shown = (await it.ask("GET", path(route, "/metrics"))).json
    (row,) = await sql.fetch(_OF_THE_LOG, UUID(route["id"]))
    uncounted = {"successful": FLUSHES * -(-FLUSH_ROWS // ROUTES)}
    expected = {name: count - uncounted.get(name, 0) for name, count in row.items()}
    if found := {name: shown[name] for name in expected if shown[name] != expected[name]}:
        raise SystemExit(f"{found} is not what the table says: {expected}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks metrics")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_ROWS if options.quick else ROWS))
