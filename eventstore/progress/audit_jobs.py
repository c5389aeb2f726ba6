"""Audits that the API was asked for: a row for each, by which every process can tell how far it is and what it found.

The process that runs an audit beats: it writes its progress every few seconds. One whose beats stopped is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from eventstore.postgres.connect import Database

# A process that is away for longer has ended, or has lost the database for longer than an audit can bear.
LOST_AFTER = timedelta(seconds=30)
KEPT = timedelta(days=30)

_COLUMNS = (
    "id, tenant, since, until, actor, state, created_at, ended_at, events, reached, found, findings, gaps, detail"
)

_ADD = f"""
INSERT INTO hookledger.audit_job (id, tenant, since, until, actor) VALUES ($1, $2, $3, $4, $5)
RETURNING {_COLUMNS}, false AS is_lost
"""

_FIND = f"""
SELECT {_COLUMNS}, state = 'running' AND beat_at < clock_timestamp() - $2::interval AS is_lost
  FROM hookledger.audit_job WHERE id = $1
"""

_BEAT = """
UPDATE hookledger.audit_job SET beat_at = clock_timestamp(), events = $2, reached = $3, found = $4
 WHERE id = $1 AND state = 'running'
"""

_END = """
UPDATE hookledger.audit_job
   SET beat_at = clock_timestamp(), ended_at = clock_timestamp(), events = $2, reached = $3, found = $4,
       state = $5, findings = $6, gaps = $7, detail = $8
 WHERE id = $1 AND state = 'running'
"""

_SWEEP = "DELETE FROM hookledger.audit_job WHERE created_at < clock_timestamp() - $1::interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuditJob:
    """What is to be audited: [since, until) of a tenant. None: no bound, all tenants."""

    id: UUID
    tenant: str | None
    since: datetime | None
    until: datetime | None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditJob(NewAuditJob):
    """An audit as it is now. `events` were judged, the last of which was recorded at `reached`.

    `findings` and `gaps` are JSON. It `is_lost` if it is running, and no process says so any more.
    """

    state: str
    created_at: datetime
    ended_at: datetime | None
    events: int
    reached: datetime | None
    found: int
    findings: str
    gaps: str
    detail: str | None
    is_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProgress:
    """How far an audit is."""

    events: int = 0
    reached: datetime | None = None
    found: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEnd:
    """How an audit ended: `state` is done or failed; a failed one has a `detail`."""

    state: str
    findings: str = "[]"
    gaps: str = "[]"
    detail: str | None = None


async def add(database: Database, new: NewAuditJob) -> AuditJob:
    """Stores an audit that begins."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(_ADD, new.id, new.tenant, new.since, new.until, new.actor)
    return AuditJob(**row)


async def find(database: Database, job_id: UUID) -> AuditJob | None:
    """An audit, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, job_id, LOST_AFTER)
    return None if row is None else AuditJob(**row)


async def beat(database: Database, job_id: UUID, progress: AuditProgress) -> None:
    """Says that an audit is running, and how far it is."""
    async with database.connection() as connection:
        await connection.execute(_BEAT, job_id, progress.events, progress.reached, progress.found)


async def end(database: Database, job_id: UUID, progress: AuditProgress, ended: AuditEnd) -> None:
    """Ends an audit, unless it has ended."""
    async with database.connection() as connection:
        await connection.execute(
            _END,
            job_id,
            progress.events,
            progress.reached,
            progress.found,
            ended.state,
            ended.findings,
            ended.gaps,
            ended.detail,
        )


async def sweep(database: Database) -> None:
    """Deletes the audits that began longer ago than KEPT."""
    async with database.connection() as connection:
        await connection.execute(_SWEEP, KEPT)
