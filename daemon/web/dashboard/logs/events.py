"""What was published, newest first; for one webhook with what each event was to it, so that what it missed is seen."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.decision import Decision, judge
from daemon.core.routing.index import ALL, RouteIndex
from daemon.core.routing.route import Route
from daemon.web.dashboard.logs import log_filter, route_lookup
from daemon.web.dashboard.logs.log_filter import LogFilter
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.paging import EventPosition
from daemon.web.http.services import SERVICES
from daemon.web.service import event_pages
from daemon.web.service.event_pages import EventFilter, EventPage
from eventstore.domain_events.listing import LoggedEvent

PAGE_SIZE = 50

_NOTHING = EventPage(events=[], next=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event; `decision` and `delivery_id` are those of the webhook that is looked at, None without one. If it
    had a filter then (`has_filter`), what that said is not asked here: that takes the event's payload.
    """

    event: LoggedEvent
    decision: Decision | None = None
    delivery_id: str | None = None
    has_filter: bool = False


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of them. Whoever names an event is led to it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    wanted = log_filter.read(services.index, tenant, request.query, log_filter.EVENT_FIELDS)
    if wanted.event_id and not wanted.form_errors:
        route = None if wanted.route is None else wanted.route.id
        return redirect(request, "t", tenant, "events", wanted.event_id, route=None if route is None else str(route))
    found = _NOTHING if wanted.form_errors else await _found(request, wanted)
    return render(
        request,
        "logs/events.html",
        status=422 if wanted.form_errors else 200,
        asked=wanted,
        rows=[_row(services.index, each, wanted.route) for each in found.events],
        after=paging.event_cursor(found.next),
        is_first="after" not in request.query,
        choices=route_lookup.choices(services.index, tenant),
        types=await log_filter.types(request),
    )


async def _found(request: web.Request, wanted: LogFilter) -> EventPage:
    """Those of a webhook are the ones of the types that it has now."""
    of_route = (ALL,) if wanted.route is None else wanted.route.config.event_types
    return await event_pages.page(
        request.app[SERVICES].database,
        EventFilter(
            tenant=wanted.tenant,
            patterns=(wanted.event_type,) if wanted.event_type else of_route,
            since=wanted.since,
            until=wanted.until,
        ),
        begin=_begin(request.query.get("after", "")),
        limit=PAGE_SIZE,
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
        delivery_id=delivery_id(route.id, event.id) if is_due else None,
        has_filter=event.test_route is None and state is not None and state.config.payload.filter is not None,
    )


def _begin(after: str) -> EventPosition | None:
    """Where a page begins; with a cursor that is none, at the beginning."""
    try:
        return paging.event_position(after) if after else None
    except Invalid:
        return None
