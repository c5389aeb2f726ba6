"""The time and size of the dashboard's pages: a tenant with 10,000 routes and 1,000,000 deliveries, as in `lists`, a
catalogue of 1,000 event types, 10,000 tenants and as many tokens. The receivers of all other tenants are down, and
those of 2,000 of its routes.

The time is that of a whole answer over loopback, so a little more than the server's own. The size is that of the HTML
before compression.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import orjson
import uvloop

from daemon.core.routing.route import RouteConfig, config_to_body
from eventstore.queries.metrics import tally
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.lists import DEAD, ROUTES, TENANT, delivery_of, fill
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.support.rows.credentials import authenticate
from tests.support.web.application import App, app

MOST_MS = 60
MOST_KB = 100
# A search in payloads ends its page after a second, wherever it is.
MOST_SEARCH_MS = 1_500
TYPES = 1_000
TENANTS = 10_000
TOKENS = 10_000
ILL = 2_000
EDITED = 1_000
EDITED_ROUTE = UUID(f"00000000-0000-4000-8000-{7:012}")
SEED = 20261124

_PAGE_HEADERS = {"Accept": "text/html"}

_TYPES = f"""
INSERT INTO hookledger.event_type (name, description, example)
SELECT 'group' || n % 40 || '.action_' || n, 'What happens to a customer in case ' || n || ', in a sentence of usual length.',
       '{{"data": {{"public_id": "7dc6"}}, "context": {{}}, "snapshot": {{"customer": {{"name": "Ada"}}}}}}'
  FROM generate_series(1, {TYPES}) n
"""
_TENANTS = f"""
SELECT hookledger.append_route_event(('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid, 'tenant-' || n, 1, 'created',
       'admin', 'benchmark', NULL, NULL, NULL, NULL, $1) IS NOT NULL
  FROM generate_series(1, {TENANTS}) n
"""
# $1 a route, $2 the body of an edit, in which its name is replaced.
_EDITS = f"""
SELECT hookledger.append_route_event($1::uuid, '{TENANT}', n, 'edited', 'admin', 'benchmark', 'tidying up', NULL, NULL, NULL,
       replace($2, 'a route', 'a route, ' || n || ' times renamed')) IS NOT NULL
  FROM generate_series(2, {EDITED} + 1) n
"""
_TOKENS = f"""
INSERT INTO hookledger.api_token (id, kind, tenant, name, hash, created_at, created_by)
SELECT lpad(n::text, 12, '0'), 'producer', 'tenant-' || n, 'shop backend ' || n, sha256(n::text::bytea), now() - n * interval '1 minute', 'admin'
  FROM generate_series(1, {TOKENS}) n
"""
_DOWN = f"""
INSERT INTO hookledger.route_health (route_id, tenant, shard, epoch, state, since, run_since, ill_since, failures, successes,
       failed_at, failed_status, failed_error, failed_event, failed_event_time)
SELECT route_id, tenant, hookledger.shard_of(tenant), 1, 'down', at, at, at, 100, 0, now(), 500, 'http_500', 'evt_1', at
  FROM (SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid AS route_id, 'tenant-' || n AS tenant,
               now() - n * interval '1 minute' AS at
          FROM generate_series(1, {TENANTS}) n
         UNION ALL
        SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{TENANT}', now() - n * interval '1 second'
          FROM generate_series(1, {ILL}) n) down
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPage:
    """A page; `path` is called for each request, since ids in it vary."""

    name: str
    path: Callable[[], str]
    most_ms: float = MOST_MS


async def run(count: int, rounds: int) -> None:
    async with fresh_database() as url:
        await fill(url, count)
        await _furnish(url)
        async with app(url) as it:
            await tally.add_up(it.database)  # as a daemon does every few seconds
            results: list[BenchmarkResult] = []
            for page in _pages(count):
                results += await _measure(it, page, rounds)
    table(f"pages over {count:,} deliveries and {ROUTES:,} routes", results)


async def _furnish(url: str) -> None:
    sql = await asyncpg.connect(url)
    config = RouteConfig(name="a route", target_url="https://shop.example.com/hook", event_types=("load.*",))
    edit = {"config": config_to_body(config)}
    created = edit | {"enabled": True, "key": {"id": "key_1", "fingerprint": "f"}}
    await sql.execute(_TYPES)
    await sql.fetch(_TENANTS, _canonical(created))
    await sql.fetch(_EDITS, EDITED_ROUTE, _canonical(edit))
    await sql.execute(_TOKENS)
    await authenticate(sql)
    await sql.execute(_DOWN)
    await sql.execute(
        "VACUUM ANALYZE hookledger.route_event, hookledger.api_token, hookledger.event_type, hookledger.route_health"
    )
    await sql.close()


def _canonical(body: object) -> str:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


def _pages(count: int) -> list[MeasuredPage]:
    dice = random.Random(SEED)
    now = datetime.now(UTC)
    home = f"/t/{TENANT}"

    def route() -> str:
        return f"{home}/webhooks/00000000-0000-4000-8000-{dice.randrange(ROUTES):012}"

    def moment() -> str:
        return (now - timedelta(days=dice.uniform(0.1, 29))).strftime("%Y-%m-%dT%H:%M:%S")

    def delivery() -> str:
        number = dice.randrange(count)
        return f"{home}/deliveries/{delivery_of(number, count)}?event=evt_{number}"

    def of_route(rest: str) -> Callable[[], str]:
        return lambda: route() + rest

    def fixed(path: str) -> Callable[[], str]:
        return lambda: path

    paths: dict[str, Callable[[], str]] = {
        "webhooks": fixed(f"{home}/webhooks"),
        "webhooks, searched": lambda: f"{home}/webhooks?q=load.r{dice.randrange(ROUTES)}",
        "webhooks, nothing found": fixed(f"{home}/webhooks?q=nowhere"),
        "webhooks as of now": lambda: f"{home}/webhooks?as_of={now.strftime('%Y-%m-%dT%H:%M:%S')}",
        "webhooks that fail": fixed(f"{home}/webhooks?status=failing"),
        "new webhook": fixed(f"{home}/webhooks/new"),
        "webhook": of_route(""),
        "webhook, an hour": of_route("?range=1h"),
        "webhook, 30 days": of_route("?range=30d"),
        "webhook that is dead": fixed(f"{home}/webhooks/{DEAD}"),
        "edit": of_route("/edit"),
        "disable": of_route("/disable"),
        "disable the dead one": fixed(f"{home}/webhooks/{DEAD}/disable"),
        "delete": of_route("/delete"),
        "rotate key": of_route("/rotate-key"),
        "history": of_route("/history"),
        "history of a thousand edits": fixed(f"{home}/webhooks/{EDITED_ROUTE}/history"),
        "test": of_route("/test"),
        "replay": of_route("/replay"),
        "deliveries": fixed(f"{home}/deliveries"),
        "deliveries, failed": fixed(f"{home}/deliveries?status=failed"),
        "deliveries, pending": fixed(f"{home}/deliveries?status=pending"),
        "deliveries of a webhook": lambda: f"{home}/deliveries?route={route().rsplit('/', 1)[1]}",
        "deliveries of the dead one": fixed(f"{home}/deliveries?route={DEAD}"),
        "deliveries of a type": lambda: f"{home}/deliveries?type=load.r{dice.randrange(ROUTES)}",
        "deliveries of a period": lambda: f"{home}/deliveries?until={moment()}",
        "deliveries of an event": lambda: f"{home}/deliveries?event=evt_{dice.randrange(count)}",
        "delivery": delivery,
        "events": fixed(f"{home}/events"),
        "events of a type": lambda: f"{home}/events?type=load.r{dice.randrange(ROUTES)}",
        "events of a webhook": fixed(f"{home}/events?route={EDITED_ROUTE}"),
        "event": lambda: f"{home}/events/evt_{dice.randrange(count)}",
        "event to one webhook": lambda: f"{home}/events/evt_{dice.randrange(count)}?route={EDITED_ROUTE}",
        "catalogue": fixed(f"{home}/event-types"),
        "catalogue, one type": lambda: f"{home}/event-types/group0.action_{40 * (1 + dice.randrange(TYPES // 40))}",
        "activity": fixed(f"{home}/activity"),
        "activity of a webhook": lambda: f"{home}/activity?route={route().rsplit('/', 1)[1]}",
        "tenants": fixed("/operator"),
        "tenants, searched": lambda: f"/operator?q=tenant-{dice.randrange(TENANTS)}",
        "tokens": fixed("/operator/tokens"),
        "event types": fixed("/operator/event-types"),
        "status": fixed("/operator/status"),
        "webhooks that fail, of all": fixed("/operator/failing"),
        "found by id, with the event": lambda: f"/operator/find?id=evt_{dice.randrange(count)}",
    }
    searched = MeasuredPage(
        name="deliveries with a value that no event has",
        path=fixed(f"{home}/deliveries?where=data.object.public_id+%3D+nowhere"),
        most_ms=MOST_SEARCH_MS,
    )
    return [*(MeasuredPage(name=name, path=path) for name, path in paths.items()), searched]


async def _measure(it: App, page: MeasuredPage, rounds: int) -> list[BenchmarkResult]:
    times, weights = [], []
    await _get(it, page.path())  # the first request compiles the template
    for _ in range(rounds):
        path = page.path()
        started = time.perf_counter()
        text = await _get(it, path)
        times.append((time.perf_counter() - started) * 1000)
        weights.append(len(text.encode()) / 1000)
    return [
        BenchmarkResult(name=f"{page.name}, p95", value=percentile(times, 0.95), unit="ms", limit=page.most_ms),
        BenchmarkResult(name="  at most", value=max(weights), unit="kB", limit=MOST_KB),
    ]


async def _get(it: App, path: str) -> str:
    answer = await it.ask("GET", path, headers=_PAGE_HEADERS)
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {answer.text[:2000]}")
    return answer.text


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks pages")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    uvloop.run(run(100_000 if options.quick else 1_000_000, options.rounds))
