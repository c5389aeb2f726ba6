"""Disables routes in the name of the system: at once when a receiver says that it is gone, and when nothing but
failures came back for longer than the operator wants to see (`delivery.auto_disable_after`).

The second is looked for at a slow pace, among the routes that fail, by the process that has their shard. What was added
up names the candidates, and the log decides. The time is that from the first failure to the last one, and begins anew
with a success and with whatever the merchant does to the route. So a route without events is never disabled, and one
whose receiver was down a while ago only if it fails again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from datetime import timedelta

import structlog

from daemon.commands import CommandError, Commands, Context
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.pipeline.sending.attempt import is_still_gone
from daemon.pipeline.sending.outcome import NOT_THE_RECEIVER
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.queries import route_metrics
from eventstore.queries.route_metrics import FailingRoute, FailureRun

log = structlog.get_logger()

# Of the time allowed, how often it is looked; and the bounds of that.
LOOK_PART = 0.1
LOOK_LEAST_SECONDS = 0.2
LOOK_MOST_SECONDS = 60.0


class RouteDisabler:
    """`gone` takes note of a route, as it was asked, whose receiver answered 410, and `run_once` acts."""

    def __init__(self, index: RouteIndex, commands: Commands) -> None:
        self._index = index
        self._commands = commands
        self._gone: asyncio.Queue[Route] = asyncio.Queue()

    def gone(self, route: Route) -> None:
        self._gone.put_nowait(route)

    async def run_once(self) -> None:
        route = await self._gone.get()
        try:
            if is_still_gone(route, self._index):
                await self.disable(route, "the receiver answered 410 Gone")
        except StoreUnavailable:
            self._gone.put_nowait(route)
            raise

    async def disable(self, route: Route, reason: str, *, if_version: int | None = None) -> None:
        """Disables the route, unless it is deleted, disabled or beyond that version by now."""
        context = Context(actor="system", origin="delivery", reason=reason, if_version=if_version)
        with contextlib.suppress(CommandError):
            done = await self._commands.disable(route.tenant, route.id, context)
            if done.appended:
                log.warning("route.disabled", route_id=str(route.id), tenant=route.tenant, reason=reason)


class AutoDisable:
    """`run_once` looks for routes of these shards that failed for `after`, and waits until it is time to look again."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        route_disabler: RouteDisabler,
        *,
        after: timedelta,
        shards: Callable[[], Collection[int]],
    ) -> None:
        self._database = database
        self._index = index
        self._route_disabler = route_disabler
        self._after = after
        self._shards = shards

    async def run_once(self) -> None:
        await route_metrics.add_up(self._database)
        for failing in await route_metrics.failing(self._database, for_at_least=self._after):
            await self._judge(failing)
        pause = self._after.total_seconds() * LOOK_PART
        await asyncio.sleep(min(LOOK_MOST_SECONDS, max(LOOK_LEAST_SECONDS, pause)))

    async def _judge(self, failing: FailingRoute) -> None:
        timeline = self._index.timeline(failing.route_id)
        route = None if timeline is None else timeline.current
        if route is None or not route.is_enabled or shard_of(route.tenant) not in self._shards():
            return
        since = max(failing.since, route.updated_at)
        if failing.last_at - since < self._after:
            return
        found = await route_metrics.failures(self._database, route.id, since=since, but_for=NOT_THE_RECEIVER)
        if found is not None and found.last_at - found.first_at >= self._after:
            await self._route_disabler.disable(route, _reason(found), if_version=route.version)


def _reason(found: FailureRun) -> str:
    return f"nothing but failures since {found.first_at:%Y-%m-%d %H:%M:%S} UTC: {found.count:,} requests in a row"
