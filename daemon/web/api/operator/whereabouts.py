"""Whose an id is, over all tenants: for operators, who are told an id and no more."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.access.queries import query_database
from daemon.web.api.routes.route_shapes import Tenant
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import EventId, Moment, moment
from daemon.web.service.operator import whereabouts
from daemon.web.service.operator.whereabouts import Whereabouts


class FoundIdShape(TypedDict):
    """An event with that id, or a delivery: then `delivery` is its id, and `route` the name of its route. `at` is when
    the event was recorded, or for a delivery when it happened.
    """

    tenant: Tenant
    event: EventId
    at: Moment
    delivery: Annotated[str | None, Field(examples=[None])]
    route: Annotated[str | None, Field(examples=[None])]


class FoundIdsShape(TypedDict):
    items: list[FoundIdShape]


@endpoint(
    Access.OPERATIONS,
    Query(
        name="id",
        description="the id of an event or a delivery",
        schema={"type": "string", "minLength": 1, "maxLength": whereabouts.MAX_CHARACTERS},
        problem=whereabouts.problem,
        is_required=True,
    ),
    answers={200: FoundIdsShape},
)
async def find(request: web.Request) -> web.Response:
    """The events and deliveries of all tenants with this id, at most 20. A delivery that was never tried is found by
    its event alone.
    """
    text = request.query["id"].strip()
    found = await whereabouts.find(query_database(request), request.app[SERVICES].index, text)
    body: FoundIdsShape = {"items": [_of(each) for each in found]}
    return shapes.answer(body)


def _of(found: Whereabouts) -> FoundIdShape:
    return {
        "tenant": found.tenant,
        "event": found.event_id,
        "at": moment(found.at),
        "delivery": found.delivery_id,
        "route": found.route_name,
    }
