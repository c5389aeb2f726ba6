"""What happened to one webhook, the newest first. What was deleted has its history too."""

from __future__ import annotations

from aiohttp import web

from daemon.web import route_path
from daemon.web.dashboard import digits
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.webhooks import happened
from daemon.web.endpoints import Access
from daemon.web.services import SERVICES
from eventstore import log

PAGE_SIZE = 50


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """So many lifecycle events behind position `after`; or the one of `version`, with its values in full length."""
    services, route = request.app[SERVICES], route_path.timeline(request).current
    version, after = (digits.number(request.query.get(name, "")) for name in ("version", "after"))
    if version is not None:
        event = await log.of_version(services.database, route.id, version)
        events, is_more = [] if event is None else [event], False
    else:
        events = await log.newest(services.database, route.tenant, PAGE_SIZE + 1, before=after, route_id=route.id)
        is_more = len(events) > PAGE_SIZE
    rows = happened.rows(events[:PAGE_SIZE], services.index)
    return render(
        request,
        "webhooks/history.html",
        route=route,
        rows=rows,
        version=version,
        after=after,
        next_after=rows[-1].pos if is_more else None,
    )
