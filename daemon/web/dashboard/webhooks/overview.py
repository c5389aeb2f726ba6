"""The page of one webhook: how it is set, what became of its deliveries, when it receives, and what it missed."""

from __future__ import annotations

from aiohttp import web

from daemon import deliveries
from daemon.core.index import Timeline
from daemon.core.route import Route, Status
from daemon.deliveries import Filter
from daemon.web import route_path
from daemon.web.dashboard import moments
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.webhooks import charts, happened, off
from daemon.web.dashboard.webhooks.happened import Happened
from daemon.web.dashboard.webhooks.off import Off
from daemon.web.endpoints import Access
from daemon.web.services import SERVICES, Services
from daemon.web.shapes import moment
from eventstore import log, route_metrics

RECENT_DELIVERIES = 8
RECENT_WINDOWS = 4


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A webhook as it is; a deleted one as it was at last. With `?as_of=` as it was then."""
    services, timeline = request.app[SERVICES], route_path.timeline(request)
    if (then := _then(request, timeline)) is not None:
        return then
    route = timeline.current
    last_off = await off.last(services.database, route)
    recent = Filter(tenant=route.tenant, route_id=route.id)
    listed = await deliveries.page(services.database, services.index, recent, begin=None, limit=RECENT_DELIVERIES)
    return render(
        request,
        "webhooks/overview.html",
        route=route,
        is_deleted=route.status is Status.DELETED,
        old_key=route.old_key_at(services.now()),
        off=last_off,
        ended=await _ended(services, timeline, last_off),
        chart=charts.of_route(await route_metrics.read(services.database, route.id)),
        items=listed.items,
        is_more=listed.next is not None,
        windows=route.windows[: -RECENT_WINDOWS - 1 : -1],
        windows_more=max(0, len(route.windows) - RECENT_WINDOWS),
        done=request.query.get("done"),
    )


def _then(request: web.Request, timeline: Timeline) -> web.Response | None:
    """The page of a moment of the past; None if none is asked for, or there was no such webhook yet."""
    try:
        at = moments.typed(request.query.get("as_of", ""))
    except ValueError:
        return None
    route = None if at is None else timeline.as_of(at)
    if at is None or route is None or at > request.app[SERVICES].now():
        return None
    later = timeline.of_version(route.version + 1)
    return render(
        request,
        "webhooks/then.html",
        route=route,
        as_of=at,
        windows=route.windows[::-1],
        next_at=None if later is None else moment(later.updated_at),
    )


async def _ended(services: Services, timeline: Timeline, last_off: Off | None) -> Happened | None:
    """What turned the webhook off, or deleted it; None if it is on."""
    state = _state_that_ended(timeline, last_off)
    event = None if state is None else await log.of_version(services.database, state.id, state.version)
    return None if event is None else happened.rows([event], services.index)[0]


def _state_that_ended(timeline: Timeline, last_off: Off | None) -> Route | None:
    if timeline.current.status is Status.DELETED:
        return timeline.current
    if last_off is None or last_off.until is not None:
        return None
    return timeline.as_of(last_off.since)
