"""Logout, and GET /v1/session, which shows the caller. Signing in is a page (daemon/web/dashboard/sign_in.py)."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.access import browsers, sessions
from daemon.web.access.auth import CALLER
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Moment


class SessionShape(TypedDict):
    """The caller. A session of the dashboard ends at `expires_at`, or at `idle_until` if it is not used before."""

    actor: Annotated[str, Field(examples=["dashboard"])]
    scope: Annotated[str, Field(examples=["tenant:acme"])]
    tenant: Annotated[str | None, Field(examples=["acme"])]
    expires_at: Annotated[Moment | None, Field(examples=[None])]
    idle_until: Annotated[Moment | None, Field(examples=[None])]


@endpoint(Access.OPEN, answers={303: None}, refuses=(403, 503))
async def logout(request: web.Request) -> web.Response:
    """Ends the session of the dashboard, if there is one."""
    own_url = request.app[SERVICES].config.server.url()
    if browsers.is_from_other_site(request.method, request.headers, own_url):
        raise Problem(403, "this comes from a page of another site")
    return await sessions.end(request)


@endpoint(Access.ANYBODY, answers={200: SessionShape})
async def session(request: web.Request) -> web.Response:
    """The caller: the actor and scope of the token or session."""
    caller = request[CALLER]
    found = caller.session
    body: SessionShape = {
        "actor": caller.actor,
        "scope": str(caller.scope),
        "tenant": caller.tenant,
        "expires_at": None if found is None else shapes.moment(found.expires_at),
        "idle_until": None if found is None else shapes.moment(found.idle_until),
    }
    return shapes.answer(body)
