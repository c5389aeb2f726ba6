"""Loops: what a stage does again and again, also through times without PostgreSQL.

Whoever waits for PostgreSQL says so, once: a stage that does would else look like one that has nothing to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

_T = TypeVar("_T")

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


class Patience:
    """Asks PostgreSQL until it answers. That it does not is said once, by a name as the loops have them, however many
    ask; and once that it does again.
    """

    def __init__(self, name: str, *, pause_seconds: float) -> None:
        self._name = name
        self._pause_seconds = pause_seconds
        self._is_told = False

    async def until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                answer = await ask()
            except StoreUnavailable as error:
                if not self._is_told:
                    self._is_told = True
                    log.warning("database.unavailable", loop=self._name, cause=str(error))
                await asyncio.sleep(self._pause_seconds)
            else:
                if self._is_told:
                    self._is_told = False
                    log.info("database.recovered", loop=self._name)
                return answer
