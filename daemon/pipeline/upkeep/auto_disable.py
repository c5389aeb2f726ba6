"""Disables routes automatically: at once when a receiver answers 410 Gone, and when all attempts have failed for longer
than `delivery.auto_disable_after`.

The process that owns a route's shard checks the second condition at intervals. The metrics of routes give the
candidates, and the table of attempts decides. The time runs from the first failure to the last one; a success and every
change of the route start it again. So a route without events is never disabled, and a route whose receiver was down a
while ago only if it fails again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog

from daemon.commands import CommandError, Commands, Context
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.sending.attempt import is_still_gone
from daemon.pipeline.sending.outcome import NOT_THE_RECEIVER
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreUnavailable
from eventstore.queries.metrics import tally
from eventstore.queries.metrics.tally import FailingRoute, FailureRun

log = structlog.get_logger()

# The interval between checks, as a part of `delivery.auto_disable_after`. Its bounds are tunables.
CHECK_PART = 0.1


class RouteDisabler:
    """`gone` queues a route, as it was attempted, whose receiver answered 410. `run_once` disables the next one."""

    def __init__(self, index: RouteIndex, commands: Commands) -> None:
        self._index = index
        self._commands = commands
        self._gone: asyncio.Queue[Route] = asyncio.Queue()

    def gone(self, route: Route) -> None:
        self._gone.put_nowait(route)

    async def run_once(self) -> None:
        route = await self._gone.get()
        known, is_gone = self._index.route(route.id), partial(is_still_gone, route)
        try:
            if known is not None and is_gone(known):  # there may be hundreds of answers, and the first one does
                await self.disable(route, "the receiver answered 410 Gone", only_if=is_gone)
        except StoreUnavailable:
            self._gone.put_nowait(route)
            raise

    async def disable(
        self,
        route: Route,
        reason: str,
        *,
        if_version: int | None = None,
        only_if: Callable[[Route], bool] | None = None,
    ) -> None:
        """Disables the route, unless it is deleted, disabled, no longer at `if_version`, or `only_if` is false of it.

        If its log is broken, nothing is sent to it any more (daemon.pipeline.intake.ticks.log_watch).
        """
        context = Context(actor="system", origin="delivery", reason=reason, if_version=if_version, is_unlimited=True)
        with contextlib.suppress(CommandError, ChainBroken):
            done = await self._commands.disable(route.tenant, route.id, context, only_if=only_if)
            if done.appended:
                log.warning("route.disabled", route_id=str(route.id), tenant=route.tenant, reason=reason)


class AutoDisable:
    """`run_once` disables the routes of `shards` that have failed for `after`, then waits for the next check."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        route_disabler: RouteDisabler,
        *,
        after: timedelta,
        shards: HeldShards,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._index = index
        self._route_disabler = route_disabler
        self._after = after
        self._shards = shards
        self._least_seconds = tunables.auto_disable_least_seconds
        self._most_seconds = tunables.auto_disable_most_seconds

    async def run_once(self) -> None:
        await tally.add_up(self._database)
        for failing in await tally.failing(self._database, for_at_least=self._after):
            await self._check(failing)
        pause = self._after.total_seconds() * CHECK_PART
        await asyncio.sleep(min(self._most_seconds, max(self._least_seconds, pause)))

    async def _check(self, failing: FailingRoute) -> None:
        timeline = self._index.timeline(failing.route_id)
        route = None if timeline is None else timeline.current
        if route is None or not route.is_enabled or self._shards.epoch(shard_of(route.tenant)) is None:
            return
        since = max(failing.since, route.updated_at)
        if failing.last_at - since < self._after:
            return
        found = await tally.failures(self._database, route.id, since=since, excluding=NOT_THE_RECEIVER)
        if found is not None and found.last_at - found.first_at >= self._after:
            await self._route_disabler.disable(route, _reason(found), if_version=route.version)


def _reason(found: FailureRun) -> str:
    return f"nothing but failures since {found.first_at:%Y-%m-%d %H:%M:%S} UTC: {found.count:,} requests in a row"
