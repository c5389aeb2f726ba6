"""The tenants: the operator opens their pages and makes sign-in links for merchants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from daemon.core.drafts.login_link_draft import LoginLinkDraft
from daemon.core.events.event import FieldProblem, tenant_problem
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import RouteStatus
from daemon.web.access import sessions
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormErrors
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from eventstore.queries.metrics import route_health

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow:
    """A tenant that has, or had, webhooks, with the number of enabled and disabled ones. `failing` are enabled."""

    tenant: str
    enabled: int
    disabled: int
    failing: int


@page(Access.ADMIN)
async def show(request: web.Request) -> web.Response:
    """The tenants by name; `?open=` redirects to a tenant, also to one that has no webhook yet."""
    tenant = request.query.get("open")
    if tenant is None:
        return await _page(request)
    form_errors = _tenant_errors("open", tenant)
    return (
        await _page(request, form_errors=form_errors)
        if form_errors
        else redirect(request, "t", tenant.strip(), "webhooks")
    )


@page(Access.ADMIN)
async def make_login_link(request: web.Request) -> web.Response:
    """A sign-in link, shown only once: for a tenant, or for an operator if the form says so."""
    form = await form_data.read(request)
    tenant = None if form.has("operator") else form.one("tenant").strip()
    if tenant is not None and (form_errors := _tenant_errors("tenant", tenant)):
        return await _page(request, form_errors=form_errors, entered_tenant=form.one("tenant"))
    services = request.app[SERVICES]
    made = await sessions.new_link(
        services.command_database,
        services.config.server,
        LoginLinkDraft(),
        tenant=tenant,
        created_by=request[CALLER].actor,
        macs=services.keychain.macs,
    )
    return render(request, "operator/login_link.html", tenant=tenant, made=made)


async def _page(
    request: web.Request, *, form_errors: FormErrors | None = None, entered_tenant: str = ""
) -> web.Response:
    index, query = request.app[SERVICES].index, request.query
    text = query.get("q", "").strip().casefold()
    tenants = index.tenants()
    matches = [tenant for tenant in tenants if text in tenant.casefold()]
    after = paging.decoded(query.get("after", ""))
    rest = [tenant for tenant in matches if after is None or tenant > after]
    listed = rest[:PAGE_SIZE]
    failing = await route_health.counts(query_database(request), listed)
    return render(
        request,
        "operator/tenants.html",
        status=422 if form_errors else 200,
        rows=_rows(index, listed, failing),
        after=paging.encoded(rest[PAGE_SIZE - 1]) if len(rest) > PAGE_SIZE else None,
        total=len(tenants),
        found=len(matches),
        query=query,
        form_errors=form_errors or FormErrors(),
        entered_tenant=entered_tenant,
    )


def _rows(index: RouteIndex, tenants: Sequence[str], failing: Mapping[str, int]) -> list[TenantRow]:
    counts = {tenant: index.statuses(tenant) for tenant in tenants}
    return [
        TenantRow(
            tenant=tenant,
            enabled=count[RouteStatus.ENABLED],
            disabled=count[RouteStatus.DISABLED],
            failing=failing.get(tenant, 0),
        )
        for tenant, count in counts.items()
    ]


def _tenant_errors(field: str, text: str) -> FormErrors:
    message = tenant_problem(text.strip())
    return FormErrors(() if message is None else (FieldProblem(field=field, message=message),))
