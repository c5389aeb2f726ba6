"""Sends sample events of chosen types as test events, and shows their deliveries as they arrive.

After sending, the query of the page has the ids of the events, so the page can be reloaded and shown to others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TypedDict

from aiohttp import web

from daemon.commands import Conflict, Invalid
from daemon.core.delivery.status import DeliveryStatus
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.deliveries import ListedDelivery, sample_events
from daemon.deliveries.sample_events import MAX_TESTS
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.access.queries import query_database
from daemon.web.dashboard.form_data import FormErrors, read
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import live_route
from daemon.web.service.routes import route_healths

# Types in the list; others are found by the search. A page with so many is 60 kB long.
MAX_LISTED = 300

# The query has the ids of up to fifty events without their common prefix.
_PREFIX = "test_"
_ID_PART = re.compile("[0-9a-f]{32}")


@page(Access.MANAGE)
async def show(request: web.Request) -> web.Response:
    """The form, and the deliveries of the events in `?sent=`."""
    route = live_route(request)
    items = await _sent(request, route)
    if wants_part(request):
        return render(request, "webhook_actions/sample_events_part.html", **_progress(items))
    # Other pages link to a type; what was ticked before a search has the name that it has in the form.
    chosen = [*request.query.getall("type", []), *request.query.getall("event_types", [])]
    chosen = chosen or [item.found.event_type for item in items]
    return await _form(request, route, items=items, chosen=chosen)


@page(Access.MANAGE)
async def send(request: web.Request) -> web.Response:
    """Sends examples of the chosen types, or with `all` of all types of the webhook."""
    route, form = live_route(request), await read(request)
    chosen = form.all("event_types")
    services = request.app[SERVICES]
    if not chosen and not form.has("all"):
        form_errors = FormErrors([FieldProblem(field="event_types", message="choose at least one event type")])
        return await _form(request, route, chosen=chosen, form_errors=form_errors, status=422)
    try:
        request.app[TENANT_LIMITS].take(RateLimit.TEST, route.tenant, asyncio.get_running_loop().time())
        sent = await sample_events.send(services.command_database, route, None if form.has("all") else chosen)
    except Invalid as error:
        return await _form(request, route, chosen=chosen, form_errors=FormErrors.of(error), status=422)
    except Conflict as error:
        return await _form(request, route, chosen=chosen, refusal=str(error), status=409)
    except Problem as problem:
        if problem.status != web.HTTPTooManyRequests.status_code:
            raise
        return await _form(
            request, route, chosen=chosen, retry_after=problem.headers["Retry-After"], status=problem.status
        )
    services.request_tick()
    parts = ",".join(each.event_id.removeprefix(_PREFIX) for each in sent)
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), "test", sent=parts)


async def _form(
    request: web.Request,
    route: Route,
    *,
    chosen: Sequence[str],
    items: Sequence[ListedDelivery] = (),
    form_errors: FormErrors | None = None,
    refusal: str | None = None,
    retry_after: str | None = None,
    status: int = 200,
) -> web.Response:
    offered = await sample_events.offered(query_database(request), route)
    search = request.query.get("q", "").strip().lower()
    found = [name for name in offered if search in name]
    checked = set(chosen) or set(offered[:1] if "q" not in request.query else ())
    # Checked types are sent with the form, so they are listed even if the search does not match them.
    listed = sorted({*found[:MAX_LISTED], *(checked & set(offered))})
    return render(
        request,
        "webhook_actions/sample_events.html",
        status=status,
        headers=None if retry_after is None else {"Retry-After": retry_after},
        route=route,
        health=await route_healths.of_route(query_database(request), route),
        listed=listed,
        found=len(found),
        offered=len(offered),
        checked=checked,
        search=search,
        max_tests=MAX_TESTS,
        form_errors=form_errors or FormErrors(),
        refusal=refusal,
        retry_after=retry_after,
        **_progress(items),
    )


async def _sent(request: web.Request, route: Route) -> list[ListedDelivery]:
    """The deliveries of the test events in the query, with their present status."""
    parts = [part for part in request.query.get("sent", "").split(",") if _ID_PART.fullmatch(part)][:MAX_TESTS]
    if not parts:
        return []
    services = request.app[SERVICES]
    return await sample_events.sent(
        query_database(request), services.index, route, [f"{_PREFIX}{part}" for part in parts]
    )


class _Progress(TypedDict):
    items: Sequence[ListedDelivery]
    answered: int
    delivered: int
    is_settled: bool


def _progress(items: Sequence[ListedDelivery]) -> _Progress:
    """The progress of test deliveries. It is settled after each first answer, as retries may go on for hours."""
    answered = [item for item in items if item.summary.requests or item.status is not DeliveryStatus.PENDING]
    delivered = sum(item.status is DeliveryStatus.DELIVERED for item in items)
    return {
        "items": items,
        "answered": len(answered),
        "delivered": delivered,
        "is_settled": len(answered) == len(items),
    }
