"""Audits that run beside the requests of this API: begun by one request, and looked at by others until they end."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid4

import orjson
from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from daemon.commands import Invalid, NotFound
from daemon.core.drafts.login_link_draft import DashboardRole
from daemon.core.events.event import TENANT_PATTERN, FieldProblem, tenant_problem
from daemon.web.access.auth import CALLER, Caller
from daemon.web.access.queries import query_database
from daemon.web.forms.request_forms import BaseForm, Instant, read
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.shapes import Moment, Uuid, moment
from daemon.web.service.audit_findings import AuditFindingShape
from daemon.web.service.audit_jobs import JOBS
from eventstore.progress import audit_jobs
from eventstore.progress.audit_jobs import AuditJob, NewAuditJob

_LOST = "the daemon that ran it ended: ask for it again"
_TENANT = {"type": ["string", "null"], "pattern": f"^{TENANT_PATTERN}$", "examples": ["acme"]}


class AuditState(StrEnum):
    """A failed audit proves nothing, and says why it failed."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


def _tenant(value: str | None) -> str | None:
    if value is not None and (problem := tenant_problem(value)) is not None:
        raise PydanticCustomError("tenant", "{problem}", {"problem": problem})
    return value


class AuditForm(BaseForm):
    """The events recorded from (inclusive) to (exclusive), all if left out; of one tenant, or of all with the seals."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "2026-11-23T00:00:00Z", "to": "2026-11-24T00:00:00Z"}]}
    )

    since: Annotated[Instant | None, Field(alias="from")] = None
    until: Annotated[Instant | None, Field(alias="to")] = None
    tenant: Annotated[str | None, AfterValidator(_tenant), WithJsonSchema(_TENANT)] = None


AuditPeriodShape = TypedDict("AuditPeriodShape", {"from": Moment | None, "to": Moment | None})


class AuditJobShape(AuditPeriodShape):
    """An audit and its progress. `events` were judged so far, the last of which was recorded at `reached`.

    `found` is how many findings there are, and `findings` has at most 100 of them, once the audit is done. `gaps` says
    why it proves less than was asked for, `detail` why it failed. Whoever is bound to a tenant is shown the findings
    that name it; `found` also counts those about the installation.
    """

    id: Uuid
    state: AuditState
    tenant: Annotated[str | None, Field(examples=["acme"])]
    actor: Annotated[str, Field(examples=["admin"])]
    created_at: Moment
    ended_at: Annotated[Moment | None, Field(examples=[None])]
    events: Annotated[int, Field(ge=0, examples=[120_000])]
    reached: Moment | None
    found: Annotated[int, Field(ge=0, examples=[0])]
    findings: list[AuditFindingShape]
    gaps: list[Annotated[str, Field(examples=["no event of this period was judged"])]]
    detail: Annotated[str | None, Field(examples=[None])]


@endpoint(Access.AUDIT, takes=AuditForm, answers={202: AuditJobShape})
async def begin(request: web.Request) -> web.Response:
    """Begins an audit: every decision of a period is recomputed and compared with what was recorded, as by `hookledger
    audit`. Without a tenant the seals are recomputed too. A process takes two at most, of which one waits.
    """
    caller = request[CALLER]
    if caller.session is not None and caller.session.role == DashboardRole.VIEW:
        raise Problem(403, "this session may only view: begin an audit with the token of an auditor")
    form = await read(request, AuditForm)
    if problems := _problems(form, caller):
        raise Invalid(tuple(problems))
    new = NewAuditJob(
        id=uuid4(),
        tenant=form.tenant or caller.tenant,
        since=form.since,
        until=form.until,
        actor=caller.actor,
    )
    job = await request.app[JOBS].begin(new, is_bound=caller.tenant is not None)
    return shapes.answer(_of_job(job, caller), status=202, headers={"Location": f"/v1/audits/{job.id}"})


@endpoint(Access.AUDIT, answers={200: AuditJobShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """An audit: how far it is, and once it is done what it found. It is kept for 30 days."""
    caller = request[CALLER]
    try:
        job_id = UUID(request.match_info["audit"])
    except ValueError as error:
        raise NotFound("there is no such audit") from error
    job = await audit_jobs.find(query_database(request), job_id)
    if job is None or caller.tenant not in (None, job.tenant):
        raise NotFound("there is no such audit")
    return shapes.answer(_of_job(job, caller))


def _problems(form: AuditForm, caller: Caller) -> list[FieldProblem]:
    problems = []
    if form.since is not None and form.until is not None and form.until <= form.since:
        problems.append(FieldProblem(field="to", message="must be later than from"))
    if form.tenant is not None and caller.tenant not in (None, form.tenant):
        message = "is another tenant than the one you audit: leave it out, or name that one"
        problems.append(FieldProblem(field="tenant", message=message))
    return problems


def _of_job(job: AuditJob, caller: Caller) -> AuditJobShape:
    findings: list[AuditFindingShape] = orjson.loads(job.findings)
    gaps: list[str] = orjson.loads(job.gaps)
    return {
        "id": str(job.id),
        "state": AuditState.FAILED if job.is_lost else AuditState(job.state),
        "tenant": job.tenant,
        "from": moment(job.since),
        "to": moment(job.until),
        "actor": job.actor,
        "created_at": moment(job.created_at),
        "ended_at": moment(job.ended_at),
        "events": job.events,
        "reached": moment(job.reached),
        "found": job.found,
        "findings": [each for each in findings if caller.tenant in (None, each["tenant"])],
        "gaps": gaps,
        "detail": _LOST if job.is_lost else job.detail,
    }
