"""The delivery log over HTTP: what was sent, what waits and what failed, newest event first."""

from __future__ import annotations

from aiohttp import web

from daemon import deliveries
from daemon.core.catalogue import name_problem
from daemon.core.standing import Standing
from daemon.deliveries import Filter
from daemon.web import paging, places, shapes
from daemon.web.api.delivery_shapes import DeliveryDetailShape, DeliveryShape, of_detail, of_item
from daemon.web.delivery_path import EVENT_HINT, named_detail
from daemon.web.endpoints import Access, Query, endpoint
from daemon.web.parameters import moment_of
from daemon.web.route_path import route_of_tenant
from daemon.web.services import SERVICES

_MOMENT = {"type": "string", "format": "date-time"}

FILTERS = (
    Query(name="route", description="only to this route", schema={"type": "string", "format": "uuid"}),
    Query(name="status", description="only those that stand so", schema={"type": "string", "enum": list(Standing)}),
    Query(name="type", description="only of events of this type", problem=name_problem),
    Query(name="event", description="only of events with this id"),
    Query(name="since", description="only of events that happened then or later", schema=_MOMENT),
    Query(name="until", description="only of events that happened before", schema=_MOMENT),
)


@endpoint(Access.READ, *FILTERS, *paging.QUERY, answers={200: paging.Page[DeliveryShape]}, refuses=(404,))
async def list_deliveries(request: web.Request) -> web.Response:
    """The tenant's deliveries, newest event first: those that were tried, and those that wait.

    How much is looked at for a page is bounded. So with filters a page may be short, or even empty, though `next` is
    not null: go on until it is.
    """
    services = request.app[SERVICES]
    wanted, size = _filter(request), paging.limit(request)
    cursor = request.query.get("cursor")
    begin = None if cursor is None else places.delivery_place(cursor)
    if "\0" in (wanted.event_id or ""):  # PostgreSQL has no such text, so there is no such event
        nothing: paging.Page[DeliveryShape] = {"items": [], "next": None}
        return shapes.answer(nothing)
    found = await deliveries.page(services.database, services.index, wanted, begin=begin, limit=size)
    page: paging.Page[DeliveryShape] = {
        "items": [of_item(item) for item in found.items],
        "next": places.delivery_cursor(found.next),
    }
    return shapes.answer(page)


@endpoint(Access.READ, EVENT_HINT, answers={200: DeliveryDetailShape}, refuses=(404, 429))
async def show(request: web.Request) -> web.Response:
    """A delivery with each of its requests, as it was sent, and what was kept of the answer."""
    return shapes.answer(of_detail(await named_detail(request)))


def _filter(request: web.Request) -> Filter:
    """What the query asks for. Raises NotFound for a route that is not there."""
    query = request.query
    return Filter(
        tenant=request.match_info["tenant"],
        route_id=route_of_tenant(request, query["route"]) if "route" in query else None,
        standing=Standing(query["status"]) if "status" in query else None,
        event_type=query.get("type"),
        event_id=query.get("event"),
        since=moment_of(query, "since"),
        until=moment_of(query, "until"),
    )
