"""Queries of the tests to PostgreSQL, without the event store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connect = Callable[[], Awaitable[asyncpg.Connection]]


async def until_waiting(
    watcher: asyncpg.Connection | PoolConnectionProxy, *, count: int = 1, seconds: float = 10
) -> None:
    """Returns when `count` connections to the watcher's database wait for a lock."""
    async with asyncio.timeout(seconds):
        while await watcher.fetchval(_WAITING) < count:
            await watcher.execute(
                "SELECT pg_stat_clear_snapshot()"
            )  # a transaction of the watcher would keep the snapshot


_WAITING = """
SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE NOT granted AND datname = current_database()
"""
