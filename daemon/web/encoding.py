"""What stands before everything else: a URL that cannot be decoded names nothing.

The library leaves a `%` that encodes nothing as it is, and bytes that are no UTF-8 too; then `%zz` would be a tenant.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.typedefs import Handler

from daemon.web.problems import Problem

_NO_ENCODING = re.compile("%(?![0-9A-Fa-f]{2})")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses a URL with a percent encoding that is none. Raises Problem."""
    url = request.raw_path
    if "%" in url:
        if _NO_ENCODING.search(url):
            raise Problem(400, "the URL has a % that encodes nothing: write %25 for the sign itself")
        try:
            unquote_to_bytes(url).decode()
        except UnicodeDecodeError as error:
            raise Problem(400, "the URL is not UTF-8 once it is decoded") from error
    return await handler(request)
