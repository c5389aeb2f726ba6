"""Pages of a list that is in memory: `?limit=` of at most 200 and an opaque `?cursor=`.

The cursor is the key of the last item given out, not an offset: what is added or removed meanwhile shifts nothing, and
the item itself may be gone. So keys must sort like the list.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.event import Problem
from daemon.web.endpoints import Query

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARACTERS = 1024

# The parameters that an endpoint with pages knows.
QUERY = (
    Query(
        name="limit",
        description=f"how many items, at most {MAX_LIMIT}",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Query(name="cursor", description="`next` of the page before, as it was given"),
)

Item = TypeVar("Item")


def page(
    request: web.Request, items: Sequence[Item], *, key: Callable[[Item], str], is_descending: bool = False
) -> tuple[list[Item], str | None]:
    """The page that the query asks for, and the cursor of the next one. Raises Invalid for a bad limit or cursor."""
    size = limit(request)
    after = cursor(request)
    if after is not None:
        items = [item for item in items if (key(item) < after if is_descending else key(item) > after)]
    chosen = list(items[:size])
    return chosen, encoded(key(chosen[-1])) if len(items) > size else None


def limit(request: web.Request) -> int:
    """How many items are wanted."""
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT):
        raise Invalid((Problem(field="limit", message=f"must be a number from 1 to {MAX_LIMIT}"),))
    return int(text)


def cursor(request: web.Request) -> str | None:
    """The key that a cursor stands for."""
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = ""
    if not key or len(text) > MAX_CURSOR_CHARACTERS:
        raise Invalid((Problem(field="cursor", message="is not a cursor of this API: use next as it was given"),))
    return key


def encoded(key: str) -> str:
    """The cursor of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
