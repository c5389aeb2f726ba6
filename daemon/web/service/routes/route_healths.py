"""The health of routes for what is shown from memory: without the database they are shown without it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from daemon import receivers
from daemon.core.routing.route import Route
from daemon.receivers import RouteHealth
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable


async def of_route(database: Database, route: Route) -> RouteHealth | None:
    """The health of one route, None if it cannot be told now."""
    return (await read(database, [route.id])).get(route.id)


async def read(database: Database, route_ids: Collection[UUID]) -> Mapping[UUID, RouteHealth]:
    """Route → its health; empty while the database does not answer, or too many queries run."""
    if not route_ids:
        return {}
    try:
        return await receivers.read(database, route_ids)
    except StoreUnavailable:
        return {}
