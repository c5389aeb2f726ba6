"""The webhooks that fail, over all tenants, worst first."""

from __future__ import annotations

from aiohttp import web

from daemon.commands import Invalid
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.operator import failing
from eventstore.queries.metrics.route_health import FailingPosition

PAGE_SIZE = 50


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """A page of the list."""
    found = await failing.page(
        query_database(request),
        failing.in_index(request.app[SERVICES].index),
        after=_after(request.query.get("after", "")),
        limit=PAGE_SIZE,
    )
    return render(
        request,
        "operator/failing.html",
        failing=found,
        after=None if found.next is None else failing.cursor(found.next),
        query=request.query,
    )


def _after(text: str) -> FailingPosition | None:
    """Where a page begins; None, which is the beginning, also for an invalid cursor."""
    try:
        return failing.position(text) if text else None
    except Invalid:
        return None
