"""The live projection: the route log folded into memory, and kept up with.

Whoever needs the routes as of a position awaits `reach`: the tailer before it decides a tick, a command before it
answers. A notification makes the loop look at once; without one the ticker, which asks for the newest position several
times a second, has it caught up (daemon.pipeline.intake.ticker), and the loop itself looks seldom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon import route_state
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, Route
from daemon.pipeline.wakeup import Wakeup
from eventstore import route_log
from eventstore.postgres.connect import Database

POLL_SECONDS = 5.0

OnChange = Callable[[Route, LifecycleEvent], None]


class Projection:
    """`index` is safe to read between awaits; `on_change` are called with each route after it was changed."""

    def __init__(self, database: Database) -> None:
        self.index = RouteIndex()
        self.wakeup = Wakeup()
        self.on_change: list[OnChange] = []
        self._database = database
        self._turn = asyncio.Lock()

    async def catch_up(self) -> None:
        """Applies what the log has beyond the present position. Raises StoreUnavailable."""
        async with self._turn:
            async for row in route_log.read(self._database, after=self.index.position):
                event = route_state.lifecycle(row)
                route = self.index.apply(event)
                for notify in self.on_change:
                    notify(route, event)

    async def reach(self, pos: int) -> None:
        """Returns once everything up to `pos` is applied. Raises StoreUnavailable."""
        if self.index.position < pos:
            await self.catch_up()

    async def lag(self) -> int:
        """How many lifecycle events the log has beyond the present position. Raises StoreUnavailable."""
        return max(0, await route_log.last_position(self._database) - self.index.position)

    async def run_once(self) -> None:
        self.wakeup.clear()
        await self.catch_up()
        await self.wakeup.wait(POLL_SECONDS)
