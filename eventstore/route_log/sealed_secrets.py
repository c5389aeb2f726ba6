"""Sealed secrets of routes: verification keys and the values of custom headers. Only ciphertext passes through here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

PAGE_ROWS = 500


class Table(StrEnum):
    """The tables of sealed secrets, whose keys are a route and an id."""

    KEYS = "route_key"
    HEADERS = "route_headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A sealed secret. `item` is the id of the key or of the set of headers."""

    tenant: str
    route_id: UUID
    item: str
    sealed: bytes


_ITEM = {Table.KEYS: "key_id", Table.HEADERS: "headers_id"}

_PAGE = {
    table: f"""
SELECT s.route_id, s.{item} AS item, s.sealed, e.tenant
  FROM hookledger.{table} s JOIN hookledger.route_event e ON e.route_id = s.route_id AND e.version = 1
 WHERE (s.route_id, s.{item}) > ($1, $2) ORDER BY s.route_id, s.{item} LIMIT $3
"""
    for table, item in _ITEM.items()
}

_OF_ROUTE = {
    table: f"SELECT {item} AS item, sealed FROM hookledger.{table} WHERE route_id = $1 AND {item} = ANY ($2::text[])"
    for table, item in _ITEM.items()
}

# Deleting is final, so the last event of a route tells whether it is deleted. Each route is looked up by the index on
# (route_id, version): the routes with secrets are those that live and the last ones that were deleted.
_FORGET = {
    table: f"""
DELETE FROM hookledger.{table} WHERE route_id IN (
    SELECT s.route_id FROM (SELECT DISTINCT route_id FROM hookledger.{table}) s CROSS JOIN LATERAL (
           SELECT e.type, e.effective_at FROM hookledger.route_event e
            WHERE e.route_id = s.route_id ORDER BY e.version DESC LIMIT 1) last
     WHERE last.type = 'deleted' AND last.effective_at < $1)
"""
    for table in Table
}

# Rows are locked in order, so that two concurrent exchanges of the master key do not deadlock.
_EXCHANGE = {
    table: f"""
WITH held AS MATERIALIZED (
    SELECT s.route_id, s.{item} AS item, n.fresh
      FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS n (route_id, item, stale, fresh)
      JOIN hookledger.{table} s ON s.route_id = n.route_id AND s.{item} = n.item AND s.sealed = n.stale
     ORDER BY s.route_id, s.{item} FOR NO KEY UPDATE OF s
)
UPDATE hookledger.{table} s SET sealed = held.fresh FROM held WHERE s.route_id = held.route_id AND s.{item} = held.item
RETURNING true
"""
    for table, item in _ITEM.items()
}


async def add_key(connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID, key_id: str, sealed: bytes) -> None:
    """Stores a key inside the transaction that appends its lifecycle event."""
    await connection.execute(
        "INSERT INTO hookledger.route_key (route_id, key_id, sealed) VALUES ($1, $2, $3)", route_id, key_id, sealed
    )


async def add_headers(
    connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID, headers_id: str, sealed: bytes
) -> None:
    """Stores a set of header values inside the transaction that appends its lifecycle event."""
    await connection.execute(
        "INSERT INTO hookledger.route_headers (route_id, headers_id, sealed) VALUES ($1, $2, $3)",
        route_id,
        headers_id,
        sealed,
    )


async def of_route(database: Database, table: Table, route_id: UUID, items: Sequence[str]) -> dict[str, bytes]:
    """Id → sealed secret, for those of these ids that the route has. A route may have had thousands of others."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_OF_ROUTE[table], route_id, items)
    return {row["item"]: row["sealed"] for row in rows}


async def forget_deleted(connection: asyncpg.pool.PoolConnectionProxy, *, before: datetime) -> int:
    """Deletes the secrets of routes that were deleted before a moment. Returns how many there were."""
    return sum([int((await connection.execute(_FORGET[table], before)).split()[-1]) for table in Table])


async def master_key_check(database: Database, value: str) -> str:
    """The check value of the master key in this database. If there is none yet, `value` is stored and returned."""
    async with database.connection() as connection:
        stored: str = await connection.fetchval(
            "INSERT INTO hookledger.meta (key, value) VALUES ('master_key_check', $1) "
            "ON CONFLICT (key) DO UPDATE SET value = hookledger.meta.value RETURNING value",
            value,
        )
    return stored


async def stored_master_key_check(database: Database) -> str | None:
    """The check value of the master key in this database, None if there is none yet."""
    async with database.connection() as connection:
        stored: str | None = await connection.fetchval(
            "SELECT value FROM hookledger.meta WHERE key = 'master_key_check'"
        )
    return stored


async def replace_master_key_check(database: Database, stale: str, fresh: str) -> None:
    """Replaces the check value `stale` by `fresh`, if it is still `stale`."""
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE hookledger.meta SET value = $2 WHERE key = 'master_key_check' AND value = $1", stale, fresh
        )


async def pages(database: Database, table: Table) -> AsyncIterator[list[StoredSecret]]:
    """Every secret of a table, in pages. Secrets that are added meanwhile may or may not be included."""
    route_id, item = UUID(int=0), ""
    while True:
        async with database.connection(seconds=10) as connection:
            rows = await connection.fetch(_PAGE[table], route_id, item, PAGE_ROWS)
        if not rows:
            return
        yield [StoredSecret(**row) for row in rows]
        route_id, item = rows[-1]["route_id"], rows[-1]["item"]


async def exchange(database: Database, table: Table, stale: Sequence[StoredSecret], fresh: Sequence[bytes]) -> int:
    """Replaces the ciphertexts that were read by new ones, where they are unchanged. Returns how many were replaced."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            _EXCHANGE[table],
            [each.route_id for each in stale],
            [each.item for each in stale],
            [each.sealed for each in stale],
            fresh,
        )
    return len(rows)
