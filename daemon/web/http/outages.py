"""Requests that PostgreSQL keeps from an answer: they are answered 503, counted, and told in the log with the cause.

Who asked is told to repeat, and nothing about the database. The operator would not hear of it from anybody else: if
somebody holds a lock on one table, or there is no room for its rows, the loops of the pipeline may all do well. There
is a line every ten seconds at most; the next one has the number of requests that were left out.
"""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web

from daemon.core.gcra import UNUSED, Allowance
from daemon.telemetry.metrics import Metrics

log = structlog.get_logger()

LINES = Allowance(burst=1, per_second=0.1)


class OutageLog:
    """Counts the requests, and writes the lines."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._arrival = UNUSED
        self._left_out = 0

    def note(self, *, method: str, path: str, cause: str) -> None:
        self._metrics.requests_unavailable.inc()
        now = asyncio.get_running_loop().time()
        if LINES.wait(self._arrival, now):
            self._left_out += 1
            return
        self._arrival = LINES.next_arrival(self._arrival, now)
        log.warning("request.unavailable", method=method, path=path, cause=cause, left_out=self._left_out)
        self._left_out = 0


OUTAGES = web.AppKey("outages", OutageLog)
