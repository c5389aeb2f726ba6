"""One log line for each refused request: who made it, what it asked for, and why it was refused.

Refused are commands that were answered 4xx, and every request that was answered 401 or 403. The line has nothing that
may be secret: no query, no body, no header. A flood of requests cannot fill the disk: beyond LINES the lines are left
out, and the next line has their number.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.core.gcra import UNUSED, Allowance
from daemon.web.access import browsers
from daemon.web.access.auth import CALLER, CLAIMED_TOKEN_ID
from daemon.web.http.problems import PROBLEM, shown_path

log = structlog.get_logger()

LINES = Allowance(burst=100, per_second=10)


class RefusalLog:
    """Writes the lines, and counts those that are left out."""

    def __init__(self) -> None:
        self._arrival = UNUSED
        self._left_out = 0

    def write(self, request: web.Request, status: int) -> None:
        now = asyncio.get_running_loop().time()
        if LINES.wait(self._arrival, now):
            self._left_out += 1
            return
        self._arrival = LINES.next_arrival(self._arrival, now)
        caller, problem = request.get(CALLER), request.get(PROBLEM)
        log.info(
            "request.refused",
            method=request.method,
            path=shown_path(request),
            status=status,
            actor=None if caller is None else caller.actor,
            claimed=request.get(CLAIMED_TOKEN_ID) if caller is None else None,
            reason=None if problem is None else problem.detail,
            left_out=self._left_out,
        )
        self._left_out = 0


REFUSALS = web.AppKey("refusals", RefusalLog)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs a refused request. It is the outermost middleware, so it sees the status that is really sent."""
    response = await handler(request)
    is_client_error = HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_client_error and (request.method not in browsers.SAFE_METHODS or response.status in (401, 403)):
        request.app[REFUSALS].write(request, response.status)
    return response
