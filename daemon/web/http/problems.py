"""Errors as application/problem+json (RFC 9457): what went wrong and in which field, and nothing about our internals.

Handlers raise `Problem`. `middleware` turns it, and the errors of the packages below, into a response. An unexpected
error is logged with a number; the response has that number and no other detail.

`url_middleware` refuses URLs that cannot be decoded. aiohttp keeps a `%` that encodes nothing, and bytes that are not
UTF-8, as they are; without the check `%zz` would be a tenant.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, NotRequired
from urllib.parse import unquote_to_bytes

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from pydantic import Field
from typing_extensions import TypedDict

from daemon.audit import AmbiguousEvent, UnknownEvent
from daemon.commands import Conflict, Invalid, NotFound, Stale, TooManyCommands
from daemon.core.events import event
from daemon.web.http.services import SERVICES
from eventstore.postgres.errors import ChainBroken, IdHeld, Saturated, SchemaMismatch, StoreUnavailable, ValueRefused

log = structlog.get_logger()

# Paths that end with a secret begin with this.
_ONE_TIME_LINKS = "/login/"

# A percent sign without two hexadecimal digits behind it.
_NO_ENCODING = re.compile("%(?![0-9A-Fa-f]{2})")

# A login link below another path: a proxy has left there what `server.public_url` has before ours.
_LINK = re.compile(r"(/login/)[\w-]{16,}", re.ASCII)

# A token in a path: somebody may write the token, or a part of it, where its id belongs.
_TOKEN = re.compile("(hl_[a-z]+_[0-9a-f]{12}_)[^/]+", re.IGNORECASE)

RETRY_AFTER_SECONDS = 2
# A person has to act before it helps to repeat the request.
BROKEN_LOG_SECONDS = 60

# Headers of every response that does not set them itself. `Server` always replaces the library's name and versions.
DEFAULT_HEADERS = {"Server": "Hookledger", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

REFUSED_VALUE = "the database does not take a value of this"

# A hostile body may have a hundred thousand errors; a response names the first of them.
MAX_ERRORS = 100
MAX_FIELD_CHARACTERS = 128


class FieldErrorShape(TypedDict):
    """What is wrong with a field, and what would be right. `field` is empty if the whole body is wrong."""

    field: Annotated[str, Field(examples=["target_url"])]
    message: Annotated[str, Field(examples=["must be https"])]


class ProblemShape(TypedDict):
    """What went wrong (RFC 9457). `errors` has everything that is wrong with the fields of the request."""

    type: Annotated[str, Field(examples=["about:blank"])]
    title: Annotated[str, Field(examples=["Unprocessable Entity"])]
    status: Annotated[int, Field(ge=400, le=599, examples=[422])]
    detail: Annotated[str, Field(examples=["some fields are not valid"])]
    errors: NotRequired[list[FieldErrorShape]]


class Problem(Exception):
    """A response of status 4xx or 5xx, to be raised. `is_busy`: nothing is broken, there is too much of this now.

    `for_people` is what pages say instead of a `detail` that is for people who write or run a program. `outage` is what
    keeps PostgreSQL from an answer, for the operator only; empty if nothing does.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[event.FieldProblem] = (),
        headers: dict[str, str] | None = None,
        is_busy: bool = False,
        for_people: str | None = None,
        outage: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers or {}
        self.is_busy = is_busy
        self.for_people = detail if for_people is None else for_people
        self.outage = outage

    def response(self) -> web.Response:
        body: ProblemShape = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = listed(self.errors)
        return web.Response(
            status=self.status,
            body=orjson.dumps(body),
            content_type="application/problem+json",
            headers=self.headers,
        )

    def raw(self) -> bytes:
        """The response as bytes, for a connection whose request no parser has seen. The connection ends with it."""
        response = self.response()
        body = response.body if isinstance(response.body, bytes) else b""
        headers = DEFAULT_HEADERS | dict(response.headers)
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


# The problem that a request was answered with.
PROBLEM = web.RequestKey("problem", Problem)

# Renders a problem as a page of the dashboard; None if a program made the request.
PAGE_OF: web.AppKey[Callable[[web.Request, Problem], Awaitable[web.Response | None]]] = web.AppKey("page_of")


def listed(errors: Sequence[event.FieldProblem]) -> list[FieldErrorShape]:
    """Problems of fields as JSON, at most MAX_ERRORS of them and then their number."""
    shown: list[FieldErrorShape] = [
        {"field": error.field[:MAX_FIELD_CHARACTERS], "message": error.message} for error in errors[:MAX_ERRORS]
    ]
    if len(errors) > MAX_ERRORS:
        shown.append({"field": "", "message": f"and {len(errors) - MAX_ERRORS} more"})
    return shown


def of(error: Exception) -> Problem | None:  # noqa: C901, PLR0912 - a table, read from top to bottom
    """The problem that an error means to the caller; None for an unexpected error."""
    match error:
        case Problem():
            return error
        case Invalid():
            return Problem(422, "some fields are not valid", errors=error.problems)
        case NotFound() | UnknownEvent():
            return Problem(404, str(error))
        case Conflict():
            return Problem(409, str(error), for_people=error.for_people)
        case AmbiguousEvent():
            return Problem(409, str(error))
        case Stale():
            return Problem(412, str(error))
        case TooManyCommands():
            headers = {"Retry-After": str(error.retry_after_seconds)}
            return Problem(429, str(error), headers=headers, for_people=error.for_people)
        case ValueRefused():
            return Problem(422, f"{REFUSED_VALUE} request")
        case Saturated():
            detail = f"{error}: {error.hint}"
            return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, is_busy=True)
        case IdHeld():
            detail = f"{error}: repeat the request, with the same event id"
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return Problem(503, detail, headers=headers, outage=f"{error}; {error.hint}")
        case StoreUnavailable() | SchemaMismatch():  # the second while it is being restored
            # It does not say that nothing was stored: the commit may have succeeded and only its reply been lost.
            detail = "the database does not answer: repeat the request, with the same event id or Idempotency-Key"
            said = "what you asked for cannot be looked up or done at the moment"
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return Problem(503, detail, headers=headers, for_people=said, outage=str(error))
        case ChainBroken():
            detail = "the log of routes is not what was written: the operator must look at it"
            said = "the record of the webhooks is not what was written: its operator must look at it"
            return Problem(503, detail, headers={"Retry-After": str(BROKEN_LOG_SECONDS)}, for_people=said)
        case HttpProcessingError() | web.RequestPayloadError() | ConnectionError():
            return Problem(400, "the body ended early, or is not what its headers say")
        case web.HTTPException() if error.status >= HTTPStatus.BAD_REQUEST:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return Problem(error.status, _http_detail(error), headers=allow)
        case _:
            return None


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns an exception of a handler into a problem, as JSON or as a page."""
    try:
        return await handler(request)
    except Exception as error:
        problem = of(error)
        if problem is None and isinstance(error, web.HTTPException):
            raise
        if problem is None:
            number = secrets.token_hex(6)
            log.exception("request.crashed", number=number, method=request.method, path=shown_path(request))
            problem = Problem(500, f"an unexpected error, number {number} in the daemon's log")
        if problem.outage:
            request.app[SERVICES].outages.note(method=request.method, path=shown_path(request), cause=problem.outage)
        request[PROBLEM] = problem
        page_of = request.app.get(PAGE_OF)
        response = (None if page_of is None else await page_of(request, problem)) or problem.response()
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            # Where the next request begins is unknown. Without the EOF aiohttp would read the broken body again.
            response.force_close()
            request.content.feed_eof()
        return response


def shown_path(request: web.Request) -> str:
    """The path for the log: without the query, and without the secret of a login link or of a token."""
    if request.path.startswith(_ONE_TIME_LINKS):
        return f"{_ONE_TIME_LINKS}…"
    return _TOKEN.sub(r"\g<1>…", _LINK.sub(r"\g<1>…", request.path))


@web.middleware
async def url_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises Problem for a URL that cannot be percent-decoded to UTF-8."""
    url = request.raw_path
    if "%" in url:
        if _NO_ENCODING.search(url):
            raise Problem(400, "the URL has a % that encodes nothing: write %25 for the sign itself")
        try:
            unquote_to_bytes(url).decode()
        except UnicodeDecodeError as error:
            raise Problem(400, "the URL is not UTF-8 once it is decoded") from error
    return await handler(request)


def _http_detail(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "there is nothing here: see GET /openapi.json, which describes the API"
        case 405:
            return "this path does not take this method"
        case 413:
            return "the request is too large"
        case _:
            return error.reason
