"""Sending again by hand, for the API and the dashboard: replays, a few at a time, and the retry of one delivery."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web

from daemon.commands import Context, Invalid, NotFound
from daemon.core.events.event import FieldProblem, instant
from daemon.core.routing.route import Route
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayCount, ReplayPeriod, ReplayStatus
from daemon.telemetry.metrics import Metrics
from daemon.web.access.queries import query_database
from daemon.web.http import paging, shapes
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import delivery_pair
from eventstore.postgres.query_pool import FairShare
from eventstore.progress.manual_retry import RetryResult
from eventstore.progress.replays import Replay, of_route
from eventstore.queries.deliveries.attempts import EventAndRoute

# Finding the deliveries of a replay takes a second for a million outcomes. So it must leave places of the query pool to
# quick queries, and each tenant's to the others.
SLOTS = web.AppKey("replay_slots", FairShare)

_CONCURRENT = 2
_CONCURRENT_OF_TENANT = 1
# People count again while they change the period, and need not be refused.
_PATIENCE_SECONDS = 5.0


def slots(metrics: Metrics) -> FairShare:
    """Places for finding the deliveries of replays."""
    return FairShare(
        places=_CONCURRENT,
        of_one=_CONCURRENT_OF_TENANT,
        on_refused=metrics.query_refused,
        patience_seconds=_PATIENCE_SECONDS,
    )


def period(since: datetime, until: datetime) -> ReplayPeriod:
    """The period [since, until). Raises Invalid if it is empty."""
    if until <= since:
        raise Invalid((FieldProblem(field="to", message="must be later than from"),))
    return ReplayPeriod(since=since, until=until)


async def count(request: web.Request, route: Route, of: ReplayPeriod, status: ReplayStatus) -> ReplayCount:
    """What a replay would send. Raises Conflict."""
    async with request.app[SLOTS].place(route.tenant):
        return await replays.count(query_database(request), route, of, status)


async def begin(request: web.Request, route: Route, of: ReplayPeriod, status: ReplayStatus, context: Context) -> Replay:
    """Begins a replay, or returns the replay that an earlier request with the same key began. Raises Conflict."""
    async with request.app[SLOTS].place(route.tenant):
        return await replays.begin(
            query_database(request), route, of, status, context, macs=request.app[SERVICES].keychain.log_macs
        )


async def find(request: web.Request, route: Route) -> Replay:
    """The replay of the route whose id is in the path. Raises NotFound."""
    try:
        replay_id = UUID(request.match_info["replay"])
    except ValueError as error:
        raise NotFound("there is no such replay") from error
    replay = await replays.find(query_database(request), route, replay_id)
    if replay is None:
        raise NotFound("there is no such replay")
    return replay


async def page(request: web.Request, route: Route, *, after: str | None, size: int) -> tuple[list[Replay], str | None]:
    """A page of the route's replays, newest first, and the key of the next page. Raises Invalid for what is no key."""
    try:
        before = None if after is None else instant(after)
    except ValueError as error:
        raise paging.unknown_cursor() from error
    found = await of_route(query_database(request), route.id, before=before, limit=size + 1)
    items = found[:size]
    return items, shapes.moment(items[-1].created_at) if len(found) > size else None


async def retry_now(request: web.Request, pair: EventAndRoute, context: Context) -> RetryResult:
    """Queues a delivery to be sent at once. Raises Conflict if it may not be sent, and NotFound if there is none."""
    services = request.app[SERVICES]
    timeline = services.index.timeline(pair.route_id)
    if timeline is None:
        raise NotFound("there is no such delivery")
    return await replays.retry_now(
        services.command_database,
        timeline,
        pair,
        context,
        macs=services.keychain.log_macs,
        places=services.filter_places,
    )


async def resendable_pair(request: web.Request) -> EventAndRoute:
    """The event and route of the delivery in the path, also if the event was skipped for the route: `retry_now` then
    refuses it with the reason. Raises NotFound.
    """
    services = request.app[SERVICES]
    try:
        return await delivery_pair(request)
    except NotFound:
        skipped = await replays.skipped(
            query_database(request),
            services.index,
            request.match_info["tenant"],
            request.match_info["delivery"].lower(),
        )
        if skipped is None:
            raise
        return skipped
