"""The routes that fail, over all tenants, worst first: for the operator's API and status."""

from __future__ import annotations

from dataclasses import dataclass

from daemon import receivers
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.receivers import RouteHealth
from eventstore.postgres.connect import Database
from eventstore.queries import route_health
from eventstore.queries.route_health import FailingPosition


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


async def page(database: Database, index: RouteIndex, *, after: FailingPosition | None, limit: int) -> FailingPage:
    """At most `limit` routes after a position. A route that was just disabled or deleted is left out."""
    items: list[FailingItem] = []
    while True:
        found = await route_health.page(database, after=after, limit=limit + 1)
        for stored in found:
            if stored.row is None:
                continue
            timeline = index.timeline(stored.row.route_id)
            if timeline is None or not timeline.current.is_enabled:
                continue
            if len(items) == limit:
                return FailingPage(items=items, next=after)
            items.append(FailingItem(route=timeline.current, health=receivers.of_stored(stored)))
            after = FailingPosition(stored.row.state, stored.row.since, stored.row.route_id)
        last = found[-1].row if found else None
        if len(found) <= limit or last is None:
            return FailingPage(items=items, next=None)
        after = FailingPosition(last.state, last.since, last.route_id)
