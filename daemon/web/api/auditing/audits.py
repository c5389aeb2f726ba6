"""Audits that run beside the requests of this API: begun by one request, and looked at by others until they end."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from daemon.core.events.event import TENANT_PATTERN, tenant_problem
from daemon.web.access.command_context import request_key
from daemon.web.forms.request_forms import BaseForm, Instant, read
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.shapes import Moment, Uuid, moment
from daemon.web.service.auditing import audit_requests
from daemon.web.service.auditing.audit_findings import AuditFindingShape
from daemon.web.service.auditing.audit_requests import AuditState, SeenAudit

_TENANT = {"type": ["string", "null"], "pattern": f"^{TENANT_PATTERN}$", "examples": ["acme"]}


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
    why it proves less than was asked for, `detail` why it failed: also if what stands there is not as a daemon of ours
    has signed it. A caller bound to a tenant is shown the findings
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


@endpoint(Access.AUDIT, takes=AuditForm, answers={202: AuditJobShape}, is_command=True)
async def begin(request: web.Request) -> web.Response:
    """Begins an audit: every decision of a period is recomputed and compared with what was recorded, as by `hookledger
    audit`. Without a tenant the seals are recomputed too. A process takes two at most, of which one waits.
    """
    form = await read(request, AuditForm)
    given = request_key(request)
    key = () if given is None else (given,)
    begun = await audit_requests.begin(request, since=form.since, until=form.until, tenant=form.tenant, key=key)
    return shapes.answer(_shape(begun), status=202, headers={"Location": f"/v1/audits/{begun.job.id}"})


@endpoint(Access.AUDIT, answers={200: AuditJobShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """An audit: how far it is, and once it is done what it found. It is kept for 30 days."""
    return shapes.answer(_shape(await audit_requests.find(request, request.match_info["audit"])))


def _shape(seen: SeenAudit) -> AuditJobShape:
    job = seen.job
    return {
        "id": str(job.id),
        "state": seen.state,
        "tenant": job.tenant,
        "from": moment(job.since),
        "to": moment(job.until),
        "actor": job.actor,
        "created_at": moment(job.created_at),
        "ended_at": moment(job.ended_at),
        "events": job.events,
        "reached": moment(job.reached),
        "found": job.found,
        "findings": list(seen.findings),
        "gaps": seen.gaps,
        "detail": seen.detail,
    }
