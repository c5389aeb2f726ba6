"""The span of a request that publishes: it goes on with the trace of the publisher, whose headers it reads.

What is kept with the events is the span of the request. If that is not sampled, it is the publisher's, as one that is
not sampled either: attempts do as the request did.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace

from aiohttp import web

from daemon.core.events import trace_context
from daemon.core.events.trace_context import TraceContext
from daemon.telemetry.spans import FinishedSpan, SpanKind, Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSpan:
    """A request that publishes. `kept` goes with its events, None for nothing."""

    parent: TraceContext | None
    own: TraceContext
    began_ns: int

    @property
    def kept(self) -> TraceContext | None:
        if self.own.is_sampled:
            return self.own
        return None if self.parent is None else replace(self.parent, is_sampled=False)


# The span of a request, absent if nobody traces.
INGEST_SPAN = web.RequestKey("ingest_span", IngestSpan)


def begin(tracing: Tracing, request: web.Request) -> IngestSpan:
    """The span of a request that begins now."""
    parents = request.headers.getall(trace_context.HEADER, [])
    state = ",".join(request.headers.getall(trace_context.STATE_HEADER, []))
    parent = trace_context.parse(parents[0], state) if len(parents) == 1 else None
    is_wanted = parent is None or parent.is_sampled
    own = TraceContext(
        parent.trace_id if parent is not None else random.getrandbits(128) or 1,
        random.getrandbits(64) or 1,
        is_wanted and random.random() < tracing.sample_ratio,  # noqa: S311 - same
        "" if parent is None else parent.state,
    )
    return IngestSpan(parent=parent, own=own, began_ns=time.time_ns())


def end(tracing: Tracing, span: IngestSpan, status: int) -> None:
    """The request was answered with a status."""
    if span.own.is_sampled and tracing.has_room():
        tracing.record(
            FinishedSpan(
                name="POST /v1/events",
                kind=SpanKind.SERVER,
                context=span.own,
                parent=span.parent,
                linked=None,
                began_ns=span.began_ns,
                ended_ns=time.time_ns(),
                attributes={
                    "http.request.method": "POST",
                    "http.route": "/v1/events",
                    "http.response.status_code": status,
                },
                error=f"answered {status}" if status >= 500 else None,
            )
        )
