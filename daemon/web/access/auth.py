"""Authentication and authorisation. Every endpoint declares what it gives access to (http/endpoints.py), or is closed.

A caller is identified by a token or by a session of the dashboard. A daemon without an admin token listens on loopback
only; there a caller without credentials is the administrator. Then the table SCOPES says which scopes have which
access. A scope with a tenant sees that tenant only: the others look as if they did not exist.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.commands import Context, NotFound
from daemon.core.drafts.login_link_draft import DashboardRole
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.credentials.tokens import TokenRefusal, id_of
from daemon.web.access import browsers, sessions
from daemon.web.access.guesses import CredentialKind, guessing, note_forged
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.http.endpoints import Access, Declaration, declared
from daemon.web.http.problems import Problem
from daemon.web.http.requests.parameters import check_headers, check_parameters, check_tenant
from daemon.web.http.requests.turns import BOUND_TO
from daemon.web.http.services import SERVICES
from eventstore.access.macs import NotAuthentic
from eventstore.access.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request. `actor` and `origin` are what the route log records."""

    actor: str
    origin: str = "api"
    scope: Scope
    session: Session | None = None

    @property
    def tenant(self) -> str | None:
        """The tenant that the caller is bound to, None for all tenants."""
        return self.scope.tenant


CALLER = web.RequestKey("caller", Caller)

# The id in a token that was not accepted; the token may be forged.
CLAIMED_TOKEN_ID = web.RequestKey("claimed", str)

# How long it took to identify the caller. A handler with a deadline has so much less time.
IDENTIFYING_SECONDS = web.RequestKey("identifying_seconds", float)

ADMIN = Scope(kind=ScopeKind.ADMIN)

SCOPES: Mapping[Access, frozenset[ScopeKind]] = {
    Access.METRICS: frozenset({ScopeKind.ADMIN, ScopeKind.METRICS}),
    Access.PUBLISH: frozenset({ScopeKind.ADMIN, ScopeKind.PRODUCER}),
    Access.READ: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT, ScopeKind.AUDITOR}),
    Access.MANAGE: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT}),
    Access.CATALOGUE: frozenset({ScopeKind.ADMIN, ScopeKind.TENANT, ScopeKind.PRODUCER, ScopeKind.AUDITOR}),
    Access.AUDIT: frozenset({ScopeKind.ADMIN, ScopeKind.AUDITOR}),
    Access.OPERATIONS: frozenset({ScopeKind.ADMIN, ScopeKind.AUDITOR}),
    Access.ADMIN: frozenset({ScopeKind.ADMIN}),
    Access.ANYBODY: frozenset(ScopeKind),
}

# Access that spans tenants: a scope with a tenant does not have it.
_SPANS_TENANTS = frozenset({Access.OPERATIONS, Access.ADMIN})


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Passes a request to its handler if the caller has access to it."""
    if isinstance(request.match_info.http_exception, web.HTTPException):
        raise request.match_info.http_exception
    endpoint = declared(request.match_info.handler)
    if endpoint is None:
        raise Problem(403, "this endpoint is closed")
    check_headers(request)
    if endpoint.access is not Access.OPEN:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        caller = await _identify(request)
        request[CALLER] = replace(caller, origin="dashboard") if endpoint.is_page else caller
        request[IDENTIFYING_SECONDS] = clock() - began_at
        if caller.tenant is not None:
            request[BOUND_TO] = caller.tenant
        _check_access(request, endpoint, caller)
        if endpoint.is_page:
            check_tenant(request)
        elif endpoint.access is not Access.METRICS:
            check_parameters(request, endpoint.query)
    return await handler(request)


def context(
    request: web.Request,
    *,
    reason: str | None,
    if_version: int | None,
    request_id: str | None,
    causation_id: str | None,
) -> Context:
    """The context of the caller's command. The limits of tenants do not hold for the administrator."""
    caller = request[CALLER]
    return Context(
        actor=caller.actor,
        origin=caller.origin,
        reason=reason,
        request_id=request_id,
        causation_id=causation_id,
        if_version=if_version,
        is_unlimited=caller.scope.kind is ScopeKind.ADMIN,
    )


def may(scope: Scope, access: Access) -> bool:
    """True if the scope has that access, within its tenant if it has one."""
    return scope.kind in SCOPES[access] and (scope.tenant is None or access not in _SPANS_TENANTS)


async def has_ended(request: web.Request) -> bool:
    """True if the caller has lost access since the request began: the session or token has ended, or its scope changed.

    For responses that take minutes. Raises StoreUnavailable.
    """
    try:
        caller = await _identify(request)
    except Problem:
        return True
    return caller.scope != request[CALLER].scope


def unauthorized(detail: str) -> Problem:
    """The problem of a caller whom nobody knows, or knows no longer."""
    return Problem(
        401,
        detail,
        headers={"WWW-Authenticate": 'Bearer realm="hookledger"'},
        for_people="this page is for those who have signed in",
    )


async def session_of(request: web.Request) -> Session | None:
    """The session of the request's cookie, None if there is none or it has ended. Raises StoreUnavailable, Problem."""
    secret = sessions.secret_of(request)
    if secret is None:
        return None
    with guessing(request, CredentialKind.SESSION, secret) as guess:
        session = await sessions.find(request, secret)
        if session is None:
            guess.wrong()
        else:
            guess.right()
    return session


async def _identify(request: web.Request) -> Caller:
    token = _bearer_token(request)
    if token is not None:
        return await _identify_by_token(request, token)
    own_url = request.app[SERVICES].config.server.url()
    session = await session_of(request)
    if session is not None:
        _check_page(request, own_url, must_be_own=True)
        return Caller(actor=session.actor, origin="dashboard", scope=_scope_of(session), session=session)
    if request.app[SERVICES].config.server.admin_token is not None:
        raise unauthorized("a token is needed (Authorization: Bearer <token>), or a session (hookledger login-link)")
    if not browsers.is_loopback(request.headers.get("Host", "")):
        raise Problem(421, "this daemon has no admin token and answers to loopback names only")
    _check_page(request, own_url, must_be_own=False)
    return Caller(actor="admin", scope=ADMIN)


def _scope_of(session: Session) -> Scope:
    """What a session has access to. One that may only view has what an auditor has: no keys, and no command."""
    if session.role == DashboardRole.VIEW:
        return Scope(kind=ScopeKind.AUDITOR, tenant=session.tenant)
    return ADMIN if session.tenant is None else Scope(kind=ScopeKind.TENANT, tenant=session.tenant)


async def _identify_by_token(request: web.Request, text: str) -> Caller:
    services = request.app[SERVICES]
    admin_token = services.config.server.admin_token
    # aiohttp decodes bytes that are not UTF-8 as surrogates.
    given = text.encode(errors="surrogateescape")
    if admin_token is not None and hmac.compare_digest(given, admin_token.reveal().encode()):
        return Caller(actor="admin", scope=ADMIN)
    claimed = id_of(text)
    if claimed is not None:
        request[CLAIMED_TOKEN_ID] = claimed
    with guessing(request, CredentialKind.TOKEN, text) as guess:
        try:
            found = await services.tokens.verify(text)
        except NotAuthentic as forged:
            note_forged(request, forged)
            found = TokenRefusal.UNKNOWN
        if isinstance(found, TokenRefusal):
            guess.wrong()
            raise unauthorized(found)
        guess.right()
    return Caller(actor=f"token:{found.id}", scope=found.scope)


def _bearer_token(request: web.Request) -> str | None:
    """The token in the Authorization header. None for other schemes: they are credentials for a proxy before us."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return None
    if not given.strip():
        raise unauthorized("there is no token behind Bearer")
    return given.strip()


def _check_page(request: web.Request, own_url: str, *, must_be_own: bool) -> None:
    """Raises Problem for a request without a token that a page of another site has the browser send.

    `must_be_own`: a command must come from a page of the dashboard.
    """
    may_be_framed = bool(request.app[SERVICES].config.dashboard.frame_ancestors)
    if browsers.is_from_other_site(request.method, request.headers, own_url, may_be_framed=may_be_framed):
        raise Problem(
            403,
            "this comes from a page of another site: send a token to be answered",
            for_people="this comes from a page of another site",
        )
    is_safe = request.method in browsers.SAFE_METHODS
    if must_be_own and not is_safe and not browsers.is_from_our_page(request.headers, own_url):
        raise Problem(403, "a session of the dashboard takes commands from the dashboard's own pages only")


def _check_access(request: web.Request, endpoint: Declaration, caller: Caller) -> None:
    if not may(caller.scope, endpoint.access):
        needed = " or ".join(_needed(endpoint.access))
        raise Problem(
            403,
            f"this needs the scope {needed}; what you have is {caller.scope}",
            for_people="your access does not reach this page",
        )
    tenant = request.match_info.get("tenant")
    if tenant is not None and caller.tenant not in (None, tenant):
        raise NotFound("there is no such tenant")
    if tenant is not None and endpoint.limit is not None:
        request.app[TENANT_LIMITS].take(endpoint.limit, tenant, asyncio.get_running_loop().time())


def _needed(access: Access) -> list[str]:
    """The scopes that have that access, as they are written when a token is created."""
    bound = {ScopeKind.TENANT: "tenant:<id>"}
    return [bound.get(kind, kind.value) for kind in ScopeKind if kind in SCOPES[access]]
