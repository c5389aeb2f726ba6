"""Whether the counts that the pages of routes show are those of the outcomes that are recorded."""

from __future__ import annotations

from datetime import datetime

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.core.routing.index import RouteIndex
from daemon.core.texts import moment
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import counted
from eventstore.queries.auditing.counted import WrongCount
from eventstore.retention import retention


async def find(database: Database, index: RouteIndex, start: datetime, end: datetime) -> list[AuditFinding]:
    """A finding for each hour of a route that is counted otherwise, of those whose outcomes are all kept."""
    wrong = [each async for each in counted.wrong_hours(database, start, end)]
    # Afterwards: otherwise what retention drops meanwhile would count as missing.
    kept_from = (await retention.horizon(database)).attempts
    return [_finding(each, index) for each in wrong if kept_from is None or each.hour >= kept_from]


def _finding(wrong: WrongCount, index: RouteIndex) -> AuditFinding:
    name = next(name for name, count in wrong.told.items() if count != wrong.recorded[name])
    timeline = index.timeline(wrong.route_id)
    return AuditFinding(
        kind=FindingKind.UNEXPLAINED,
        table="route_metric",
        key=f"route_id {wrong.route_id}, hour {moment(wrong.hour)}",
        detail=f"{name} is {wrong.told[name]}, and {wrong.recorded[name]} such outcomes are recorded",
        tenant=None if timeline is None else timeline.current.tenant,
        route_id=wrong.route_id,
    )
