"""The OpenAPI document of this API, from which clients and tests can be generated."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web

from daemon.web.http.endpoints import Access, Media, endpoint
from daemon.web.openapi.document import operations, rendered

DOCUMENT = Media(
    content_type="application/json", name="Document", schema={"type": "object"}, example={"openapi": "3.1.0"}
)


@endpoint(Access.OPEN, answers={200: DOCUMENT, 304: None})
async def show(request: web.Request) -> web.Response:
    """The OpenAPI 3.1 document of this daemon, with its ETag."""
    # Rendered once in each process, in a thread: it would block the event loop for too long.
    body = await asyncio.to_thread(rendered, operations(request.app))
    tag = hashlib.sha256(body).hexdigest()[:16]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)
