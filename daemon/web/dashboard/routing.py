"""Which path leads to which page. Each page is a module of its own, with the template of its name."""

from __future__ import annotations

from aiohttp import web

from daemon.web.dashboard import assets, entrance, rendering, webhooks
from daemon.web.dashboard.pages import page_of
from daemon.web.problems import PAGE_OF

# By itself a name in a path takes no braces, and a tenant's id may have some.
_TENANT = "/t/{tenant:[^/]+}"


def add(application: web.Application) -> None:
    """Adds the dashboard to an application."""
    rendering.set_up(application)
    application[PAGE_OF] = page_of
    application.add_routes(
        [
            web.get("/", entrance.show),
            web.get("/assets/{digest}/{name}", assets.show),
            # webhooks
            web.get(f"{_TENANT}/webhooks", webhooks.show),
        ]
    )
