"""The read side of the logs over HTTP: why an event came or did not, and what this process believes the routes are."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from daemon import audit, replay
from daemon.audit import UnknownEvent
from daemon.commands import Invalid, NotFound
from daemon.core.event import Problem as FieldProblem
from daemon.web import paging, shapes
from daemon.web.endpoints import Access, Query, endpoint
from daemon.web.services import SERVICES


@endpoint(
    Access.READ,
    Query(name="event", description="the event's id", is_required=True),
    Query(name="route", description="only this route", schema={"type": "string", "format": "uuid"}),
    *paging.QUERY,
)
async def explain(request: web.Request) -> web.Response:
    """For one route, or as a list for each of the tenant's, the decision about an event and its grounds."""
    event_id, route_text = request.query.get("event"), request.query.get("route")
    if not event_id:
        raise Invalid((FieldProblem(field="event", message="is missing: name the event to explain"),))
    if "\0" in event_id:  # PostgreSQL has no such text, so there is no such event
        raise UnknownEvent("there is no such event")
    route_id = None if route_text is None else _uuid(route_text)
    found = await audit.explain(
        request.app[SERVICES].database, event_id, tenant=request.match_info["tenant"], route_id=route_id
    )
    if route_id is None:
        # By their number: routes keep their places in order of creation, and none is ever taken away.
        page, after = paging.page(request, list(enumerate(found)), key=lambda it: f"{it[0]:09}")
        return shapes.answer({"items": [shapes.of_explanation(it) for _, it in page], "next": after})
    if not found:
        raise NotFound("there is no such route")
    return shapes.answer(shapes.of_explanation(found[0]))


@endpoint(Access.OPERATIONS)
async def projection(request: web.Request) -> web.Response:
    """The live projection of this process: position, number of routes, digest."""
    index = request.app[SERVICES].index
    routes = list(index.routes())
    return shapes.answer({"position": index.position, "routes": len(routes), "state_sha256": replay.digest(routes)})


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("there is no such route") from error
