"""What is wrong with the schema: an audit reads all else through it, and a daemon writes through it."""

from __future__ import annotations

from daemon.audit.findings import AuditFinding, FindingKind
from eventstore.postgres import schema_lines
from eventstore.postgres.connect import Database


async def find(database: Database) -> list[AuditFinding]:
    """A finding for each part that is not as in a fresh schema of this version."""
    return [
        AuditFinding(kind=FindingKind.UNEXPLAINED, table="schema", key=fault.part, detail=fault.detail)
        for fault in await schema_lines.faults(database)
    ]
