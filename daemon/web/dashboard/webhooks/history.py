"""The lifecycle events of one webhook, and of all webhooks of a tenant, newest first; deleted webhooks included."""

from __future__ import annotations

from aiohttp import web

from daemon.core.routing.route import LifecycleEventType
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.html.text import whole_number
from daemon.web.dashboard.logs import route_lookup
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.webhooks import history_rows
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup
from daemon.web.service.routes import route_healths
from eventstore import route_log

PAGE_SIZE = 50


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of lifecycle events before position `?after=`; or the one of `?version=`, with its values in full."""
    services, route = request.app[SERVICES], lookup.timeline(request).current
    version, after = (whole_number(request.query.get(name, "")) for name in ("version", "after"))
    if version is not None:
        event = await route_log.of_version(query_database(request), route.id, version)
        events, is_more = [] if event is None else [event], False
    else:
        events = await route_log.newest(
            query_database(request), route.tenant, PAGE_SIZE + 1, before=after, route_id=route.id
        )
        is_more = len(events) > PAGE_SIZE
    rows = history_rows.rows(events[:PAGE_SIZE], services.index)
    return render(
        request,
        "webhooks/history.html",
        route=route,
        health=await route_healths.of_route(query_database(request), route),
        rows=rows,
        version=version,
        next_after=rows[-1].pos if is_more else None,
    )


@page(Access.READ)
async def show_all(request: web.Request) -> web.Response:
    """A page for the tenant. `?route=` selects a webhook, `?kind=` a type of event; the page is before `?after=`."""
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    choices, text = route_lookup.choices(services.index, tenant), query.get("route", "").strip()
    matches = route_lookup.routes(services.index, tenant, text)
    route, event_type = matches[0] if len(matches) == 1 else None, _event_type(query.get("kind", ""))
    is_unknown = bool(text) and not matches
    events = (
        []
        if is_unknown or len(matches) > 1
        else await route_log.newest(
            query_database(request),
            tenant,
            PAGE_SIZE + 1,
            before=whole_number(query.get("after", "")),
            type=event_type,
            route_id=None if route is None else route.id,
        )
    )
    return render(
        request,
        "webhooks/activity.html",
        status=422 if is_unknown else 200,
        rows=history_rows.rows(events[:PAGE_SIZE], services.index),
        after=events[PAGE_SIZE - 1].pos if len(events) > PAGE_SIZE else None,
        choices=choices,
        has_any=choices != [],
        route=route,
        matches=matches,
        is_unknown=is_unknown,
        kind=event_type,
        kinds=history_rows.TITLES,
        query=query,
    )


def _event_type(text: str) -> LifecycleEventType | None:
    return LifecycleEventType(text) if text in list(LifecycleEventType) else None
