"""The route that a path names. Foreign, unknown and deleted ones are all the same: there is no such route."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from daemon.commands import NotFound
from daemon.core.index import Timeline
from daemon.core.route import Route, Status
from daemon.web.services import SERVICES


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
    if route is None or route.tenant != request.match_info["tenant"] or route.status is Status.DELETED:
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
