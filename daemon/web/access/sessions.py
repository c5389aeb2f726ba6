"""Sessions of the dashboard: a one-time link begins one, the database keeps it, and a cookie identifies it.

Link and cookie are secrets of 256 random bits. The database has only their SHA-256.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from aiohttp import web

from daemon.config.sections import ServerSection
from daemon.tokens import LOOKUP_SECONDS
from daemon.web.http.services import SERVICES
from eventstore.access import sessions
from eventstore.access.sessions import PendingLink, Session
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

LINK_LIFE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginLink:
    url: str
    expires_at: datetime


async def new_link(database: Database, server: ServerSection, *, tenant: str | None, created_by: str) -> LoginLink:
    """A link that begins a session of a tenant, or of the administrator if that is None. Raises StoreUnavailable."""
    secret = _new_secret()
    expires_at = await sessions.add_link(database, _hash(secret), tenant=tenant, created_by=created_by, life=LINK_LIFE)
    return LoginLink(url=f"{server.url()}/login/{secret}", expires_at=expires_at)


async def pending(database: Database, link: str) -> PendingLink | None:
    """What a link leads to, None if it is used up or has expired. Raises StoreUnavailable."""
    return await sessions.pending(database, _hash(link))


async def begin(request: web.Request, link: str) -> web.Response | None:
    """A redirect to the dashboard with the cookie of a new session; None if the link is used up or has expired.

    It replaces the session of the request's cookie, if any. Raises StoreUnavailable.
    """
    services, secret, before = request.app[SERVICES], _new_secret(), secret_of(request)
    server, replaced = services.config.server, None if before is None else _hash(before)
    if not await sessions.begin(services.command_database, _hash(link), _hash(secret), replaced=replaced):
        return None
    response = _to_dashboard(server)
    response.set_cookie(
        cookie_name(server),
        secret,
        max_age=int(sessions.ABSOLUTE.total_seconds()),
        path="/",
        secure=_is_https(server),
        httponly=True,
        samesite="Lax",
    )
    return response


def secret_of(request: web.Request) -> str | None:
    """The secret in the request's cookie, None if there is none."""
    return request.cookies.get(cookie_name(request.app[SERVICES].config.server))


async def find(database: Database, secret: str) -> Session | None:
    """The session with that secret, None if it never was or has ended. Raises StoreUnavailable."""
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            session = await sessions.find(database, _hash(secret))
            if session is not None and session.is_unseen:
                await sessions.note_use(database, _hash(secret))
    except TimeoutError as error:
        raise StoreUnavailable("the session could not be looked up in time") from error
    return session


async def end(request: web.Request) -> web.Response:
    """Ends the session of the request's cookie, if any, and deletes the cookie. Raises StoreUnavailable."""
    server, secret = request.app[SERVICES].config.server, secret_of(request)
    if secret is not None:
        await sessions.end(request.app[SERVICES].command_database, _hash(secret))
    response = _to_dashboard(server)
    response.del_cookie(cookie_name(server), path="/", secure=_is_https(server), httponly=True, samesite="Lax")
    return response


def cookie_name(server: ServerSection) -> str:
    """With the prefix `__Host-`, browsers accept and send the cookie only over https and only for this host."""
    return "__Host-hookledger" if _is_https(server) else "hookledger"


def _to_dashboard(server: ServerSection) -> web.Response:
    base = urlsplit(server.public_url or "").path
    return web.Response(status=303, headers={"Location": f"{base}/"})


def _is_https(server: ServerSection) -> bool:
    return server.url().startswith("https://")


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
