"""The routes that fail, over all tenants: what an operator looks at first."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.access.queries import query_database
from daemon.web.api.routes import health_shapes
from daemon.web.api.routes.health_shapes import RouteHealthShape
from daemon.web.api.routes.route_shapes import RouteName, Tenant
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Uuid
from daemon.web.service.operator import failing
from daemon.web.service.operator.failing import FailingItem


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
    cursor = request.query.get("cursor")
    found = await failing.page(
        query_database(request),
        failing.in_index(request.app[SERVICES].index),
        after=None if cursor is None else failing.position(cursor),
        limit=paging.limit(request),
    )
    page: paging.Page[FailingRouteShape] = {
        "items": [of_item(item) for item in found.items],
        "next": None if found.next is None else failing.cursor(found.next),
    }
    return shapes.answer(page)


def of_item(item: FailingItem) -> FailingRouteShape:
    route = item.route
    return {
        "tenant": route.tenant,
        "id": str(route.id),
        "name": route.config.name,
        "target_url": route.config.target_url,
        "health": health_shapes.of_health(item.health),
    }
