"""Test events as a page: which types to try, and below their deliveries as they arrive.

The page of what was sent names the events in its query, so it can be reloaded and shown to others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TypedDict

from aiohttp import web

from daemon import sample_events
from daemon.commands import Conflict, Invalid
from daemon.core.delivery.status import DeliveryStatus
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.deliveries import ListedDelivery
from daemon.sample_events import MAX_TESTS
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard.form_data import FormErrors, read
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import live_route

# A catalogue may have more; then one searches for the others. A page of so many is 60 kB long.
MAX_SHOWN = 300

# Of an event's id what makes it one of many; the page's own address has up to fifty.
_PREFIX = "test_"
_OWN_PART = re.compile("[0-9a-f]{32}")


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The form, and what was sent by it just now."""
    route = live_route(request)
    items = await _arrivals(request, route)
    if wants_part(request):
        return render(request, "webhooks/arrivals.html", **_progress(items))
    chosen = request.query.getall("type", []) or [item.found.event_type for item in items]
    return await _form(request, route, items=items, chosen=chosen)


@page(Access.MANAGE)
async def send(request: web.Request) -> web.Response:
    """Sends examples of the chosen types, or of all if they are few."""
    route, typed = live_route(request), await read(request)
    chosen = typed.all("event_types")
    services = request.app[SERVICES]
    if not chosen and not typed.has("all"):
        form_errors = FormErrors([FieldProblem(field="event_types", message="choose at least one event type")])
        return await _form(request, route, chosen=chosen, form_errors=form_errors, status=422)
    try:
        request.app[TENANT_LIMITS].take(RateLimit.TEST, route.tenant, asyncio.get_running_loop().time())
        sent = await sample_events.send(services.database, route, None if typed.has("all") else chosen)
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
    services.hurry()
    names = ",".join(each.event_id.removeprefix(_PREFIX) for each in sent)
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), "test", sent=names)


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
    offered = await sample_events.offered(request.app[SERVICES].database, route)
    sought = request.query.get("q", "").strip().lower()
    found = [name for name in offered if sought in name]
    checked = set(chosen) or set(offered[:1])
    # What is checked is sent, so it is seen, however many there are and whatever is sought.
    shown = sorted({*found[:MAX_SHOWN], *(checked & set(offered))})
    return render(
        request,
        "webhooks/test.html",
        status=status,
        headers=None if retry_after is None else {"Retry-After": retry_after},
        route=route,
        shown=shown,
        found=len(found),
        offered=len(offered),
        checked=checked,
        sought=sought,
        most=MAX_TESTS,
        form_errors=form_errors or FormErrors(),
        refusal=refusal,
        retry_after=retry_after,
        **_progress(items),
    )


async def _arrivals(request: web.Request, route: Route) -> list[ListedDelivery]:
    """The deliveries of the test events that the query names, as they stand."""
    named = [part for part in request.query.get("sent", "").split(",") if _OWN_PART.fullmatch(part)][:MAX_TESTS]
    if not named:
        return []
    services = request.app[SERVICES]
    return await sample_events.sent(services.database, services.index, route, [f"{_PREFIX}{part}" for part in named])


class _Progress(TypedDict):
    items: Sequence[ListedDelivery]
    answered: int
    delivered: int
    is_settled: bool


def _progress(items: Sequence[ListedDelivery]) -> _Progress:
    """How far they are. One that failed may be tried for hours: what is waited for is its first answer."""
    answered = [item for item in items if item.gist.requests or item.status is not DeliveryStatus.PENDING]
    delivered = sum(item.status is DeliveryStatus.DELIVERED for item in items)
    return {
        "items": items,
        "answered": len(answered),
        "delivered": delivered,
        "is_settled": len(answered) == len(items),
    }
