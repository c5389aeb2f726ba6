"""Audits as the API and the operator's page ask for them: who may begin one, of what, and what of it who may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import orjson
from aiohttp import web

from daemon.commands import Invalid, KeyReused, NotFound
from daemon.core.drafts.login_link_draft import DashboardRole
from daemon.core.events.event import FieldProblem, instant
from daemon.web.access.auth import CALLER, Caller
from daemon.web.access.queries import query_database
from daemon.web.http import paging, shapes
from daemon.web.http.problems import Problem
from daemon.web.service.auditing import audit_signatures
from daemon.web.service.auditing.audit_findings import AuditFindingShape
from daemon.web.service.auditing.audit_jobs import JOBS
from eventstore.progress import audit_jobs
from eventstore.progress.audit_jobs import AuditJob, AuditJobSummary, NewAuditJob

_LOST = "the daemon that ran it ended: ask for it again"
_NONE = "there is no such audit"
_FORGED = (
    "this result is not signed by a key of ours: somebody with the database wrote or changed it, or an older version "
    "wrote it: ask for the audit again"
)


class AuditState(StrEnum):
    """A failed audit proves nothing, and says why it failed."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAudit:
    """An audit, and what its caller may see of it. `gaps` say why it proves less than was asked for. It `is_forged` if
    it has ended, and what stands there is not signed by us.
    """

    job: AuditJobSummary
    is_forged: bool
    findings: Sequence[AuditFindingShape] = ()

    @property
    def state(self) -> AuditState:
        return AuditState.FAILED if self.job.is_lost or self.is_forged else AuditState(self.job.state)

    @property
    def detail(self) -> str | None:
        """Why it failed."""
        if self.is_forged:
            return _FORGED
        return _LOST if self.job.is_lost else self.job.detail

    @property
    def gaps(self) -> list[str]:
        found: list[str] = [] if self.is_forged else orjson.loads(self.job.gaps)
        return found


def may_begin(caller: Caller) -> bool:
    """True unless it is a session that may only view."""
    return caller.session is None or caller.session.role != DashboardRole.VIEW


async def begin(
    request: web.Request,
    *,
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    key: Sequence[str] = (),
) -> SeenAudit:
    """Begins an audit of [since, until), of one tenant or all that the caller may see.

    With a `key` of this caller that began one before, it is that one. Raises Invalid and Problem, and KeyReused if
    that one was of something else.
    """
    caller = request[CALLER]
    if not may_begin(caller):
        raise Problem(403, "this session may only view: begin an audit with the token of an auditor")
    if problems := _problems(since, until, tenant, caller):
        raise Invalid(tuple(problems))
    new = NewAuditJob(
        id=uuid5(NAMESPACE_OID, "\n".join((caller.actor, str(caller.scope), *key))) if key else uuid4(),
        tenant=tenant or caller.tenant,
        since=since,
        until=until,
        actor=caller.actor,
    )
    job = await request.app[JOBS].begin(new, is_bound=caller.tenant is not None)
    if (job.tenant, job.since, job.until) != (new.tenant, new.since, new.until):
        raise KeyReused
    return _seen(request, job)


async def find(request: web.Request, text: str) -> SeenAudit:
    """The audit with this id. Raises NotFound, also for one that is not the caller's to see."""
    caller = request[CALLER]
    try:
        job_id = UUID(text)
    except ValueError as error:
        raise NotFound(_NONE) from error
    job = await audit_jobs.find(query_database(request), job_id)
    if job is None or caller.tenant not in (None, job.tenant):
        raise NotFound(_NONE)
    return _seen(request, job)


async def newest(request: web.Request, count: int, *, after: str | None) -> list[SeenAudit]:
    """At most `count` audits of all tenants without their findings, newest first, after the one with the key `after`.
    Raises Invalid for what is no key.
    """
    before = None if after is None else _position(after)
    found = await audit_jobs.newest(query_database(request), count, before=before)
    return [SeenAudit(job=job, is_forged=_is_forged(request, job)) for job in found]


def key(seen: SeenAudit) -> str:
    """The sort key of an audit in the list."""
    return f"{shapes.moment(seen.job.created_at)} {seen.job.id}"


def _position(after: str) -> tuple[datetime, UUID]:
    at, _, job_id = after.partition(" ")
    try:
        return instant(at), UUID(job_id)
    except ValueError as error:
        raise paging.unknown_cursor() from error


def _problems(since: datetime | None, until: datetime | None, tenant: str | None, caller: Caller) -> list[FieldProblem]:
    problems = []
    if since is not None and until is not None and until <= since:
        problems.append(FieldProblem(field="to", message="must be later than from"))
    if tenant is not None and caller.tenant not in (None, tenant):
        message = "is another tenant than the one you audit: leave it out, or name that one"
        problems.append(FieldProblem(field="tenant", message=message))
    return problems


def _seen(request: web.Request, job: AuditJob) -> SeenAudit:
    if _is_forged(request, job):
        return SeenAudit(job=job, is_forged=True)
    tenant, findings = request[CALLER].tenant, orjson.loads(job.findings)
    return SeenAudit(job=job, is_forged=False, findings=[each for each in findings if tenant in (None, each["tenant"])])


def _is_forged(request: web.Request, job: AuditJobSummary) -> bool:
    has_ended = job.state != AuditState.RUNNING
    return has_ended and not audit_signatures.is_signed_by(job, audit_signatures.public_keys(request))
