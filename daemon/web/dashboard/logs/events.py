"""The log of events, newest first. For one webhook it shows the decision about each event, and so what it missed."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.decision import Decision, judge
from daemon.core.routing.index import ALL, RouteIndex
from daemon.core.routing.route import Route
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.logs import log_filter, route_lookup
from daemon.web.dashboard.logs.log_filter import LogFilter
from daemon.web.dashboard.pages import page
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.paging import EventPosition
from daemon.web.http.services import SERVICES
from daemon.web.service.events import event_pages
from daemon.web.service.events.event_pages import EventFilter, EventPage
from eventstore.queries.events.listing import LoggedEvent

PAGE_SIZE = 50

_EMPTY = EventPage(events=[], next=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event. `decision` and `delivery_id` are those of the selected webhook, None without one. If the webhook had a
    filter then (`has_filter`), the filter is not evaluated here: that takes the event's payload.
    """

    event: LoggedEvent
    decision: Decision | None = None
    delivery_id: str | None = None
    has_filter: bool = False


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of events; a filter by an event's id redirects to the page of that event."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    criteria = log_filter.read(services.index, tenant, request.query, log_filter.EVENT_FIELDS)
    if criteria.event_id and not criteria.form_errors:
        route = None if criteria.route is None else criteria.route.id
        return redirect(request, "t", tenant, "events", criteria.event_id, route=None if route is None else str(route))
    found = _EMPTY if criteria.form_errors else await _events(request, criteria)
    return render(
        request,
        "logs/events.html",
        status=422 if criteria.form_errors else 200,
        criteria=criteria,
        rows=[_row(services.index, each, criteria.route) for each in found.events],
        after=paging.event_cursor(found.next),
        is_short=found.next is not None and len(found.events) < PAGE_SIZE,
        is_first="after" not in request.query,
        choices=route_lookup.choices(services.index, tenant),
        types=await log_filter.types(request),
        export_query=log_filter.export_query(criteria),
    )


async def _events(request: web.Request, criteria: LogFilter) -> EventPage:
    """The events that fit. For a webhook these are events of the types that it subscribes to now."""
    route_patterns = (ALL,) if criteria.route is None else criteria.route.config.event_types
    return await event_pages.page(
        query_database(request),
        EventFilter(
            tenant=criteria.tenant,
            patterns=(criteria.event_type,) if criteria.event_type else route_patterns,
            since=criteria.since,
            until=criteria.until,
            where=criteria.where,
        ),
        begin=_begin(request.query.get("after", "")),
        limit=PAGE_SIZE,
        places=request.app[SERVICES].filter_places,
    )


def _row(index: RouteIndex, event: LoggedEvent, route: Route | None) -> EventRow:
    timeline = None if route is None else index.timeline(route.id)
    if route is None or timeline is None or event.tick is None:
        return EventRow(event=event)
    judgement = judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=lambda _expression: True,
        test_route=event.test_route,
    )
    is_due = judgement.decision is Decision.DELIVER
    state = judgement.route
    return EventRow(
        event=event,
        decision=judgement.decision,
        delivery_id=delivery_id(route.id, event.id, event.event_time) if is_due else None,
        has_filter=event.test_route is None and state is not None and state.config.payload.filter is not None,
    )


def _begin(after: str) -> EventPosition | None:
    """Where a page begins; None, which is the beginning, also for an invalid cursor."""
    try:
        return paging.event_position(after) if after else None
    except Invalid:
        return None
