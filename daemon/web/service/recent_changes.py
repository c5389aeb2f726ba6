"""A request about a tenant sees every change that was answered before it, whichever process answers.

Each process folds the route log by itself, and hears of the commands of others some milliseconds late. What comes after
a command may be asked of another process than the one that carried it out: it would show a webhook as it was before, or
none. So each such request first asks how far the log is, and waits until its process is there too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.web.http.services import Services
from eventstore import route_log
from eventstore.postgres.errors import StoreUnavailable

# Without the database, routes are shown as this process knows them: nobody waits long for better.
WAIT_SECONDS = 1.0


class RecentChanges:
    """Applies what the route log has, once for all who ask for it before that begins. So a crowd that reads costs
    those who write one connection, and a query for many requests.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._turn = asyncio.Lock()
        self._next: asyncio.Future[None] | None = None

    async def applied(self) -> None:
        """Returns once this process knows the routes as they were when this was called, or after a second."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._apply())
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(self._next)

    async def _apply(self) -> None:
        async with self._turn:
            self._next = None  # who comes from now on may know of a later change
            with suppress(StoreUnavailable):
                position = await route_log.last_position(self._services.command_database)
                await self._services.reach(position)


RECENT_CHANGES: web.AppKey[RecentChanges] = web.AppKey("recent_changes", RecentChanges)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Passes a request about a tenant on once this process knows the tenant's routes as they are."""
    if "tenant" in request.match_info:
        await request.app[RECENT_CHANGES].applied()
    return await handler(request)
