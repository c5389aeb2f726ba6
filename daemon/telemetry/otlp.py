"""Sends spans by OTLP over HTTP, with the exporter of OpenTelemetry. It is imported only if `tracing.endpoint` is set.

Spans are made for it as they are read from the queue, and not by its tracer: that would cost the event loop what costs
the thread here. What the exporter logs of each of its attempts is not written: `daemon.telemetry.spans` tells it once.
Headers for the collector and its certificate are set as everywhere: OTEL_EXPORTER_OTLP_HEADERS,
OTEL_EXPORTER_OTLP_CERTIFICATE; so are attributes of the process: OTEL_RESOURCE_ATTRIBUTES.

The library would read all of an answer, whatever its length, and take one that leads elsewhere for success. So the
session under it is ours.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import requests
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
# A collector says little, and its status says all that counts: of more than that the rest is not read.
ANSWER_BYTES = 16 << 10
ANSWER_SECONDS = 5.0
PATH = "/v1/traces"

_KINDS: Final = {SpanKind.SERVER: trace.SpanKind.SERVER, SpanKind.CLIENT: trace.SpanKind.CLIENT}
_LOGGERS: Final = ("opentelemetry", "urllib3")
# Short, since a part is waited for until it is whole.
_PART_BYTES: Final = 64


class OtlpExporter:
    """`endpoint` is a collector's, with or without the path of traces."""

    def __init__(self, endpoint: str) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        path = urlsplit(endpoint).path.rstrip("/")
        self._endpoint = endpoint if path else f"{endpoint.rstrip('/')}{PATH}"
        self._session = _BriefSession()
        self._exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=TIMEOUT_SECONDS, session=self._session)
        self._resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME", "hookledger"),
                "service.version": __version__,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        self._scope = InstrumentationScope("hookledger", __version__)

    def export(self, spans: Sequence[FinishedSpan]) -> str | None:
        self._session.statuses.clear()
        result = self._exporter.export([self._made(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            return None
        answers = [f": it answers {status}" for status in self._session.statuses[-1:]]
        return "".join([f"{self._endpoint} does not take spans", *answers])

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


class _BriefSession(requests.Session):
    """Reads the head of an answer, and what little there is behind it, so that the connection can be used again.
    `statuses` are those of all answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:  # noqa: ANN401 - requests' own
        """Raises requests.RequestException, also for an answer that leads elsewhere."""
        response = super().send(request, **more | {"stream": True, "allow_redirects": False})
        self.statuses.append(response.status_code)
        if 300 <= response.status_code < 400:
            response.close()
            raise requests.TooManyRedirects(f"answered {response.status_code}")
        self._read(response)
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: of what leads elsewhere requests would read all, even if it is not followed."""

    def _read(self, response: requests.Response) -> None:
        left_bytes, ends_at = ANSWER_BYTES, time.monotonic() + ANSWER_SECONDS
        for part in response.raw.stream(_PART_BYTES, decode_content=False):
            left_bytes -= len(part)
            if left_bytes < 0 or time.monotonic() > ends_at:
                response.close()
                return


def _context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        context.trace_id,
        context.span_id,
        is_remote,
        TraceFlags(int(context.is_sampled)),
        TraceState.from_header([context.state]) if context.state else None,
    )
