"""The live projection: the route log, folded into memory and kept up to date.

Code that needs the routes as of a position awaits `reach`: the tailer before it decides a tick, a command before it
answers. A request to the API awaits `reach_end`, since it may follow a command that another process has answered. A
notification makes the loop catch up at once. Without one the ticker makes it catch up, since it reads the newest
position several times a second (daemon.pipeline.intake.ticks.ticker). So the loop itself polls seldom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from daemon import route_state
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, Route
from daemon.pipeline.wakeup import Wakeup
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreUnavailable
from eventstore.route_log.log import RouteEvent

POLL_SECONDS = 15.0

OnChange = Callable[[Route, LifecycleEvent], None]


class LogReplaced(StoreUnavailable):
    """What stands in the log does not follow what was applied, or cannot have been written by a command:
    `daemon.pipeline.intake.ticks.log_watch` finds out why.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what, hint="compare the route log with a backup from before the change, and restore it")


class LogEnd(NamedTuple):
    """How far the route log was applied, and the hash of that event; 0 and an empty one for nothing."""

    position: int = 0
    hash: bytes = b""


class Projection:
    """`index` is consistent between awaits, and `end` how far it goes. Each of `on_change` gets every changed route and
    its event; `on_folded_anew` are called when all routes may be others.
    """

    def __init__(self, database: Database) -> None:
        self.index = RouteIndex()
        self.wakeup = Wakeup()
        self.end = LogEnd()
        self.on_change: list[OnChange] = []
        self.on_folded_anew: list[Callable[[], None]] = []
        self._database = database
        self._lock = asyncio.Lock()
        # The looks at the log, counted when they begin: how many there were, and the last one that came to the end.
        self._looks = self._whole_look = 0

    async def catch_up(self) -> None:
        """Applies the lifecycle events after the current position. Raises StoreUnavailable, LogReplaced among them."""
        async with self._lock:
            await self._look()

    async def fold_anew(self, known: LogEnd) -> int:
        """Folds the whole log again, since it is not the one that was applied up to `known`; until then the routes stay
        as they were. Returns the position of the first change that is gone, as far as the routes tell. Raises
        StoreUnavailable, LogReplaced among them.
        """
        async with self._lock:
            index, end = RouteIndex(), LogEnd()
            async for row in route_log.read(self._database):
                _applied(index, row)
                end = LogEnd(row.pos, row.hash)
            gone = [route.pos for route in self.index.routes() if not index.has(route)]
            self.index.replace(index)
            self.end = end
            for notify in self.on_folded_anew:
                notify()
        return min(gone, default=known.position + 1)

    async def reach(self, pos: int) -> None:
        """Returns once everything up to `pos` is applied. Raises StoreUnavailable."""
        if self.index.position < pos:
            await self.catch_up()

    async def reach_end(self) -> None:
        """Returns once everything is applied that stood in the log when this was called: callers that wait at the same
        time share a look. Raises StoreUnavailable.
        """
        next_look = self._looks + 1
        async with self._lock:
            if self._whole_look < next_look:
                await self._look()

    async def lag(self) -> int:
        """The number of lifecycle events in the log after the current position. Raises StoreUnavailable."""
        return max(0, await route_log.last_position(self._database) - self.index.position)

    async def run_once(self) -> None:
        """Catches up, then waits for the wakeup or POLL_SECONDS."""
        self.wakeup.clear()
        await self.catch_up()
        await self.wakeup.wait(POLL_SECONDS)

    async def _look(self) -> None:
        """Applies what stands in the log behind what was applied."""
        self._looks += 1
        async for row in route_log.read(self._database, after=self.index.position):
            if (row.pos, row.prev_hash) != (self.end.position + 1, self.end.hash):
                raise LogReplaced(f"position {row.pos} does not follow position {self.end.position} as applied here")
            route, event = _applied(self.index, row)
            self.end = LogEnd(row.pos, row.hash)
            for notify in self.on_change:
                notify(route, event)
        self._whole_look = self._looks


def _applied(index: RouteIndex, row: RouteEvent) -> tuple[Route, LifecycleEvent]:
    try:
        return route_state.apply(index, row)
    except ChainBroken as error:
        raise LogReplaced(str(error)) from error
