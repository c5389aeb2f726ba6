"""Replays as requests ask for them: by the API and by the dashboard, a few at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

from daemon import replays
from daemon.commands import Context, Invalid, NotFound
from daemon.core.event import Problem, instant
from daemon.core.route import Route
from daemon.replays import Counted, Period, Wanted
from daemon.web import paging, shapes
from daemon.web.services import SERVICES
from eventstore.replays import Replay, of_route

# Finding what belongs to a replay reads a second of a million outcomes, on a connection that deliveries could use.
AT_ONCE = 2
TURNS = web.AppKey("replay_turns", asyncio.Semaphore)

# Behind all that ever began.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


def period(since: datetime, until: datetime) -> Period:
    """What happened in [since, until). Raises Invalid if that is nothing."""
    if until <= since:
        raise Invalid((Problem(field="to", message="must be later than from"),))
    return Period(since=since, until=until)


async def count(request: web.Request, route: Route, of: Period, wanted: Wanted) -> Counted:
    """What a replay would send. Raises Conflict."""
    async with request.app[TURNS]:
        return await replays.count(request.app[SERVICES].database, route, of, wanted)


async def begin(request: web.Request, route: Route, of: Period, wanted: Wanted, context: Context) -> Replay:
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
