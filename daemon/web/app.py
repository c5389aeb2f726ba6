"""The web application: which path leads to which handler, and what stands before all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from daemon.web import (
    api_audit,
    api_catalogue,
    api_deliveries,
    api_event_log,
    api_events,
    api_metrics,
    api_openapi,
    api_preview,
    api_replay,
    api_routes,
    api_status,
    api_tests,
    api_tokens,
    auth,
    encoding,
    login,
    ops,
    problems,
    refusals,
)
from daemon.web.ingest import Ingest
from daemon.web.limits import LIMITS, Limits
from daemon.web.refusals import REFUSALS, RefusalLog
from daemon.web.room import Room
from daemon.web.services import SERVICES, Services

# For what reads a body without a limit of its own; nothing of ours does.
MAX_BODY_BYTES = 1024 * 1024

# By itself a name in a path takes no braces, and a tenant's id may have some.
_TENANT = "/v1/tenants/{tenant:[^/]+}"
_ROUTE = f"{_TENANT}/routes/{{route:[^/]+}}"


def build(services: Services) -> web.Application:
    """The application of the main listener, with the ops endpoints unless they have a listener of their own."""
    application = _application(services)
    application.cleanup_ctx.append(_ingest)
    application[api_preview.TURN] = asyncio.Lock()
    application[api_replay.TURNS] = asyncio.Semaphore(api_replay.AT_ONCE)
    application.add_routes(
        [
            web.post("/v1/events", api_events.publish),
            web.get("/v1/tenants", api_routes.tenants),
            web.get(f"{_TENANT}/routes", api_routes.list_routes),
            web.post(f"{_TENANT}/routes", api_routes.create),
            web.get(_ROUTE, api_routes.show),
            web.patch(_ROUTE, api_routes.edit),
            web.delete(_ROUTE, api_routes.delete),
            web.post(f"{_ROUTE}/disable", api_routes.disable),
            web.post(f"{_ROUTE}/enable", api_routes.enable),
            web.get(f"{_ROUTE}/key", api_routes.show_key),
            web.post(f"{_ROUTE}/rotate-key", api_routes.rotate_key),
            web.post(f"{_ROUTE}/revoke-old-key", api_routes.revoke_old_key),
            web.get(f"{_ROUTE}/history", api_routes.history),
            web.get(f"{_ROUTE}/metrics", api_metrics.show),
            web.post(f"{_ROUTE}/test", api_tests.send),
            web.get(f"{_TENANT}/deliveries", api_deliveries.list_deliveries),
            web.get(f"{_TENANT}/deliveries/{{delivery}}", api_deliveries.show),
            web.post(f"{_TENANT}/deliveries/{{delivery}}/retry", api_replay.retry),
            web.get(f"{_TENANT}/events", api_event_log.list_events),
            web.get(f"{_TENANT}/events/{{event:[^/]+}}", api_event_log.show),
            web.post(f"{_ROUTE}/replay", api_replay.replay),
            web.get(f"{_ROUTE}/replays", api_replay.list_replays),
            web.get(f"{_ROUTE}/replays/{{replay}}", api_replay.show_replay),
            web.post(f"{_ROUTE}/replays/{{replay}}/cancel", api_replay.cancel_replay),
            web.post(f"{_TENANT}/preview", api_preview.show),
            web.get("/v1/event-types", api_catalogue.list_event_types),
            web.put("/v1/event-types", api_catalogue.replace_event_types),
            web.get(f"{_TENANT}/explain", api_audit.explain),
            web.get("/v1/projection", api_audit.projection),
            web.get("/v1/status", api_status.show),
            web.get("/openapi.json", api_openapi.show),
            web.get("/v1/tokens", api_tokens.list_tokens),
            web.post("/v1/tokens", api_tokens.create),
            web.delete("/v1/tokens/{token}", api_tokens.revoke_token),
            web.get("/v1/session", login.session),
            web.get("/login/{link}", login.login, allow_head=False),  # looking at a link must not use it up
            web.post("/logout", login.logout),
        ]
    )
    if services.config.server.ops_listen is None:
        _add_ops(application)
    return application


def build_ops(services: Services) -> web.Application:
    """The application of the separate listener for operations."""
    application = _application(services)
    _add_ops(application)
    return application


def _application(services: Services) -> web.Application:
    application = web.Application(
        middlewares=[refusals.middleware, problems.middleware, encoding.middleware, auth.middleware],
        client_max_size=MAX_BODY_BYTES,
    )
    application[SERVICES] = services
    application[LIMITS] = Limits()
    application[REFUSALS] = RefusalLog()
    application.on_response_prepare.append(_add_standing_headers)
    return application


async def _add_standing_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in problems.STANDING_HEADERS.items():
        if name == "Server" or name not in response.headers:
            response.headers[name] = value


def _add_ops(application: web.Application) -> None:
    application.add_routes(
        [web.get("/healthz", ops.healthz), web.get("/readyz", ops.readyz), web.get("/metrics", ops.metrics)]
    )


async def _ingest(application: web.Application) -> AsyncIterator[None]:
    services = application[SERVICES]
    ingest = Ingest(services.database, on_stored=services.hurry)
    application[api_events.INGEST] = ingest
    application[api_events.ROOM] = Room(services.config.events.max_bytes * api_events.ROOM_OF_LONGEST)
    yield
    await ingest.close()
