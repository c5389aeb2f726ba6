"""Sealed secrets of routes: verification keys and the values of custom headers. Ciphertext in, ciphertext out."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from eventstore.connect import Database


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
    """All sealed keys of these routes, by route and key id."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            "SELECT route_id, key_id, sealed FROM hookledger.route_key WHERE route_id = ANY ($1::uuid[])", routes
        )
    return {(row["route_id"], row["key_id"]): row["sealed"] for row in rows}


async def headers(database: Database, routes: Sequence[UUID]) -> dict[tuple[UUID, str], bytes]:
    """All sealed header sets of these routes, by route and headers id."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            "SELECT route_id, headers_id, sealed FROM hookledger.route_headers WHERE route_id = ANY ($1::uuid[])",
            routes,
        )
    return {(row["route_id"], row["headers_id"]): row["sealed"] for row in rows}


async def master_key_check(database: Database, value: str) -> str:
    """The check value of the master key in this database; `value` is kept and returned if there is none yet."""
    async with database.connection() as connection:
        stored: str = await connection.fetchval(
            "INSERT INTO hookledger.meta (key, value) VALUES ('master_key_check', $1) "
            "ON CONFLICT (key) DO UPDATE SET value = hookledger.meta.value RETURNING value",
            value,
        )
    return stored
