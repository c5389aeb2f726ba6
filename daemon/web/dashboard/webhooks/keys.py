"""The key of a webhook, for whoever asks for it on purpose, and how a receiver verifies with it what we sign."""

from __future__ import annotations

from aiohttp import web

from daemon import snippets
from daemon.core.routing.route import RouteStatus
from daemon.web.dashboard import pages
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup

FIRST_LANGUAGE = "python"


@page(Access.MANAGE, limit=RateLimit.REVEAL)
async def show(request: web.Request) -> web.Response:
    """The key, with a function to verify in one language; as a part of a page the key alone."""
    services, route = request.app[SERVICES], lookup.timeline(request).current
    if route.status is RouteStatus.DELETED:
        return redirect(request, "t", route.tenant, "webhooks", str(route.id))
    key = await services.commands.reveal_key(route.tenant, route.id)
    if pages.wants_part(request):
        return render(request, "webhooks/key_part.html", key=key)
    named = request.query.get("language", FIRST_LANGUAGE)
    named = named if named in snippets.LANGUAGES else FIRST_LANGUAGE
    is_pasted = request.query.get("paste") == "1"
    variable = snippets.variable_of(route.config.name)
    signing = services.config.signing
    return render(
        request,
        "webhooks/key.html",
        route=route,
        key=key,
        old_key=route.old_key_at(services.now()),
        languages=snippets.LANGUAGES,
        language=snippets.LANGUAGES[named],
        language_id=named,
        call=snippets.call(
            snippets.LANGUAGES[named], header=signing.header, variable=variable, key=key if is_pasted else None
        ),
        is_pasted=is_pasted,
        variable=variable,
        signing=signing,
        done=request.query.get("done"),
    )
