"""Findings for rows whose route or event does not exist or does not match: outcomes, retries, parked, manual retries.

What is found is looked at once more with the newest route log and the newest horizon of retention, since routes are
made and days are dropped while an audit runs.
"""

from __future__ import annotations

from datetime import datetime

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.core.routing.index import RouteIndex
from daemon.route_state import FoldedLog
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import strays
from eventstore.queries.auditing.strays import RowGroup
from eventstore.retention import retention
from eventstore.retention.retention import Horizon


async def find(
    database: Database, folded: FoldedLog[RouteIndex], start: datetime, end: datetime, *, tenant: str | None
) -> list[AuditFinding]:
    """One finding for each group of such rows; of outcomes those recorded in [start, end)."""
    findings: list[AuditFinding] = []
    async for group in strays.groups(database, start, end, tenant=tenant):
        if _is_known(group, folded.index):
            continue
        await folded.catch_up(database)
        detail = _fault(group, folded.index, await retention.horizon(database))
        if detail is not None:
            findings.append(
                AuditFinding(
                    kind=FindingKind.UNEXPLAINED,
                    table=group.table,
                    key=f"route_id {group.route_id}, seq {group.seq}",
                    detail=detail,
                    tenant=group.tenant,
                    route_id=group.route_id,
                )
            )
    return findings


def _is_known(group: RowGroup, index: RouteIndex) -> bool:
    """True if the audit of the event looks at the row."""
    if group.tenant is None or group.type is None or _is_too_early(group):
        return False
    timeline = index.timeline(group.route_id)
    return timeline is not None and timeline in index.candidates(group.tenant, group.type)


def _is_too_early(group: RowGroup) -> bool:
    """True of outcomes that the audit of their event does not look at. It does at all that waits."""
    return group.is_early and group.table == "attempt"


def _fault(group: RowGroup, index: RouteIndex, horizon: Horizon) -> str | None:
    timeline = index.timeline(group.route_id)
    if timeline is None:
        return "the route log has no such route"
    if group.tenant is None or group.type is None:
        # An event is never recorded before its event time.
        is_dropped = horizon.events is not None and (group.event_time is None or group.event_time < horizon.events)
        return None if is_dropped else "there is no such event"
    if group.tenant != timeline.current.tenant:
        return f"the event is one of tenant {group.tenant}, and the route one of {timeline.current.tenant}"
    if _is_too_early(group):
        return "it was recorded more than a day before its event"
    if timeline in index.candidates(group.tenant, group.type):
        return None
    return f"the event is of type {group.type}, to which the route never subscribed"
