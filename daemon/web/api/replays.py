"""Sending again by hand: one delivery now, or a replay of a route's, which can be watched and cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from daemon import replays
from daemon.commands import Invalid, NotFound
from daemon.core.delivery import delivery_id
from daemon.core.event import Problem as FieldProblem
from daemon.core.event import instant
from daemon.replays import Period
from daemon.web import paging, shapes
from daemon.web.api.replay_shapes import ReplayCountShape, ReplayForm, ReplayShape, RetriedShape, of_replay
from daemon.web.commanding import command_context
from daemon.web.delivery_path import EVENT_HINT, named_pair
from daemon.web.endpoints import Access, RateLimit, endpoint
from daemon.web.forms import Command, read
from daemon.web.route_path import live_route
from daemon.web.services import SERVICES
from eventstore.outcomes import Pair
from eventstore.replays import Replay, of_route

# Finding what belongs to a replay reads a second of a million outcomes, on a connection that deliveries could use.
AT_ONCE = 2
TURNS = web.AppKey("replay_turns", asyncio.Semaphore)

# Behind all that ever began.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@endpoint(Access.MANAGE, EVENT_HINT, takes=Command, answers={202: RetriedShape}, refuses=(404, 429), is_command=True)
async def retry(request: web.Request) -> web.Response:
    """Sends a delivery again now, under the same `webhook-id`: one that failed, one that was delivered, or one that
    waits for its next attempt.

    Refused if the route is not enabled, or was not at the time of the event or since. What has attempts left goes on
    with its schedule if it fails again.
    """
    services = request.app[SERVICES]
    form = await read(request, Command)
    pair = await _pair(request)
    timeline = services.index.timeline(pair.route_id)
    if timeline is None:
        raise NotFound("there is no such delivery")
    context = command_context(request, form.reason)
    requeued = await replays.retry_now(services.database, timeline, pair, context)
    body: RetriedShape = {"id": delivery_id(pair.route_id, pair.event_id), "state": requeued}
    return shapes.answer(body, status=202)


@endpoint(
    Access.MANAGE,
    takes=ReplayForm,
    answers={200: ReplayCountShape, 202: ReplayShape},
    refuses=(404,),
    is_command=True,
    limit=RateLimit.REPLAY,
)
async def replay(request: web.Request) -> web.Response:
    """Sends deliveries of a period again, those that failed or all; with `dry_run` it only counts them.

    The period is that of the events. What happened before the route was last enabled is never sent, so the replay
    begins at `replayable_from`. A route has one replay at a time; test events are left out.
    """
    route, database = live_route(request), request.app[SERVICES].database
    form = await read(request, ReplayForm)
    context = command_context(request, form.reason)
    if form.until <= form.since:
        raise Invalid((FieldProblem(field="to", message="must be later than from"),))
    period = Period(since=form.since, until=form.until)
    if form.dry_run:
        async with request.app[TURNS]:
            counted = await replays.count(database, route, period, form.status)
        body: ReplayCountShape = {
            "count": counted.deliveries,
            "replayable_from": shapes.moment(counted.sendable_from),
        }
        return shapes.answer(body)
    async with request.app[TURNS]:
        begun = await replays.begin(database, route, period, form.status, context)
    location = f"/v1/tenants/{quote(route.tenant, safe='')}/routes/{route.id}/replays/{begun.id}"
    return shapes.answer(of_replay(begun), status=202, headers={"Location": location})


@endpoint(Access.READ, *paging.QUERY, answers={200: paging.Page[ReplayShape]}, refuses=(404,))
async def list_replays(request: web.Request) -> web.Response:
    """The route's replays, newest first."""
    route, services = live_route(request), request.app[SERVICES]
    size = paging.limit(request)
    found = await of_route(services.database, route.id, before=_before(request), limit=size + 1)
    shown, after = paging.first(request, found, key=lambda it: shapes.moment(it.created_at))
    page: paging.Page[ReplayShape] = {"items": [of_replay(each) for each in shown], "next": after}
    return shapes.answer(page)


@endpoint(Access.READ, answers={200: ReplayShape}, refuses=(404,))
async def show_replay(request: web.Request) -> web.Response:
    """How far a replay is."""
    return shapes.answer(of_replay(await _named(request)))


@endpoint(Access.MANAGE, takes=Command, answers={200: ReplayShape}, refuses=(404,), is_command=True)
async def cancel_replay(request: web.Request) -> web.Response:
    """Ends a replay: what of it nobody is sending yet is not sent, and stays what it was. Already so: as it is."""
    found, form = await _named(request), await read(request, Command)
    services = request.app[SERVICES]
    cancelled = await replays.cancel(services.database, found, command_context(request, form.reason))
    return shapes.answer(of_replay(cancelled))


async def _pair(request: web.Request) -> Pair:
    """The pair that a path names, be it one that was skipped. Raises NotFound."""
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


async def _named(request: web.Request) -> Replay:
    """The replay that a path names. Raises NotFound."""
    route = live_route(request)
    try:
        named = UUID(request.match_info["replay"])
    except ValueError as error:
        raise NotFound("there is no such replay") from error
    found = await replays.find(request.app[SERVICES].database, route, named)
    if found is None:
        raise NotFound("there is no such replay")
    return found


def _before(request: web.Request) -> datetime:
    after = paging.cursor(request)
    try:
        return _END_OF_TIME if after is None else instant(after)
    except ValueError as error:
        raise paging.unknown_cursor() from error
