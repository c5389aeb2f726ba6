"""The read side of the logs over HTTP: why an event came or did not, and what this process believes the routes are."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon import audit, route_state
from daemon.audit import UnknownEvent
from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import ExplanationShape


@endpoint(
    Access.READ,
    Query(name="event", description="the event's id", is_required=True),
    Query(name="route", description="only this route", schema={"type": "string", "format": "uuid"}),
    *paging.QUERY,
    answers={200: paging.Page[ExplanationShape] | ExplanationShape},
    refuses=(404,),
)
async def explain(request: web.Request) -> web.Response:
    """For one route, or as a list for each of the tenant's, the decision about an event and its grounds."""
    event_id, route_text = request.query.get("event"), request.query.get("route")
    if not event_id:
        raise Invalid((FieldProblem(field="event", message="is missing: name the event to explain"),))
    if "\0" in event_id:  # PostgreSQL has no such text, so there is no such event
        raise UnknownEvent("there is no such event")
    route_id = None if route_text is None else _uuid(route_text)
    services = request.app[SERVICES]
    begin = 0 if route_id is not None else _place(request)
    found = await audit.explain(
        services.database,
        event_id,
        tenant=request.match_info["tenant"],
        route_id=route_id,
        live=services.index,
        part=slice(begin, begin + paging.limit(request) + 1),
    )
    if route_id is None:
        shown, after = paging.first(request, list(enumerate(found, begin)), key=lambda it: f"{it[0]:09}")
        page: paging.Page[ExplanationShape] = {"items": [shapes.of_explanation(it) for _, it in shown], "next": after}
        return shapes.answer(page)
    if not found:
        raise NotFound("there is no such route")
    return shapes.answer(shapes.of_explanation(found[0]))


class ProjectionShape(TypedDict):
    """What a process believes the routes are: `state_sha256` is equal where the belief is."""

    position: Annotated[int, Field(ge=0)]
    routes: Annotated[int, Field(ge=0)]
    state_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["9f86d081884c7d65" * 4])]


@endpoint(Access.OPERATIONS, answers={200: ProjectionShape})
async def projection(request: web.Request) -> web.Response:
    """The live projection of this process: position, number of routes, digest."""
    index = request.app[SERVICES].index
    position, routes = index.position, list(index.routes())
    shown: ProjectionShape = {
        "position": position,
        "routes": len(routes),
        # Beside the loop: for ten thousand routes it takes a quarter of a second.
        "state_sha256": await asyncio.to_thread(route_state.digest, routes),
    }
    return shapes.answer(shown)


def _place(request: web.Request) -> int:
    """The number of the first route to explain: they keep their places in order of creation, none is ever removed."""
    after = paging.cursor(request)
    if after is None:
        return 0
    if not (len(after) == 9 and after.isascii() and after.isdigit()):
        raise paging.unknown_cursor()
    return int(after) + 1


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("there is no such route") from error
