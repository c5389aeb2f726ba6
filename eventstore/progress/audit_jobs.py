"""Audits that somebody asked for, by the API or a page: a row for each, by which every process can tell how far it is
and what it found.

The process that runs an audit beats: it writes its progress every few seconds. One whose beats stopped is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from eventstore.postgres.connect import Database

# A process that is away for longer has ended, or has lost the database for longer than an audit can bear.
LOST_AFTER = timedelta(seconds=30)
KEPT = timedelta(days=30)

_SUMMARY = """
id, tenant, since, until, actor, state, created_at, ended_at, events, reached, found, gaps, detail, signature,
encode(sha256(convert_to(findings, 'UTF8')), 'hex') AS findings_sha256"""
_IS_LOST = "state = 'running' AND beat_at < clock_timestamp() - $1::interval AS is_lost"

_ADD = f"""
INSERT INTO hookledger.audit_job (id, tenant, since, until, actor) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
RETURNING {_SUMMARY}, findings, false AS is_lost
"""

_FIND = f"SELECT {_SUMMARY}, findings, {_IS_LOST} FROM hookledger.audit_job WHERE id = $2"

# No index: there are a few thousand of them at most, and nobody lists them often.
_NEWEST = f"SELECT {_SUMMARY}, {_IS_LOST} FROM hookledger.audit_job ORDER BY created_at DESC, id DESC LIMIT $2"

_NEWEST_BEFORE = f"""
SELECT {_SUMMARY}, {_IS_LOST} FROM hookledger.audit_job
 WHERE (created_at, id) < ($3, $4)
 ORDER BY created_at DESC, id DESC LIMIT $2
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
RETURNING ended_at
"""
_SIGN = "UPDATE hookledger.audit_job SET signature = $2 WHERE id = $1"

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
class AuditJobSummary(NewAuditJob):
    """An audit as it is now, without its findings. `events` were judged, the last of which was recorded at `reached`.

    `gaps` are JSON. It `is_lost` if it is running, and no process says so any more. `signature` is None unless it has
    ended.
    """

    state: str
    created_at: datetime
    ended_at: datetime | None
    events: int
    reached: datetime | None
    found: int
    gaps: str
    detail: str | None
    signature: bytes | None
    findings_sha256: str
    is_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditJob(AuditJobSummary):
    """An audit as it is now. `findings` are JSON."""

    findings: str


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


async def add(database: Database, new: NewAuditJob) -> AuditJob | None:
    """Stores an audit that begins, and returns it; None if there is one with this id."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_ADD, new.id, new.tenant, new.since, new.until, new.actor)
    return None if row is None else AuditJob(**row)


async def find(database: Database, job_id: UUID) -> AuditJob | None:
    """An audit, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, LOST_AFTER, job_id)
    return None if row is None else AuditJob(**row)


async def newest(
    database: Database, count: int, *, before: tuple[datetime, UUID] | None = None
) -> Sequence[AuditJobSummary]:
    """At most `count` audits, the newest first. `before` is when an audit was created, and its id: only older ones are
    listed.
    """
    async with database.connection() as connection:
        if before is None:
            rows = await connection.fetch(_NEWEST, LOST_AFTER, count)
        else:
            rows = await connection.fetch(_NEWEST_BEFORE, LOST_AFTER, count, *before)
    return [AuditJobSummary(**row) for row in rows]


async def beat(database: Database, job_id: UUID, progress: AuditProgress) -> None:
    """Says that an audit is running, and how far it is."""
    async with database.connection() as connection:
        await connection.execute(_BEAT, job_id, progress.events, progress.reached, progress.found)


async def end(
    database: Database,
    job: AuditJob,
    progress: AuditProgress,
    ended: AuditEnd,
    *,
    sign: Callable[[AuditJobSummary], bytes],
) -> None:
    """Ends an audit, unless it has ended. `job` is what was begun, and `sign` makes the signature of how it ended: not
    of what stands in the table, where somebody may have asked for something else meanwhile, or changed the result.
    """
    async with database.transaction() as connection:
        ended_at = await connection.fetchval(
            _END,
            job.id,
            progress.events,
            progress.reached,
            progress.found,
            ended.state,
            ended.findings,
            ended.gaps,
            ended.detail,
        )
        if ended_at is not None:
            await connection.execute(_SIGN, job.id, sign(_ended(job, progress, ended, ended_at)))


def _ended(job: AuditJob, progress: AuditProgress, ended: AuditEnd, ended_at: datetime) -> AuditJob:
    return replace(
        job,
        state=ended.state,
        ended_at=ended_at,
        events=progress.events,
        reached=progress.reached,
        found=progress.found,
        findings=ended.findings,
        findings_sha256=hashlib.sha256(ended.findings.encode()).hexdigest(),
        gaps=ended.gaps,
        detail=ended.detail,
    )


async def sweep(database: Database) -> None:
    """Deletes the audits that began longer ago than KEPT."""
    async with database.connection() as connection:
        await connection.execute(_SWEEP, KEPT)
