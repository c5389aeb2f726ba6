"""Disable, enable and delete a webhook, rotate its key and revoke the old one.

Each action but enabling has a page that says what it means, and a handler that executes the command. If the webhook is
already in the desired state, the handler redirects to its page; that is not an error.

Before a webhook is disabled or deleted the page says how many of its deliveries wait: the exact number if they fit into
one page of the list, else the stored metric, which is quick but lacks what is only in memory
(eventstore/queries/metrics/route_metrics.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TypedDict

from aiohttp import web

from daemon import deliveries
from daemon.commands import Conflict, Invalid
from daemon.core.delivery.status import ListStatus
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.deliveries import DeliveryFilter
from daemon.expressions.judging import FilterPlaces
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FormData, FormErrors, new_form_id, request_id
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_metrics

CONFIRMATION = "DELETE"
# Names of other webhooks with the same target.
MAX_NAMES = 5
# The number of pending deliveries is exact up to this one.
MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCount:
    """How many deliveries of a webhook wait to be sent."""

    number: int
    is_exact: bool


class _Consequences(TypedDict):
    """What a page says of disabling and deleting: the pending deliveries, and other webhooks with the same target, of
    which `others` are the first and `others_more` the number of the rest.
    """

    pending: PendingCount
    others: list[Route]
    others_more: int


@page(Access.MANAGE)
async def ask_disable(request: web.Request) -> web.Response:
    """Says what disabling means."""
    route = lookup.timeline(request).current
    return await _disable_page(request, route) if route.is_enabled else _to_webhook(request, route)


@page(Access.MANAGE)
async def disable(request: web.Request) -> web.Response:
    """Disables a webhook."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to_webhook(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form))
        await request.app[SERVICES].commands.disable(route.tenant, route.id, context)
    except Invalid as error:
        return await _disable_page(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    return _to_webhook(request, route, done="disabled")


@page(Access.MANAGE)
async def enable(request: web.Request) -> web.Response:
    """Enables a webhook; its page then says from when on events are sent."""
    route = lookup.timeline(request).current
    if route.status is RouteStatus.DELETED:
        return _to_webhook(request, route)
    await request.app[SERVICES].commands.enable(route.tenant, route.id, pages.context(request))
    return _to_webhook(request, route, done="enabled")


@page(Access.MANAGE)
async def ask_delete(request: web.Request) -> web.Response:
    """Says what deleting means."""
    route = lookup.timeline(request).current
    return _to_webhook(request, route) if route.status is RouteStatus.DELETED else await _delete_page(request, route)


@page(Access.MANAGE)
async def delete(request: web.Request) -> web.Response:
    """Deletes a webhook, if the form has both confirmations."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is not RouteStatus.DELETED:
        try:
            _check_confirmations(form)
            context = pages.context(request, reason=pages.reason(request, form))
            await request.app[SERVICES].commands.delete(route.tenant, route.id, context)
        except Invalid as error:
            return await _delete_page(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    return redirect(request, "t", route.tenant, "webhooks", done="deleted")


@page(Access.MANAGE)
async def ask_rotate(request: web.Request) -> web.Response:
    """Says what rotating the key means."""
    route = lookup.timeline(request).current
    return _to_webhook(request, route) if route.status is RouteStatus.DELETED else _rotate_page(request, route)


@page(Access.MANAGE)
async def rotate(request: web.Request) -> web.Response:
    """Rotates the key, and redirects to the new one."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to_webhook(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form), request_id=request_id(request, form))
        commands = request.app[SERVICES].commands
        brought = form.one("verification_key").strip() or None
        await commands.rotate_key(route.tenant, route.id, context, force=form.has("force"), verification_key=brought)
    except Invalid as error:
        return _rotate_page(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    except Conflict:
        return _rotate_page(request, lookup.live_route(request), form=form, is_refused=True, status=409)
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), "key", done="rotated")


@page(Access.MANAGE)
async def ask_revoke(request: web.Request) -> web.Response:
    """Says what revoking the old key means."""
    route = lookup.timeline(request).current
    return _to_webhook(request, route) if route.status is RouteStatus.DELETED else _revoke_page(request, route)


@page(Access.MANAGE)
async def revoke(request: web.Request) -> web.Response:
    """Revokes the old key; without one it only redirects."""
    route, form = lookup.timeline(request).current, await form_data.read(request)
    if route.status is RouteStatus.DELETED:
        return _to_webhook(request, route)
    try:
        context = pages.context(request, reason=pages.reason(request, form))
        await request.app[SERVICES].commands.revoke_old_key(route.tenant, route.id, context)
    except Invalid as error:
        return _revoke_page(request, route, form=form, form_errors=FormErrors.of(error), status=422)
    except Conflict:
        return _to_webhook(request, route, done="no_old_key")
    return _to_webhook(request, route, done="revoked")


async def count_pending(
    database: Database, index: RouteIndex, route: Route, places: FilterPlaces | None
) -> PendingCount:
    """The deliveries of a route that wait now."""
    pending = DeliveryFilter(tenant=route.tenant, route_id=route.id, status=ListStatus.PENDING)
    listed = await deliveries.page(database, index, pending, begin=None, limit=MAX_LISTED, places=places)
    if listed.next is None:
        return PendingCount(number=len(listed.items), is_exact=True)
    metrics = await route_metrics.read(database, route.id)
    return PendingCount(number=max(metrics.pending, len(listed.items)), is_exact=False)


async def _disable_page(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhook_actions/disable.html",
        status=status,
        route=route,
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
        **await _consequences(request, route),
    )


async def _delete_page(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhook_actions/delete.html",
        status=status,
        route=route,
        confirmation=CONFIRMATION,
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
        **await _consequences(request, route),
    )


async def _consequences(request: web.Request, route: Route) -> _Consequences:
    services = request.app[SERVICES]
    others = (each for each in services.index.routes(route.tenant) if _has_same_target(each, route))
    return {
        "pending": await count_pending(query_database(request), services.index, route, services.filter_places),
        "others": list(islice(others, MAX_NAMES)),
        "others_more": sum(1 for _ in others),
    }


def _rotate_page(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    is_refused: bool = False,
    status: int = 200,
) -> web.Response:
    """The page warns if an older key is still valid: rotating again invalidates it at once."""
    return render(
        request,
        "webhook_actions/rotate_key.html",
        status=status,
        route=route,
        old_key=route.old_key_at(request.app[SERVICES].now()),
        is_refused=is_refused,
        form_id=new_form_id(),
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
    )


def _revoke_page(
    request: web.Request,
    route: Route,
    *,
    form: FormData | None = None,
    form_errors: FormErrors | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhook_actions/revoke_key.html",
        status=status,
        route=route,
        old_key=route.old_key_at(request.app[SERVICES].now()),
        form=form or FormData({}),
        form_errors=form_errors or FormErrors(),
    )


def _check_confirmations(form: FormData) -> None:
    """Raises Invalid unless the form has both confirmations."""
    problems = []
    if not form.has("understood"):
        problems.append(FieldProblem(field="understood", message="please confirm that deleting is final"))
    word = form.one("confirmation").strip()
    if word != CONFIRMATION:
        mistake = f"“{word[:40]}” is not the word" if word else "is empty"
        problems.append(
            FieldProblem(field="confirmation", message=f"{mistake}: type {CONFIRMATION}, in capital letters")
        )
    if problems:
        raise Invalid(tuple(problems))


def _has_same_target(other: Route, route: Route) -> bool:
    """True if another enabled webhook has the same target."""
    return other.is_enabled and other.id != route.id and other.config.target_url == route.config.target_url


def _to_webhook(request: web.Request, route: Route, *, done: str | None = None) -> web.Response:
    """A redirect to the page of the webhook, or to the list if the command was given there."""
    if request.query.get("from") == "list":
        return redirect(request, "t", route.tenant, "webhooks", done=done, saved=str(route.id))
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), done=done)
