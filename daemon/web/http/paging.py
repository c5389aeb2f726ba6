"""Pages of a list that is in memory: `?limit=` of at most 200 and an opaque `?cursor=`.

The cursor is the key of the last item given out, not an offset: what is added or removed meanwhile shifts nothing, and
the item itself may be gone. So keys must sort like the list.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem
from daemon.web.http.endpoints import Query
from eventstore.queries.delivery_log import ListPosition

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARACTERS = 1024

_NO_CURSOR = "is not a cursor of this API: use next as it was given"


def _cursor_problem(text: str) -> str | None:
    return _NO_CURSOR if decoded(text) is None else None


# The parameters that an endpoint with pages knows.
QUERY = (
    Query(
        name="limit",
        description=f"how many items, at most {MAX_LIMIT}",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Query(
        name="cursor",
        description="`next` of the page before, as it was given",
        schema={"type": "string", "maxLength": MAX_CURSOR_CHARACTERS},
        problem=_cursor_problem,
    ),
)

ItemT = TypeVar("ItemT")

Cursor = Annotated[str | None, Field(examples=[None])]


class Page(TypedDict, Generic[ItemT]):
    """A part of a list; `next` is the cursor of the part behind it, null if this is the last."""

    items: list[ItemT]
    next: Cursor


def page(
    request: web.Request, items: Sequence[ItemT], *, key: Callable[[ItemT], str], is_descending: bool = False
) -> tuple[list[ItemT], str | None]:
    """The page that the query asks for, and the cursor of the next one."""
    after = cursor(request)
    if after is not None:
        items = [item for item in items if (key(item) < after if is_descending else key(item) > after)]
    return first(request, items, key=key)


def first(
    request: web.Request, items: Iterable[ItemT], *, key: Callable[[ItemT], str]
) -> tuple[list[ItemT], str | None]:
    """The same of items that begin behind the cursor already; no more of them are looked at than needed."""
    size = limit(request)
    chosen = list(islice(items, size + 1))
    return chosen[:size], encoded(key(chosen[size - 1])) if len(chosen) > size else None


def limit(request: web.Request) -> int:
    """How many items are wanted."""
    return int(request.query.get("limit", DEFAULT_LIMIT))


def cursor(request: web.Request) -> str | None:
    """The key that a cursor stands for."""
    text = request.query.get("cursor")
    if text is None:
        return None
    key = decoded(text)
    if key is None:
        raise unknown_cursor()
    return key


def decoded(text: str) -> str | None:
    """The key; None if the text stands for none."""
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return key if key and len(text) <= MAX_CURSOR_CHARACTERS else None


def unknown_cursor() -> Invalid:
    """What to raise for a cursor that no page has given out."""
    return Invalid((FieldProblem(field="cursor", message=_NO_CURSOR),))


def encoded(key: str) -> str:
    """The cursor of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


# Places in the lists of the logs, as the text that their cursors stand for.

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Of an event: the time that it claims, and its number in the log.
EventPosition = tuple[datetime, int]


def delivery_cursor(place: ListPosition | None) -> str | None:
    """The cursor of what stands below that delivery."""
    if place is None:
        return None
    return encoded(f"{_event_key((place.event_time, place.seq))}.{place.route_id.hex}")


def delivery_position(cursor: str) -> ListPosition:
    """The place of a cursor. Raises Invalid for one that no page has given out."""
    when, _, route = (decoded(cursor) or "").rpartition(".")
    try:
        return ListPosition(*_event_place(when), UUID(route))
    except (ValueError, OverflowError) as error:
        raise unknown_cursor() from error


def event_cursor(place: EventPosition | None) -> str | None:
    """The cursor of what stands below that event."""
    return None if place is None else encoded(_event_key(place))


def event_position(cursor: str) -> EventPosition:
    """The place of a cursor. Raises Invalid for one that no page has given out."""
    try:
        return _event_place(decoded(cursor) or "")
    except (ValueError, OverflowError) as error:
        raise unknown_cursor() from error


def _event_key(place: EventPosition) -> str:
    return f"{(place[0] - _EPOCH) // timedelta(microseconds=1)}.{place[1]}"


def _event_place(key: str) -> EventPosition:
    micros, _, seq = key.partition(".")
    if not -1 <= int(seq) < 1 << 63:
        raise ValueError
    return _EPOCH + timedelta(microseconds=int(micros)), int(seq)
