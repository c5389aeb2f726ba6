"""Sending deliveries again: one delivery by a manual retry, or those of a route and a period by a replay.

It is the same delivery with the same id, so that receivers recognise it, and it is sent as the route is configured now.
The rules of windows hold: events from before the window that is open now are refused here, and the send gate would
suppress them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from daemon.commands import Conflict, Context, KeyReused, NotFound
from daemon.core.delivery import resend
from daemon.core.delivery.answer import delivery_id
from daemon.core.delivery.resend import ResendRefused
from daemon.core.routing.decision import Decision
from daemon.core.routing.index import ALL, RouteIndex
from daemon.core.routing.route import Route
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.payload import PayloadEvent
from daemon.expressions.judging import EventJudge, FilterPlaces
from daemon.expressions.stored_events import payload_event
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ReplayRunning, RequestReused
from eventstore.progress import manual_retry, replays
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.manual_retry import RetryRequest, RetryResult
from eventstore.progress.replays import Replay, ReplayScope
from eventstore.queries.deliveries.attempts import EventAndRoute
from eventstore.queries.deliveries.delivery_log import BOTTOM, TOP
from eventstore.queries.events import listing
from eventstore.retention import retention
from eventstore.route_log import idempotency_keys
from eventstore.route_log.idempotency_keys import UsedKey

# The limits of the search of `skipped`.
SKIPPED_EVENTS = 1000
SKIPPED_PAIRS = 100_000

_ONE_AT_A_TIME = "a replay of this route is running: wait until it is done, or cancel it"


class ReplayStatus(StrEnum):
    """Which deliveries a replay sends again: those that failed for good, or the delivered ones as well."""

    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPeriod:
    """A period of event time, [since, until)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCount:
    """How many deliveries a replay would send, of events from `sendable_from` on."""

    deliveries: int
    sendable_from: datetime


async def retry_now(
    database: Database,
    timeline: Timeline,
    pair: EventAndRoute,
    context: Context,
    *,
    macs: LogMacs,
    places: FilterPlaces | None = None,
) -> RetryResult:
    """Queues one delivery to be sent at once. `places` are where a filter is evaluated, None for here.

    Raises Conflict if it may not be sent or its event is no longer kept, KeyReused if the request id was used for
    another command, and NotFound if the event is not due to the route.
    """
    request, refused = _request(context), resend.delivery(timeline.current, pair.event_time)
    await _check_key(database, context, besides=UsedKey.RETRIES)
    try:
        if refused is not None:
            if await manual_retry.is_repeated(database, route_id=pair.route_id, seq=pair.seq, request=request):
                return RetryResult.DUE  # it was not refused when it was carried out
            raise Conflict(refused.reason)
        requeued = await manual_retry.retry(database, route_id=pair.route_id, seq=pair.seq, request=request, macs=macs)
    except RequestReused as error:
        raise KeyReused from error
    if requeued is RetryResult.GONE:
        raise Conflict("its event is no longer kept, so there is nothing to send")
    if requeued is RetryResult.IN_LINE and not await _is_due(database, timeline, pair, places):
        raise NotFound("there is no such delivery")
    return requeued


async def skipped(database: Database, index: RouteIndex, tenant: str, delivery: str) -> EventAndRoute | None:
    """The event and route of a delivery id for which nothing is recorded, because the route was disabled.

    Searches the newest events and the routes that were disabled at some time. A skipped event leaves no record, so
    this search is the only way to tell a caller why that delivery is not sent. None if it is not found.
    """
    routes = [t.current for t in index.timelines(tenant) if _was_disabled(t.current)]
    if not routes:
        return None
    rows = min(SKIPPED_EVENTS, SKIPPED_PAIRS // len(routes))
    newest = await listing.listed(
        database, tenant, (TOP.event_time, 0), since=BOTTOM.event_time, patterns=(ALL,), rows=rows, limit=rows
    )
    for event in newest.events:
        await asyncio.sleep(0)  # ten thousand routes take 20 ms: let other tasks run in between
        for route in routes:
            if event.event_time < route.created_at:
                continue
            if delivery_id(route.id, event.id, event.event_time) == delivery:
                return EventAndRoute(seq=event.seq, route_id=route.id, event_id=event.id, event_time=event.event_time)
    return None


async def count(database: Database, route: Route, period: ReplayPeriod, status: ReplayStatus) -> ReplayCount:
    """How much a replay would send. Raises Conflict if nothing of the period can be sent."""
    scope = await _scope(database, route, period, status)
    return ReplayCount(deliveries=await replays.count(database, scope), sendable_from=scope.sendable_from)


async def begin(
    database: Database,
    route: Route,
    period: ReplayPeriod,
    status: ReplayStatus,
    context: Context,
    *,
    macs: LogMacs,
    chosen: Sequence[int] | None = None,
) -> Replay:
    """Begins a replay, or returns the one that the same request began before. `chosen` are the seqs of the events whose
    deliveries are sent again, None for all of the period. Raises Conflict or KeyReused.
    """
    repeated = await _repeated(database, context)
    if repeated is not None:
        return repeated
    scope = await _scope(database, route, period, status)
    try:
        return await replays.begin(database, uuid4(), scope, _request(context), macs=macs, chosen=chosen)
    except (ReplayRunning, RequestReused) as error:  # perhaps by the same request, sent twice at the same time
        repeated = await _repeated(database, context)
        if repeated is not None:
            return repeated
        raise Conflict(_ONE_AT_A_TIME) if isinstance(error, ReplayRunning) else KeyReused from error


async def cancel(database: Database, replay: Replay, context: Context) -> Replay:
    """Cancels a replay; deliveries that it has not queued yet stay as they are. Raises Conflict if it is done."""
    await _check_key(database, context, besides=None)
    because = f": {context.reason}" if context.reason else ""
    cancelled = await replays.cancel(database, replay, detail=f"cancelled by {context.actor}{because}")
    if cancelled.state == "done":
        raise Conflict("the replay is done: there is nothing left to cancel")
    return cancelled


async def find(database: Database, route: Route, replay_id: UUID) -> Replay | None:
    """The replay of that id, None if the route has none."""
    replay = await replays.find(database, replay_id)
    return replay if replay is not None and replay.route_id == route.id else None


async def _is_due(database: Database, timeline: Timeline, pair: EventAndRoute, places: FilterPlaces | None) -> bool:
    event = await domain_events.find_at(database, pair.seq, event_time=pair.event_time)
    if event is None:
        return False
    found = event

    async def read() -> PayloadEvent:
        return payload_event(found)

    judge = EventJudge(event, event.tenant, read, places)
    return (await judge.judge(timeline)).decision is Decision.DELIVER


def _was_disabled(route: Route) -> bool:
    """True if the route was disabled at any time since its creation."""
    return len(route.windows) != 1 or not route.windows[0].is_open or route.windows[0].start > route.created_at


async def _scope(database: Database, route: Route, period: ReplayPeriod, status: ReplayStatus) -> ReplayScope:
    kept_from = await _kept_from(database, route.tenant, period)
    begin = resend.period(route, since=period.since, until=period.until, kept_from=kept_from)
    if isinstance(begin, ResendRefused):
        raise Conflict(begin.reason)
    return ReplayScope(
        route_id=route.id,
        tenant=route.tenant,
        since=period.since,
        until=period.until,
        sendable_from=begin,
        wanted=status.value,
    )


async def _kept_from(database: Database, tenant: str, period: ReplayPeriod) -> datetime | None:
    """When the oldest event of the tenant that is kept happened, if the period may begin before it. Events are dropped
    by when they were recorded, and may have happened long before that.
    """
    recorded_from = (await retention.horizon(database)).events
    if recorded_from is None or recorded_from <= period.since:
        return None
    happened_from = await listing.oldest(database, tenant)
    return recorded_from if happened_from is None else min(recorded_from, happened_from)


async def _repeated(database: Database, context: Context) -> Replay | None:
    """The replay that the same request began before, if any. Raises KeyReused if the id was used by another request."""
    if context.request_id is None:
        return None
    replay = await replays.by_request(database, context.request_id)
    if replay is None:
        await _check_key(database, context, besides=UsedKey.REPLAYS)
    elif replay.causation_id != context.causation_id:
        raise KeyReused
    return replay


async def _check_key(database: Database, context: Context, *, besides: UsedKey | None) -> None:
    """Raises KeyReused if the request id was used for another kind of command."""
    if context.request_id is not None and await idempotency_keys.is_used(database, context.request_id, besides=besides):
        raise KeyReused


def _request(context: Context) -> RetryRequest:
    return RetryRequest(
        actor=context.actor,
        origin=context.origin,
        reason=context.reason,
        request_id=context.request_id,
        causation_id=context.causation_id,
    )
