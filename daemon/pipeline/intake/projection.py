"""The live projection: the route log, folded into memory and kept up to date.

Code that needs the routes as of a position awaits `reach`: the tailer before it decides a tick, a command before it
answers. A notification makes the loop catch up at once. Without one the ticker makes it catch up, since it reads the
newest position several times a second (daemon.pipeline.intake.ticker). So the loop itself polls seldom.
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
    """`index` is consistent between awaits. Each of `on_change` gets every changed route and its event."""

    def __init__(self, database: Database) -> None:
        self.index = RouteIndex()
        self.wakeup = Wakeup()
        self.on_change: list[OnChange] = []
        self._database = database
        self._lock = asyncio.Lock()

    async def catch_up(self) -> None:
        """Applies the lifecycle events after the current position. Raises StoreUnavailable."""
        async with self._lock:
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
        """The number of lifecycle events in the log after the current position. Raises StoreUnavailable."""
        return max(0, await route_log.last_position(self._database) - self.index.position)

    async def run_once(self) -> None:
        """Catches up, then waits for the wakeup or POLL_SECONDS."""
        self.wakeup.clear()
        await self.catch_up()
        await self.wakeup.wait(POLL_SECONDS)
