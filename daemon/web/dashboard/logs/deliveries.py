"""The log of deliveries: what was sent, what waits and what failed, newest event first."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from daemon import deliveries
from daemon.commands import Invalid
from daemon.core.delivery.status import DeliveryStatus
from daemon.deliveries import DeliveryPage
from daemon.web.dashboard.logs import live, log_filter, route_lookup
from daemon.web.dashboard.logs.log_filter import LogFilter
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from eventstore.queries.delivery_log import ListPosition

_NOTHING = DeliveryPage(items=[], next=None)


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of the log."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    wanted = _asked(request)
    found = _NOTHING if wanted.form_errors else await _found(request, wanted)
    is_first = "after" not in request.query
    choices = route_lookup.choices(services.index, tenant)
    return render(
        request,
        "logs/deliveries.html",
        status=422 if wanted.form_errors else 200,
        asked=wanted,
        rows=live.rows_of(found, wanted.filter, is_first=is_first),
        after=paging.delivery_cursor(found.next),
        is_first=is_first,
        choices=choices,
        has_routes=choices != [],
        types=await log_filter.types(request),
        standings=list(DeliveryStatus),
        hour_ago=moment(services.now() - timedelta(hours=1)),
        is_live=request.query.get("live") == "1",
        live_query={name: value or None for name, value in wanted.values.items()},
    )


@page(Access.READ)
async def tail(request: web.Request) -> web.StreamResponse:
    """The newest rows of the log: once, or for an EventSource again and again as they change."""
    wanted = _asked(request)
    if wanted.form_errors:
        raise Invalid(tuple(wanted.form_errors))
    if live.is_wanted(request):
        return await live.follow(request, wanted.filter)
    rows = live.rows_of(await _found(request, wanted), wanted.filter)
    return render(request, "logs/deliveries_live.html", rows=rows)


async def _found(request: web.Request, wanted: LogFilter) -> DeliveryPage:
    services, begin = request.app[SERVICES], _begin(request.query.get("after", ""))
    return await deliveries.page(services.database, services.index, wanted.filter, begin=begin, limit=live.ROWS)


def _asked(request: web.Request) -> LogFilter:
    index, tenant = request.app[SERVICES].index, request.match_info["tenant"]
    return log_filter.read(index, tenant, request.query, log_filter.DELIVERY_FIELDS)


def _begin(after: str) -> ListPosition | None:
    """Where a page begins; with a cursor that is none, at the beginning."""
    try:
        return paging.delivery_position(after) if after else None
    except Invalid:
        return None
