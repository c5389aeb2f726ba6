"""The web application: the path of each handler, and the middlewares and response headers of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from daemon.web.access import auth, login, refusals
from daemon.web.access.guesses import GUESSES, Guesses
from daemon.web.access.limits import TENANT_LIMITS, TenantLimits
from daemon.web.access.refusals import REFUSALS, RefusalLog
from daemon.web.api import openapi
from daemon.web.api.auditing import audit, audits, log, seals
from daemon.web.api.deliveries import bulk_retries, deliveries, replays
from daemon.web.api.events import catalogue, events, feed, sources
from daemon.web.api.operator import failing, login_links, ops, status, tokens, whereabouts
from daemon.web.api.routes import metrics, preview, routes, sample_events
from daemon.web.dashboard import routing
from daemon.web.http import problems
from daemon.web.http.requests.turns import TURNS, Turns
from daemon.web.http.services import SERVICES, Services
from daemon.web.ingest import publish
from daemon.web.ingest.byte_budget import ByteBudget
from daemon.web.ingest.commits.group_commit import GroupCommit
from daemon.web.service import exports, latest_routes
from daemon.web.service.auditing import audit_jobs, delivery_proofs
from daemon.web.service.deliveries import resending
from daemon.web.service.events.feed_pages import WaitingRequests

# aiohttp's default limit. Our handlers read bodies with limits of their own.
MAX_BODY_BYTES = 1024 * 1024

# aiohttp's default pattern for a name in a path excludes braces, which a tenant's id may contain.
_TENANT = "/v1/tenants/{tenant:[^/]+}"
_ROUTE = f"{_TENANT}/routes/{{route:[^/]+}}"


def build(services: Services) -> web.Application:
    """The application of the main listener. It has the ops endpoints unless they have a listener of their own."""
    application = _application(services)
    application.cleanup_ctx.append(_ingest)
    exports.set_up(application)
    audit_jobs.set_up(application)
    application[feed.WAITING] = WaitingRequests()
    application[resending.SLOTS] = resending.slots(services.metrics)
    application[delivery_proofs.SLOTS] = delivery_proofs.slots(services.metrics)
    application.add_routes(
        [
            web.post("/v1/events", publish.publish),
            web.get("/v1/tenants", routes.tenants),
            web.get(f"{_TENANT}/routes", routes.list_routes),
            web.post(f"{_TENANT}/routes", routes.create),
            web.get(_ROUTE, routes.show),
            web.patch(_ROUTE, routes.edit),
            web.delete(_ROUTE, routes.delete),
            web.post(f"{_ROUTE}/disable", routes.disable),
            web.post(f"{_ROUTE}/enable", routes.enable),
            web.get(f"{_ROUTE}/key", routes.show_key),
            web.post(f"{_ROUTE}/rotate-key", routes.rotate_key),
            web.post(f"{_ROUTE}/revoke-old-key", routes.revoke_old_key),
            web.get(f"{_ROUTE}/history", routes.history),
            web.get(f"{_ROUTE}/metrics", metrics.show),
            web.post(f"{_ROUTE}/test", sample_events.send),
            web.get(f"{_TENANT}/deliveries", deliveries.list_deliveries),
            web.post(f"{_TENANT}/retries", bulk_retries.retry),
            web.get(f"{_TENANT}/deliveries/{{delivery}}", deliveries.show),
            web.get(f"{_TENANT}/deliveries/{{delivery}}/proof", seals.proof),
            web.post(f"{_TENANT}/deliveries/{{delivery}}/retry", replays.retry),
            web.get(f"{_TENANT}/events", events.list_events),
            web.get(f"{_TENANT}/events/{{event:[^/]+}}", events.show),
            web.get(f"{_TENANT}/feed", feed.show),
            web.post(f"{_ROUTE}/replay", replays.replay),
            web.get(f"{_ROUTE}/replays", replays.list_replays),
            web.get(f"{_ROUTE}/replays/{{replay}}", replays.show_replay),
            web.post(f"{_ROUTE}/replays/{{replay}}/cancel", replays.cancel_replay),
            web.post(f"{_TENANT}/preview", preview.show),
            web.post(f"{_TENANT}/login-links", login_links.create),
            web.get("/v1/event-types", catalogue.list_event_types),
            web.put("/v1/event-types", catalogue.replace_event_types),
            web.get(f"{_TENANT}/explain", audit.explain),
            web.get("/v1/projection", audit.projection),
            web.get("/v1/seals", seals.list_seals),
            web.get("/v1/seals/key", seals.key),
            web.get("/v1/seals/{seal}", seals.show),
            web.get("/v1/seals/{seal}/consistency", seals.consistency),
            web.get("/v1/log", log.show),
            web.post("/v1/audits", audits.begin),
            web.get("/v1/audits/{audit}", audits.show),
            web.get("/v1/failing", failing.list_failing),
            web.get("/v1/find", whereabouts.find),
            web.get("/v1/status", status.show),
            web.get("/v1/sources/refusals", sources.list_refusals),
            web.get("/openapi.json", openapi.show),
            web.get("/v1/tokens", tokens.list_tokens),
            web.post("/v1/tokens", tokens.create),
            web.delete("/v1/tokens/{token}", tokens.revoke_token),
            web.get("/v1/session", login.session),
            web.post("/logout", login.logout),
        ]
    )
    routing.add(application)
    if services.config.server.ops_listen is None:
        _add_ops(application)
    return application


def build_ops(services: Services) -> web.Application:
    """The application of the separate ops listener."""
    application = _application(services)
    _add_ops(application)
    return application


def _application(services: Services) -> web.Application:
    application = web.Application(
        middlewares=[
            refusals.middleware,
            problems.middleware,
            problems.url_middleware,
            auth.middleware,
            latest_routes.middleware,
        ],
        client_max_size=MAX_BODY_BYTES,
    )
    application[SERVICES] = services
    application[TENANT_LIMITS] = TenantLimits()
    application[GUESSES] = Guesses(trusted_proxies=services.config.server.trusted_proxies)
    application[REFUSALS] = RefusalLog()
    application[TURNS] = Turns()
    application.on_response_prepare.append(_add_default_headers)
    return application


async def _add_default_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in problems.DEFAULT_HEADERS.items():
        if name == "Server" or name not in response.headers:
            response.headers[name] = value


def _add_ops(application: web.Application) -> None:
    application.add_routes(
        [web.get("/healthz", ops.healthz), web.get("/readyz", ops.readyz), web.get("/metrics", ops.metrics)]
    )


async def _ingest(application: web.Application) -> AsyncIterator[None]:
    services = application[SERVICES]
    group_commit = GroupCommit(
        services.command_database, publish=services.publish, on_batch_stored=services.request_tick
    )
    application[publish.GROUP_COMMIT] = group_commit
    application[publish.BYTE_BUDGET] = ByteBudget(services.config.events.max_bytes * publish.BUDGET_MAX_EVENT_SIZES)
    yield
    await group_commit.close()
