"""Who may ask for what. Every endpoint declares what it gives access to (endpoints.py), or answers nobody.

Without an admin token the daemon listens on loopback only and whoever reaches it acts as admin - unless a browser was
led here: by a hostile name that resolves to loopback (the Host header tells), or by a page from elsewhere that sends a
request without being able to read the answer (Sec-Fetch-Site and Origin tell).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.commands import Context, Invalid
from daemon.core.event import Problem as FieldProblem
from daemon.core.event import tenant_problem
from daemon.web.endpoints import Access, declared
from daemon.web.problems import Problem
from daemon.web.services import SERVICES


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `tenant` is the one that the token stands for, None if it stands for all."""

    actor: str
    tenant: str | None = None


CALLER = web.RequestKey("caller", Caller)

# Of a query of thousands of parameters, how many are looked at.
MAX_QUERY_NAMES = 20

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_OUR_PAGES = frozenset({"same-origin", "none"})


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets a request pass to a handler that its caller has access to."""
    if isinstance(request.match_info.http_exception, web.HTTPException):
        raise request.match_info.http_exception
    endpoint = declared(request.match_info.handler)
    if endpoint is None:
        raise Problem(403, "this endpoint is closed")
    if endpoint.access is not Access.OPEN:
        request[CALLER] = _identify(request)
    if endpoint.access not in (Access.OPEN, Access.METRICS):
        _check_tenant(request)
        _check_query(request, endpoint.query_names)
    return await handler(request)


def context(
    request: web.Request, *, reason: str | None, request_id: str | None = None, causation_id: str | None = None
) -> Context:
    """The command context of a request."""
    return Context(
        actor=request[CALLER].actor,
        origin="api",
        reason=reason,
        request_id=request_id,
        causation_id=causation_id,
        if_version=_if_match(request),
    )


def _identify(request: web.Request) -> Caller:
    token = request.app[SERVICES].config.server.admin_token
    if token is None:
        if not _is_loopback(request.headers.get("Host", "")):
            raise Problem(421, "this daemon has no admin token and answers to loopback names only")
        if request.method not in _SAFE_METHODS and _is_from_elsewhere(request):
            raise Problem(403, "this daemon has no admin token and takes nothing from pages of other sites")
        return Caller(actor="admin")
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not given.strip():
        raise _unauthorized("a token is needed: send Authorization: Bearer <token>")
    # Bytes that are no UTF-8 arrive as surrogates.
    if not hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.reveal().encode()):
        raise _unauthorized("this token is not valid")
    return Caller(actor="admin")


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="hookledger"'})


def _is_loopback(host_header: str) -> bool:
    name, colon, port = host_header.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        name = host_header
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _is_from_elsewhere(request: web.Request) -> bool:
    """True if a browser sends this for a page that is not ours; programs send neither header."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site not in _OUR_PAGES
    return origin is not None and urlsplit(origin).netloc != request.headers.get("Host")


def _check_tenant(request: web.Request) -> None:
    """A tenant that cannot exist is a mistake to tell, not an empty list."""
    tenant = request.match_info.get("tenant")
    problem = None if tenant is None else tenant_problem(tenant)
    if problem is not None:
        raise Invalid((FieldProblem(field="tenant", message=problem),))


def _check_query(request: web.Request, known: tuple[str, ...]) -> None:
    problems = []
    for name in list(dict.fromkeys(request.query))[:MAX_QUERY_NAMES]:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
            problems.append(FieldProblem(field=name, message=f"is not a query parameter of this path: {hint}"))
        elif len(request.query.getall(name)) > 1:
            problems.append(FieldProblem(field=name, message="is given more than once"))
    if problems:
        raise Invalid(tuple(problems))


def _if_match(request: web.Request) -> int | None:
    """The version that If-Match insists on. `*` asks only that the route exists, which every command does."""
    value = request.headers.get("If-Match", "*").strip()
    if value == "*":
        return None
    text = value.removeprefix("W/").strip('"')  # a proxy that compresses makes a tag weak
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(400, 'If-Match must be a version in quotes, like "3"')
    return int(text)
