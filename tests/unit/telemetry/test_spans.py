"""Spans leave by a thread of their own: bounded, and nothing but spans is lost where nobody takes them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from daemon.config.sections import TracingSection
from daemon.core.events.trace_context import TraceContext
from daemon.telemetry import spans
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.spans import FinishedSpan, SpanKind, Tracing


@dataclass
class Collector:
    """Takes spans while `cause` is None. `taken` is set after each attempt."""

    cause: str | Exception | None = None
    batches: list[Sequence[FinishedSpan]] = field(default_factory=list)
    attempts: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None

    def export(self, batch: Sequence[FinishedSpan]) -> str | None:
        self.thread = threading.current_thread()
        self.batches.append(batch)
        self.attempts.release()
        if isinstance(self.cause, Exception):
            raise self.cause
        return self.cause

    def close(self) -> None:
        """Nothing is under way."""


def span(number: int = 1) -> FinishedSpan:
    return FinishedSpan(
        name="deliver",
        kind=SpanKind.CLIENT,
        context=TraceContext(1, number, True),
        parent=None,
        linked=None,
        began_ns=1,
        ended_ns=2,
        attributes={},
    )


def counts(metrics: Metrics) -> dict[str, float]:
    return {name: metrics.spans.labels(name)._value.get() for name in ("sent", "lost", "left_out")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "EXPORT_SECONDS", 0.01)


def test_spans_are_exported_by_another_thread_and_the_last_ones_at_the_end() -> None:
    collector, metrics = Collector(), Metrics()
    tracing = Tracing(TracingSection(max_per_second=1000), metrics, exporter=collector)
    for number in range(600):
        tracing.record(span(number))
    tracing.start()
    tracing.close()
    assert [len(batch) for batch in collector.batches] == [256, 256, 88]
    assert collector.thread is not threading.current_thread()
    assert counts(metrics) == {"sent": 600, "lost": 0, "left_out": 0}


def test_there_is_room_for_so_many_spans_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("daemon.telemetry.spans.time.monotonic", lambda: now[0])
    metrics = Metrics()
    tracing = Tracing(TracingSection(max_per_second=40), metrics, exporter=Collector())
    assert [tracing.has_room() for _ in range(100)] == [True] * 40 + [False] * 60
    now[0] += 0.5
    assert sum(tracing.has_room() for _ in range(100)) == 20
    tracing.start()
    tracing.close()
    assert counts(metrics) == {"sent": 0, "lost": 0, "left_out": 140}


def test_more_than_the_queue_takes_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_QUEUED", 30)
    metrics = Metrics()
    tracing = Tracing(TracingSection(), metrics, exporter=Collector())
    for number in range(40):
        tracing.record(span(number))
    assert counts(metrics) == {"sent": 0, "lost": 10, "left_out": 0}


def test_that_a_collector_does_not_end_its_answer_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_QUEUED", 3)
    asked, answering = threading.Event(), threading.Event()

    class Slow(Collector):
        def export(self, batch: Sequence[FinishedSpan]) -> str | None:
            asked.set()
            assert answering.wait(30)
            return super().export(batch)

    collector, metrics = Slow(), Metrics()
    tracing = Tracing(TracingSection(), metrics, exporter=collector)
    with capture_logs() as lines:
        tracing.start()
        tracing.record(span())
        assert asked.wait(30)
        for _ in range(5):
            tracing.record(span())
        assert [line["event"] for line in lines] == ["spans.lost"]
        answering.set()
        tracing.close()
    assert [line["event"] for line in lines] == ["spans.lost", "spans.sent_again"]
    assert "has not answered" in lines[0]["cause"]
    assert counts(metrics) == {"sent": 4, "lost": 2, "left_out": 0}


@pytest.mark.parametrize("cause", ["nobody listens", RuntimeError("a bug of a library")])
def test_that_spans_are_lost_is_said_once_and_that_they_are_not_any_more_once(cause: str | Exception) -> None:
    collector, metrics = Collector(cause), Metrics()
    tracing = Tracing(TracingSection(), metrics, exporter=collector)
    with capture_logs() as lines:
        tracing.start()
        for _ in range(3):
            tracing.record(span())
            assert collector.attempts.acquire(timeout=30)
        collector.cause = None
        for _ in range(2):
            tracing.record(span())
            assert collector.attempts.acquire(timeout=30)
        tracing.close()
    assert [line["event"] for line in lines] == ["spans.lost", "spans.sent_again"]
    assert str(cause) in lines[0]["cause"]
    assert counts(metrics) == {"sent": 2, "lost": 3, "left_out": 0}


def test_where_nobody_traces_nothing_of_opentelemetry_is_imported() -> None:
    script = "import sys, daemon.app, daemon.cli.main; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
