"""The signatures of lifecycle events: each is stored in the transaction that appends its event.

An event without one, above the first that has one, was appended by somebody who does not have our key. Signatures are
made and verified above (daemon/credentials/keys.py, daemon/audit): the database never has the key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken

PAGE_ROWS = 1000

_ADD = "INSERT INTO hookledger.route_event_signature (pos, signature) VALUES ($1, $2)"
_FIRST = "SELECT min(pos) FROM hookledger.route_event_signature"
_BETWEEN = "SELECT pos, signature FROM hookledger.route_event_signature WHERE pos > $1 AND pos <= $2"
_READ = "SELECT pos, signature FROM hookledger.route_event_signature WHERE pos > $1 ORDER BY pos LIMIT $2"


async def add(connection: asyncpg.pool.PoolConnectionProxy, pos: int, signature: bytes) -> None:
    """Stores the signature of the event that this transaction has appended. Raises ChainBroken if there is one."""
    try:
        await connection.execute(_ADD, pos, signature)
    except asyncpg.UniqueViolationError as error:
        raise ChainBroken(f"position {pos} of the route log was signed before, and is gone", pos=pos) from error


async def first(database: Database) -> int | None:
    """The first position that has a signature, None if none has."""
    async with database.connection() as connection:
        found: int | None = await connection.fetchval(_FIRST)
    return found


async def between(database: Database, *, after: int, upto: int) -> dict[int, bytes]:
    """The signatures after one position up to another, by position."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BETWEEN, after, upto)
    return {row["pos"]: row["signature"] for row in rows}


async def read(database: Database, *, after: int = 0) -> AsyncIterator[tuple[int, bytes]]:
    """Every position after one that has a signature, with it, in order."""
    while True:
        async with database.connection(seconds=30) as connection:
            rows = await connection.fetch(_READ, after, PAGE_ROWS)
        for row in rows:
            yield row["pos"], row["signature"]
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1]["pos"]
