"""A pipeline process that crashes: nothing is finished, flushed or released."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from tests.support.pipeline.process import PipelineProcess, pipeline_process


@asynccontextmanager
async def crashing_process(database_url: str, **options: Any) -> AsyncIterator[PipelineProcess]:
    """Runs the pipeline and, at the end of the block, crashes it. Its leases are free at once, as if they had expired."""
    async with pipeline_process(database_url, run=False, **options) as it:
        running = asyncio.ensure_future(it.pipeline.run())
        try:
            yield it
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    await free_leases(database_url)


async def free_leases(database_url: str) -> None:
    """Expires every lease and forgets every process."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE hookledger.lease SET expires_at = '-infinity'; DELETE FROM hookledger.process")
    finally:
        await connection.close()


def possible_duplicates(crashed: PipelineProcess) -> int:
    """How many requests a crash may repeat at most: those in flight, and those whose outcome is not written yet."""
    pipeline = crashed.pipeline
    in_flight = min(pipeline._limits.concurrency, sum(lane.limit for lane in pipeline._lanes))
    return in_flight + len(pipeline._recorder._buffer.ended) + len(pipeline._recorder._writing.ended)
