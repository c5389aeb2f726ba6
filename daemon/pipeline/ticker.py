"""Makes ticks: at once after a publish through the API (at most every 5 ms), else every 50 ms with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from daemon.pipeline.bell import Bell
from eventstore import ticks
from eventstore.connect import Database

POLL_SECONDS = 0.05
COALESCE_SECONDS = 0.005


class Ticker:
    """`bell` hurries it; `on_tick` hears of each tick that was made here."""

    def __init__(self, database: Database, *, on_tick: Callable[[], None]) -> None:
        self.bell = Bell()
        self._database = database
        self._on_tick = on_tick
        self._made_at = 0.0

    async def run_once(self) -> None:
        hurried = await self.bell.wait(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, hides nothing
        if hurried:
            await asyncio.sleep(max(0.0, self._made_at + COALESCE_SECONDS - time.monotonic()))
        self.bell.hush()
        if await ticks.make(self._database) is not None:
            self._made_at = time.monotonic()
            self._on_tick()
