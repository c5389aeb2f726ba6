"""Places in the lists of the logs, as the text that their cursors stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from daemon.web import paging
from eventstore.delivery_log import Place

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Of an event: the time that it claims, and its number in the log.
EventPlace = tuple[datetime, int]


def delivery_cursor(place: Place | None) -> str | None:
    """The cursor of what stands below that delivery."""
    if place is None:
        return None
    return paging.encoded(f"{_event_key((place.event_time, place.seq))}.{place.route_id.hex}")


def delivery_place(cursor: str) -> Place:
    """The place of a cursor. Raises Invalid for one that no page has given out."""
    when, _, route = (paging.decoded(cursor) or "").rpartition(".")
    try:
        return Place(*_event_place(when), UUID(route))
    except (ValueError, OverflowError) as error:
        raise paging.unknown_cursor() from error


def event_cursor(place: EventPlace | None) -> str | None:
    """The cursor of what stands below that event."""
    return None if place is None else paging.encoded(_event_key(place))


def event_place(cursor: str) -> EventPlace:
    """The place of a cursor. Raises Invalid for one that no page has given out."""
    try:
        return _event_place(paging.decoded(cursor) or "")
    except (ValueError, OverflowError) as error:
        raise paging.unknown_cursor() from error


def _event_key(place: EventPlace) -> str:
    return f"{(place[0] - _EPOCH) // timedelta(microseconds=1)}.{place[1]}"


def _event_place(key: str) -> EventPlace:
    micros, _, seq = key.partition(".")
    if not -1 <= int(seq) < 1 << 63:
        raise ValueError
    return _EPOCH + timedelta(microseconds=int(micros)), int(seq)
