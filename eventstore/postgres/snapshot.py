"""Several statements on one state of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from asyncpg.pool import PoolConnectionProxy

from eventstore.postgres.connect import Database

# A connection whose statements all see one state.
Snapshot: TypeAlias = PoolConnectionProxy


@asynccontextmanager
async def snapshot(database: Database, *, seconds: float) -> AsyncIterator[Snapshot]:
    """A snapshot for at most `seconds`. Keep it short: what it could still see is not tidied up meanwhile."""
    async with database.transaction(seconds=seconds) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection
