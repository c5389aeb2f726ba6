"""The front door leads on: a merchant to his webhooks, the operator to the tenants, who only looks to the status."""

from __future__ import annotations

from aiohttp import web

from daemon.web.access.auth import CALLER, may
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect
from daemon.web.endpoints import Access


@page(Access.ANYBODY)
async def show(request: web.Request) -> web.Response:
    """Leads to the first page of whoever asks."""
    caller = request[CALLER]
    if caller.tenant is not None:
        return redirect(request, "t", caller.tenant, "webhooks")
    return redirect(request, "operator", *(() if may(caller.scope, Access.ADMIN) else ("status",)))
