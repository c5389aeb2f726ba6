"""The front door leads on: a merchant to his webhooks, the operator to the tenants."""

from __future__ import annotations

from aiohttp import web

from daemon.web.access.auth import CALLER
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect
from daemon.web.endpoints import Access


@page(Access.ANYBODY)
async def show(request: web.Request) -> web.Response:
    """Leads to the first page of whoever asks."""
    tenant = request[CALLER].tenant
    return redirect(request, "operator") if tenant is None else redirect(request, "t", tenant, "webhooks")
