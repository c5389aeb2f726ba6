"""A person sees what they have just changed, whichever process answers.

Each process folds the route log by itself, and hears of the commands of others some milliseconds late. The page after a
command may be asked of another process than the one that carried it out: it would show the webhook as it was before,
under a notice that it was changed. So a cookie has the position that the log had reached with the command, and a page
waits until its process is there too.
"""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from daemon.web.access import sessions
from daemon.web.http.services import SERVICES

# No process is so far behind for so long.
_REMEMBERED = timedelta(minutes=1)
# Positions are bigints.
_MAX_DIGITS = 18


def note(request: web.Request, response: web.Response) -> None:
    """Lets the browser know how far the log is, after a command."""
    services = request.app[SERVICES]
    position = str(services.index.position)
    sessions.set_cookie(response, services.config, _cookie_name(request), position, _REMEMBERED)


async def reach(request: web.Request) -> None:
    """Returns once this process has applied what the browser knows of. Raises StoreUnavailable."""
    services, text = request.app[SERVICES], request.cookies.get(_cookie_name(request), "")
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        await services.reach(int(text))


def _cookie_name(request: web.Request) -> str:
    return f"{sessions.cookie_name(request.app[SERVICES].config.server)}-position"
