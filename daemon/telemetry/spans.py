"""Notes finished spans, and has a thread export them: nothing here waits for a collector, or fails for lack of one.

A span costs 100 µs of CPU to encode, a delivery less than 200. So a process makes no more than `max_per_second` of
them, whatever it delivers; those beyond are left out, and counted. Where the collector does not take spans, they are
lost and counted, and that is said once, and once when it takes them again.

Everything of OpenTelemetry is in `otlp`, which is imported only where somebody traces.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Protocol

import structlog

from daemon.config.sections import TracingSection
from daemon.core.events.trace_context import TraceContext
from daemon.core.gcra import UNUSED, Allowance
from daemon.telemetry.metrics import Metrics

MAX_QUEUED = 4096
BATCH_SPANS = 256
EXPORT_SECONDS = 1.0
# The thread gets this time at the end.
CLOSE_SECONDS = 3.0

log = structlog.get_logger()


class SpanKind(StrEnum):
    """The side of a request that a span tells of."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(slots=True, kw_only=True)
class FinishedSpan:
    """What was done. `parent` is the span that it belongs to, `linked` one that led to it. Times are Unix nanoseconds.
    `error` is what went wrong, None if nothing did.
    """

    name: str
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None
    linked: TraceContext | None
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int]
    error: str | None = None


class SpanExporter(Protocol):
    """Sends spans to a collector."""

    def export(self, spans: Sequence[FinishedSpan]) -> str | None:
        """Returns why they could not be sent, None if they were."""

    def close(self) -> None:
        """Ends a call of `export` that is under way."""


class Tracing:
    """`record` takes a span, if there is room: ask first. Call `start` before, and `close` at the end."""

    def __init__(self, section: TracingSection, metrics: Metrics, *, exporter: SpanExporter | None = None) -> None:
        """Raises ImportError if OpenTelemetry is not installed."""
        self.sample_ratio = section.sample_ratio
        self._exporter = exporter or _exporter(section)
        self._allowance = Allowance(burst=section.max_per_second, per_second=section.max_per_second)
        self._arrival = UNUSED
        self._sent, self._lost, self._left_out = (metrics.spans.labels(each) for each in ("sent", "lost", "left_out"))
        self._noted_left_out = self._told_left_out = 0
        self._queue: deque[FinishedSpan] = deque()
        self._wakeup = threading.Event()
        self._is_closing = self._is_losing = False
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Exports what is left, as far as that is possible soon."""
        self._is_closing = True
        self._wakeup.set()
        self._thread.join(CLOSE_SECONDS / 2)
        self._exporter.close()
        self._thread.join(CLOSE_SECONDS / 2)

    def has_room(self) -> bool:
        """True if another span may be made now, which is counted; else that is noted. On the hot path."""
        now = time.monotonic()
        if self._allowance.wait(self._arrival, now):
            self._noted_left_out += 1
            return False
        self._arrival = self._allowance.next_arrival(self._arrival, now)
        return True

    def record(self, span: FinishedSpan) -> None:
        """Notes a span."""
        if len(self._queue) < MAX_QUEUED:
            self._queue.append(span)
        else:
            self._lost.inc()
            self._tell_losing(f"{MAX_QUEUED} wait already, since the collector has not answered for long")

    def _run(self) -> None:
        while not self._is_closing:
            self._wakeup.wait(EXPORT_SECONDS)
            self._send()
        self._send()

    def _send(self) -> None:
        """Sends what waits, until it is not taken."""
        self._tell_left_out()
        while batch := self._batch():
            cause = self._export(batch)
            (self._sent if cause is None else self._lost).inc(len(batch))
            if cause is not None:
                self._tell_losing(cause)
                return
            if self._is_losing:
                log.info("spans.sent_again")
                self._is_losing = False

    def _tell_losing(self, cause: str) -> None:
        """Says so once: in the thread, or beside it if the thread does not come back."""
        if not self._is_losing:
            self._is_losing = True
            log.warning("spans.lost", cause=cause)

    def _tell_left_out(self) -> None:
        noted = self._noted_left_out
        self._left_out.inc(noted - self._told_left_out)
        self._told_left_out = noted

    def _batch(self) -> list[FinishedSpan]:
        return [self._queue.popleft() for _ in range(min(BATCH_SPANS, len(self._queue)))]

    def _export(self, batch: Sequence[FinishedSpan]) -> str | None:
        try:
            return self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - a library's failure loses spans and nothing else
            return f"{type(error).__name__}: {error}"


def _exporter(section: TracingSection) -> SpanExporter:
    exporter: SpanExporter = import_module("daemon.telemetry.otlp").OtlpExporter(section.endpoint or "")
    return exporter
