"""Sending again all deliveries that a filter of the log matches: a replay for each webhook that has some of them.

A replay of a route and a period finds its deliveries by itself. Other filters are read like a list, so the number is
bounded, and so is the time. Which deliveries fit is decided when the replays begin; the count before that may differ by
what happens in between. Test events are left out, as in every replay.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.commands import Conflict, Context, Invalid, KeyReused
from daemon.core.delivery import resend
from daemon.core.delivery.status import ListStatus
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.deliveries import DeliveryFilter, replays
from daemon.deliveries.replays import ReplayPeriod, ReplayStatus
from daemon.web.access.queries import query_database
from daemon.web.http.services import SERVICES
from daemon.web.service.deliveries.resending import SLOTS
from eventstore.progress.replays import Replay, by_requests
from eventstore.queries.deliveries.delivery_log import FoundDelivery, ListPosition

MAX_DELIVERIES = 10_000
MAX_ROUTES = 100
COLLECT_SECONDS = 10.0

_PAGE_ITEMS = 200
_LEAST = timedelta(microseconds=1)

# What a filter by status matches, as a replay has it. Deliveries of other statuses are sent by themselves, or never.
_WANTED: Mapping[ListStatus | None, tuple[ListStatus, ReplayStatus]] = {
    None: (ListStatus.FAILED, ReplayStatus.FAILED),
    ListStatus.FAILED: (ListStatus.FAILED, ReplayStatus.FAILED),
    ListStatus.DELIVERED: (ListStatus.DELIVERED, ReplayStatus.ALL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingDeliveries:
    """The deliveries to send again, by route. `unsendable` also match, but their routes were disabled since, or are.
    `is_all` is False if there may be more than were looked for.
    """

    by_route: Mapping[UUID, tuple[FoundDelivery, ...]]
    unsendable: int
    is_all: bool

    @property
    def count(self) -> int:
        return sum(len(found) for found in self.by_route.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRetry:
    """The replays that began, and the routes for which none began, each with the reason."""

    replays: tuple[Replay, ...]
    refused: tuple[tuple[Route, str], ...]

    @property
    def count(self) -> int:
        return sum(replay.total for replay in self.replays)


def can_retry(status: ListStatus | None) -> bool:
    """True if what a filter by this status matches can be sent again."""
    return status in _WANTED


def can_send(request: web.Request, found: FoundDelivery) -> bool:
    """True if a delivery that has ended may be sent again: its route has been enabled ever since its event."""
    route = _route(request, found.position.route_id)
    return route is not None and resend.delivery(route, found.position.event_time) is None


async def collect(request: web.Request, delivery_filter: DeliveryFilter) -> MatchingDeliveries:
    """What would be sent again: of any status, that is what failed. Raises Invalid and Problem."""
    if not can_retry(delivery_filter.status):
        message = "must be failed or delivered: what waits is sent by itself, and nothing else can be sent again"
        raise Invalid((FieldProblem(field="status", message=message),))
    async with request.app[SLOTS].place(delivery_filter.tenant):
        return await _collect(request, replace(delivery_filter, status=_WANTED[delivery_filter.status][0]))


async def begin(request: web.Request, delivery_filter: DeliveryFilter, context: Context) -> BulkRetry:
    """Begins the replays, those that the same request began before not again. Raises Invalid, Problem and KeyReused."""
    before = await _begun_before(request, delivery_filter, context)
    matching = await collect(request, delivery_filter)
    begun, refused = list(before.values()), list[tuple[Route, str]]()
    async with request.app[SLOTS].place(delivery_filter.tenant):
        for route_id, found in matching.by_route.items():
            route = _route(request, route_id)
            if route is None or route_id in before:
                continue
            try:
                begun.append(await _begin(request, route, found, _WANTED[delivery_filter.status][1], context))
            except Conflict as error:
                refused.append((route, str(error)))
    return BulkRetry(replays=tuple(begun), refused=tuple(refused))


async def _begun_before(
    request: web.Request, delivery_filter: DeliveryFilter, context: Context
) -> Mapping[UUID, Replay]:
    """The replays that the same request began before, by route. Raises KeyReused."""
    if context.request_id is None:
        return {}
    timelines = request.app[SERVICES].index.timelines(delivery_filter.tenant)
    keys = [_key(context.request_id, timeline.current.id) for timeline in timelines]
    found = await by_requests(query_database(request), keys)
    if any(replay.causation_id != context.causation_id for replay in found):
        raise KeyReused
    return {replay.route_id: replay for replay in found}


async def _begin(
    request: web.Request, route: Route, found: Sequence[FoundDelivery], wanted: ReplayStatus, context: Context
) -> Replay:
    times = [each.position.event_time for each in found]
    return await replays.begin(
        query_database(request),
        route,
        ReplayPeriod(since=min(times), until=max(times) + _LEAST),
        wanted,
        replace(context, request_id=None if context.request_id is None else _key(context.request_id, route.id)),
        macs=request.app[SERVICES].keychain.log_macs,
        chosen=sorted(each.position.seq for each in found),
    )


async def _collect(request: web.Request, delivery_filter: DeliveryFilter) -> MatchingDeliveries:
    services, database = request.app[SERVICES], query_database(request)
    by_route: dict[UUID, list[FoundDelivery]] = {}
    taken = unsendable = 0
    ends_at = time.monotonic() + COLLECT_SECONDS
    begin: ListPosition | None = None
    is_all = True
    while taken < MAX_DELIVERIES:
        page = await deliveries.page(
            database,
            services.index,
            delivery_filter,
            begin=begin,
            limit=min(_PAGE_ITEMS, MAX_DELIVERIES - taken),
            places=services.filter_places,
        )
        for item in page.items:
            route_id = item.found.position.route_id
            if item.found.is_test:
                continue
            if not can_send(request, item.found):
                unsendable += 1
            elif route_id not in by_route and len(by_route) >= MAX_ROUTES:
                is_all = False
            else:
                by_route.setdefault(route_id, []).append(item.found)
                taken += 1
        begin = page.next
        if begin is None or time.monotonic() > ends_at:
            break
    return MatchingDeliveries(
        by_route={route_id: tuple(found) for route_id, found in by_route.items()},
        unsendable=unsendable,
        is_all=is_all and begin is None,
    )


def _route(request: web.Request, route_id: UUID) -> Route | None:
    return request.app[SERVICES].index.route(route_id)


def _key(request_id: str, route_id: UUID) -> str:
    """The idempotency key of one of the replays of a request."""
    return sha256(f"{request_id}\n{route_id}".encode()).hexdigest()
