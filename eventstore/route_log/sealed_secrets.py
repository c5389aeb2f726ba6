"""Sealed secrets of routes: verification keys and the values of custom headers. Only ciphertext passes through here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
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


async def keys(database: Database, routes: Sequence[UUID]) -> dict[tuple[UUID, str], bytes]:
    """(route, key id) → sealed key, for all keys of these routes."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            "SELECT route_id, key_id, sealed FROM hookledger.route_key WHERE route_id = ANY ($1::uuid[])", routes
        )
    return {(row["route_id"], row["key_id"]): row["sealed"] for row in rows}


async def headers(database: Database, routes: Sequence[UUID]) -> dict[tuple[UUID, str], bytes]:
    """(route, headers id) → sealed header values, for all sets of these routes."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            "SELECT route_id, headers_id, sealed FROM hookledger.route_headers WHERE route_id = ANY ($1::uuid[])",
            routes,
        )
    return {(row["route_id"], row["headers_id"]): row["sealed"] for row in rows}


async def master_key_check(database: Database, value: str) -> str:
    """The check value of the master key in this database. If there is none yet, `value` is stored and returned."""
    async with database.connection() as connection:
        stored: str = await connection.fetchval(
            "INSERT INTO hookledger.meta (key, value) VALUES ('master_key_check', $1) "
            "ON CONFLICT (key) DO UPDATE SET value = hookledger.meta.value RETURNING value",
            value,
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
