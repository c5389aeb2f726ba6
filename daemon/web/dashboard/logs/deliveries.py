"""The log of deliveries: those that were sent, wait or failed, newest event first."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from daemon import deliveries
from daemon.commands import Invalid
from daemon.core.delivery.status import ListStatus
from daemon.core.events.event import FieldProblem
from daemon.deliveries import DeliveryPage
from daemon.web.access.queries import query_database
from daemon.web.dashboard.form_data import new_form_id
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.logs import live, log_filter, route_lookup
from daemon.web.dashboard.logs.log_filter import LogFilter
from daemon.web.dashboard.pages import page
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from daemon.web.service.deliveries.bulk_retries import can_retry, can_send
from daemon.web.service.routes import route_healths
from eventstore.queries.deliveries.delivery_log import ListPosition

_EMPTY = DeliveryPage(items=[], next=None)


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of the log."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    criteria, database = _criteria(request), query_database(request)
    route = criteria.route
    found = _EMPTY if criteria.form_errors else await _deliveries(request, criteria)
    is_first = "after" not in request.query
    choices = route_lookup.choices(services.index, tenant)
    return render(
        request,
        "logs/deliveries.html",
        status=422 if criteria.form_errors else 200,
        criteria=criteria,
        health=None if route is None else await route_healths.of_route(database, route),
        rows=live.rows_of(found, criteria.delivery_filter, is_first=is_first),
        after=paging.delivery_cursor(found.next),
        choices=choices,
        has_routes=choices != [],
        types=await log_filter.types(request),
        statuses=list(ListStatus),
        hour_ago=moment(services.now() - timedelta(hours=1)),
        is_live=criteria.where is None and request.query.get("live") == "1",
        form_id=new_form_id(),
        can_retry=can_retry(criteria.status),
        matching=_matching(request, found) if criteria.status and is_first else None,
        live_query={name: value or None for name, value in criteria.values.items()},
        export_query=log_filter.export_query(criteria),
    )


@page(Access.READ)
async def tail(request: web.Request) -> web.StreamResponse:
    """The newest rows of the log: once, or for an EventSource as a stream of changes."""
    criteria = _criteria(request)
    if criteria.form_errors:
        raise Invalid(tuple(criteria.form_errors))
    if criteria.where is not None:  # each second anew, that would read very much
        raise Invalid((FieldProblem(field="where", message="cannot be followed live: leave it out"),))
    if live.is_event_source(request):
        return await live.follow(request, criteria.delivery_filter)
    rows = live.rows_of(await _deliveries(request, criteria), criteria.delivery_filter)
    return render(request, "logs/deliveries_part.html", rows=rows)


async def _deliveries(request: web.Request, criteria: LogFilter) -> DeliveryPage:
    services, begin = request.app[SERVICES], _begin(request.query.get("after", ""))
    return await deliveries.page(
        query_database(request),
        services.index,
        criteria.delivery_filter,
        begin=begin,
        limit=live.ROWS,
        places=services.filter_places,
    )


def _matching(request: web.Request, found: DeliveryPage) -> int | None:
    """How many of the only page can be sent again, None if there may be more pages."""
    if found.next is not None:
        return None
    return sum(not item.found.is_test and can_send(request, item.found) for item in found.items)


def _criteria(request: web.Request) -> LogFilter:
    index, tenant = request.app[SERVICES].index, request.match_info["tenant"]
    return log_filter.read(index, tenant, request.query, log_filter.DELIVERY_FIELDS)


def _begin(after: str) -> ListPosition | None:
    """Where a page begins; None, which is the beginning, also for an invalid cursor."""
    try:
        return paging.delivery_position(after) if after else None
    except Invalid:
        return None
