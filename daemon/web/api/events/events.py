"""Events: the published events of a tenant, and one event with its payload."""

from __future__ import annotations

from functools import partial
from typing import Annotated, NotRequired

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.events import field_condition, trace_context
from daemon.core.events.catalogue import name_problem
from daemon.core.routing.index import ALL
from daemon.web.access.queries import query_database
from daemon.web.api.events.sources import MessagePlaceShape, of_place
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.paging import EventPosition
from daemon.web.http.requests.parameters import RECORDED_AT, moment_of
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import EventId, Moment, moment
from daemon.web.service import exports, lookup
from daemon.web.service.events import event_pages
from daemon.web.service.events.event_pages import EventFilter
from daemon.web.service.exports import Export
from eventstore.queries.events.listing import LoggedEvent

# The columns of an export as CSV: an event's own fields.
_COLUMNS = {
    name: (name,) for name in ("id", "type", "event_time", "occurred_at", "recorded_at", "backfill", "test", "tick")
}

EventJson = Annotated[dict[str, object], Field(examples=[{"public_id": "7dc6"}])]


class EventSummaryShape(TypedDict):
    """An event. `event_time` is the time that counts for routing: never later than when the event was recorded or read.
    `tick` is the number of the tick that read it, null if it is not read yet. `test` marks a test event.
    """

    id: EventId
    type: Annotated[str, Field(examples=["order.create"])]
    event_time: Moment
    occurred_at: Annotated[Moment | None, Field(examples=[None])]
    recorded_at: Moment
    backfill: bool
    test: bool
    tick: Annotated[int | None, Field(examples=[1])]


class LoggedEventShape(EventSummaryShape):
    """An event with its payload, byte for byte as it was published.

    `others_recorded_at` is present if other events of the tenant have the same id: when each was recorded, the newest
    first. `?recorded_at=` shows one of them. `message` is present if the event was a message of a source, for tokens of
    no single tenant.
    """

    data: EventJson
    context: EventJson
    snapshot: EventJson
    others_recorded_at: NotRequired[list[Moment]]
    message: NotRequired[MessagePlaceShape]


@endpoint(
    Access.READ,
    Query(name="type", description="only of this type", problem=name_problem),
    Query(name="since", description="only events that happened at this time or later", schema=shapes.MOMENT_SCHEMA),
    Query(name="until", description="only events that happened before this time", schema=shapes.MOMENT_SCHEMA),
    Query(
        name="where",
        description="only events with this value in their data, like `data.object.public_id = 7dc6`; no index knows "
        "it, so name a type or a period, and go on until `next` is null",
        problem=field_condition.problem,
    ),
    *paging.QUERY,
    paging.EXPORT,
    answers={200: paging.Page[EventSummaryShape]},
)
async def list_events(request: web.Request) -> web.StreamResponse:
    """The tenant's events, newest first, without their payload.

    A page has `limit` events if there are that many; with `where` it may end early, after a second. With
    `Accept: application/x-ndjson` or `text/csv` the answer is all that match.
    """
    query, export_format = request.query, exports.negotiated(request)
    event_filter = EventFilter(
        tenant=request.match_info["tenant"],
        patterns=(query.get("type", ALL),),
        since=moment_of(query, "since"),
        until=moment_of(query, "until"),
        where=field_condition.parse(query["where"]) if "where" in query else None,
    )
    if export_format is not None:
        return await exports.stream(request, export_format, export_of(request, event_filter))
    cursor = query.get("cursor")
    begin = None if cursor is None else paging.event_position(cursor)
    items, after = await _page(request, event_filter, begin, paging.limit(request))
    page: paging.Page[EventSummaryShape] = {"items": items, "next": paging.event_cursor(after)}
    return shapes.answer(page)


def export_of(request: web.Request, event_filter: EventFilter) -> Export[EventSummaryShape, EventPosition]:
    """All events of a filter."""
    return Export(name="events", columns=_COLUMNS, read=partial(_page, request, event_filter))


async def _page(
    request: web.Request, event_filter: EventFilter, begin: EventPosition | None, limit: int
) -> tuple[list[EventSummaryShape], EventPosition | None]:
    found = await event_pages.page(
        query_database(request), event_filter, begin=begin, limit=limit, places=request.app[SERVICES].filter_places
    )
    return [_summary(each) for each in found.events], found.next


@endpoint(Access.READ, RECORDED_AT, answers={200: LoggedEventShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """An event with its payload. If its id was used again, which is possible after 24 hours, it is the newest one."""
    found = await lookup.event(request)
    event = found.event
    others = [moment(recorded_at) for recorded_at in found.others_recorded_at]
    place = await lookup.message_place(request, event)
    return shapes.answer(
        {
            **({"others_recorded_at": others} if others else {}),
            **({} if place is None else {"message": of_place(place)}),
            "id": event.id,
            "type": event.type,
            "event_time": moment(event.event_time),
            "occurred_at": moment(event.occurred_at),
            "recorded_at": moment(event.recorded_at),
            "backfill": event.backfill,
            "test": event.test_route is not None,
            "tick": event.tick,
            "data": orjson.Fragment(event.data),
            "context": orjson.Fragment(trace_context.published(event.context) or b"{}"),
            "snapshot": orjson.Fragment(event.snapshot or b"{}"),
        }
    )


def _summary(event: LoggedEvent) -> EventSummaryShape:
    return {
        "id": event.id,
        "type": event.type,
        "event_time": moment(event.event_time),
        "occurred_at": moment(event.occurred_at),
        "recorded_at": moment(event.recorded_at),
        "backfill": event.backfill,
        "test": event.test_route is not None,
        "tick": event.tick,
    }
