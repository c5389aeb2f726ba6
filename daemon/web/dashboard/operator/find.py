"""Search for an event or a delivery by its id, over all tenants."""

from __future__ import annotations

from aiohttp import web

from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.operator import whereabouts


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """What has the id; a redirect if that is one thing, which every operator may see."""
    text = request.query.get("id", "").strip()
    found = await whereabouts.find(query_database(request), request.app[SERVICES].index, text)
    if len(found) == 1:
        (one,) = found
        if one.delivery_id is not None:
            return redirect(request, "t", one.tenant, "deliveries", one.delivery_id, event=one.event_id)
        return redirect(request, "t", one.tenant, "events", one.event_id)
    return render(request, "operator/find.html", text=text, found=found)
