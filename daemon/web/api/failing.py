"""The routes that fail, over all tenants: what an operator looks at first."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.delivery.health import HealthState
from daemon.core.events.event import instant
from daemon.web.access.queries import query_database
from daemon.web.api import health_shapes
from daemon.web.api.health_shapes import RouteHealthShape
from daemon.web.api.route_shapes import RouteName, Tenant
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Uuid, moment
from daemon.web.service import failing
from daemon.web.service.failing import FailingItem
from eventstore.queries.route_health import FailingPosition


class FailingRouteShape(TypedDict):
    """A route that fails."""

    tenant: Tenant
    id: Uuid
    name: RouteName
    target_url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    health: RouteHealthShape


@endpoint(Access.OPERATIONS, *paging.QUERY, answers={200: paging.Page[FailingRouteShape]})
async def list_failing(request: web.Request) -> web.Response:
    """The enabled routes of all tenants whose requests fail, the worst first: those that are down, and the longest
    first.
    """
    key = paging.cursor(request)
    found = await failing.page(
        query_database(request),
        request.app[SERVICES].index,
        after=None if key is None else _position(key),
        limit=paging.limit(request),
    )
    page: paging.Page[FailingRouteShape] = {
        "items": [_of_item(item) for item in found.items],
        "next": None if found.next is None else paging.encoded(_key(found.next)),
    }
    return shapes.answer(page)


def _of_item(item: FailingItem) -> FailingRouteShape:
    route = item.route
    return {
        "tenant": route.tenant,
        "id": str(route.id),
        "name": route.config.name,
        "target_url": route.config.target_url,
        "health": health_shapes.of_health(item.health),
    }


def _key(position: FailingPosition) -> str:
    return f"{position.state} {moment(position.since)} {position.route_id}"


def _position(key: str) -> FailingPosition:
    """Raises Invalid for what is no key."""
    try:
        state, since, route_id = key.split(" ")
        return FailingPosition(HealthState(state).value, instant(since), UUID(route_id))
    except ValueError as error:
        raise paging.unknown_cursor() from error
