"""Sending again what was sent before, or failed: one delivery at once, or all of a route and a period as a replay.

It is the same delivery, under the same id, so receivers know it; sent as the route is configured now. Windows hold as
ever: what happened while the route was disabled, or before it was, is refused here and would be suppressed at the gate.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from daemon.audit import judged
from daemon.commands import Conflict, Context, KeyReused, NotFound
from daemon.core.delivery import resend
from daemon.core.delivery.answer import delivery_id
from daemon.core.delivery.resend import ResendRefused
from daemon.core.routing.decision import Decision
from daemon.core.routing.index import ALL, RouteIndex, Timeline
from daemon.core.routing.route import Route
from eventstore import domain_events
from eventstore.domain_events import listing
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ReplayRunning, RequestReused
from eventstore.progress import manual_retry, replays, retention
from eventstore.progress.manual_retry import RetryRequest, RetryResult
from eventstore.progress.replays import Replay, ReplayScope
from eventstore.queries.attempts import EventAndRoute
from eventstore.queries.delivery_log import BOTTOM, TOP
from eventstore.route_log import idempotency_keys
from eventstore.route_log.idempotency_keys import UsedKey

# How far is looked for what was skipped.
SKIPPED_EVENTS = 1000
SKIPPED_PAIRS = 100_000

_ONE_AT_A_TIME = "a replay of this route is running: wait until it is done, or cancel it"


class ReplayStatus(StrEnum):
    """Which deliveries are sent again: those that failed for good, or the delivered ones too."""

    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPeriod:
    """Of event time: [since, until)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCount:
    """How many deliveries could be sent again, of events from `sendable_from` on."""

    deliveries: int
    sendable_from: datetime


async def retry_now(database: Database, timeline: Timeline, pair: EventAndRoute, context: Context) -> RetryResult:
    """Has one delivery tried at once. Raises Conflict if it may not be sent, or its event is gone, and NotFound if the
    route is not due the event.
    """
    refused = resend.delivery(timeline.current, pair.event_time)
    if refused is not None:
        raise Conflict(refused.reason)
    await _check_key(database, context, besides=UsedKey.RETRIES)
    try:
        requeued = await manual_retry.retry(database, route_id=pair.route_id, seq=pair.seq, asked=_asked(context))
    except RequestReused as error:
        raise KeyReused from error
    if requeued is RetryResult.GONE:
        raise Conflict("its event is no longer kept, so there is nothing to send")
    if requeued is RetryResult.IN_LINE and not await _is_due(database, timeline, pair):
        raise NotFound("there is no such delivery")
    return requeued


async def skipped(database: Database, index: RouteIndex, tenant: str, delivery: str) -> EventAndRoute | None:
    """The pair that a delivery's id would stand for, of the newest events and of routes that were disabled once.

    Nothing is written of what was skipped. Whoever made up the id and wants it sent is told why not, if it is found.
    """
    routes = [t.current for t in index.timelines(tenant) if _was_disabled(t.current)]
    if not routes:
        return None
    rows = min(SKIPPED_EVENTS, SKIPPED_PAIRS // len(routes))
    newest = await listing.listed(
        database, tenant, (TOP.event_time, 0), since=BOTTOM.event_time, patterns=(ALL,), rows=rows, most=rows
    )
    for event in newest.events:
        await asyncio.sleep(0)  # ten thousand routes take 20 ms: in between others have their turn
        for route in routes:
            if event.event_time >= route.created_at and delivery_id(route.id, event.id) == delivery:
                return EventAndRoute(seq=event.seq, route_id=route.id, event_id=event.id, event_time=event.event_time)
    return None


async def count(database: Database, route: Route, period: ReplayPeriod, wanted: ReplayStatus) -> ReplayCount:
    """What a replay would send. Raises Conflict if nothing of the period can be sent."""
    scope = await _scope(database, route, period, wanted)
    return ReplayCount(deliveries=await replays.count(database, scope), sendable_from=scope.sendable_from)


async def begin(
    database: Database, route: Route, period: ReplayPeriod, wanted: ReplayStatus, context: Context
) -> Replay:
    """Begins a replay, or finds the one that the same request began. Raises Conflict."""
    repeated = await _repeated(database, context)
    if repeated is not None:
        return repeated
    scope = await _scope(database, route, period, wanted)
    try:
        return await replays.begin(database, uuid4(), scope, _asked(context))
    except (ReplayRunning, RequestReused) as error:  # by the same request, at the same time, perhaps
        repeated = await _repeated(database, context)
        if repeated is not None:
            return repeated
        raise Conflict(_ONE_AT_A_TIME) if isinstance(error, ReplayRunning) else KeyReused from error


async def cancel(database: Database, replay: Replay, context: Context) -> Replay:
    """Ends a replay: what of it was not taken up stays as it was. Raises Conflict if all of it was sent."""
    await _check_key(database, context, besides=None)
    because = f": {context.reason}" if context.reason else ""
    cancelled = await replays.cancel(database, replay, detail=f"cancelled by {context.actor}{because}")
    if cancelled.state == "done":
        raise Conflict("the replay is done: there is nothing left to cancel")
    return cancelled


async def find(database: Database, route: Route, replay_id: UUID) -> Replay | None:
    """A replay of the route; None if it has none of that id."""
    replay = await replays.find(database, replay_id)
    return replay if replay is not None and replay.route_id == route.id else None


async def _is_due(database: Database, timeline: Timeline, pair: EventAndRoute) -> bool:
    event = await domain_events.find_at(database, pair.seq, event_time=pair.event_time)
    return event is not None and judged(event, timeline).decision is Decision.DELIVER


def _was_disabled(route: Route) -> bool:
    """True if it did not receive all the time since it was created."""
    return len(route.windows) != 1 or not route.windows[0].is_open or route.windows[0].start > route.created_at


async def _scope(database: Database, route: Route, period: ReplayPeriod, wanted: ReplayStatus) -> ReplayScope:
    kept_from = (await retention.horizon(database)).events
    begin = resend.period(route, since=period.since, until=period.until, kept_from=kept_from)
    if isinstance(begin, ResendRefused):
        raise Conflict(begin.reason)
    return ReplayScope(
        route_id=route.id,
        tenant=route.tenant,
        since=period.since,
        until=period.until,
        sendable_from=begin,
        wanted=wanted.value,
    )


async def _repeated(database: Database, context: Context) -> Replay | None:
    """The replay that this request began before; None if it did not. Raises Conflict if it is not the same request."""
    if context.request_id is None:
        return None
    replay = await replays.by_request(database, context.request_id)
    if replay is None:
        await _check_key(database, context, besides=UsedKey.REPLAYS)
    elif replay.causation_id != context.causation_id:
        raise KeyReused
    return replay


async def _check_key(database: Database, context: Context, *, besides: UsedKey | None) -> None:
    """Raises Conflict if the request id stands for a command of another sort."""
    if context.request_id is not None and await idempotency_keys.is_used(database, context.request_id, besides=besides):
        raise KeyReused


def _asked(context: Context) -> RetryRequest:
    return RetryRequest(
        actor=context.actor,
        origin=context.origin,
        reason=context.reason,
        request_id=context.request_id,
        causation_id=context.causation_id,
    )
