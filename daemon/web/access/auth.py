"""Who may ask for what. Every endpoint declares what it gives access to (endpoints.py), or answers nobody.

Whoever asks is known by a token, by a session of the dashboard, or - on a daemon without an admin token, which listens
on loopback only - by having reached it. Then a table says which scopes have which access, and a scope with a tenant
ends at that tenant: beyond it there is nothing, as if it did not exist.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.commands import Context, NotFound
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.tokens import TokenRefusal, id_of
from daemon.web.access import browsers, sessions
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.http.endpoints import Access, Declared, declared
from daemon.web.http.parameters import check_headers, check_parameters, check_tenant, if_match
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from eventstore.access.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as the route log will name him, and by which door he came."""

    actor: str
    origin: str = "api"
    scope: Scope
    session: Session | None = None

    @property
    def tenant(self) -> str | None:
        """The one that he stands for, None if he stands for all."""
        return self.scope.tenant


CALLER = web.RequestKey("caller", Caller)

# The id in a token that opened nothing: whose it is, or whose it pretends to be.
CLAIMED = web.RequestKey("claimed", str)

# What it took to find out who asks: whoever promises an answer in time has so much less of it.
IDENTIFYING_SECONDS = web.RequestKey("identifying_seconds", float)

ADMIN = Scope(kind=ScopeKind.ADMIN)

SCOPES: Mapping[Access, frozenset[ScopeKind]] = {
    Access.METRICS: frozenset({ScopeKind.ADMIN, ScopeKind.METRICS}),
    Access.PUBLISH: frozenset({ScopeKind.ADMIN, ScopeKind.PRODUCER}),
    Access.READ: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT, ScopeKind.AUDITOR}),
    Access.MANAGE: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT}),
    Access.CATALOGUE: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT, ScopeKind.PRODUCER, ScopeKind.AUDITOR}),
    Access.OPERATIONS: frozenset({ScopeKind.ADMIN, ScopeKind.AUDITOR}),
    Access.ADMIN: frozenset({ScopeKind.ADMIN}),
    Access.ANYBODY: frozenset(ScopeKind),
}

# What spans tenants: a scope with a tenant has no access to it.
_UNBOUND = frozenset({Access.OPERATIONS, Access.ADMIN})


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets a request pass to a handler that its caller has access to."""
    if isinstance(request.match_info.http_exception, web.HTTPException):
        raise request.match_info.http_exception
    endpoint = declared(request.match_info.handler)
    if endpoint is None:
        raise Problem(403, "this endpoint is closed")
    check_headers(request)
    if endpoint.access is not Access.OPEN:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        caller = await _identified(request)
        request[CALLER] = replace(caller, origin="dashboard") if endpoint.is_page else caller
        request[IDENTIFYING_SECONDS] = clock() - began_at
        _check_access(request, endpoint, caller)
        if endpoint.is_page:
            check_tenant(request)
        elif endpoint.access is not Access.METRICS:
            check_parameters(request, endpoint.query)
    return await handler(request)


def context(
    request: web.Request, *, reason: str | None, request_id: str | None = None, causation_id: str | None = None
) -> Context:
    """The command context of a request."""
    caller = request[CALLER]
    return Context(
        actor=caller.actor,
        origin=caller.origin,
        reason=reason,
        request_id=request_id,
        causation_id=causation_id,
        if_version=if_match(request),
    )


def may(scope: Scope, access: Access) -> bool:
    """True if the scope gives that access, within its tenant if it has one."""
    return scope.kind in SCOPES[access] and (scope.tenant is None or access not in _UNBOUND)


async def has_ended(request: web.Request) -> bool:
    """True if whoever asked may not go on being answered: his session or token has ended, or has become another's.
    For answers that take minutes. Raises StoreUnavailable.
    """
    try:
        caller = await _identified(request)
    except Problem:
        return True
    return caller.scope != request[CALLER].scope


async def _identified(request: web.Request) -> Caller:
    token = _given_token(request)
    if token is not None:
        return await _by_token(request, token)
    own_url = request.app[SERVICES].config.server.url()
    session = await sessions.find(request)
    if session is not None:
        _check_page(request, own_url, must_be_ours=True)
        scope = ADMIN if session.tenant is None else Scope(kind=ScopeKind.TENANT, tenant=session.tenant)
        return Caller(actor="dashboard", origin="dashboard", scope=scope, session=session)
    if request.app[SERVICES].config.server.admin_token is not None:
        raise _unauthorized("a token is needed (Authorization: Bearer <token>), or a session (hookledger login-link)")
    if not browsers.is_loopback(request.headers.get("Host", "")):
        raise Problem(421, "this daemon has no admin token and answers to loopback names only")
    _check_page(request, own_url, must_be_ours=False)
    return Caller(actor="admin", scope=ADMIN)


async def _by_token(request: web.Request, text: str) -> Caller:
    services = request.app[SERVICES]
    admin_token = services.config.server.admin_token
    # Bytes that are no UTF-8 arrive as surrogates.
    given = text.encode(errors="surrogateescape")
    if admin_token is not None and hmac.compare_digest(given, admin_token.reveal().encode()):
        return Caller(actor="admin", scope=ADMIN)
    claimed = id_of(text)
    if claimed is not None:
        request[CLAIMED] = claimed
    found = await services.tokens.verify(text)
    if isinstance(found, TokenRefusal):
        raise _unauthorized(found)
    return Caller(actor=f"token:{found.id}", scope=found.scope)


def _given_token(request: web.Request) -> str | None:
    """The token that a request shows, None if it shows none: what else it may have is for a proxy before us."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return None
    if not given.strip():
        raise _unauthorized("there is no token behind Bearer")
    return given.strip()


def _check_page(request: web.Request, own_url: str, *, must_be_ours: bool) -> None:
    """Without a token it is the browser that speaks for a person, and it does so for any page that asks it to."""
    if browsers.is_from_elsewhere(request.method, request.headers, own_url):
        raise Problem(403, "this comes from a page of another site: send a token to be answered")
    is_safe = request.method in browsers.SAFE_METHODS
    if must_be_ours and not is_safe and not browsers.is_from_our_page(request.headers, own_url):
        raise Problem(403, "a session of the dashboard takes commands from the dashboard's own pages only")


def _check_access(request: web.Request, endpoint: Declared, caller: Caller) -> None:
    if not may(caller.scope, endpoint.access):
        needed = " or ".join(_needed(endpoint.access))
        raise Problem(403, f"this needs the scope {needed}; what you have is {caller.scope}")
    tenant = request.match_info.get("tenant")
    if tenant is not None and caller.tenant not in (None, tenant):
        raise NotFound("there is no such tenant")
    if tenant is not None and endpoint.limit is not None:
        request.app[TENANT_LIMITS].take(endpoint.limit, tenant, asyncio.get_running_loop().time())


def _needed(access: Access) -> list[str]:
    """The scopes that would do, as one names them when a token is made."""
    bound = {ScopeKind.TENANT: "tenant:<id>"}
    return [bound.get(kind, kind.value) for kind in ScopeKind if kind in SCOPES[access]]


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="hookledger"'})
