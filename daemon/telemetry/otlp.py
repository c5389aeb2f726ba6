"""Sends spans by OTLP over HTTP, with the exporter of OpenTelemetry. It is imported only if `tracing.endpoint` is set.

Spans are made for it as they are read from the queue, and not by its tracer: that would cost the event loop what costs
the thread here. What the exporter logs of each of its attempts is not written: `daemon.telemetry.spans` tells it once.
Headers for the collector and its certificate are set as everywhere: OTEL_EXPORTER_OTLP_HEADERS,
OTEL_EXPORTER_OTLP_CERTIFICATE; so are attributes of the process: OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TraceState

from daemon import __version__
from daemon.core.events.trace_context import TraceContext
from daemon.telemetry.spans import FinishedSpan, SpanKind

TIMEOUT_SECONDS = 5
PATH = "/v1/traces"

_KINDS: Final = {SpanKind.SERVER: trace.SpanKind.SERVER, SpanKind.CLIENT: trace.SpanKind.CLIENT}
_LOGGERS: Final = ("opentelemetry", "urllib3")


class OtlpExporter:
    """`endpoint` is a collector's, with or without the path of traces."""

    def __init__(self, endpoint: str) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        path = urlsplit(endpoint).path.rstrip("/")
        self._endpoint = endpoint if path else f"{endpoint.rstrip('/')}{PATH}"
        self._exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=TIMEOUT_SECONDS)
        self._resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME", "hookledger"),
                "service.version": __version__,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        self._scope = InstrumentationScope("hookledger", __version__)

    def export(self, spans: Sequence[FinishedSpan]) -> str | None:
        result = self._exporter.export([self._made(span) for span in spans])
        return None if result is SpanExportResult.SUCCESS else f"{self._endpoint} does not take spans"

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # the library has no type for it

    def _made(self, span: FinishedSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.context, is_remote=False),
            parent=None if span.parent is None else _context(span.parent, is_remote=True),
            resource=self._resource,
            attributes=span.attributes,
            links=() if span.linked is None else (Link(_context(span.linked, is_remote=True)),),
            kind=_KINDS[span.kind],
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


def _context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        context.trace_id,
        context.span_id,
        is_remote,
        TraceFlags(int(context.is_sampled)),
        TraceState.from_header([context.state]) if context.state else None,
    )
