"""Findings for times that Python cannot represent, such as infinity: we write none, and an audit cannot read them."""

from __future__ import annotations

from daemon.audit.findings import AuditFinding, FindingKind
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import unreadable


async def find(database: Database) -> list[AuditFinding]:
    """A finding for each of the first such times."""
    return [
        AuditFinding(kind=FindingKind.UNEXPLAINED, table=each.table, key=each.key, detail=each.detail)
        for each in await unreadable.times(database)
    ]
