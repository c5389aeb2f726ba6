"""The messages of sources that became no event, the newest first, and how to take them again."""

from __future__ import annotations

from aiohttp import web

from daemon.commands import Invalid
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.service.events import refusal_pages

PAGE_SIZE = 50


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """A page of the list; the first one also for an invalid cursor."""
    database = query_database(request)
    try:
        found = await refusal_pages.page(database, request.query.get("after") or None, limit=PAGE_SIZE)
    except Invalid:
        found = await refusal_pages.page(database, None, limit=PAGE_SIZE)
    return render(
        request,
        "operator/refusals.html",
        found=found,
        sources=sorted({each.source for each in found.items}),
        as_text=refusal_pages.text,
        after=found.next,
        query=request.query,
    )
