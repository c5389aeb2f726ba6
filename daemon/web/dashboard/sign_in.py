"""The page of a sign-in link: looking at it changes nothing, and its button uses the link up.

A chat that shows a preview, a scanner of mail or a browser that loads ahead only looks. The button counts if our own
page sends it, so no other site can sign its reader in as somebody else; and a person whose session is another
tenant's is asked before it is replaced.
"""

from __future__ import annotations

from aiohttp import web

from daemon.web.access import auth, browsers, sessions
from daemon.web.access.guesses import CredentialKind, guessing
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from eventstore.access.sessions import PendingLink, Session

# In the query of the form that was shown to somebody whose session ends with it.
INSTEAD = "instead"


@page(Access.OPEN)
async def show(request: web.Request) -> web.Response:
    """Asks whether to sign in. The link works once, and for a short time; this does not use it up."""
    return _page(request, await _pending(request), await auth.session_of(request))


@page(Access.OPEN)
async def sign_in(request: web.Request) -> web.Response:
    """Uses the link up: begins a session and redirects to the dashboard."""
    if not browsers.is_from_our_page(request.headers, request.app[SERVICES].config.server.url()):
        raise Problem(403, "a sign-in link is used by the button of its own page: open it in a browser")
    if INSTEAD not in request.query:
        pending, running = await _pending(request), await auth.session_of(request)
        if _replaces(pending, running):
            return _page(request, pending, running, status=409)
    link = request.match_info["link"]
    with guessing(request, CredentialKind.LINK, link) as guess:
        response = await sessions.begin(request, link)
        if response is None:
            guess.wrong()
            raise _gone()
        guess.right()
    return response


async def _pending(request: web.Request) -> PendingLink:
    """What the link leads to. Raises Problem 410 if it does not work any more."""
    link = request.match_info["link"]
    with guessing(request, CredentialKind.LINK, link) as guess:
        pending = await sessions.pending(request, link)
        if pending is None:
            guess.wrong()
            raise _gone()
        guess.right()
    return pending


def _page(request: web.Request, pending: PendingLink, running: Session | None, *, status: int = 200) -> web.Response:
    return render(
        request,
        "sign_in.html",
        status=status,
        secret=request.match_info["link"],
        pending=pending,
        replaced=running if _replaces(pending, running) else None,
    )


def _replaces(pending: PendingLink, running: Session | None) -> bool:
    """True if the person would see another tenant than now."""
    return running is not None and running.tenant != pending.tenant


def _gone() -> Problem:
    return Problem(
        410,
        "this link was used before, or has expired: make a new one with hookledger login-link",
        for_people="this link was used before, or has expired",
    )
