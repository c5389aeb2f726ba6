"""Notices that nothing happens any more, and gives back what the last busy time needed.

A session of PostgreSQL keeps what it has learned of each table, partition and statement: 10 MiB after some traffic, 3
for what an idle process asks. So the first quiet minute ends the sessions, and then one does what there is to do.
"""

from __future__ import annotations

import asyncio
import time

from eventstore.postgres.connect import Database

# When nothing has happened for so long.
QUIET_SECONDS = 60.0
LOOK_SECONDS = 15.0


class QuietTime:
    """`heard` is told that something happens; `run_once` looks whether nothing does, then waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard_at = time.monotonic()
        self._has_rested = False

    @property
    def is_quiet(self) -> bool:
        return time.monotonic() >= self._heard_at + QUIET_SECONDS

    def heard(self, *_news: object) -> None:
        """A tick was made, or outcomes were recorded. On the hot path."""
        self._heard_at = time.monotonic()
        if self._has_rested:
            self._has_rested = False
            self._database.wake()

    async def run_once(self) -> None:
        if self.is_quiet and not self._has_rested:
            self._has_rested = True
            await self._database.rest()
        await asyncio.sleep(LOOK_SECONDS)
