"""The time to list deliveries and events: a tenant has 10,000 routes with 1,000,000 deliveries of 30 days, one more route
that gets a tenth of everything and whose receiver fails since half of the time, and a dead route with 100,000 more that
are parked.

Each combination of filters is requested over HTTP, the first two pages of each list, at positions all over the 30 days.
A page that is not full although there are more is short: it is counted as missed, and any is too many.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import urlencode
from uuid import UUID

import asyncpg
import orjson
import uvloop

from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.route import RouteConfig, config_to_body
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.support.web.application import App, app

TENANT = "big"
ROUTES = 10_000
DAYS = 30
PAIRS_OF_ROW = 5
MOST_MS = 50
PAGE = "50"
LISTS = f"/v1/tenants/{TENANT}/deliveries"
EVENTS = f"/v1/tenants/{TENANT}/events"
SEED = 20261124

_ROUTE = "('00000000-0000-4000-8000-' || lpad((%s)::text, 12, '0'))::uuid"
DEAD = UUID(f"00000000-0000-4000-8000-{ROUTES:012}")
WIDE = UUID(f"00000000-0000-4000-8000-{ROUTES + 1:012}")

_ROUTES = f"""
SELECT hookledger.append_route_event({_ROUTE % "n"}, '{TENANT}', 1, 'created', 'admin', 'benchmark', NULL, NULL, NULL, NULL,
       replace($1, 'load.r', CASE WHEN n > {ROUTES} THEN 'load.*' ELSE 'load.r' || n END)) IS NOT NULL
  FROM generate_series(0, {ROUTES} + 1) n
"""

# Makes the routes older than all events. The trigger that forbids changes to the log is disabled meanwhile.
_AGE = f"""
ALTER TABLE hookledger.route_event DISABLE TRIGGER USER;
UPDATE hookledger.route_event SET effective_at = effective_at - interval '{DAYS + 1} days';
ALTER TABLE hookledger.route_event ENABLE TRIGGER USER;
"""

# $1 the day, $2 the first number, $3 how many: events spread over the day, all in tick 1.
_EVENTS = f"""
INSERT INTO hookledger.domain_event (seq, recorded_at, tenant, id, type, occurred_at, data, tick, txid)
SELECT n, $1::timestamptz + (n - $2) * (interval '1 day' / ($3 + 1)), '{TENANT}', 'evt_' || n, 'load.r' || n % {ROUTES}, NULL, '{{}}', 1, '0'
  FROM generate_series($2::bigint, $2 + $3::bigint - 1) n
"""
# One in 50 takes three attempts, one in 100 fails for good, one in 200 is suppressed, one in 400 waits for its retry.
_OUTCOMES = f"""
INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, status_code, number, duration_ms,
       route_version, outcome, error, tenant, event_id, event_type, delivery_key)
SELECT e.at + a.number * interval '1 minute', e.n, 1, {_ROUTE % f"n % {ROUTES}"}, e.at, e.at + a.number * interval '1 minute',
       hookledger.shard_of('{TENANT}'), CASE a.outcome WHEN 'delivered' THEN 200 ELSE 500 END, a.number, 20, 1, a.outcome,
       CASE a.outcome WHEN 'delivered' THEN NULL ELSE 'http_500' END, '{TENANT}', 'evt_' || n, 'load.r' || n % {ROUTES},
       ((n * 2654435761) % 4294967296 - 2147483648)::integer
  FROM (SELECT n, n + n / {ROUTES} AS turn, $1::timestamptz + (n - $2) * (interval '1 day' / ($3 + 1)) AS at
          FROM generate_series($2::bigint, $2 + $3::bigint - 1) n) e,
       LATERAL (SELECT number, CASE WHEN number < 3 THEN 'retrying' ELSE 'delivered' END AS outcome
                  FROM generate_series(1, 3) number WHERE turn % 50 = 1
                 UNION ALL SELECT number, CASE WHEN number < 3 THEN 'retrying' ELSE 'failed' END
                  FROM generate_series(1, 3) number WHERE turn % 100 = 2
                 UNION ALL SELECT 0, 'suppressed' WHERE turn % 200 = 3
                 UNION ALL SELECT 1, 'retrying' WHERE turn % 400 = 4
                 UNION ALL SELECT 1, 'delivered'
                            WHERE turn % 50 <> 1 AND turn % 100 <> 2 AND turn % 200 <> 3 AND turn % 400 <> 4) a
"""
# The wide route: all was delivered in the first half of the days, and all failed in the second.
_WIDE_OUTCOMES = f"""
INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, status_code, number, duration_ms,
       route_version, outcome, error, tenant, event_id, event_type, delivery_key)
SELECT e.at + a.number * interval '1 minute', e.n, 1, '{WIDE}', e.at, e.at + a.number * interval '1 minute',
       hookledger.shard_of('{TENANT}'), CASE a.outcome WHEN 'delivered' THEN 200 ELSE 500 END, a.number, 20, 1, a.outcome,
       CASE a.outcome WHEN 'delivered' THEN NULL ELSE 'http_500' END, '{TENANT}', 'evt_' || n, 'load.r' || n % {ROUTES}, n
  FROM (SELECT n, $1::timestamptz + (n - $2) * (interval '1 day' / ($3 + 1)) AS at
          FROM generate_series($2::bigint, $2 + $3::bigint - 1) n WHERE n % 10 = n / {ROUTES} % 10) e,
       LATERAL (SELECT 1 AS number, 'delivered' AS outcome WHERE e.n < $4
                 UNION ALL SELECT number, CASE number WHEN 2 THEN 'failed' ELSE 'retrying' END
                  FROM generate_series(1, 2) number WHERE e.n >= $4) a
"""
_RETRIES = f"""
INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)
SELECT route_id, seq, event_time, event_time, 1, shard, 1, now() + interval '10 minutes', tenant
  FROM hookledger.attempt
 WHERE outcome = 'retrying' AND (seq + seq / {ROUTES}) % 400 = 4 AND route_id <> '{WIDE}'
"""
# $1 the first number, $2 how many, $3 now: the events of the dead route in the last hour.
_DEAD_EVENTS = f"""
INSERT INTO hookledger.domain_event (seq, recorded_at, tenant, id, type, data, tick, txid)
SELECT n, $3::timestamptz - interval '1 hour' + (n - $1) * (interval '1 hour' / ($2 + 1)), '{TENANT}', 'evt_' || n, 'load.r{ROUTES}', '{{}}', 1, '0'
  FROM generate_series($1::bigint, $1 + $2::bigint - 1) n
"""
_PARKED = f"""
INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times, tenant)
SELECT hookledger.shard_of('{TENANT}'), 1, n / {PAIRS_OF_ROW}, '{DEAD}', 1, array_agg(n), array_agg(1::bigint), array_agg(at),
       array_agg(at), '{TENANT}'
  FROM (SELECT n, $3::timestamptz - interval '1 hour' + (n - $1) * (interval '1 hour' / ($2 + 1)) AS at
          FROM generate_series($1::bigint, $1 + $2::bigint - 1) n) e
 GROUP BY n / {PAIRS_OF_ROW}
"""
_REST = f"""
INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)
SELECT 1, pg_current_snapshot(), now(), {ROUTES} + 2, now() + interval '1 day';
UPDATE hookledger.checkpoint SET tick = 1;
"""


async def run(count: int, rounds: int) -> None:
    async with fresh_database() as url:
        await fill(url, count)
        table(
            f"lists of {count * 11 // 10:,} deliveries, {ROUTES:,} routes, {count // 10:,} parked of a dead one",
            await measure(url, count, rounds),
        )


async def measure(url: str, count: int, rounds: int) -> list[BenchmarkResult]:
    """The times of all lists of a database that `fill` has filled."""
    async with app(url) as it:
        results = []
        for name, path, queries in _queries(count, rounds):
            times, items, short = await _measure(it, path, queries)
            print(f"  {name:<44} {items:6.1f} items a page, {short:3.0%} short", flush=True)
            results.append(BenchmarkResult(name=f"{name}, p50", value=percentile(times, 0.5), unit="ms"))
            results.append(BenchmarkResult(name="  p95", value=percentile(times, 0.95), unit="ms", limit=MOST_MS))
            results.append(BenchmarkResult(name="  short pages", value=100 * short, unit="%", limit=0))
        return results + await _details(it, count, rounds)


async def fill(url: str, count: int) -> None:
    started = time.monotonic()
    sql = await asyncpg.connect(url)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days, day = [midnight - timedelta(days=back) for back in range(DAYS, 0, -1)], count // DAYS
    await sql.execute("SELECT hookledger.ensure_partitions($1::date, $2::date)", days[0], midnight + timedelta(days=1))
    config = RouteConfig(name="a route", target_url="https://shop.example.com/hook", event_types=("load.r",))
    body = {"enabled": True, "config": config_to_body(config), "key": {"id": "key_1", "fingerprint": "f"}}
    await sql.fetch(_ROUTES, orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode())
    await sql.execute(_AGE)
    for number, at in enumerate(days):
        await sql.execute(_EVENTS, at, number * day, day)
        await sql.execute(_OUTCOMES, at, number * day, day)
        await sql.execute(_WIDE_OUTCOMES, at, number * day, day, count // 2)
    await sql.execute(_RETRIES)
    now = datetime.now(UTC)
    await sql.execute(_DEAD_EVENTS, count, count // 10, now)
    await sql.execute(_PARKED, count, count // 10, now)
    await sql.execute(_REST)
    await sql.execute("VACUUM ANALYZE")
    await sql.close()
    print(f"{count:,} deliveries in {time.monotonic() - started:.0f} s", flush=True)


def delivery_of(number: int, count: int) -> str:
    """The id of the delivery of event `number` of the `count` that `fill` spreads over the days."""
    today = datetime.now(UTC).replace(hour=12)
    happened = today - timedelta(days=DAYS - number // (count // DAYS))
    return delivery_id(UUID(f"00000000-0000-4000-8000-{number % ROUTES:012}"), f"evt_{number}", happened)


def _queries(count: int, rounds: int) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Each combination of filters with its path and queries."""
    dice = random.Random(SEED)
    now = datetime.now(UTC)

    def period(names: tuple[str, ...]) -> dict[str, str]:
        moments = sorted(now - timedelta(days=dice.uniform(0.1, DAYS)) for _ in names)
        return {name: at.isoformat() for name, at in zip(names, moments, strict=True)}

    whose: dict[str, Callable[[], dict[str, str]]] = {
        "tenant": dict,
        "route": lambda: {"route": f"00000000-0000-4000-8000-{dice.randrange(ROUTES):012}"},
        "type": lambda: {"type": f"load.r{dice.randrange(ROUTES)}"},
        "wide route": lambda: {"route": str(WIDE)},
        "wide route, type": lambda: {"route": str(WIDE), "type": f"load.r{dice.randrange(ROUTES)}"},
        "dead route": lambda: {"route": str(DEAD)},
        "type of the dead route": lambda: {"type": f"load.r{ROUTES}"},
    }
    statuses = ("", "delivered", "pending", "failed", "suppressed", "expired")
    periods = ((), ("since",), ("until",), ("since", "until"))
    for (name, of), status, names in product(whose.items(), statuses, periods):
        queries = [of() | ({"status": status} if status else {}) | period(names) for _ in range(rounds)]
        yield " ".join((name, status, *names)), LISTS, queries
    half = {"route": str(DEAD), "until": (now - timedelta(minutes=30)).isoformat()}
    yield "the dead route until", LISTS, [half] * rounds
    yield "an event", LISTS, [{"event": f"evt_{dice.randrange(count)}"} for _ in range(rounds)]
    yield "a parked event", LISTS, [{"event": f"evt_{count + dice.randrange(count // 10)}"} for _ in range(rounds)]
    types: dict[str, Callable[[], dict[str, str]]] = {
        "events": dict,
        "events of a type": whose["type"],
        "events of a common type": whose["type of the dead route"],
        "events of no type": lambda: {"type": "load.none"},
    }
    for (name, of), names in product(types.items(), periods):
        yield " ".join((name, *names)), EVENTS, [of() | period(names) for _ in range(rounds)]


async def _measure(it: App, path: str, queries: list[dict[str, str]]) -> tuple[list[float], float, float]:
    """Milliseconds of each page, two of each list; average items of a page; the part of pages that are short."""
    await it.ask("GET", f"{path}?{urlencode(queries[0])}")
    times, sizes, short = [], [], 0
    for query in queries:
        cursor: str | None = ""
        for _ in range(2):
            if cursor is None:
                break
            url = f"{path}?{urlencode(query | {'limit': PAGE} | ({'cursor': cursor} if cursor else {}))}"
            started = time.perf_counter()
            answer = await it.ask("GET", url)
            times.append((time.perf_counter() - started) * 1000)
            if answer.status != 200:
                raise SystemExit(f"{url}: {answer.text}")
            cursor = answer.json["next"]
            sizes.append(len(answer.json["items"]))
            short += cursor is not None and sizes[-1] < int(PAGE)
    return times, sum(sizes) / len(sizes), short / len(sizes)


async def _details(it: App, count: int, rounds: int) -> list[BenchmarkResult]:
    """Reads deliveries by id with their event, explanations, and parked deliveries by id alone, which need a search."""
    named, explained = [], []
    dice = random.Random(SEED)
    for _ in range(rounds):
        number = dice.randrange(count)
        which = delivery_of(number, count)
        route = f"00000000-0000-4000-8000-{number % ROUTES:012}"
        explained.append(await _timed(it, f"/v1/tenants/{TENANT}/explain?event=evt_{number}&route={route}"))
        named.append(await _timed(it, f"{LISTS}/{which}?event=evt_{number}"))
    parked = (count, count + count // 20, count + count // 10 - 1)
    now = datetime.now(UTC)
    searched = [await _timed(it, f"{LISTS}/{delivery_id(DEAD, f'evt_{number}', now)}") for number in parked]
    return [
        BenchmarkResult(
            name="a delivery by its id and event, p95", value=percentile(named, 0.95), unit="ms", limit=MOST_MS
        ),
        BenchmarkResult(
            name="why one route got an event, p95", value=percentile(explained, 0.95), unit="ms", limit=MOST_MS
        ),
        BenchmarkResult(name="a parked one by its id, at most", value=max(searched), unit="ms"),
    ]


async def _timed(it: App, url: str) -> float:
    started = time.perf_counter()
    answer = await it.ask("GET", url)
    if answer.status != 200:
        raise SystemExit(f"{url}: {answer.text}")
    return (time.perf_counter() - started) * 1000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks lists")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    uvloop.run(run(100_000 if options.quick else 1_000_000, options.rounds))
