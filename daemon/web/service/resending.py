"""Replays as requests ask for them: by the API and by the dashboard, a few at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

from daemon import replays
from daemon.commands import Context, Invalid, NotFound
from daemon.core.events.event import FieldProblem, instant
from daemon.core.routing.route import Route
from daemon.replays import ReplayCount, ReplayPeriod, ReplayStatus
from daemon.web.http import paging, shapes
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import named_pair
from eventstore.progress.manual_retry import RetryResult
from eventstore.progress.replays import Replay, of_route
from eventstore.queries.attempts import EventAndRoute

# Finding what belongs to a replay reads a second of a million outcomes, on a connection that deliveries could use.
AT_ONCE = 2
TURNS = web.AppKey("replay_turns", asyncio.Semaphore)

# Behind all that ever began.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


def period(since: datetime, until: datetime) -> ReplayPeriod:
    """What happened in [since, until). Raises Invalid if that is nothing."""
    if until <= since:
        raise Invalid((FieldProblem(field="to", message="must be later than from"),))
    return ReplayPeriod(since=since, until=until)


async def count(request: web.Request, route: Route, of: ReplayPeriod, wanted: ReplayStatus) -> ReplayCount:
    """What a replay would send. Raises Conflict."""
    async with request.app[TURNS]:
        return await replays.count(request.app[SERVICES].database, route, of, wanted)


async def begin(request: web.Request, route: Route, of: ReplayPeriod, wanted: ReplayStatus, context: Context) -> Replay:
    """Begins a replay, or finds the one that the same request began. Raises Conflict."""
    async with request.app[TURNS]:
        return await replays.begin(request.app[SERVICES].database, route, of, wanted, context)


async def named(request: web.Request, route: Route) -> Replay:
    """The replay of the route that a path names. Raises NotFound."""
    try:
        replay_id = UUID(request.match_info["replay"])
    except ValueError as error:
        raise NotFound("there is no such replay") from error
    found = await replays.find(request.app[SERVICES].database, route, replay_id)
    if found is None:
        raise NotFound("there is no such replay")
    return found


async def listed(
    request: web.Request, route: Route, *, behind: str | None, size: int
) -> tuple[list[Replay], str | None]:
    """The route's replays, newest first, and the key to go on behind. Raises Invalid for what is no key."""
    try:
        before = _END_OF_TIME if behind is None else instant(behind)
    except ValueError as error:
        raise paging.unknown_cursor() from error
    found = await of_route(request.app[SERVICES].database, route.id, before=before, limit=size + 1)
    shown = found[:size]
    return shown, shapes.moment(shown[-1].created_at) if len(found) > size else None


# One delivery tried again at once, as a request asks for it.


async def retry_now(request: web.Request, pair: EventAndRoute, context: Context) -> RetryResult:
    """Puts a delivery in line. Raises Conflict if it may not be sent, and NotFound if there is none."""
    services = request.app[SERVICES]
    timeline = services.index.timeline(pair.route_id)
    if timeline is None:
        raise NotFound("there is no such delivery")
    return await replays.retry_now(services.database, timeline, pair, context)


async def wanted(request: web.Request) -> EventAndRoute:
    """The pair that a path names, be it one that was skipped: then it is refused with the reason. Raises NotFound."""
    services = request.app[SERVICES]
    try:
        return await named_pair(request)
    except NotFound:
        skipped = await replays.skipped(
            services.database, services.index, request.match_info["tenant"], request.match_info["delivery"].lower()
        )
        if skipped is None:
            raise
        return skipped
