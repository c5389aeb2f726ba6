"""Sessions of the dashboard: a one-time link begins one, the database keeps it, and a cookie identifies it.

Link and cookie are secrets of 256 random bits. The database has only their SHA-256. A second cookie outlives the
session: it says that there was one, and where it leads back to, so that the page after its end can say both.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from daemon.config import Config
from daemon.config.sections import ServerSection
from daemon.core.drafts.login_link_draft import LoginLinkDraft, return_url_problem
from daemon.credentials.tokens import LOOKUP_SECONDS
from daemon.web.access.guesses import note_forged
from daemon.web.http.services import SERVICES
from eventstore.access import sessions
from eventstore.access.macs import CredentialMacs, NotAuthentic
from eventstore.access.sessions import PendingLink, Session
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

# Who stands in the route log for a session whose link names nobody.
NAMELESS_ACTOR = "dashboard"

# For how long a browser remembers that it had a session.
_REMEMBERED = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginLink:
    url: str
    expires_at: datetime


async def new_link(
    database: Database,
    server: ServerSection,
    draft: LoginLinkDraft,
    *,
    tenant: str | None,
    created_by: str,
    macs: CredentialMacs,
) -> LoginLink:
    """A link that begins a session of a tenant, or of the administrator if that is None. Raises StoreUnavailable."""
    secret = _new_secret()
    link = PendingLink(
        tenant=tenant,
        actor=draft.actor or NAMELESS_ACTOR,
        role=draft.role,
        return_url=draft.return_url,
        path=draft.path,
    )
    expires_at = await sessions.add_link(
        database, _hash(secret), link, created_by=created_by, life=draft.life, macs=macs
    )
    return LoginLink(url=f"{server.url()}/login/{secret}", expires_at=expires_at)


async def pending(request: web.Request, link: str) -> PendingLink | None:
    """What a link leads to, None if it is used up, has expired or is forged. Raises StoreUnavailable."""
    services = request.app[SERVICES]
    try:
        return await sessions.pending(services.command_database, _hash(link), macs=services.keychain.macs)
    except NotAuthentic as forged:
        note_forged(request, forged)
        return None


async def begin(request: web.Request, link: str) -> web.Response | None:
    """A redirect to the dashboard with the cookie of a new session; None if the link is used up, has expired or is
    forged.

    It replaces the session of the request's cookie, if any. Raises StoreUnavailable.
    """
    services, secret, before = request.app[SERVICES], _new_secret(), secret_of(request)
    replaced = None if before is None else _hash(before)
    database, macs = services.command_database, services.keychain.macs
    try:
        used = await sessions.begin(database, _hash(link), _hash(secret), macs=macs, replaced=replaced)
    except NotAuthentic as forged:
        note_forged(request, forged)
        return None
    if used is None:
        return None
    response = _to_page(services.config.server, used.path or "/")
    _set_cookie(response, services.config, cookie_name(services.config.server), secret, sessions.ABSOLUTE)
    way_back = quote(used.return_url or "", safe="")
    _set_cookie(response, services.config, _return_cookie(services.config.server), way_back, _REMEMBERED)
    return response


def secret_of(request: web.Request) -> str | None:
    """The secret in the request's cookie, None if there is none."""
    return request.cookies.get(cookie_name(request.app[SERVICES].config.server))


async def find(request: web.Request, secret: str) -> Session | None:
    """The session with that secret, None if it never was, has ended or is forged. Raises StoreUnavailable."""
    services = request.app[SERVICES]
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            session = await sessions.find(services.command_database, _hash(secret), macs=services.keychain.macs)
            if session is not None and session.is_unseen and not _is_by_itself(request):
                await sessions.note_use(services.command_database, _hash(secret))
    except NotAuthentic as forged:
        note_forged(request, forged)
        return None
    except TimeoutError as error:
        raise StoreUnavailable("the session could not be looked up in time") from error
    return session


def _is_by_itself(request: web.Request) -> bool:
    """True if a page that somebody left open asks: it loads its parts again, or follows a log. Nobody is using it."""
    is_followed = "text/event-stream" in request.headers.get("Accept", "")
    return request.method == "GET" and (is_followed or request.headers.get("X-Fragment") == "1")


async def end(request: web.Request) -> web.Response:
    """Ends the session of the request's cookie, if any, and deletes the cookie. Raises StoreUnavailable."""
    config, secret = request.app[SERVICES].config, secret_of(request)
    if secret is not None:
        await sessions.end(request.app[SERVICES].command_database, _hash(secret))
    response = _to_page(config.server, "/")
    _set_cookie(response, config, cookie_name(config.server), "", timedelta(0))
    return response


def had_session(request: web.Request) -> bool:
    """True if the browser has had a session here, whether or not it goes on."""
    return _return_cookie(request.app[SERVICES].config.server) in request.cookies


def return_url(request: web.Request) -> str | None:
    """Where the browser's session leads back to, or did before it ended: as its link says, else as configured."""
    config = request.app[SERVICES].config
    of_link = unquote(request.cookies.get(_return_cookie(config.server), ""))
    return of_link if of_link and return_url_problem(of_link) is None else config.dashboard.return_url


def cookie_name(server: ServerSection) -> str:
    """With the prefix `__Host-`, browsers accept and send the cookie only over https and only for this host."""
    return "__Host-hookledger" if _is_https(server) else "hookledger"


def _return_cookie(server: ServerSection) -> str:
    return f"{cookie_name(server)}-return"


def _set_cookie(response: web.Response, config: Config, name: str, value: str, life: timedelta) -> None:
    """Sets a cookie, or deletes it if `life` is zero. In a frame of another site a browser sends only cookies that
    allow it, and keeps them apart for each such site; Python has no name for that attribute before 3.14.
    """
    attributes = [f"{name}={value}", "HttpOnly", f"Max-Age={int(life.total_seconds())}", "Path=/"]
    if config.dashboard.frame_ancestors:
        attributes += ["SameSite=None", "Secure", "Partitioned"]
    else:
        attributes += ["SameSite=Lax", *(["Secure"] if _is_https(config.server) else [])]
    response.headers.add("Set-Cookie", "; ".join(attributes))


def _to_page(server: ServerSection, path: str) -> web.Response:
    base = urlsplit(server.public_url or "").path
    return web.Response(status=303, headers={"Location": f"{base}{path}"})


def _is_https(server: ServerSection) -> bool:
    return server.url().startswith("https://")


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
