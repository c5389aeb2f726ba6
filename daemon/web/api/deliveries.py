"""The delivery log over HTTP: what was sent, what waits and what failed, newest event first."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon import deliveries
from daemon.core.delivery.status import DeliveryStatus
from daemon.core.events.catalogue import name_problem
from daemon.deliveries import DeliveryDetail, DeliveryFilter, ListedDelivery, SentRequest
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.parameters import moment_of
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK, EventId, Moment, Uuid, moment
from daemon.web.service import exchanges
from daemon.web.service.exchanges import KeptAnswer
from daemon.web.service.lookup import EVENT_HINT, named_detail, route_of_tenant
from eventstore.queries.attempts import RecordedExchange

# How deliveries look from outside: in a list, and one with every request of it and every answer.

# Of the bodies of a delivery's requests; older ones are left out, since each is about as long as the event.
MAX_BODIES_BYTES = 1024 * 1024

Type = Annotated[str, Field(examples=["order.create"])]
Count = Annotated[int, Field(ge=0, examples=[1])]
StatusCode = Annotated[int | None, Field(examples=[200])]
ErrorText = Annotated[str | None, Field(examples=[None, "timeout", "http_500"])]


class DeliveryEventShape(TypedDict):
    id: EventId
    type: Type
    event_time: Moment


class DeliveryRouteShape(TypedDict):
    """The route, with its present name; null for a moment, while this process has not heard of the route yet."""

    id: Uuid
    name: Annotated[str | None, Field(examples=["Orders"])]


class LastAttemptShape(TypedDict):
    at: Moment
    status_code: StatusCode
    error: ErrorText


class _AboutShape(TypedDict):
    id: Uuid
    event: DeliveryEventShape
    route: DeliveryRouteShape
    status: DeliveryStatus
    last_attempt: LastAttemptShape | None
    next_attempt_at: Annotated[Moment | None, Field(examples=[None])]
    test: bool


class DeliveryShape(_AboutShape):
    """An event on its way to a route. `attempts` is how many requests were made; `next_attempt_at` when the next one
    is due, also of a delivered one that is sent again by hand. `test` marks events that were sent to try the route out.
    """

    attempts: Count


class SentShape(TypedDict):
    """A request as it was sent, beside `Host` and `Content-Length`; values of the route's own headers are masked.
    `body` is null where later requests have taken up the room.
    """

    method: Literal["POST"]
    url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    headers: Annotated[dict[str, str], Field(examples=[{"Content-Type": "application/json", "X-Shop": MASK}])]
    body: Annotated[str | None, Field(examples=['{"id":"evt_1"}'])]


class AnswerShape(TypedDict):
    """What was kept of an answer: its headers, and the beginning of its body, base64 if it is no text.
    `truncated` says that its end may be missing.
    """

    head: Annotated[list[tuple[str, str]], Field(examples=[[["Content-Type", "text/plain"]]])]
    body: Annotated[str, Field(examples=["ok"])]
    encoding: Literal["text", "base64"]
    truncated: bool


class AttemptShape(TypedDict):
    """A request of a delivery. `request` is null if none could be made, or if its event or keys are no longer kept."""

    number: Annotated[int, Field(ge=1)]
    at: Moment
    duration_ms: Annotated[int, Field(ge=0, examples=[42])]
    outcome: Annotated[str, Field(examples=["delivered"])]
    status_code: StatusCode
    error: ErrorText
    route_version: Annotated[int, Field(ge=1)]
    request: SentShape | None
    response: AnswerShape | None


class DeliveryDetailShape(_AboutShape):
    """A delivery with its requests, the first one first. `detail` says in a sentence how it stands and why; null once
    its event is no longer kept.
    """

    detail: Annotated[str | None, Field(examples=["Delivered on attempt 1, 2026-11-23 08:00:00.000000 UTC."])]
    attempts: list[AttemptShape]


def of_item(item: ListedDelivery) -> DeliveryShape:
    """A delivery in a list."""
    return {**_about(item), "attempts": item.gist.requests}


def of_detail(it: DeliveryDetail) -> DeliveryDetailShape:
    """A delivery with everything that is kept of it."""
    attempts: list[AttemptShape] = []
    room = MAX_BODIES_BYTES
    for exchange, sent in zip(reversed(it.exchanges), reversed(it.sent), strict=True):
        room -= 0 if sent is None else len(sent.request.body)
        attempts.append(_of_exchange(exchange, sent, has_room=room >= 0 or not attempts))
    return {
        **_about(it.item),
        "detail": None if it.explanation is None else it.explanation.detail,
        "attempts": attempts[::-1],
    }


def _about(item: ListedDelivery) -> _AboutShape:
    place, gist = item.found.place, item.gist
    last: LastAttemptShape | None = None
    if gist.last_at is not None:
        last = {"at": moment(gist.last_at), "status_code": gist.last_status_code, "error": gist.last_error}
    return {
        "id": item.id,
        "event": {"id": item.found.event_id, "type": item.found.event_type, "event_time": moment(place.event_time)},
        "route": {"id": str(place.route_id), "name": item.route_name},
        "status": item.status,
        "last_attempt": last,
        "next_attempt_at": moment(gist.due_at),
        "test": item.found.is_test,
    }


def _of_exchange(exchange: RecordedExchange, sent: SentRequest | None, *, has_room: bool) -> AttemptShape:
    answer = exchanges.kept_answer(exchange)
    return {
        "number": exchange.number,
        "at": moment(exchange.started_at),
        "duration_ms": exchange.duration_ms,
        "outcome": exchange.outcome,
        "status_code": exchange.status_code,
        "error": exchange.error,
        "route_version": exchange.route_version,
        "request": None if sent is None else _of_sent(sent, has_room=has_room),
        "response": None if answer is None else _of_answer(answer),
    }


def _of_sent(sent: SentRequest, *, has_room: bool) -> SentShape:
    return {
        "method": "POST",
        "url": sent.target_url,
        "headers": exchanges.shown_headers(sent),
        "body": sent.request.body.decode() if has_room else None,
    }


def _of_answer(answer: KeptAnswer) -> AnswerShape:
    return {
        "head": answer.head,
        "body": base64.b64encode(answer.body).decode() if answer.text is None else answer.text,
        "encoding": "base64" if answer.text is None else "text",
        "truncated": answer.is_truncated,
    }


_MOMENT = {"type": "string", "format": "date-time"}

FILTERS = (
    Query(name="route", description="only to this route", schema={"type": "string", "format": "uuid"}),
    Query(
        name="status", description="only those that stand so", schema={"type": "string", "enum": list(DeliveryStatus)}
    ),
    Query(name="type", description="only of events of this type", problem=name_problem),
    Query(name="event", description="only of events with this id"),
    Query(name="since", description="only of events that happened then or later", schema=_MOMENT),
    Query(name="until", description="only of events that happened before", schema=_MOMENT),
)


@endpoint(Access.READ, *FILTERS, *paging.QUERY, answers={200: paging.Page[DeliveryShape]}, refuses=(404,))
async def list_deliveries(request: web.Request) -> web.Response:
    """The tenant's deliveries, newest event first: those that were tried, and those that wait.

    How much is looked at for a page is bounded. So with filters a page may be short, or even empty, though `next` is
    not null: go on until it is.
    """
    services = request.app[SERVICES]
    wanted, size = _filter(request), paging.limit(request)
    cursor = request.query.get("cursor")
    begin = None if cursor is None else paging.delivery_position(cursor)
    if "\0" in (wanted.event_id or ""):  # PostgreSQL has no such text, so there is no such event
        nothing: paging.Page[DeliveryShape] = {"items": [], "next": None}
        return shapes.answer(nothing)
    found = await deliveries.page(services.database, services.index, wanted, begin=begin, limit=size)
    page: paging.Page[DeliveryShape] = {
        "items": [of_item(item) for item in found.items],
        "next": paging.delivery_cursor(found.next),
    }
    return shapes.answer(page)


@endpoint(Access.READ, EVENT_HINT, answers={200: DeliveryDetailShape}, refuses=(404, 429))
async def show(request: web.Request) -> web.Response:
    """A delivery with each of its requests, as it was sent, and what was kept of the answer."""
    return shapes.answer(of_detail(await named_detail(request)))


def _filter(request: web.Request) -> DeliveryFilter:
    """What the query asks for. Raises NotFound for a route that is not there."""
    query = request.query
    return DeliveryFilter(
        tenant=request.match_info["tenant"],
        route_id=route_of_tenant(request, query["route"]) if "route" in query else None,
        status=DeliveryStatus(query["status"]) if "status" in query else None,
        event_type=query.get("type"),
        event_id=query.get("event"),
        since=moment_of(query, "since"),
        until=moment_of(query, "until"),
    )
