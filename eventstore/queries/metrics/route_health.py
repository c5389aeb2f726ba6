"""The health of receivers: written by the process that sends for a route, read by all.

A process writes what it has seen of its routes about once a second. A row has the epoch of the lease under which it was
written, and an older one never replaces it. What waits for a route is not written down but counted when it is read, up
to a bound, so that a list of routes costs little however much waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.progress.steady_time import AHEAD

READ_SECONDS = 5.0
WRITE_SECONDS = 10.0

# So many rows of each table are counted of what waits for one route.
COUNTED_ROWS = 1000

# The deliveries in packed rows of the route {route} that were taken up: they have an outcome, or a retry. A row keeps
# all of its deliveries until the last is sent. Rows are taken up one after the other, so only the first ones have any.
# What there is within the stretch of a row is read by index: looking for each of its deliveries costs far more. For
# fifty routes with 2,000 waiting each, a quarter of the first row sent, all of it takes 19 ms.
TAKEN_UP = """
SELECT coalesce(sum(taken.pairs), 0)::bigint AS pairs
  FROM (SELECT seqs, first_time FROM hookledger.parked WHERE route_id = {route}
         ORDER BY route_id, epoch, flush, shard LIMIT 2) p,
       LATERAL (SELECT min(seq) AS low, max(seq) AS high FROM unnest(p.seqs) seq OFFSET 0) stretch,
       LATERAL (SELECT count(*) AS pairs FROM unnest(p.seqs) AS of_row (seq) WHERE seq IN (
                       SELECT seq FROM hookledger.attempt
                        WHERE route_id = {route} AND seq BETWEEN stretch.low AND stretch.high AND number <= 1
                          AND at >= p.first_time - interval '1 day'
                        UNION ALL
                       SELECT seq FROM hookledger.retry
                        WHERE route_id = {route} AND seq BETWEEN stretch.low AND stretch.high)) taken
"""


class HealthRow(NamedTuple):
    """What is written of a receiver. `probe_after`: how long its breaker holds back what waits, None if it does not."""

    route_id: UUID
    tenant: str
    shard: int
    epoch: int
    state: str
    since: datetime
    run_since: datetime
    ill_since: datetime | None
    failures: int
    successes: int
    failed_at: datetime | None
    failed_status: int | None
    failed_error: str | None
    failed_event: str | None
    failed_event_time: datetime | None
    delivered_at: datetime | None
    delivered_status: int | None
    delivered_event: str | None
    delivered_event_time: datetime | None
    probe_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for a route: `number` deliveries, at least so many unless `is_exact`. `due_at` is when the first retry
    of them is, `parked` how many of them wait without a time of their own.
    """

    number: int
    parked: int
    is_exact: bool
    due_at: datetime | None


class StoredHealth(NamedTuple):
    """A receiver's row and what waits for it. `row` is None if nothing is known of the receiver."""

    row: HealthRow | None
    probe_at: datetime | None
    waiting: Waiting


class FailingPosition(NamedTuple):
    """The place of a route in the list of those that fail."""

    state: str
    since: datetime
    route_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingCount:
    """How many routes fail, and how many of these are down."""

    failing: int
    down: int


_FIELDS = HealthRow._fields[:-1]
_COLUMNS = ", ".join(_FIELDS)
_OF_ROW = ", ".join(f"h.{name}" for name in _FIELDS)

_WRITE = f"""
INSERT INTO hookledger.route_health AS h ({_COLUMNS}, probe_at)
VALUES ({", ".join(f"${number}" for number in range(1, len(_FIELDS) + 1))},
        clock_timestamp() + ${len(_FIELDS) + 1}::interval)
ON CONFLICT (route_id) DO UPDATE
   SET ({_COLUMNS}, probe_at) = ({", ".join(f"excluded.{name}" for name in _FIELDS)}, excluded.probe_at)
 WHERE h.epoch <= excluded.epoch
"""

# $1 routes
_FORGET = "DELETE FROM hookledger.route_health WHERE route_id = ANY ($1)"
# $1 shards. Looked for route by route, the newest event first: a history may be long.
_FORGET_CLOSED = """
DELETE FROM hookledger.route_health h
 WHERE h.shard = ANY ($1)
   AND (SELECT e.effective_at FROM hookledger.route_event e
         WHERE e.route_id = h.route_id AND e.type IN ('disabled', 'deleted')
         ORDER BY e.version DESC LIMIT 1) > greatest(h.failed_at, h.delivered_at)
"""
_KNOWN = f"SELECT {_OF_ROW} FROM hookledger.route_health h WHERE route_id = ANY ($1)"
# $1 shards
_OF_SHARDS = f"SELECT {_OF_ROW} FROM hookledger.route_health h WHERE state <> 'ok' AND shard = ANY ($1)"

# For the route r.route_id. OFFSET 0 keeps the subqueries apart.
_WAITING = f"""
LATERAL (SELECT count(*) AS retries, min(q.due_at) FILTER (WHERE q.holder IS NULL) - {AHEAD} AS due_at
           FROM (SELECT due_at, holder FROM hookledger.retry
                  WHERE route_id = r.route_id LIMIT {COUNTED_ROWS}) q) retried,
LATERAL (SELECT count(*) AS rows, coalesce(sum(q.pairs), 0)::bigint AS pairs
           FROM (SELECT pairs FROM hookledger.parked
                  WHERE route_id = r.route_id LIMIT {COUNTED_ROWS}) q) packed,
LATERAL ({TAKEN_UP.format(route="r.route_id")}) taken_up,
LATERAL (SELECT coalesce(sum(g.pairs), 0)::bigint AS pairs FROM hookledger.parked_range g
          WHERE g.route_id = r.route_id) ranged
"""
_WAITING_COLUMNS = """retried.retries + packed.pairs - taken_up.pairs + ranged.pairs AS waiting,
       packed.pairs - taken_up.pairs + ranged.pairs AS parked,
       greatest(retried.retries, packed.rows) AS counted_rows, retried.due_at"""

# $1 routes
_READ = f"""
SELECT r.route_id AS of_route, {_OF_ROW}, h.probe_at, {_WAITING_COLUMNS}
  FROM unnest($1::uuid[]) AS r (route_id) LEFT JOIN hookledger.route_health h ON h.route_id = r.route_id, {_WAITING}
"""

# $1 to $3 the position to begin after, $4 rows
_PAGE = f"""
SELECT r.route_id AS of_route, {_OF_ROW.replace("h.", "r.")}, r.probe_at, {_WAITING_COLUMNS}
  FROM (SELECT * FROM hookledger.route_health
         WHERE state <> 'ok' AND (state, since, route_id) > ($1, $2, $3)
         ORDER BY state, since, route_id LIMIT $4) r, {_WAITING}
 ORDER BY r.state, r.since, r.route_id
"""

# $1 tenants
_COUNTS = """
SELECT tenant, count(*) AS failing
  FROM hookledger.route_health WHERE state <> 'ok' AND tenant = ANY ($1) GROUP BY tenant
"""
_TOTAL = """
SELECT count(*) AS failing, count(*) FILTER (WHERE state = 'down') AS down
  FROM hookledger.route_health WHERE state <> 'ok'
"""

# $1 tenant
_FAILING = "SELECT route_id FROM hookledger.route_health WHERE state <> 'ok' AND tenant = $1"

_TOP = FailingPosition("", datetime.fromisoformat("1970-01-01T00:00:00+00:00"), UUID(int=0))


async def write(database: Database, rows: Sequence[HealthRow]) -> None:
    """Writes these rows, but none that a later owner of its shard has written."""
    async with database.transaction(seconds=WRITE_SECONDS) as connection:
        await connection.executemany(_WRITE, sorted(rows))


async def forget(database: Database, route_ids: Collection[UUID]) -> None:
    """Forgets what is known of these receivers."""
    async with database.connection() as connection:
        await connection.execute(_FORGET, list(route_ids))


async def forget_closed(database: Database, shards: Collection[int]) -> None:
    """Forgets what is known of receivers of these shards to which nothing was sent since their route was disabled, or
    deleted.
    """
    async with database.connection(seconds=WRITE_SECONDS) as connection:
        await connection.execute(_FORGET_CLOSED, list(shards))


async def known(database: Database, route_ids: Collection[UUID]) -> list[HealthRow]:
    """The rows of these routes, as far as there are any."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return [_row(row) for row in await connection.fetch(_KNOWN, list(route_ids))]


async def of_shards(database: Database, shards: Collection[int]) -> list[HealthRow]:
    """The rows of all routes of these shards that fail."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return [_row(row) for row in await connection.fetch(_OF_SHARDS, list(shards))]


async def read(database: Database, route_ids: Collection[UUID]) -> dict[UUID, StoredHealth]:
    """Route → its health, and what waits for it."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        rows = await connection.fetch(_READ, list(route_ids))
    return {row["of_route"]: _stored(row) for row in rows}


async def page(database: Database, *, after: FailingPosition | None, limit: int) -> list[StoredHealth]:
    """The routes of all tenants that fail, the worst first: those that are down, and the longest first."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        rows = await connection.fetch(_PAGE, *(after or _TOP), limit)
    return [_stored(row) for row in rows]


async def counts(database: Database, tenants: Sequence[str]) -> dict[str, int]:
    """Tenant → how many of its routes fail; only tenants of which some do."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return {row["tenant"]: row["failing"] for row in await connection.fetch(_COUNTS, tenants)}


async def total(database: Database) -> FailingCount:
    """How many routes of all tenants fail."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        (row,) = await connection.fetch(_TOTAL)
    return FailingCount(failing=row["failing"], down=row["down"])


async def failing(database: Database, tenant: str) -> set[UUID]:
    """The routes of a tenant that fail. One that was just disabled may be among them."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return {row["route_id"] for row in await connection.fetch(_FAILING, tenant)}


def _row(row: asyncpg.Record) -> HealthRow:
    return HealthRow(*(row[name] for name in _FIELDS))


def _stored(row: asyncpg.Record) -> StoredHealth:
    waiting = Waiting(
        number=row["waiting"],
        parked=row["parked"],
        is_exact=row["counted_rows"] < COUNTED_ROWS,
        due_at=row["due_at"],
    )
    return StoredHealth(None if row["state"] is None else _row(row), row["probe_at"], waiting)
