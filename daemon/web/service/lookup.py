"""The route that a path names. Foreign, unknown and deleted ones are all the same: there is no such route."""

from __future__ import annotations

import asyncio
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import Timeline
from daemon.core.routing.route import Route, RouteStatus
from daemon.deliveries import DeliveryDetail, SearchUnfinished
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.http.endpoints import Query, RateLimit
from daemon.web.http.services import SERVICES, request_options
from eventstore.queries.attempts import EventAndRoute


def route_id(request: web.Request) -> UUID:
    """The id. Raises NotFound."""
    return _parsed(request.match_info["route"])


def live_route(request: web.Request) -> Route:
    """The route as it is now, by the live projection. Raises NotFound."""
    return live_route_of(request, request.match_info["route"])


def live_route_of(request: web.Request, text: str) -> Route:
    """The same of an id that stands elsewhere, in a path with a tenant. Raises NotFound."""
    timeline = request.app[SERVICES].index.timeline(_parsed(text))
    route = None if timeline is None else timeline.current
    if route is None or route.tenant != request.match_info["tenant"] or route.status is RouteStatus.DELETED:
        raise NotFound("there is no such route")
    return route


def route_of_tenant(request: web.Request, text: str) -> UUID:
    """The id of a route that the tenant has, or had once: what was sent to it is not forgotten. Raises NotFound."""
    return timeline_of(request, text).current.id


def timeline(request: web.Request) -> Timeline:
    """All states of the route, by the live projection; a deleted one has its own. Raises NotFound."""
    return timeline_of(request, request.match_info["route"])


def timeline_of(request: web.Request, text: str) -> Timeline:
    """The same of a route that is named elsewhere."""
    found = request.app[SERVICES].index.timeline(_parsed(text))
    if found is None or found.current.tenant != request.match_info["tenant"]:
        raise NotFound("there is no such route")
    return found


def _parsed(text: str) -> UUID:
    """An id; one that is no UUID as we write it belongs to no route. Raises NotFound."""
    try:
        named = UUID(text)
    except ValueError as error:
        raise NotFound("there is no such route") from error
    if str(named) != text.lower():
        raise NotFound("there is no such route")
    return named


# The delivery that a path names. Foreign and unknown ones are the same: there is no such delivery.

EVENT_HINT = Query(name="event", description="the id of its event, which spares a search")

_UNKNOWN = "there is no such delivery"
_SEARCHED_TOO_LONG = "is needed here: so much waits that the delivery was not found in time, name its event"


async def named_detail(request: web.Request) -> DeliveryDetail:
    """All that is shown of it. Raises as `named_pair` does."""
    services = request.app[SERVICES]
    found = await deliveries.detail(
        services.database,
        services.index,
        services.keychain,
        await named_pair(request),
        dialect=request_options(services.config),
    )
    if found is None:
        raise NotFound(_UNKNOWN)
    return found


async def named_pair(request: web.Request) -> EventAndRoute:
    """By the id in the path. Raises NotFound, Invalid if the event must be named, and Problem for too many searches:
    whoever guesses ids would keep PostgreSQL busy.
    """
    services, text, event_id = request.app[SERVICES], request.match_info["delivery"], request.query.get("event")
    try:
        wanted = UUID(text)
    except ValueError as error:
        raise NotFound(_UNKNOWN) from error
    if str(wanted) != text.lower() or "\0" in (event_id or ""):
        raise NotFound(_UNKNOWN)
    tenant = request.match_info["tenant"]
    found = await deliveries.find(services.database, services.index, tenant, wanted, event_id=event_id)
    if found is None and event_id is None:
        request.app[TENANT_LIMITS].take(RateLimit.SEARCH, tenant, asyncio.get_running_loop().time())
        try:
            found = await deliveries.search(services.database, services.index, tenant, wanted)
        except SearchUnfinished as error:
            raise Invalid((FieldProblem(field="event", message=_SEARCHED_TOO_LONG),)) from error
    if found is None:
        raise NotFound(_UNKNOWN)
    return found
