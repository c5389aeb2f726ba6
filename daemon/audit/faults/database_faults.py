"""What is wrong with the database itself: its schema, through which an audit reads all else and a daemon writes, and
times that Python cannot represent, such as infinity, which we never write and an audit cannot read.
"""

from __future__ import annotations

from collections.abc import Iterable

from daemon.audit.findings import AuditFinding, FindingKind
from eventstore.postgres import schema_lines
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import unreadable


async def of_schema(database: Database) -> list[AuditFinding]:
    """A finding for each part that is not as in a fresh schema of this version."""
    faults = await schema_lines.faults(database)
    return _findings(("schema", fault.part, fault.detail) for fault in faults)


async def of_times(database: Database) -> list[AuditFinding]:
    """A finding for each of the first times that cannot be represented."""
    return _findings((each.table, each.key, each.detail) for each in await unreadable.times(database))


def _findings(faults: Iterable[tuple[str, str, str]]) -> list[AuditFinding]:
    return [
        AuditFinding(kind=FindingKind.UNEXPLAINED, table=table, key=key, detail=detail) for table, key, detail in faults
    ]
