"""Sending again by hand: one delivery now, or a replay of a route's, which can be watched and cancelled."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from daemon import replays
from daemon.core.delivery import delivery_id
from daemon.web import paging, replaying, retrying, shapes
from daemon.web.api.replay_shapes import ReplayCountShape, ReplayForm, ReplayShape, RetriedShape, of_replay
from daemon.web.commanding import command_context
from daemon.web.delivery_path import EVENT_HINT
from daemon.web.endpoints import Access, RateLimit, endpoint
from daemon.web.forms import Command, read
from daemon.web.route_path import live_route
from daemon.web.services import SERVICES


@endpoint(Access.MANAGE, EVENT_HINT, takes=Command, answers={202: RetriedShape}, refuses=(404, 429), is_command=True)
async def retry(request: web.Request) -> web.Response:
    """Sends a delivery again now, under the same `webhook-id`: one that failed, one that was delivered, or one that
    waits for its next attempt.

    Refused if the route is not enabled, or was not at the time of the event or since. What has attempts left goes on
    with its schedule if it fails again.
    """
    form = await read(request, Command)
    pair = await retrying.wanted(request)
    requeued = await retrying.retry_now(request, pair, command_context(request, form.reason))
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
    route = live_route(request)
    form = await read(request, ReplayForm)
    context = command_context(request, form.reason)
    period = replaying.period(form.since, form.until)
    if form.dry_run:
        counted = await replaying.count(request, route, period, form.status)
        body: ReplayCountShape = {
            "count": counted.deliveries,
            "replayable_from": shapes.moment(counted.sendable_from),
        }
        return shapes.answer(body)
    begun = await replaying.begin(request, route, period, form.status, context)
    location = f"/v1/tenants/{quote(route.tenant, safe='')}/routes/{route.id}/replays/{begun.id}"
    return shapes.answer(of_replay(begun), status=202, headers={"Location": location})


@endpoint(Access.READ, *paging.QUERY, answers={200: paging.Page[ReplayShape]}, refuses=(404,))
async def list_replays(request: web.Request) -> web.Response:
    """The route's replays, newest first."""
    route, size = live_route(request), paging.limit(request)
    shown, behind = await replaying.listed(request, route, behind=paging.cursor(request), size=size)
    after = None if behind is None else paging.encoded(behind)
    page: paging.Page[ReplayShape] = {"items": [of_replay(each) for each in shown], "next": after}
    return shapes.answer(page)


@endpoint(Access.READ, answers={200: ReplayShape}, refuses=(404,))
async def show_replay(request: web.Request) -> web.Response:
    """How far a replay is."""
    return shapes.answer(of_replay(await replaying.named(request, live_route(request))))


@endpoint(Access.MANAGE, takes=Command, answers={200: ReplayShape}, refuses=(404,), is_command=True)
async def cancel_replay(request: web.Request) -> web.Response:
    """Ends a replay: what of it nobody is sending yet is not sent, and stays what it was. Already so: as it is."""
    found, form = await replaying.named(request, live_route(request)), await read(request, Command)
    services = request.app[SERVICES]
    cancelled = await replays.cancel(services.database, found, command_context(request, form.reason))
    return shapes.answer(of_replay(cancelled))
