"""One line in the log for what was refused: who wanted what, and why he did not get it.

Refused are changes that were answered 4xx, and whatever was answered 401 or 403. Nothing that may hold a secret is
written: no query, no body, no header. Whoever hammers at the door does not fill the disk: beyond so many lines a
second only their number is told.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.core.gcra import UNUSED, Allowance
from daemon.web.access import browsers
from daemon.web.access.auth import CALLER, CLAIMED
from daemon.web.http.problems import PROBLEM, shown_path

log = structlog.get_logger()

LINES = Allowance(burst=100, per_second=10)


class RefusalLog:
    """Writes the lines, and counts those that it leaves out."""

    def __init__(self) -> None:
        self._paid_at = UNUSED
        self._left_out = 0

    def write(self, request: web.Request, status: int) -> None:
        now = asyncio.get_running_loop().time()
        if LINES.wait(self._paid_at, now):
            self._left_out += 1
            return
        self._paid_at = LINES.taken(self._paid_at, now)
        caller, problem = request.get(CALLER), request.get(PROBLEM)
        log.info(
            "request.refused",
            method=request.method,
            path=shown_path(request),
            status=status,
            actor=None if caller is None else caller.actor,
            claimed=request.get(CLAIMED) if caller is None else None,
            reason=None if problem is None else problem.detail,
            left_out=self._left_out,
        )
        self._left_out = 0


REFUSALS = web.AppKey("refusals", RefusalLog)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stands before everything else, so that it sees what is really answered."""
    response = await handler(request)
    is_client_error = HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_client_error and (request.method not in browsers.SAFE_METHODS or response.status in (401, 403)):
        request.app[REFUSALS].write(request, response.status)
    return response
