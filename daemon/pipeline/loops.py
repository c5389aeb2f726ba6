"""Loops: what a stage does again and again, also through times without PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0)

# The name of a loop, as the log has it → one turn of it.
Loops = dict[str, Callable[[], Awaitable[None]]]


async def run_forever(name: str, run_once: Callable[[], Awaitable[None]]) -> None:
    """Takes turns until it is cancelled, with pauses while PostgreSQL is away. Any other failure is raised."""
    failures = 0
    while True:
        try:
            await run_once()
            if failures:
                log.info("database.recovered", loop=name)
            failures = 0
        except StoreUnavailable as error:
            if failures == 0:
                log.warning("database.unavailable", loop=name, cause=str(error))
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1
