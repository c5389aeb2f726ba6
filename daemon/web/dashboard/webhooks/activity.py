"""What happened to all webhooks of a tenant, the newest first; deleted ones are never forgotten here."""

from __future__ import annotations

from aiohttp import web

from daemon.core.route import Happening
from daemon.web.dashboard import digits
from daemon.web.dashboard.logs import named
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.webhooks import happened
from daemon.web.endpoints import Access
from daemon.web.services import SERVICES
from eventstore import log

PAGE_SIZE = 50


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A page of it; `?route=` names a webhook, `?kind=` a kind of event, `?after=` the position to begin behind."""
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    choices, text = named.choices(services.index, tenant), query.get("route", "").strip()
    matches = named.routes(services.index, tenant, text)
    route, kind = matches[0] if len(matches) == 1 else None, _kind(query.get("kind", ""))
    is_unknown = bool(text) and not matches
    found = (
        []
        if is_unknown or len(matches) > 1
        else await log.newest(
            services.database,
            tenant,
            PAGE_SIZE + 1,
            before=digits.number(query.get("after", "")),
            type=kind,
            route_id=None if route is None else route.id,
        )
    )
    return render(
        request,
        "webhooks/activity.html",
        status=422 if is_unknown else 200,
        rows=happened.rows(found[:PAGE_SIZE], services.index),
        after=found[PAGE_SIZE - 1].pos if len(found) > PAGE_SIZE else None,
        choices=choices,
        has_any=choices != [],
        route=route,
        matches=matches,
        is_unknown=is_unknown,
        kind=kind,
        kinds=happened.TITLES,
        query=query,
    )


def _kind(text: str) -> Happening | None:
    return Happening(text) if text in list(Happening) else None
