"""Traces for OpenTelemetry: what was done is noted on the event loop, and exported by a thread."""

from daemon.tracing.spans import FinishedSpan, SpanKind, Tracing

__all__ = ["FinishedSpan", "SpanKind", "Tracing"]
