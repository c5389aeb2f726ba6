"""The evaluation process: reads jobs from standard input, answers on standard output, and ends with its input.

So it ends with the daemon, however that dies. Signals that a terminal or a service manager sends to all processes are
for the daemon alone, which still evaluates while it finishes.

It runs at a lower priority than the daemon: expensive expressions wait for the processor, not everybody else.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from typing import BinaryIO

from daemon.core.messages import mapping
from daemon.core.messages.mapping import MappingFailed
from daemon.core.webhook import payload
from daemon.core.webhook.expression import StepAllowance
from daemon.core.webhook.payload import EventFilters, RenderError
from daemon.expressions import messages
from daemon.expressions.messages import (
    EvaluationJob,
    EvaluationReply,
    FilterJob,
    FilterReply,
    MapJob,
    MapReply,
    RenderJob,
    RenderReply,
    SearchJob,
    SearchReply,
)
from daemon.runtime import program

NICENESS = 5

# The budget of steps bounds what an expression makes; this is for what nobody thought of.
MEMORY_BYTES = 1 << 30

# About 50 ms: then the other filters of the event wait until other tenants had their turn.
TURN_STEPS = 50_000

_UNBOUNDED = 1 << 62


def main() -> None:
    """Answers jobs until there are no more; none of a daemon of another version."""
    program.end_if_other(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(NICENESS)
    with contextlib.suppress(OSError, ValueError):  # not every system can
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(jobs: BinaryIO, replies: BinaryIO) -> None:
    """Answers one job after the other."""
    while len(lengths := jobs.read(messages.LENGTHS.size)) == messages.LENGTHS.size:
        head_length, rest_length = messages.LENGTHS.unpack(lengths)
        head, rest = jobs.read(head_length), jobs.read(rest_length)
        if len(head) != head_length or len(rest) != rest_length:
            return
        try:
            replies.write(messages.encode_reply(answer(messages.decode_job(head, rest))))
            replies.flush()
        except BrokenPipeError:
            return


def answer(job: EvaluationJob) -> EvaluationReply:
    """The reply to a job. If there are many filters, it has only the first ones, see TURN_STEPS."""
    started = time.perf_counter()
    match job:
        case FilterJob():
            allowance = StepAllowance(steps=_UNBOUNDED, document_bytes=_UNBOUNDED)
            filters = EventFilters(job.event, allowance=allowance)
            results = []
            for text in job.filters:
                results.append(filters.result(text))
                if _UNBOUNDED - allowance.steps >= TURN_STEPS:
                    break
            return FilterReply(results=tuple(results), seconds=time.perf_counter() - started)
        case MapJob():
            return _mapped(job, started)
        case SearchJob():
            fits = tuple(map(job.condition.holds, job.payloads))
            return SearchReply(fits=fits, seconds=time.perf_counter() - started)
        case RenderJob():
            body, reason, is_over_budget = b"", None, False
            try:
                body = payload.render(job.event, job.options, max_bytes=job.max_bytes)
            except RenderError as error:
                reason, is_over_budget = str(error), error.is_over_budget
            return RenderReply(
                body=body, reason=reason, is_over_budget=is_over_budget, seconds=time.perf_counter() - started
            )


def _mapped(job: MapJob, started: float) -> MapReply:
    text: bytes | None = b""
    field, reason = "", None
    try:
        text = mapping.mapped(job.message, job.mapping, max_bytes=job.max_bytes)
    except MappingFailed as error:
        field, reason = error.field, str(error)
    return MapReply(text=text, field=field, reason=reason, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
