"""The page with the key of a webhook, and with code by which a receiver verifies our signatures."""

from __future__ import annotations

from aiohttp import web

from daemon.core.routing.route import RouteStatus
from daemon.core.webhook.signing import NO_STANDARD_WEBHOOKS
from daemon.web.dashboard import pages
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.webhooks import snippets
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup

DEFAULT_LANGUAGE = "python"


@page(Access.MANAGE, limit=RateLimit.REVEAL)
async def show(request: web.Request) -> web.Response:
    """The key, with a verifying function in one language; as a part of a page only the key."""
    services, route = request.app[SERVICES], lookup.timeline(request).current
    if route.status is RouteStatus.DELETED:
        return redirect(request, "t", route.tenant, "webhooks", str(route.id))
    key = await services.commands.reveal_key(route)
    if pages.wants_part(request):
        return render(request, "webhooks/key_part.html", key=key)
    language_id = request.query.get("language", DEFAULT_LANGUAGE)
    language_id = language_id if language_id in snippets.LANGUAGES else DEFAULT_LANGUAGE
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
        language=snippets.LANGUAGES[language_id],
        language_id=language_id,
        call=snippets.call(
            snippets.LANGUAGES[language_id], header=signing.header, variable=variable, key=key if is_pasted else None
        ),
        header_elsewhere=snippets.header_elsewhere(snippets.LANGUAGES[language_id], signing.header),
        timeout_seconds=services.config.delivery.timeout_seconds,
        is_pasted=is_pasted,
        variable=variable,
        signing=signing,
        no_standard_webhooks=NO_STANDARD_WEBHOOKS,
        done=request.query.get("done"),
    )
