"""The delivery log: the deliveries of a tenant, newest event first, and one delivery with its requests and answers."""

from __future__ import annotations

import base64
from functools import partial
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon import deliveries
from daemon.commands import Invalid
from daemon.core.delivery.status import DeliveryStatus, ListStatus
from daemon.core.events import field_condition
from daemon.core.events.catalogue import name_problem
from daemon.core.events.event import FieldProblem
from daemon.core.sentences.failures import error_code, explain_error
from daemon.deliveries import DeliveryDetail, DeliveryFilter, ListedDelivery, SentRequest
from daemon.web.access.queries import query_database
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.requests.parameters import moment_of
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK, EventId, Moment, Uuid, moment
from daemon.web.service import exports
from daemon.web.service.deliveries import exchanges
from daemon.web.service.deliveries.exchanges import KeptAnswer
from daemon.web.service.exports import Export
from daemon.web.service.lookup import EVENT_HINT, delivery_detail, tenant_route_id
from eventstore.queries.deliveries.attempts import RecordedExchange
from eventstore.queries.deliveries.delivery_log import ListPosition

# Limit of all request bodies in the detail of a delivery. Each is about as long as the event, so the bodies of older
# requests are left out.
MAX_BODIES_BYTES = 1024 * 1024

FILTERS = (
    Query(name="route", description="only to this route", schema={"type": "string", "format": "uuid"}),
    Query(
        name="status",
        description="only with this status; `retrying`: pending, and at least one request has failed",
        schema={"type": "string", "enum": list(ListStatus)},
    ),
    Query(name="type", description="only of events of this type", problem=name_problem),
    Query(name="event", description="only of events with this id"),
    Query(name="since", description="only of events that happened at this time or later", schema=shapes.MOMENT_SCHEMA),
    Query(name="until", description="only of events that happened before this time", schema=shapes.MOMENT_SCHEMA),
    Query(
        name="where",
        description="only of events with this value in their data, like `data.object.public_id = 7dc6`; no index knows "
        "it, so name a type or a period, and go on until `next` is null; not together with `event`",
        problem=field_condition.problem,
    ),
)

# The columns of an export as CSV.
_COLUMNS = {
    "id": ("id",),
    "event_id": ("event", "id"),
    "event_type": ("event", "type"),
    "event_time": ("event", "event_time"),
    "route_id": ("route", "id"),
    "route_name": ("route", "name"),
    "status": ("status",),
    "attempts": ("attempts",),
    "last_attempt_at": ("last_attempt", "at"),
    "last_status_code": ("last_attempt", "status_code"),
    "last_error": ("last_attempt", "error"),
    "next_attempt_at": ("next_attempt_at",),
    "test": ("test",),
}

Type = Annotated[str, Field(examples=["order.create"])]
AttemptCount = Annotated[int, Field(ge=0, examples=[1])]
StatusCode = Annotated[int | None, Field(examples=[200])]
ErrorCode = Annotated[str | None, Field(examples=[None, "timeout", "http_500", "tls_error"])]


class DeliveryEventShape(TypedDict):
    id: EventId
    type: Type
    event_time: Moment


class DeliveryRouteShape(TypedDict):
    """The route, with its present name. The name is null as long as this process has not read the new route yet."""

    id: Uuid
    name: Annotated[str | None, Field(examples=["Orders"])]


class LastAttemptShape(TypedDict):
    at: Moment
    status_code: StatusCode
    error: ErrorCode


class _SummaryShape(TypedDict):
    id: Uuid
    event: DeliveryEventShape
    route: DeliveryRouteShape
    status: DeliveryStatus
    last_attempt: LastAttemptShape | None
    next_attempt_at: Annotated[Moment | None, Field(examples=[None])]
    test: bool


class DeliveryShape(_SummaryShape):
    """The delivery of an event to a route. `attempts` is the number of its requests. `next_attempt_at` is when the next
    request is due, also for a delivered one that is sent again by hand. `test` marks deliveries of test events.
    """

    attempts: AttemptCount


class SentShape(TypedDict):
    """A request as it was sent, without `Host` and `Content-Length`. The values of custom headers are masked.
    `body` is null if the bodies of later requests fill the answer.
    """

    method: Literal["POST"]
    url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    headers: Annotated[dict[str, str], Field(examples=[{"Content-Type": "application/json", "X-Shop": MASK}])]
    body: Annotated[str | None, Field(examples=['{"id":"evt_1"}'])]


class AnswerShape(TypedDict):
    """What was kept of an answer: its headers, and the beginning of its body, in base64 if it is not text.
    `truncated`: the end of the body may be missing.
    """

    head: Annotated[list[tuple[str, str]], Field(examples=[[["Content-Type", "text/plain"]]])]
    body: Annotated[str, Field(examples=["ok"])]
    encoding: Literal["text", "base64"]
    truncated: bool


class AttemptShape(TypedDict):
    """An attempt of a delivery. `error_help` says what the error means, and what to do. `request` is null if it could
    not be built, or if event or keys are no longer kept.
    """

    number: Annotated[int, Field(ge=1)]
    at: Moment
    duration_ms: Annotated[int, Field(ge=0, examples=[42])]
    outcome: Annotated[str, Field(examples=["delivered"])]
    status_code: StatusCode
    error: ErrorCode
    error_help: Annotated[str | None, Field(examples=[None, "Nothing accepts connections at the receiver's address."])]
    route_version: Annotated[int, Field(ge=1)]
    request: SentShape | None
    response: AnswerShape | None


class ManualRetryShape(TypedDict):
    """Who had the delivery sent again by hand."""

    at: Moment
    actor: Annotated[str, Field(examples=["admin"])]
    reason: Annotated[str | None, Field(examples=["the shop was down"])]


class DeliveryDetailShape(_SummaryShape):
    """A delivery with its attempts, oldest first; of more than 1,000, the last of them. `detail` is a sentence about
    its status and the reason for it; null if its event is no longer kept. `manual_retries` are the last ones, newest
    first.
    """

    detail: Annotated[
        str | None,
        Field(examples=["It is due: its request is about to be made, or under way."]),
    ]
    attempts: list[AttemptShape]
    manual_retries: list[ManualRetryShape]


def of_item(item: ListedDelivery) -> DeliveryShape:
    """A delivery as an item of a list."""
    return {**_summary(item), "attempts": item.summary.requests}


def of_detail(it: DeliveryDetail) -> DeliveryDetailShape:
    """A delivery with everything that is kept of it. The newest attempt always has its body."""
    attempts: list[AttemptShape] = []
    remaining_bytes = MAX_BODIES_BYTES
    for exchange, sent in zip(reversed(it.exchanges), reversed(it.sent), strict=True):
        remaining_bytes -= 0 if sent is None else len(sent.request.body)
        attempts.append(_attempt(exchange, sent, with_body=remaining_bytes >= 0 or not attempts))
    return {
        **_summary(it.item),
        "detail": None if it.explanation is None else it.explanation.detail,
        "attempts": attempts[::-1],
        "manual_retries": [
            {"at": moment(each.at), "actor": each.actor, "reason": each.reason} for each in it.manual_retries
        ],
    }


@endpoint(
    Access.READ,
    *FILTERS,
    *paging.QUERY,
    paging.EXPORT,
    answers={200: paging.Page[DeliveryShape]},
    refuses=(404,),
)
async def list_deliveries(request: web.Request) -> web.StreamResponse:
    """The tenant's deliveries, newest event first: those that were tried, and those that wait.

    A page has `limit` deliveries if there are that many. Only a search that takes more than a second ends early: then
    the page is short, or even empty, and `next` is not null: go on until it is. With `Accept: application/x-ndjson` or
    `text/csv` the answer is all that match.
    """
    delivery_filter, export_format = _filter(request), exports.negotiated(request)
    if export_format is not None:
        return await exports.stream(request, export_format, export_of(request, delivery_filter))
    cursor = request.query.get("cursor")
    begin = None if cursor is None else paging.delivery_position(cursor)
    items, after = await _page(request, delivery_filter, begin, paging.limit(request))
    page: paging.Page[DeliveryShape] = {"items": items, "next": paging.delivery_cursor(after)}
    return shapes.answer(page)


def export_of(request: web.Request, delivery_filter: DeliveryFilter) -> Export[DeliveryShape, ListPosition]:
    """All deliveries of a filter."""
    return Export(name="deliveries", columns=_COLUMNS, read=partial(_page, request, delivery_filter))


async def _page(
    request: web.Request, delivery_filter: DeliveryFilter, begin: ListPosition | None, limit: int
) -> tuple[list[DeliveryShape], ListPosition | None]:
    if "\0" in (delivery_filter.event_id or ""):  # PostgreSQL has no such text, so there is no such event
        return [], None
    services = request.app[SERVICES]
    found = await deliveries.page(
        query_database(request),
        services.index,
        delivery_filter,
        begin=begin,
        limit=limit,
        places=services.filter_places,
    )
    return [of_item(item) for item in found.items], found.next


@endpoint(Access.READ, EVENT_HINT, answers={200: DeliveryDetailShape}, refuses=(404, 429))
async def show(request: web.Request) -> web.Response:
    """A delivery with each of its requests as it was sent, and what was kept of the answers."""
    return shapes.answer(of_detail(await delivery_detail(request)))


def _filter(request: web.Request) -> DeliveryFilter:
    """The filters in the query. Raises NotFound for a route that the tenant does not have, and Invalid."""
    query = request.query
    if "where" in query and "event" in query:
        raise Invalid((FieldProblem(field="where", message="cannot be given together with event: leave one out"),))
    return DeliveryFilter(
        tenant=request.match_info["tenant"],
        route_id=tenant_route_id(request, query["route"]) if "route" in query else None,
        status=ListStatus(query["status"]) if "status" in query else None,
        event_type=query.get("type"),
        event_id=query.get("event"),
        since=moment_of(query, "since"),
        until=moment_of(query, "until"),
        where=field_condition.parse(query["where"]) if "where" in query else None,
    )


def _summary(item: ListedDelivery) -> _SummaryShape:
    position, summary = item.found.position, item.summary
    last: LastAttemptShape | None = None
    if summary.last_at is not None:
        error = None if summary.last_error is None else error_code(summary.last_error)
        last = {"at": moment(summary.last_at), "status_code": summary.last_status_code, "error": error}
    return {
        "id": item.id,
        "event": {"id": item.found.event_id, "type": item.found.event_type, "event_time": moment(position.event_time)},
        "route": {"id": str(position.route_id), "name": item.route_name},
        "status": item.status,
        "last_attempt": last,
        "next_attempt_at": moment(summary.due_at),
        "test": item.found.is_test,
    }


def _attempt(exchange: RecordedExchange, sent: SentRequest | None, *, with_body: bool) -> AttemptShape:
    answer = exchanges.kept_answer(exchange)
    failure = None if exchange.error is None else explain_error(exchange.error)
    return {
        "number": exchange.number,
        "at": moment(exchange.started_at),
        "duration_ms": exchange.duration_ms,
        "outcome": exchange.outcome,
        "status_code": exchange.status_code,
        "error": None if exchange.error is None else error_code(exchange.error),
        "error_help": None if failure is None else f"{failure.cause} {failure.step}",
        "route_version": exchange.route_version,
        "request": None if sent is None else _sent(sent, with_body=with_body),
        "response": None if answer is None else _answer(answer),
    }


def _sent(sent: SentRequest, *, with_body: bool) -> SentShape:
    return {
        "method": "POST",
        "url": sent.target_url,
        "headers": exchanges.shown_headers(sent),
        "body": sent.request.body.decode() if with_body else None,
    }


def _answer(answer: KeptAnswer) -> AnswerShape:
    return {
        "head": answer.head,
        "body": base64.b64encode(answer.body).decode() if answer.text is None else answer.text,
        "encoding": "base64" if answer.text is None else "text",
        "truncated": answer.is_truncated,
    }
