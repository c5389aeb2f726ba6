"""A program sees what was acknowledged before it asked, whichever process answers.

Each process folds the route log by itself, and hears of the commands of others some milliseconds late. A program's next
request may be answered by another process than its last one: that would know nothing of a route that was just created,
or would test one that was just disabled. So a request to the API that names a tenant waits until this process has
looked at the end of the log. Requests that come together share a look. While PostgreSQL does not answer, what this
process knows has to do, as for all that is shown from memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from daemon.web.http.endpoints import Endpoint, declared
from daemon.web.http.services import SERVICES
from eventstore.postgres.errors import StoreUnavailable

# A look takes a millisecond. Nobody is kept for longer by a database that hangs: others look at the log all the time.
PATIENCE_SECONDS = 1.0


@web.middleware
async def middleware(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Has a request to the API wait for the end of the route log. Pages know what their browser has changed."""
    endpoint = declared(request.match_info.handler)
    if endpoint is not None and not endpoint.is_page and "tenant" in request.match_info:
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await request.app[SERVICES].reach_end()
    return await handler(request)
