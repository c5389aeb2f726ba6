"""The daemon's side of the evaluation process: jobs wait here, tenants take turns, and the process is kept alive.

The one thing to know: the result of a job does not depend on the process, so a job whose process died, or answered
something that is no answer, is given to the next one, after the jobs that wait: one that takes each process with it
holds up no other. Nothing else is ever done about a death: the caller waits a little longer. Only a message of a
source, which may be far larger than an event, is refused after some deaths: it decides nothing, and is kept. The
process is started for the first job and ended when there was none for a while. One that says that it is of another
version than this daemon (daemon.runtime.program) has taken no job: all of them wait until the daemon is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

import daemon
from daemon import __version__
from daemon.core.events.field_condition import FieldCondition
from daemon.core.messages.mapping import MappingFailed, MessageMapping
from daemon.core.messages.message import Mappable
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import FilterResult, PayloadEvent, RenderError
from daemon.expressions import messages
from daemon.expressions.messages import (
    EvaluationJob,
    EvaluationReply,
    FilterJob,
    FilterReply,
    MapJob,
    MapReply,
    NoReply,
    RenderJob,
    RenderReply,
    SearchJob,
    SearchReply,
)
from daemon.runtime import open_files, program
from daemon.runtime.tasks import to_its_end
from daemon.telemetry.metrics import Metrics

log = structlog.get_logger()

IDLE_SECONDS = 60.0
# A turn takes a fraction of a second, but the process may get little of the processor, and has to be started.
ANSWER_SECONDS = 60.0
# A message may take so many processes with it, and so long each time.
MESSAGE_ATTEMPTS = 2
MESSAGE_SECONDS = 30.0
# After a death, lest a machine without memory starts processes all the time.
PAUSE_SECONDS = 0.5
# After one of another version. A restart of the daemon ends that, or the return of its former files.
OTHER_VERSION_PAUSE_SECONDS = 10.0
# From the end of its output to that of the process.
EXIT_SECONDS = 1.0
# The process gets what it needs to start, and no secret: it reads hostile input.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")

_UNFINISHED = "the evaluation did not end: it took too long or too much memory, or was killed"

_Reply = TypeVar("_Reply", FilterReply, RenderReply, MapReply, SearchReply)


@dataclass(slots=True)
class _QueuedJob:
    """A job, who waits for its reply, and how many processes died of it."""

    tenant: str
    job: EvaluationJob
    waiter: asyncio.Future[EvaluationReply]
    deaths: int = 0


class Evaluator:
    """`filter_results` and `render` wait for their turn; `run_once` gives one turn after the other."""

    def __init__(self, metrics: Metrics, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self._waiting: dict[str, deque[_QueuedJob]] = {}
        self._turns: deque[str] = deque()
        self._news = asyncio.Event()
        self._process: Process | None = None
        self._is_other_version = False

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        return None if self._process is None else self._process.pid

    async def filter_results(self, tenant: str, event: PayloadEvent, filters: Sequence[str]) -> dict[str, FilterResult]:
        """What each of these filters makes of an event."""
        left, results = tuple(filters), dict[str, FilterResult]()
        while left:
            reply = await self._reply(tenant, FilterJob(event=event, filters=left), FilterReply)
            results |= zip(left, reply.results, strict=False)
            left = left[len(reply.results) :]
        return results

    async def render(self, tenant: str, event: PayloadEvent, options: PayloadOptions, *, max_bytes: int) -> bytes:
        """The body of a webhook, as `payload.render` makes it. Raises RenderError."""
        reply = await self._reply(tenant, RenderJob(event=event, options=options, max_bytes=max_bytes), RenderReply)
        if reply.reason is not None:
            raise RenderError(reply.reason, is_over_budget=reply.is_over_budget)
        return reply.body

    async def fitting(self, tenant: str, payloads: Sequence[bytes], condition: FieldCondition) -> tuple[bool, ...]:
        """Which of these data of events a condition on a field is true of. As much as one turn may take."""
        job = SearchJob(condition=condition, payloads=tuple(payloads))
        return (await self._reply(tenant, job, SearchReply)).fits

    async def mapped(self, tenant: str, message: Mappable, mapping: MessageMapping, *, max_bytes: int) -> bytes | None:
        """The text of the event that a message is, as `mapping.mapped` makes it. Raises MappingFailed."""
        reply = await self._reply(tenant, MapJob(message=message, mapping=mapping, max_bytes=max_bytes), MapReply)
        if reply.reason is not None:
            raise MappingFailed(reply.field, reply.reason)
        return reply.text

    async def run_once(self) -> None:
        """Gives the next tenant in turn the answer to its oldest job, or ends a process that has nothing to do.

        A job that gets none waits for its next turn.
        """
        try:
            self._news.clear()
            while (queued := self._next()) is None:
                await self._wait_for_news()
                self._news.clear()
            reply = await self._try(queued.job)
            if reply is None and self._is_other_version:
                await asyncio.sleep(OTHER_VERSION_PAUSE_SECONDS)
            elif reply is None:
                queued.deaths += 1
                if isinstance(queued.job, MapJob) and queued.deaths == MESSAGE_ATTEMPTS:
                    reply = MapReply(text=None, field="", reason=_UNFINISHED, seconds=0.0)
                else:
                    await asyncio.sleep(PAUSE_SECONDS)
            if reply is None:
                self._line_up(queued)
            elif not queued.waiter.done():
                queued.waiter.set_result(reply)
        except BaseException:
            await self._end()
            raise

    async def _reply(self, tenant: str, job: EvaluationJob, kind: type[_Reply]) -> _Reply:
        waiter: asyncio.Future[EvaluationReply] = asyncio.get_running_loop().create_future()
        self._line_up(_QueuedJob(tenant, job, waiter))
        self._news.set()
        reply = await waiter
        if not isinstance(reply, kind):
            raise TypeError(f"the evaluation process answered a job with {type(reply).__name__}")
        self._metrics.expression_seconds.observe(reply.seconds)
        return reply

    def _line_up(self, queued: _QueuedJob) -> None:
        """Puts a job behind the others of its tenant."""
        jobs = self._waiting.get(queued.tenant)
        if jobs is None:
            jobs = self._waiting[queued.tenant] = deque()
            self._turns.append(queued.tenant)
        jobs.append(queued)

    def _next(self) -> _QueuedJob | None:
        """The next job that somebody still waits for; its tenant has its next turn after all others."""
        while self._turns:
            tenant = self._turns.popleft()
            jobs = self._waiting[tenant]
            queued = jobs.popleft()
            if jobs:
                self._turns.append(tenant)
            else:
                del self._waiting[tenant]
            if not queued.waiter.done():
                return queued
        return None

    async def _wait_for_news(self) -> None:
        if self._process is None:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout(self._idle_seconds):
                await self._news.wait()
        except TimeoutError:
            await self._end()

    async def _try(self, job: EvaluationJob) -> EvaluationReply | None:
        """The answer to a job; None if the process died of it or before."""
        pid = self.pid
        if self._process is not None and self._process.returncode is not None:
            await self._end()
        try:
            async with asyncio.timeout(MESSAGE_SECONDS if isinstance(job, MapJob) else ANSWER_SECONDS):
                if self._process is None:
                    self._process = await _start()
                reply = await _exchange(self._process, job)
        except (OSError, EOFError, TimeoutError, NoReply) as error:
            is_ending = not isinstance(error, TimeoutError | NoReply)
            self._note_death(await self._end(is_ending=is_ending), pid=pid, cause=type(error).__name__)
            return None
        self._is_other_version = False
        return reply

    def _note_death(self, code: int | None, *, pid: int | None, cause: str) -> None:
        was_other, self._is_other_version = self._is_other_version, code == program.OTHER_VERSION
        if not self._is_other_version:
            log.warning("evaluator.died", pid=pid, cause=cause)
        elif not was_other:
            log.error(
                "evaluator.other_version",
                version=__version__,
                installed=program.installed_version(),
                hint=program.REMEDY,
            )

    async def _end(self, *, is_ending: bool = False) -> int | None:
        """Ends the process, if there is one; one that `is_ending` gets a moment, so that its own exit code is known.

        Returns the exit code.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            if is_ending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EXIT_SECONDS):
                        await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            if process.stdin is not None:
                process.stdin.close()
            code = await to_its_end(process.wait())
        return code


async def _start() -> Process:
    open_files.require_for_start()
    folder = str(Path(daemon.__file__).parents[1])
    python_path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "daemon.expressions.process", __version__),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"PYTHONPATH": python_path},
    )
    log.info("evaluator.started", pid=process.pid)
    return process


async def _exchange(process: Process, job: EvaluationJob) -> EvaluationReply:
    """Sends a job and reads its answer. Raises OSError or EOFError if the process is dead, NoReply if it answers
    something else.
    """
    if process.stdin is None or process.stdout is None:
        raise OSError("the process has no pipes")
    process.stdin.write(messages.encode_job(job))
    await process.stdin.drain()
    lengths = messages.LENGTHS.unpack(await process.stdout.readexactly(messages.LENGTHS.size))
    if max(lengths) > messages.MAX_REPLY_BYTES:
        raise NoReply("a reply that is too long")
    head = await process.stdout.readexactly(lengths[0])
    return messages.read_reply(job, head, await process.stdout.readexactly(lengths[1]))
