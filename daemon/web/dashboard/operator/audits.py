"""Audits: a form that begins one, the list of the earlier ones, and the progress and findings of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem, tenant_problem
from daemon.core.routing.index import RouteIndex
from daemon.web.access.auth import CALLER
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FORM_ID_FIELD, FormData, FormErrors, new_form_id
from daemon.web.dashboard.html import periods
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.html.text import actor
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.service.auditing import audit_requests
from daemon.web.service.auditing.audit_findings import LISTED, AuditFindingShape
from daemon.web.service.auditing.audit_requests import AuditState, SeenAudit

PAGE_SIZE = 20
SPANS = (periods.LAST_DAY, periods.LAST_WEEK)

_FIELDS = ("tenant", "from", "to")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An audit as the pages show it."""

    seen: SeenAudit

    @property
    def by(self) -> str:
        return actor(self.seen.job.actor)

    @property
    def is_running(self) -> bool:
        return self.seen.state is AuditState.RUNNING

    @property
    def part_done(self) -> float | None:
        """How much of its period it has passed, from 0 to 1; None if it has no beginning, or nothing was judged yet."""
        job = self.seen.job
        if job.since is None or job.reached is None:
            return None
        length = min(job.until or job.created_at, job.created_at) - job.since
        return max(0.0, min(1.0, (job.reached - job.since) / length)) if length else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A finding, with the names of what it leads to; `route_name` is None for a route that no log knows."""

    found: AuditFindingShape
    tenant: str | None
    route_name: str | None


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """The form, with the period of the query or the last 24 hours, and the list."""
    now, query = request.app[SERVICES].now(), request.query
    values = {
        "tenant": query.get("tenant", ""),
        "from": query.get("from", periods.value(now - periods.DEFAULT_SPAN)),
        "to": query.get("to", periods.value(periods.until(now))),
    }
    return await _page(request, values)


@page(Access.OPERATIONS)
async def begin(request: web.Request) -> web.Response:
    """Begins an audit; the same form once more leads to the same one."""
    form = await form_data.read(request)
    values = {name: form.one(name) for name in _FIELDS}
    try:
        begun = await _begin(request, form)
    except Invalid as error:
        return await _page(request, values, form_errors=FormErrors.of(error), status=422)
    except Problem as problem:
        if not problem.is_busy:
            raise
        return await _page(request, values, refusal=problem.detail, status=problem.status)
    return redirect(request, "operator", "audits", str(begun.job.id))


@page(Access.OPERATIONS)
async def show_audit(request: web.Request) -> web.Response:
    """An audit, or only its progress and findings when page.js polls it."""
    seen = await audit_requests.find(request, request.match_info["audit"])
    index = request.app[SERVICES].index
    return render(
        request,
        "operator/audit_part.html" if wants_part(request) else "operator/audit.html",
        audit=AuditRow(seen=seen),
        findings=[_finding(index, each) for each in seen.findings],
        listed=LISTED,
    )


async def _begin(request: web.Request, form: FormData) -> SeenAudit:
    """Raises Invalid with everything that is wrong, and Problem."""
    problems: list[FieldProblem] = []
    tenant = form.one("tenant").strip() or None
    if tenant is not None and (message := tenant_problem(tenant)) is not None:
        problems.append(FieldProblem(field="tenant", message=message))
    since, until = (periods.moment(form, name, problems) for name in ("from", "to"))
    if problems:
        raise Invalid(tuple(problems))
    key = (form.one(FORM_ID_FIELD) or new_form_id(), *(form.one(name) for name in _FIELDS))
    return await audit_requests.begin(request, since=since, until=until, tenant=tenant, key=key)


async def _page(
    request: web.Request,
    values: Mapping[str, str],
    *,
    form_errors: FormErrors | None = None,
    refusal: str | None = None,
    status: int = 200,
) -> web.Response:
    after = paging.decoded(request.query.get("after", ""))
    try:
        found = await audit_requests.newest(request, PAGE_SIZE + 1, after=after)
    except Invalid:
        return redirect(request, "operator", "audits")
    return render(
        request,
        "operator/audits_part.html" if wants_part(request) else "operator/audits.html",
        status=status,
        audits=[AuditRow(seen=each) for each in found[:PAGE_SIZE]],
        after=paging.encoded(audit_requests.key(found[PAGE_SIZE - 1])) if len(found) > PAGE_SIZE else None,
        is_first=after is None,
        may_begin=audit_requests.may_begin(request[CALLER]),
        values=values,
        form_errors=form_errors or FormErrors(),
        refusal=refusal,
        form_id=new_form_id(),
        spans=periods.spans(request.app[SERVICES].now(), SPANS),
    )


def _finding(index: RouteIndex, found: AuditFindingShape) -> FindingRow:
    route = None if found["route"] is None else index.route(UUID(found["route"]))
    return FindingRow(
        found=found,
        tenant=found["tenant"] or (None if route is None else route.tenant),
        route_name=None if route is None else route.config.name,
    )
