"""Runs the audits that the API is asked for: one at a time in this process, beside its requests.

Each has connections of its own while it runs, so that it takes none from queries. Its row says how far it is
(eventstore/progress/audit_jobs.py), and a beat says that this process is still at it, also while the audit waits for
its turn, or for the database.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import structlog
from aiohttp import web

from daemon import audit
from daemon.audit import AuditReport, DeliverySchedule, SharedLoop
from daemon.credentials.keys import WrongMasterKey
from daemon.expressions.judging import FilterPlaces
from daemon.sealing.auditing import audit_seals
from daemon.store import keep_of, opened
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES, Services
from daemon.web.service.auditing import audit_signatures
from daemon.web.service.auditing.audit_findings import listed
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreError, StoreUnavailable
from eventstore.progress import audit_jobs
from eventstore.progress.audit_jobs import AuditEnd, AuditJob, AuditJobSummary, AuditProgress, NewAuditJob

# The one that runs, and those that wait for it.
MAX_JOBS = 2
# Several beats fit into the time after which an audit without any is lost.
BEAT_SECONDS = 5.0
# A page is read while another one is judged, and its payloads are loaded meanwhile.
_CONNECTIONS = 4
_RETRY_AFTER_SECONDS = 60
# The clocks of the database and of this process differ by less. A result of a later day would be one in store.
_CLOCK_STEP = timedelta(days=1)

log = structlog.get_logger(__name__)


class AuditJobs:
    """`begin` takes an audit, `close` cancels all."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.query_pool.of("audits")
        self._turn = asyncio.Lock()
        self._beginning = asyncio.Lock()
        # Each that is here → whether its caller is bound to a tenant.
        self._is_bound: dict[UUID, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, new: NewAuditJob, *, is_bound: bool) -> AuditJob:
        """Stores an audit, and has it run; if there is one with its id, that is returned.

        Raises Problem if there are too many, and StoreUnavailable. Callers who are bound to a tenant leave a place to
        the operator.
        """
        async with self._beginning:
            if (known := await audit_jobs.find(self._database, new.id)) is not None:
                return known
            if len(self._is_bound) >= MAX_JOBS or (is_bound and any(self._is_bound.values())):
                headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
                raise Problem(503, "too many audits run now: repeat this one later", headers=headers, is_busy=True)
            if (job := await audit_jobs.add(self._database, new)) is not None:
                self._is_bound[job.id] = is_bound
                task = asyncio.create_task(self._run(job))
                self._tasks.add(task)
                task.add_done_callback(lambda done: self._forget(job.id, done))
                return job
        # Another process has begun it in this moment.
        return await self.begin(new, is_bound=is_bound)

    async def close(self) -> None:
        """Cancels the audits, which end as failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, job_id: UUID, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._is_bound[job_id]

    async def _run(self, job: AuditJob) -> None:
        running = _RunningAudit(self._services, job)
        beating = asyncio.create_task(self._beat(running))
        try:
            async with self._turn:
                ended = await _outcome(running)
            await self._end(running, ended)
        except asyncio.CancelledError:
            ended = AuditEnd(state="failed", detail="the daemon that ran it was stopped: ask for it again")
            with suppress(StoreError):
                await audit_jobs.end(self._database, job, running.progress, ended, sign=self._sign)
            raise
        finally:
            beating.cancel()

    async def _beat(self, running: _RunningAudit) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(StoreError):
                await audit_jobs.beat(self._database, running.job.id, running.progress)

    async def _end(self, running: _RunningAudit, ended: AuditEnd) -> None:
        """Stores how an audit ended, as soon as the database takes it."""
        while True:
            try:
                await audit_jobs.end(self._database, running.job, running.progress, ended, sign=self._sign)
            except StoreUnavailable:
                await asyncio.sleep(BEAT_SECONDS)
            else:
                return

    def _sign(self, job: AuditJobSummary) -> bytes:
        if job.ended_at is None or not job.created_at <= job.ended_at < datetime.now(UTC) + _CLOCK_STEP:
            log.error("audit.not_signed", audit=str(job.id), cause="the database says that it ended at another time")
            return b""
        return audit_signatures.signature(job, self._services.keychain.seal_keys[0])


class _RunningAudit:
    """One audit, and how far it is."""

    def __init__(self, services: Services, job: AuditJob) -> None:
        self.job = job
        self.progress = AuditProgress()
        self._services = services

    async def audited(self) -> AuditEnd:
        """Audits the decisions; with those of all tenants also the seals. Raises StoreError and WrongMasterKey."""
        config, job = self._services.config, self.job
        start, end = job.since or audit.BEGINNING, job.until or audit.END
        url, asked = self._services.command_database.url, self._services.filter_places
        places = FilterPlaces(evaluator=asked.evaluator, allowance=asked.allowance)  # it waits as long as it takes
        own = Database(url, pool_size=_CONNECTIONS, application_name="hookledger audit")
        async with opened(own) as database:
            report = await audit.audit(
                database,
                start=start,
                end=end,
                tenant=job.tenant,
                schedule=DeliverySchedule(
                    retry=config.retry_policy, timeout=timedelta(seconds=config.delivery.timeout_seconds)
                ),
                keep=keep_of(config),
                vault=self._services.keychain.vault,
                shared=SharedLoop(places=places, on_page=self._note),
            )
            seals = None
            if job.tenant is None:
                ours = (key.public for key in self._services.keychain.seal_keys)
                keys = [*ours, *config.seal.former_public_keys]
                every = timedelta(seconds=config.seal.every_seconds)
                seals = await audit_seals(database, keys=keys, start=start, end=end, every=every)
        found = report.found + (0 if seals is None else len(seals.findings))
        self.progress = AuditProgress(events=report.events, reached=self.progress.reached, found=found)
        return AuditEnd(
            state="done",
            findings=orjson.dumps(listed(report, seals)).decode(),
            gaps=orjson.dumps(report.gaps + report.unchecked + ([] if seals is None else seals.gaps)).decode(),
        )

    def _note(self, report: AuditReport, reached: datetime) -> None:
        self.progress = AuditProgress(events=report.events, reached=reached, found=report.found)


async def _outcome(running: _RunningAudit) -> AuditEnd:
    """How an audit ended. An error ends it as failed."""
    try:
        return await running.audited()
    except (ChainBroken, WrongMasterKey) as error:
        log.warning("audit.failed", audit=str(running.job.id), reason=str(error))
        return AuditEnd(state="failed", detail=str(error))
    except StoreUnavailable as error:
        # Its text says where the database is, which is for the operator only.
        log.warning("audit.failed", audit=str(running.job.id), reason=str(error))
        return AuditEnd(state="failed", detail="the database did not answer: ask for it again")
    except Exception:
        number = secrets.token_hex(6)
        log.exception("audit.crashed", number=number, audit=str(running.job.id))
        return AuditEnd(state="failed", detail=f"an unexpected error, number {number} in the daemon's log")


JOBS = web.AppKey("audit_jobs", AuditJobs)


def set_up(application: web.Application) -> None:
    """Lets an application run audits until it is cleaned up."""
    application[JOBS] = AuditJobs(application[SERVICES])
    application.cleanup_ctx.append(_until_cleanup)


async def _until_cleanup(application: web.Application) -> AsyncIterator[None]:
    yield
    await application[JOBS].close()
