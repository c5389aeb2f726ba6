"""Requests that PostgreSQL keeps from an answer: they are answered 503, counted, and told in the log with the cause.

Who asked is told to repeat, and nothing about the database. The operator would not hear of it from anybody else: if
somebody holds a lock on one table, or there is no room for its rows, the loops of the pipeline may all do well. There
is a line every ten seconds at most; the next one has the number of requests that were left out. For a minute the status
has a sentence.
"""

from __future__ import annotations

import math
import time

import structlog

from daemon.core.gcra import UNUSED, Allowance
from daemon.telemetry.metrics import Metrics

log = structlog.get_logger()

LINES = Allowance(burst=1, per_second=0.1)
WARNING_SECONDS = 60.0


class OutageLog:
    """Counts the requests, and writes the lines."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._arrival = UNUSED
        self._left_out = 0
        self._cause = ""
        self._noted_at = -math.inf

    @property
    def warning(self) -> str | None:
        """A sentence for the operator, if there was one within the last minute."""
        if time.monotonic() > self._noted_at + WARNING_SECONDS:
            return None
        return f"requests were answered 503 within the last minute: {self._cause}"

    def note(self, *, method: str, path: str, cause: str) -> None:
        self._metrics.requests_unavailable.inc()
        self._cause, self._noted_at = cause, time.monotonic()
        now = self._noted_at
        if LINES.wait(self._arrival, now):
            self._left_out += 1
            return
        self._arrival = LINES.next_arrival(self._arrival, now)
        log.warning("request.unavailable", method=method, path=path, cause=cause, left_out=self._left_out)
        self._left_out = 0
