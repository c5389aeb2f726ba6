"""Sending again by hand: the retry of one delivery, and replays of a route's deliveries."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from daemon.core.delivery.answer import delivery_id
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayCount, ReplayStatus
from daemon.web.access.command_context import command_context
from daemon.web.forms.request_forms import Command, Instant, read
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, RateLimit, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Moment, Uuid, moment
from daemon.web.service.deliveries import resending
from daemon.web.service.lookup import EVENT_HINT, live_route
from eventstore.progress.manual_retry import RetryResult
from eventstore.progress.replays import Replay


class ReplayState(StrEnum):
    """A replay is done once each of its deliveries has been tried."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


def _replay_status(value: object) -> ReplayStatus:
    if value not in ("failed", "all"):
        raise PydanticCustomError("replay_status", "must be failed or all")
    return ReplayStatus(str(value))


class ReplayForm(Command):
    """A period of event time, from (inclusive) to (exclusive)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"from": "2026-11-23T08:00:00Z", "to": "2026-11-23T09:00:00Z", "status": "failed"}]
        }
    )

    since: Annotated[Instant, Field(alias="from")]
    until: Annotated[Instant, Field(alias="to")]
    status: Annotated[
        ReplayStatus,
        BeforeValidator(_replay_status),
        WithJsonSchema(
            {
                "type": "string",
                "enum": list(ReplayStatus),
                "description": "failed: deliveries that failed for good; all: also those that were delivered.",
            }
        ),
    ]
    dry_run: Annotated[bool, Field(description="Only count, send nothing.")] = False


class RetriedShape(TypedDict):
    """A delivery that is sent again now.

    `state` is one of: due, the request starts at once; under_way, the request has started or is about to start;
    in_line, the delivery waits for its first attempt, in the order of its route.
    """

    id: Uuid
    state: Annotated[str, WithJsonSchema({"type": "string", "enum": [it.value for it in RetryResult if it != "gone"]})]


class ReplayCountShape(TypedDict):
    """How many deliveries a replay would send. Events before `replayable_from` do not count."""

    count: Annotated[int, Field(ge=0, examples=[42])]
    replayable_from: Moment


ReplayPeriodShape = TypedDict("ReplayPeriodShape", {"from": Moment, "to": Moment})


class ReplayShape(ReplayPeriodShape):
    """A replay. `total` is how many deliveries it had when it began, all of events from `replayable_from` on.

    `scheduled` is how many of them have been queued; those that were sent meanwhile, or whose event is gone, are not
    queued. `waiting` of them are still in the queue, and a cancel removed `withdrawn` from it. `detail` says why the
    replay was cancelled.
    """

    id: Uuid
    route: Uuid
    status: ReplayStatus
    replayable_from: Moment
    state: ReplayState
    detail: Annotated[str | None, Field(examples=[None])]
    total: Annotated[int, Field(ge=0, examples=[42])]
    scheduled: Annotated[int, Field(ge=0, examples=[42])]
    waiting: Annotated[int, Field(ge=0, examples=[2])]
    withdrawn: Annotated[int, Field(ge=0, examples=[0])]
    actor: Annotated[str, Field(examples=["admin"])]
    reason: Annotated[str | None, Field(examples=["the shop was down"])]
    created_at: Moment
    ended_at: Annotated[Moment | None, Field(examples=[None])]


def of_count(counted: ReplayCount) -> ReplayCountShape:
    """What a replay would send."""
    return {"count": counted.deliveries, "replayable_from": moment(counted.sendable_from)}


def of_replay(replay: Replay) -> ReplayShape:
    """A replay and its progress."""
    return {
        "id": str(replay.id),
        "route": str(replay.route_id),
        "status": ReplayStatus(replay.wanted),
        "from": moment(replay.since),
        "to": moment(replay.until),
        "replayable_from": moment(replay.sendable_from),
        "state": ReplayState(replay.state),
        "detail": replay.detail,
        "total": replay.total,
        "scheduled": replay.scheduled,
        "waiting": replay.waiting,
        "withdrawn": replay.withdrawn,
        "actor": replay.actor,
        "reason": replay.reason,
        "created_at": moment(replay.created_at),
        "ended_at": moment(replay.ended_at),
    }


@endpoint(Access.MANAGE, EVENT_HINT, takes=Command, answers={202: RetriedShape}, refuses=(404, 429), is_command=True)
async def retry(request: web.Request) -> web.Response:
    """Sends a delivery again now, with the same `webhook-id`: one that failed, one that was delivered, or one that
    waits for its next attempt.

    Refused if the route is disabled, or has been disabled at the time of the event or since. If the attempt fails, a
    delivery with attempts left continues with its schedule.
    """
    form = await read(request, Command)
    pair = await resending.resendable_pair(request)
    requeued = await resending.retry_now(request, pair, command_context(request, form.reason))
    body: RetriedShape = {"id": delivery_id(pair.route_id, pair.event_id, pair.event_time), "state": requeued}
    return shapes.answer(body, status=202)


@endpoint(
    Access.MANAGE,
    takes=ReplayForm,
    answers={200: ReplayCountShape, 202: ReplayShape},
    refuses=(404,),
    is_command=True,
    limit=RateLimit.REPLAY,
)
async def replay(request: web.Request) -> web.Response:
    """Sends the deliveries of a period again, those that failed or all. With `dry_run` it only counts them.

    The period is of the times of the events. Events from before the route was last enabled are never sent, so the
    replay begins at `replayable_from`. A route has one replay at a time. Test events are left out.
    """
    route = live_route(request)
    form = await read(request, ReplayForm)
    context = command_context(request, form.reason)
    period = resending.period(form.since, form.until)
    if form.dry_run:
        counted = await resending.count(request, route, period, form.status)
        return shapes.answer(of_count(counted))
    begun = await resending.begin(request, route, period, form.status, context)
    location = f"/v1/tenants/{quote(route.tenant, safe='')}/routes/{route.id}/replays/{begun.id}"
    return shapes.answer(of_replay(begun), status=202, headers={"Location": location})


@endpoint(Access.READ, *paging.QUERY, answers={200: paging.Page[ReplayShape]}, refuses=(404,))
async def list_replays(request: web.Request) -> web.Response:
    """The route's replays, newest first."""
    route, size = live_route(request), paging.limit(request)
    items, key = await resending.page(request, route, after=paging.cursor(request), size=size)
    following = None if key is None else paging.encoded(key)
    page: paging.Page[ReplayShape] = {"items": [of_replay(each) for each in items], "next": following}
    return shapes.answer(page)


@endpoint(Access.READ, answers={200: ReplayShape}, refuses=(404,))
async def show_replay(request: web.Request) -> web.Response:
    """A replay and its progress."""
    return shapes.answer(of_replay(await resending.find(request, live_route(request))))


@endpoint(Access.MANAGE, takes=Command, answers={200: ReplayShape}, refuses=(404,), is_command=True)
async def cancel_replay(request: web.Request) -> web.Response:
    """Cancels a replay. Deliveries that are not being sent yet keep their status. A repeated cancel changes nothing."""
    found, form = await resending.find(request, live_route(request)), await read(request, Command)
    services = request.app[SERVICES]
    cancelled = await replays.cancel(services.command_database, found, command_context(request, form.reason))
    return shapes.answer(of_replay(cancelled))
