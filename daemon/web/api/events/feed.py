"""The feed: a tenant's events with their payload as they are read, the oldest first, for those who come to get them."""

from __future__ import annotations

import asyncio
from typing import Annotated, NotRequired

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES
from daemon.core.events import trace_context
from daemon.core.events.event import pattern_problem
from daemon.core.routing.index import ALL
from daemon.core.webhook.request import RequestOptions
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.web.access import auth
from daemon.web.access.queries import query_database
from daemon.web.api.events.events import EventJson
from daemon.web.http import paging, shapes
from daemon.web.http.connections import is_connected
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES, request_options
from daemon.web.http.shapes import EventId, Moment, Uuid, moment
from daemon.web.service.events import feed_pages
from daemon.web.service.events.feed_pages import FeedPage, FeedPlace, FeedQuestion, WaitingRequests
from eventstore.domain_events.events import StoredEvent

MAX_WAIT_SECONDS = 30
# Access that was looked at so long ago is looked at again before an answer, and beyond the second while it waits.
CHECK_SECONDS = 2.0
RECHECK_SECONDS = 10.0

WAITING = web.AppKey("waiting_for_feed", WaitingRequests)


class FedEventShape(TypedDict):
    """An event as it was published. `event_time` is the time that counts for routing. A `backfill` event is sent to no
    webhook, a test event to `test_route` alone. `hops` is how many deliveries in a row led to it.
    """

    id: EventId
    type: Annotated[str, Field(examples=["order.create"])]
    event_time: Moment
    occurred_at: Annotated[Moment | None, Field(examples=[None])]
    recorded_at: Moment
    backfill: bool
    test_route: Annotated[Uuid | None, Field(examples=[None])]
    hops: Annotated[int, Field(ge=0, examples=[0])]
    data: EventJson
    context: EventJson
    snapshot: EventJson


class SenderShape(TypedDict):
    """What the webhook requests of this installation have in common."""

    signing_header: Annotated[str, Field(examples=["OrderGroove-Signature"])]
    standard_webhooks: bool
    user_agent: Annotated[str, Field(examples=["Hookledger/0.1.0"])]
    max_body_bytes: Annotated[int, Field(examples=[262144])]


class FeedShape(TypedDict):
    """The next events, perhaps none, and the cursor to ask with for those after them. It is never null. `sender` is
    there if no cursor was given: by it somebody can make the requests that a webhook would get.
    """

    items: list[FedEventShape]
    next: Annotated[str, Field(examples=["MTIuMTc5NTQ2MzgxNTAwMDAwMC4w"])]
    sender: NotRequired[SenderShape]


def _types_problem(text: str) -> str | None:
    patterns = text.split(",")
    if len(patterns) > MAX_EVENT_TYPES:
        return f"has {len(patterns)} types, {MAX_EVENT_TYPES} are allowed"
    return next((problem for each in patterns if (problem := pattern_problem(each)) is not None), None)


@endpoint(
    Access.READ,
    Query(
        name="types",
        description="only of these types, separated by commas, each as a route has them: order.create, order.*",
        problem=_types_problem,
    ),
    Query(
        name="wait",
        description="for how many seconds to wait for an event if there is none",
        schema={"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS, "default": 0},
    ),
    *paging.QUERY,
    answers={200: FeedShape},
    refuses=(410, 429),
)
async def show(request: web.Request) -> web.Response:
    """The tenant's events as they come, the oldest first, with their payload.

    Without a cursor it begins after all that was read, and answers at once: ask again with `next`, and with `wait`. An
    answer may have no events although there are more. Nothing is left out and nothing comes twice, also if another
    process is asked, or the connection was lost in between. A cursor is known for as long as the log is kept; 410 says
    that it is not.
    """
    feed, database = request.app[SERVICES].event_feed, query_database(request)
    _check_open(feed)
    tenant = request.match_info["tenant"]
    question = FeedQuestion(
        tenant=tenant,
        patterns=frozenset(request.query.get("types", ALL).split(",")),
        limit=paging.limit(request),
    )
    clock = asyncio.get_running_loop().time
    checked_at = clock()
    ends_at = checked_at + int(request.query.get("wait", 0))
    with request.app[WAITING].one(tenant):
        cursor = request.query.get("cursor")
        if cursor is None:
            begin = FeedPage(place=await feed_pages.begin(feed, database))
            return _answer(begin, sender=_sender(request_options(request.app[SERVICES].config)))
        log = feed.log
        place = await _place(request, cursor)
        page = FeedPage(place=place)
        with feed.following(tenant) as bell:
            while True:
                bell.clear()
                is_all = await feed_pages.advance(feed, database, page, question)
                if feed.log is not log:  # the next question says whether it has this place
                    page = FeedPage(place=place)
                    break
                if page.events or not is_all or feed.is_closed or clock() >= ends_at or not is_connected(request):
                    break
                await feed_pages.wait(feed, bell, ends_at - clock())
                if clock() - checked_at >= RECHECK_SECONDS:
                    await _check_access(request)
                    checked_at = clock()
    if clock() - checked_at >= CHECK_SECONDS:
        await _check_access(request)
    return _answer(page)


def _answer(page: FeedPage, **more: object) -> web.Response:
    return shapes.answer({"items": [_of_event(each) for each in page.events], "next": _cursor(page.place), **more})


def _sender(options: RequestOptions) -> SenderShape:
    return {
        "signing_header": options.signing_header,
        "standard_webhooks": options.standard_webhooks,
        "user_agent": options.user_agent,
        "max_body_bytes": options.max_body_bytes,
    }


def _of_event(event: StoredEvent) -> dict[str, object]:
    return {
        "id": event.id,
        "type": event.type,
        "event_time": moment(event.event_time),
        "occurred_at": moment(event.occurred_at),
        "recorded_at": moment(event.recorded_at),
        "backfill": event.backfill,
        "test_route": None if event.test_route is None else str(event.test_route),
        "hops": event.hops or 0,
        "data": orjson.Fragment(event.data),
        "context": orjson.Fragment(trace_context.published(event.context) or b"{}"),
        "snapshot": orjson.Fragment(event.snapshot or b"{}"),
    }


def _cursor(place: FeedPlace) -> str:
    """The tick's number with its time, by which it is known again after a standby was promoted; and the seq."""
    return paging.encoded(f"{place.tick.tick}.{paging.micros_of(place.tick.at)}.{place.seq}")


async def _place(request: web.Request, cursor: str) -> FeedPlace:
    """The place in a cursor. Raises Invalid for one that no answer has had, Problem for one that is not kept."""
    parts = (paging.decoded(cursor) or "").split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        raise paging.unknown_cursor()
    number, at, seq = map(int, parts)
    if max(number, seq) >= 1 << 63:
        raise paging.unknown_cursor()
    tick = await feed_pages.find(request.app[SERVICES].event_feed, query_database(request), number)
    if tick is None or paging.micros_of(tick.at) != at:
        raise Problem(410, "the log has no such place any more: begin anew without a cursor")
    return FeedPlace(tick=tick, seq=seq)


async def _check_access(request: web.Request) -> None:
    if await auth.has_ended(request):
        raise auth.unauthorized("the access that the request began with has ended")


def _check_open(feed: EventFeed) -> None:
    if feed.is_closed:
        raise Problem(503, "the daemon is stopping: ask again", headers={"Retry-After": "1"}, is_busy=True)
