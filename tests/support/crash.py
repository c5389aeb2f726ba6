"""A house that ends without a farewell: nothing is finished, flushed or freed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from tests.support.house import House, house


@asynccontextmanager
async def doomed_house(database_url: str, **options: Any) -> AsyncIterator[House]:
    """Runs the pipeline and, at the end of the block, crashes it. Its leases are free at once, as if time had passed."""
    async with house(database_url, run=False, **options) as it:
        running = asyncio.ensure_future(it.pipeline.run())
        try:
            yield it
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    await free_leases(database_url)


async def free_leases(database_url: str) -> None:
    """Lets every lease expire, and every process be forgotten."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE hookledger.lease SET expires_at = '-infinity'; DELETE FROM hookledger.process")
    finally:
        await connection.close()


async def age_leases(database_url: str, *, seconds: float) -> None:
    """Lets that much of the time pass for which leases are good, and processes count as alive."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE hookledger.lease SET expires_at = expires_at - make_interval(secs => $1)", seconds
        )
        await connection.execute("UPDATE hookledger.process SET seen_at = seen_at - make_interval(secs => $1)", seconds)
    finally:
        await connection.close()


def exposed(crashed: House) -> int:
    """What a crash may send a second time: what can be in flight, and what had an outcome that is not written."""
    pipeline = crashed.pipeline
    in_flight = min(pipeline._limits.concurrency, sum(lane.limit for lane in pipeline._lanes))
    return in_flight + len(pipeline._recorder._buffer.ended) + len(pipeline._recorder._writing.ended)
