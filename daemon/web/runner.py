"""The server under the application, which answers what never becomes a request in our words too.

aiohttp answers a malformed request by itself, in plain text, without asking the application. The place to change that
is `RequestHandler.handle_error`, which is public; how a handler of our own gets into the server is not, and a test
holds on to it.
"""

from __future__ import annotations

import structlog
from aiohttp import http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from daemon.web import problems
from daemon.web.problems import STANDING_HEADERS, Problem

# aiohttp's own limits, passed on so that what we say of them is true.
MAX_LINE_BYTES = 8190
MAX_HEADERS = 128

log = structlog.get_logger()

_NOT_HTTP = "this is not a valid HTTP request"


class Runner(web.AppRunner):
    """web.AppRunner with our server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        limits = {"max_line_size": MAX_LINE_BYTES, "max_field_size": MAX_LINE_BYTES, "max_headers": MAX_HEADERS}

        async def answered(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await made.request_handler(request)
            except web.HTTPException as error:  # raised before any middleware: an Expect that nobody knows
                problem = problems.of(error)
                if problem is None:
                    raise
                return problem.response()

        return _Server(
            answered,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs | limits,  # noqa: SLF001
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Handler(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats bytes of the request
    ) -> web.StreamResponse:
        """What went wrong outside of any handler, as a problem. The connection ends with it."""
        if status >= 500:
            log.error("connection.crashed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer was sent already")
        response = Problem(status, _detail(status, exc)).response()
        response.headers.update(STANDING_HEADERS)
        response.force_close()
        return response


def _detail(status: int, error: BaseException | None) -> str:
    match error:
        case http_exceptions.LineTooLong():
            return f"a line of the request's head is longer than {MAX_LINE_BYTES} bytes"
        case http_exceptions.BadHttpMethod():
            return f"{_NOT_HTTP}: it does not begin with a method"
        case http_exceptions.InvalidHeader():
            return f"{_NOT_HTTP}: a header is malformed"
        case http_exceptions.InvalidURLError():
            return f"{_NOT_HTTP}: its URL is malformed"
        case _ if status < 500:
            return f"{_NOT_HTTP}, or it has more than {MAX_HEADERS} headers"
        case _:
            return "an unexpected error"
