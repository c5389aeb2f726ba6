"""Appends lifecycle events to the route log, and reads them in order.

An append is one short transaction under the lock that ticks take too (`hookledger.append_route_event` in
schema.sql). The caller names the version that it appends. If another command has appended that version first, the
append fails with VersionConflict: this is the optimistic concurrency control.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import RequestReused, VersionConflict

PAGE_ROWS = 1000
# Between two turns of the event loop, which are for all else that the process does, and in which the next page arrives.
_ROWS_A_TURN = 100

# Greater than any position.
_AFTER_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRouteEvent:
    """A lifecycle event to append: all columns that the database does not set. `body` is JSON with sorted keys and no
    spaces.
    """

    route_id: UUID
    tenant: str
    version: int
    type: str
    actor: str
    origin: str
    body: str
    reason: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class RouteEvent(NamedTuple):
    """A row of the route log. `pos` is gapless; `effective_at` is set by the database and rises strictly with `pos`.

    A tuple, with the fields in the order of the columns: a rebuild makes millions, and a frozen dataclass costs ten
    times as much to make.
    """

    pos: int
    route_id: UUID
    tenant: str
    version: int
    type: str
    effective_at: datetime
    actor: str
    origin: str
    reason: str | None
    request_id: str | None
    correlation_id: str | None
    causation_id: str | None
    body: str
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCount:
    """How many routes a tenant has at a position of the log."""

    position: int
    routes: int


_COLUMNS = (
    "pos, route_id, tenant, version, type, effective_at, actor, origin, reason, request_id, "
    "correlation_id, causation_id, body, prev_hash, hash"
)

# The function refuses a version that is taken; that the one before it is there is asked in the same round trip.
_APPEND = f"""
SELECT {_COLUMNS},
       $3 = 1 OR EXISTS (SELECT FROM hookledger.route_event b WHERE b.route_id = $1 AND b.version = $3 - 1) AS follows
  FROM hookledger.append_route_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def append(connection: asyncpg.pool.PoolConnectionProxy, draft: NewRouteEvent) -> RouteEvent:
    """Appends inside the caller's transaction. Call it last, because it holds the lock until the commit.

    Raises VersionConflict if the route has that version already, or has not the one before it (any more), and
    RequestReused if the log has the request id already.
    """
    try:
        (row,) = await connection.fetch(
            _APPEND,
            draft.route_id,
            draft.tenant,
            draft.version,
            draft.type,
            draft.actor,
            draft.origin,
            draft.reason,
            draft.request_id,
            draft.correlation_id,
            draft.causation_id,
            draft.body,
        )
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "route_event_request_key":
            raise RequestReused(f"request {draft.request_id} was carried out before") from error
        raise VersionConflict(
            f"version {draft.version} of route {draft.route_id} was appended by somebody else",
            hint="read the route again and repeat the command on its present version",
        ) from error
    *event, follows = row
    if not follows:
        raise VersionConflict(
            f"version {draft.version - 1} of route {draft.route_id} is not in the log",
            hint="read the route again and repeat the command on its present version",
        )
    return RouteEvent(*event)


# One statement, so that the position and the count are of one snapshot.
_COUNT_ROUTES = """
SELECT (SELECT coalesce(max(pos), 0) FROM hookledger.route_event) AS position,
       count(*) FILTER (WHERE type = 'created') - count(*) FILTER (WHERE type = 'deleted') AS routes
  FROM hookledger.route_event WHERE tenant = $1 AND type IN ('created', 'deleted') AND pos > $2
"""


async def count_routes(connection: asyncpg.pool.PoolConnectionProxy, tenant: str, *, after: int = 0) -> RouteCount:
    """By how many the routes of a tenant have become more after a position, those that were deleted left out."""
    (row,) = await connection.fetch(_COUNT_ROUTES, tenant, after)
    return RouteCount(**row)


_AFTER = f"SELECT {_COLUMNS} FROM hookledger.route_event WHERE pos > $1 {{whose}} ORDER BY pos LIMIT $2"


async def page(database: Database, *, after: int, limit: int) -> list[RouteEvent]:
    """The events after position `after`, in order."""
    async with database.connection() as connection:
        rows = await connection.fetch(_AFTER.format(whose=""), after, limit)
    return [RouteEvent(**row) for row in rows]


async def read(database: Database, *, after: int = 0, tenant: str | None = None) -> AsyncIterator[RouteEvent]:
    """All events after position `after`, in order, read in pages; only those of `tenant` if it is given."""
    while True:
        async with database.connection(seconds=30) as connection:
            events = await read_page(connection, after=after, tenant=tenant)
        for place, event in enumerate(events, start=1):
            yield event
            if place % _ROWS_A_TURN == 0:
                await asyncio.sleep(0)
        if len(events) < PAGE_ROWS:
            return
        after = events[-1].pos


async def read_ahead(database: Database, *, after: int = 0) -> AsyncGenerator[list[RouteEvent], None]:
    """The same events as `read`, a few at a time, with a turn of the event loop between them. The next page is read
    while the caller is busy with this one; close it when done.
    """
    reading = asyncio.ensure_future(_page_after(database, after))
    try:
        while events := await reading:
            reading = asyncio.ensure_future(_page_after(database, events[-1].pos))
            for first in range(0, len(events), _ROWS_A_TURN):
                await asyncio.sleep(0)
                yield events[first : first + _ROWS_A_TURN]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _page_after(database: Database, after: int) -> list[RouteEvent]:
    async with database.connection(seconds=30) as connection:
        return await read_page(connection, after=after)


async def read_page(
    connection: asyncpg.pool.PoolConnectionProxy, *, after: int, tenant: str | None = None
) -> list[RouteEvent]:
    """The next PAGE_ROWS events after position `after`, in order; fewer at the end of the log."""
    whose = "" if tenant is None else "AND tenant = $3"
    rows = await connection.fetch(_AFTER.format(whose=whose), after, PAGE_ROWS, *([] if tenant is None else [tenant]))
    return [RouteEvent(*row) for row in rows]


async def history(database: Database, route_id: UUID, *, after_version: int = 0) -> list[RouteEvent]:
    """All events of one route after that version, oldest first; empty if there is no such route."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM hookledger.route_event "
            "WHERE route_id = $1 AND version > $2::bigint ORDER BY version",
            route_id,
            after_version,
        )
    return [RouteEvent(*row) for row in rows]


async def of_version(database: Database, route_id: UUID, version: int) -> RouteEvent | None:
    """The event with that version of a route, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM hookledger.route_event WHERE route_id = $1 AND version = $2::bigint",
            route_id,
            version,
        )
    return None if row is None else RouteEvent(*row)


async def configured_before(database: Database, route_id: UUID, version: int) -> RouteEvent | None:
    """The last event before that version of a route that has its configuration; None before the first one."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_CONFIGURED_BEFORE, route_id, version)
    return None if row is None else RouteEvent(*row)


_CONFIGURED_BEFORE = f"""
SELECT {_COLUMNS} FROM hookledger.route_event
 WHERE route_id = $1 AND version < $2::bigint AND type IN ('created', 'edited') ORDER BY version DESC LIMIT 1
"""


async def of_versions(database: Database, versions: Sequence[tuple[UUID, int]]) -> dict[tuple[UUID, int], RouteEvent]:
    """(route, version) → the event, for those of these that there are."""
    if not versions:
        return {}
    columns = [list(column) for column in zip(*versions, strict=True)]
    async with database.connection() as connection:
        rows = await connection.fetch(_OF_VERSIONS, *columns)
    return {(row["route_id"], row["version"]): RouteEvent(*row) for row in rows}


_OF_VERSIONS = f"""
SELECT {_COLUMNS} FROM hookledger.route_event e
  JOIN unnest($1::uuid[], $2::bigint[]) AS w (of_route, of_version)
    ON e.route_id = w.of_route AND e.version = w.of_version
"""

# $2 the position to begin below
_OF_TENANT = f"""
SELECT {_COLUMNS} FROM hookledger.route_event
 WHERE tenant = $1 AND pos < $2 ORDER BY pos DESC LIMIT $3
"""
_OF_TENANT_AND_TYPE = f"""
SELECT {_COLUMNS} FROM hookledger.route_event
 WHERE tenant = $1 AND type = $4 AND pos < $2 ORDER BY pos DESC LIMIT $3
"""
# Sorted by version, for the index on (route_id, version). The order of versions is that of positions.
_OF_ROUTE = f"""
SELECT {_COLUMNS} FROM hookledger.route_event
 WHERE route_id = $1 AND pos < $2 AND ($4::text IS NULL OR type = $4) ORDER BY version DESC LIMIT $3
"""


async def newest(
    database: Database,
    tenant: str,
    count: int,
    *,
    before: int | None = None,
    type: str | None = None,
    route_id: UUID | None = None,
) -> list[RouteEvent]:
    """At most `count` events of a tenant's routes, newest first: those before a position, of one type, of one route.

    With `route_id`, the caller must have checked that the route is the tenant's.
    """
    begin = _AFTER_ALL if before is None else before
    async with database.connection() as connection:
        if route_id is not None:
            rows = await connection.fetch(_OF_ROUTE, route_id, begin, count, type)
        elif type is not None:
            rows = await connection.fetch(_OF_TENANT_AND_TYPE, tenant, begin, count, type)
        else:
            rows = await connection.fetch(_OF_TENANT, tenant, begin, count)
    return [RouteEvent(*row) for row in rows]


async def by_request(database: Database, request_id: str) -> RouteEvent | None:
    """The event that was appended with this request id, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM hookledger.route_event WHERE request_id = $1", request_id
        )
    return None if row is None else RouteEvent(*row)


async def last_position(database: Database) -> int:
    """The position of the newest event, 0 for an empty log."""
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT coalesce(max(pos), 0) FROM hookledger.route_event"))


async def hashes(database: Database, positions: Sequence[int]) -> dict[int, bytes]:
    """The hashes of the events at these positions, of those that exist."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT pos, hash FROM hookledger.route_event WHERE pos = ANY ($1::bigint[])", positions
        )
    return {row["pos"]: row["hash"] for row in rows}
