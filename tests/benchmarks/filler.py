"""Routes in numbers, written into the log in SQL: they subscribe to types that nothing is published of."""

from __future__ import annotations

import asyncpg
import orjson

from daemon.core.routing.route import RouteConfig, config_to_body

# Routes for one transaction. Its notifications are compared with each other.
_CHUNK = 10_000

# $1 the first number, $2 the last, $3 the tenants, $4 the versions of each, $5 and $6 the bodies of a new and of an edited
# route, in which "filler.n" is the type of route n.
_FILL = """
SELECT count(hookledger.append_route_event(
         ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'filler-' || n % $3, v,
         CASE v WHEN 1 THEN 'created' ELSE 'edited' END, 'admin', 'benchmark', NULL, NULL, NULL, NULL,
         replace(CASE v WHEN 1 THEN $5 ELSE $6 END, 'filler.n', 'filler.n' || n)))
  FROM generate_series($1::integer, $2) n, generate_series(1, $4::integer) v
"""


async def fill_routes(url: str, count: int, *, tenants: int = 100, versions: int = 1) -> None:
    """Makes `count` routes, shared among the tenants, each with so many entries in the log."""
    config = RouteConfig(name="a route", target_url="https://shop.example.com/hook", event_types=("filler.n",))
    edited = {"config": config_to_body(config)}
    created = edited | {"enabled": True, "key": {"id": "key_1", "fingerprint": "f"}}
    bodies = [orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode() for body in (created, edited)]
    sql = await asyncpg.connect(url)
    for first in range(0, count, _CHUNK):
        await sql.execute(_FILL, first, min(first + _CHUNK, count) - 1, tenants, versions, *bodies)
    await sql.execute("VACUUM ANALYZE")
    await sql.close()
