"""Loops: what a stage does again and again, also through times without PostgreSQL.

A stage that waits for PostgreSQL says so, once. It would else look like one that has nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import structlog

from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

_T = TypeVar("_T")

BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0)

# The name of a loop, as the log has it → one turn of it.
Loops = dict[str, Callable[[], Awaitable[None]]]


class Outages:
    """Which stages wait for PostgreSQL, since when, and why. The log is told once that one waits, and once that it goes
    on.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, str]] = {}

    def failed(self, name: str, cause: str) -> None:
        since, _ = self._waiting.get(name, (None, ""))
        if since is None:
            since = time.monotonic()
            log.warning("database.unavailable", loop=name, cause=cause)
        self._waiting[name] = since, cause

    def answered(self, name: str) -> None:
        if self._waiting.pop(name, None) is not None:
            log.info("database.recovered", loop=name)

    def longer_than(self, seconds: float, names: Collection[str], *, others: bool = False) -> list[str]:
        """A sentence without a full stop for each of these stages, or of all others, that has waited for longer."""
        now = time.monotonic()
        return [
            f"stage {name} has had no answer from the database for {now - since:.0f} s: {cause}"
            for name, (since, cause) in self._waiting.items()
            if (name in names) != others and now - since > seconds
        ]


async def run_forever(name: str, run_once: Callable[[], Awaitable[None]], outages: Outages | None = None) -> None:
    """Takes turns until it is cancelled, with pauses while PostgreSQL is away. Any other failure is raised."""
    outages = outages or Outages()
    failures = 0
    while True:
        try:
            await run_once()
            outages.answered(name)
            failures = 0
        except StoreUnavailable as error:
            outages.failed(name, str(error))
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


class Patience:
    """Asks PostgreSQL until it answers. That it does not is said once, by a name as the loops have them, however many
    ask; and once that it does again.
    """

    def __init__(self, name: str, *, pause_seconds: float, outages: Outages | None = None) -> None:
        self._name = name
        self._pause_seconds = pause_seconds
        self._outages = outages or Outages()

    async def until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                answer = await ask()
            except StoreUnavailable as error:
                self._outages.failed(self._name, str(error))
                await asyncio.sleep(self._pause_seconds)
            else:
                self._outages.answered(self._name)
                return answer
