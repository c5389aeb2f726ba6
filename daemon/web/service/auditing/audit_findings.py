"""What an audit of the API found, as JSON: it is stored so, and answered so."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.audit import AuditFinding, AuditReport, FindingKind
from daemon.sealing.report import SealFinding, SealReport
from daemon.web.http.shapes import EventId, Uuid

# An answer has so many; the command line lists more.
LISTED = 100

# The kind of what an audit of the seals found: it is not as it was sealed.
ALTERED = "altered"

_KIND = {
    "type": "string",
    "enum": [*(kind.value for kind in FindingKind), ALTERED],
    "description": "missing: due, and neither recorded nor waiting; unexpected: recorded or waiting, though not due; "
    "unexplained: nothing that the daemon does leads to it; altered: it is not as it was sealed.",
}


class AuditFindingShape(TypedDict):
    """Something that is wrong: where, and what. Event, tenant and route are null where the row names none."""

    kind: Annotated[str, WithJsonSchema(_KIND)]
    table: Annotated[str, Field(examples=["attempt"])]
    key: Annotated[str | None, Field(examples=["seal 42"])]
    event: EventId | None
    tenant: Annotated[str | None, Field(examples=["acme"])]
    route: Uuid | None
    detail: Annotated[str, Field(examples=["the row is not what was sealed"])]


def listed(report: AuditReport, seals: SealReport | None) -> list[AuditFindingShape]:
    """The first findings, those of the seals before the others: there are few of them."""
    of_seals = [] if seals is None else [_of_seals(each) for each in seals.findings[:LISTED]]
    return [*of_seals, *map(_of_decisions, report.findings[:LISTED])][:LISTED]


def _of_decisions(finding: AuditFinding) -> AuditFindingShape:
    return {
        "kind": finding.kind.value,
        "table": finding.table,
        "key": finding.key,
        "event": finding.event_id,
        "tenant": finding.tenant,
        "route": None if finding.route_id is None else str(finding.route_id),
        "detail": finding.detail,
    }


def _of_seals(finding: SealFinding) -> AuditFindingShape:
    return {
        "kind": ALTERED,
        "table": finding.part,
        "key": None if finding.seal is None else f"seal {finding.seal}",
        "event": None,
        "tenant": None,
        "route": None,
        "detail": finding.detail,
    }
