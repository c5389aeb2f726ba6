"""Pages of a list: `?limit=` of at most 200 items, and an opaque `?cursor=`.

A cursor is the encoded key of the last item of a page, not an offset. So items that are added or removed meanwhile
shift nothing, and the item itself may be gone; but keys must sort like the list. In the lists of events and deliveries
the key is a position in the log.
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
from eventstore.queries.deliveries.delivery_log import ListPosition

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARACTERS = 1024

_NO_CURSOR = "is not a cursor of this API: use next as it was given"

# The query parameters of an endpoint with pages.
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
        problem=lambda text: None if decoded(text) is not None else _NO_CURSOR,
    ),
)

# The query parameter of an endpoint that can answer its whole list, for links, which cannot say what they accept.
EXPORT = Query(
    name="export",
    description="all items as a file, without pages: the same as Accept",
    schema={"type": "string", "enum": ["ndjson", "csv"]},
)

ItemT = TypeVar("ItemT")

Cursor = Annotated[str | None, Field(examples=[None])]

# The position of an event in the log: the event time that it claims, and its number.
EventPosition = tuple[datetime, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Page(TypedDict, Generic[ItemT]):
    """A page of a list. `next` is the cursor of the following page, null if this is the last."""

    items: list[ItemT]
    next: Cursor


def page(
    request: web.Request, items: Sequence[ItemT], *, key: Callable[[ItemT], str], is_descending: bool = False
) -> tuple[list[ItemT], str | None]:
    """The page of `items` that the query asks for, and the cursor of the next page."""
    after = cursor(request)
    if after is not None:
        items = [item for item in items if (key(item) < after if is_descending else key(item) > after)]
    return first(request, items, key=key)


def first(
    request: web.Request, items: Iterable[ItemT], *, key: Callable[[ItemT], str]
) -> tuple[list[ItemT], str | None]:
    """The same for items that begin after the cursor already. At most one more than the limit is consumed."""
    size = limit(request)
    head = list(islice(items, size + 1))
    return head[:size], encoded(key(head[size - 1])) if len(head) > size else None


def limit(request: web.Request) -> int:
    """How many items the query asks for."""
    return int(request.query.get("limit", DEFAULT_LIMIT))


def cursor(request: web.Request) -> str | None:
    """The key in the query's cursor, None if there is no cursor. Raises Invalid for text that is no cursor."""
    text = request.query.get("cursor")
    if text is None:
        return None
    key = decoded(text)
    if key is None:
        raise unknown_cursor()
    return key


def decoded(text: str) -> str | None:
    """The key in a cursor, None if the text is no cursor."""
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return key if key and len(text) <= MAX_CURSOR_CHARACTERS else None


def unknown_cursor() -> Invalid:
    """The error to raise for a cursor that no page has returned."""
    return Invalid((FieldProblem(field="cursor", message=_NO_CURSOR),))


def encoded(key: str) -> str:
    """The cursor of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def delivery_cursor(position: ListPosition | None) -> str | None:
    """The cursor of the deliveries after that position."""
    if position is None:
        return None
    return encoded(f"{_event_key((position.event_time, position.seq))}.{position.route_id.hex}")


def delivery_position(cursor: str) -> ListPosition:
    """The position in a cursor. Raises Invalid for a cursor that no page has returned."""
    event_key, _, route = (decoded(cursor) or "").rpartition(".")
    try:
        return ListPosition(*_event_position(event_key), UUID(route))
    except (ValueError, OverflowError) as error:
        raise unknown_cursor() from error


def event_cursor(position: EventPosition | None) -> str | None:
    """The cursor of the events after that position."""
    return None if position is None else encoded(_event_key(position))


def micros_of(at: datetime) -> int:
    """A time as it stands in cursors."""
    return (at - _EPOCH) // _MICROSECOND


def at_micros(micros: int) -> datetime:
    """The time that stands in a cursor. Raises OverflowError."""
    return _EPOCH + micros * _MICROSECOND


def event_position(cursor: str) -> EventPosition:
    """The position in a cursor. Raises Invalid for a cursor that no page has returned."""
    try:
        return _event_position(decoded(cursor) or "")
    except (ValueError, OverflowError) as error:
        raise unknown_cursor() from error


def _event_key(position: EventPosition) -> str:
    event_time, seq = position
    return f"{micros_of(event_time)}.{seq}"


def _event_position(key: str) -> EventPosition:
    micros, _, seq = key.partition(".")
    if not -1 <= int(seq) < 1 << 63:
        raise ValueError
    return at_micros(int(micros)), int(seq)
