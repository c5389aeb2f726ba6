"""Disable, enable and delete a webhook, rotate its key and revoke the old one: a page that says what it means, and the
command. What is so already is shown as it is, and is no mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TypedDict

from aiohttp import web

from daemon import deliveries
from daemon.commands import Conflict, Invalid
from daemon.core.delivery.status import DeliveryStatus
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.deliveries import DeliveryFilter
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FormData, FormErrors, new_form_id, request_id
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup
from eventstore.postgres.connect import Database
from eventstore.queries import route_metrics

CONFIRMATION = "DELETE"
# Of the others that send to the same target so many are named.
MAX_NAMED = 5


@page(Access.MANAGE)
async def ask_disable(request: web.Request) -> web.Response:
    """Says what disabling means."""
    route = lookup.timeline(request).current
    return await _disabling(request, route) if route.is_enabled else _to(request, route)


@page(Access.MANAGE)
async def disable(request: web.Request) -> web.Response:
    """Disables a webhook."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form))
        await request.app[SERVICES].commands.disable(route.tenant, route.id, context)
    except Invalid as error:
        return await _disabling(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    return _to(request, route, done="disabled")


@page(Access.MANAGE)
async def enable(request: web.Request) -> web.Response:
    """Enables a webhook; its page says from when on events are sent."""
    route = lookup.timeline(request).current
    if route.status is RouteStatus.DELETED:
        return _to(request, route)
    await request.app[SERVICES].commands.enable(route.tenant, route.id, pages.context(request))
    return _to(request, route, done="enabled")


@page(Access.MANAGE)
async def ask_delete(request: web.Request) -> web.Response:
    """Says what deleting means."""
    route = lookup.timeline(request).current
    return _to(request, route) if route.status is RouteStatus.DELETED else await _deleting(request, route)


@page(Access.MANAGE)
async def delete(request: web.Request) -> web.Response:
    """Deletes a webhook for whoever has understood that this is final."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is not RouteStatus.DELETED:
        try:
            _insist(form)
            context = pages.context(request, reason=pages.reason(request, form))
            await request.app[SERVICES].commands.delete(route.tenant, route.id, context)
        except Invalid as error:
            return await _deleting(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    return redirect(request, "t", route.tenant, "webhooks", done="deleted")


@page(Access.MANAGE)
async def ask_rotate(request: web.Request) -> web.Response:
    """Says what rotating the key means."""
    route = lookup.timeline(request).current
    return _to(request, route) if route.status is RouteStatus.DELETED else _rotating(request, route)


@page(Access.MANAGE)
async def rotate(request: web.Request) -> web.Response:
    """Rotates the key, and leads to the new one."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form), request_id=request_id(request, form))
        commands = request.app[SERVICES].commands
        await commands.rotate_key(route.tenant, route.id, context, force=form.has("force"))
    except Invalid as error:
        return _rotating(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    except Conflict:
        return _rotating(request, lookup.live_route(request), form=form, is_refused=True, status=409)
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), "key", done="rotated")


@page(Access.MANAGE)
async def ask_revoke(request: web.Request) -> web.Response:
    """Says what revoking the old key means."""
    route = lookup.timeline(request).current
    return _to(request, route) if route.status is RouteStatus.DELETED else _revoking(request, route)


@page(Access.MANAGE)
async def revoke(request: web.Request) -> web.Response:
    """Revokes the old key; without one there is nothing to do."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form))
        await request.app[SERVICES].commands.revoke_old_key(route.tenant, route.id, context)
    except Invalid as error:
        return _revoking(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    except Conflict:
        return _to(request, route, done="no_old_key")
    return _to(request, route, done="revoked")


async def _disabling(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhooks/disable.html",
        status=status,
        route=route,
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
        **await _at_stake(request, route),
    )


async def _deleting(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhooks/delete.html",
        status=status,
        route=route,
        confirmation=CONFIRMATION,
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
        **await _at_stake(request, route),
    )


class _AtStake(TypedDict):
    """What waits to be sent, and by whom the target goes on receiving: of the first their names."""

    waiting: PendingCount
    others: list[Route]
    others_more: int


async def _at_stake(request: web.Request, route: Route) -> _AtStake:
    services = request.app[SERVICES]
    others = (each for each in services.index.routes(route.tenant) if _sends_along(each, route))
    return {
        "waiting": await count(services.database, services.index, route),
        "others": list(islice(others, MAX_NAMED)),
        "others_more": sum(1 for _ in others),
    }


def _rotating(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    is_refused: bool = False,
    status: int = 200,
) -> web.Response:
    """If an older key signs along still, rotating would cut it off: that is to be decided first."""
    return render(
        request,
        "webhooks/rotate_key.html",
        status=status,
        route=route,
        old_key=route.old_key_at(request.app[SERVICES].now()),
        is_refused=is_refused,
        once=new_form_id(),
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
    )


def _revoking(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhooks/revoke_key.html",
        status=status,
        route=route,
        old_key=route.old_key_at(request.app[SERVICES].now()),
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
    )


def _insist(form: FormData) -> None:
    """Raises Invalid unless both confirmations are there."""
    problems = []
    if not form.has("understood"):
        problems.append(FieldProblem(field="understood", message="must be ticked: deleting is final"))
    word = form.one("confirmation").strip()
    if word != CONFIRMATION:
        said = f"“{word[:40]}” is not the word: type" if word else "is empty: type"
        problems.append(FieldProblem(field="confirmation", message=f"{said} {CONFIRMATION}, in capital letters"))
    if problems:
        raise Invalid(tuple(problems))


def _sends_along(other: Route, route: Route) -> bool:
    """True if another enabled webhook has the same target."""
    return other.is_enabled and other.id != route.id and other.config.target_url == route.config.target_url


def _to(request: web.Request, route: Route, *, done: str | None = None) -> web.Response:
    """To the page of the webhook, which says how it is."""
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), done=done)


# How many deliveries of a webhook wait, for whoever is about to end them: exactly, as long as they are few.
#
# What is written down of those that wait is counted at once, but not exactly (eventstore/queries/route_metrics.py), and
# without what is in memory only. A list has each of them, and takes long if they are many.
#

MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCount:
    number: int
    is_exact: bool


async def count(database: Database, index: RouteIndex, route: Route) -> PendingCount:
    """What waits for a route now."""
    wanted = DeliveryFilter(tenant=route.tenant, route_id=route.id, status=DeliveryStatus.PENDING)
    listed = await deliveries.page(database, index, wanted, begin=None, limit=MAX_LISTED)
    if listed.next is None:
        return PendingCount(number=len(listed.items), is_exact=True)
    metrics = await route_metrics.read(database, route.id)
    return PendingCount(number=max(metrics.pending, len(listed.items)), is_exact=False)
