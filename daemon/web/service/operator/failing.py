"""The routes that fail, over all tenants, worst first: for the operator's API and status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from daemon import receivers
from daemon.core.delivery.health import HealthState
from daemon.core.events.event import instant
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.receivers import RouteHealth
from daemon.web.http import paging
from daemon.web.http.shapes import moment
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health
from eventstore.queries.metrics.route_health import FailingPosition

# The present state of a route, which may be deleted; None if there is no such route.
FindRoute = Callable[[UUID], Awaitable[Route | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingItem:
    """A route that fails, as it is now."""

    route: Route
    health: RouteHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingPage:
    """A part of the list, and the position after which the next part begins, None if there is none."""

    items: list[FailingItem]
    next: FailingPosition | None


def in_index(index: RouteIndex) -> FindRoute:
    """Finds routes in a projection."""

    async def find(route_id: UUID) -> Route | None:
        return index.route(route_id)

    return find


async def page(database: Database, find: FindRoute, *, after: FailingPosition | None, limit: int) -> FailingPage:
    """At most `limit` routes after a position. A route that was just disabled or deleted is left out."""
    items: list[FailingItem] = []
    while True:
        found = await route_health.page(database, after=after, limit=limit + 1)
        for stored in found:
            if stored.row is None:
                continue
            route = await find(stored.row.route_id)
            if route is None or not route.is_enabled:
                continue
            if len(items) == limit:
                return FailingPage(items=items, next=after)
            items.append(FailingItem(route=route, health=receivers.of_stored(stored)))
            after = FailingPosition(stored.row.state, stored.row.since, stored.row.route_id)
        last = found[-1].row if found else None
        if len(found) <= limit or last is None:
            return FailingPage(items=items, next=None)
        after = FailingPosition(last.state, last.since, last.route_id)


def cursor(position: FailingPosition) -> str:
    """The cursor of the routes after a position."""
    return paging.encoded(f"{position.state} {moment(position.since)} {position.route_id}")


def position(cursor: str) -> FailingPosition:
    """The position in a cursor. Raises Invalid for a cursor that no page has returned."""
    try:
        state, since, route_id = (paging.decoded(cursor) or "").split(" ")
        return FailingPosition(HealthState(state).value, instant(since), UUID(route_id))
    except ValueError as error:
        raise paging.unknown_cursor() from error
