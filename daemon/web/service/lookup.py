"""The route, event or delivery whose id is in a path.

Foreign and unknown ids give the same error as if nothing had that id. An id must be a UUID as we write it: other
spellings of the same UUID belong to nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.audit import unknown_events
from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.routing.timeline import Timeline
from daemon.deliveries import DeliveryDetail, SearchUnfinished
from daemon.web.access.auth import CALLER
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.access.queries import query_database
from daemon.web.http.endpoints import Query, RateLimit, declared
from daemon.web.http.requests.parameters import moment_of
from daemon.web.http.services import SERVICES, request_options
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.queries.deliveries.attempts import EventAndRoute
from eventstore.queries.events import listing
from eventstore.sources import standing
from eventstore.sources.standing import MessagePlace

EVENT_HINT = Query(name="event", description="the id of its event, which makes a search unnecessary")

_NO_EVENT = "there is no such event"
_NO_ROUTE = "there is no such route"
_NO_DELIVERY = "there is no such delivery"
_SEARCHED_TOO_LONG = "is needed here: so much waits that the delivery was not found in time, name its event"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """An event, and when other events with the same id were recorded, the newest first."""

    event: StoredEvent
    others_recorded_at: tuple[datetime, ...]


async def event(request: web.Request) -> FoundEvent:
    """The event in the path: the newest with that id, or the one that was recorded at `?recorded_at=`.

    Raises NotFound, also for what is no moment.
    """
    event_id, tenant = request.match_info["event"], request.match_info["tenant"]
    database = query_database(request)
    if "\0" in event_id:  # PostgreSQL has no such text, so there is no such event
        raise NotFound(_NO_EVENT)
    try:
        recorded_at = moment_of(request.query, "recorded_at")
    except ValueError as error:
        raise NotFound(_NO_EVENT) from error
    found = await domain_events.find(database, event_id, tenant=tenant, recorded_at=recorded_at)
    if not found:
        endpoint = declared(request.match_info.handler)
        is_page = endpoint is not None and endpoint.is_page
        raise NotFound(await unknown_events.sentence(database, event_id, tenant, for_people=is_page))
    same = await listing.by_id(database, tenant, event_id)
    others = tuple(each.recorded_at for each in same if each.seq != found[0].seq)
    return FoundEvent(event=found[0], others_recorded_at=others)


async def message_place(request: web.Request, event: StoredEvent) -> MessagePlace | None:
    """Which message of a source an event was, for those of the platform: its topics are no tenant's business."""
    if request[CALLER].tenant is not None:
        return None
    return await standing.place_of(query_database(request), event.seq, recorded_at=event.recorded_at)


def route_id(request: web.Request) -> UUID:
    """The id of the route in the path. Raises NotFound."""
    return parsed_route_id(request.match_info["route"])


def live_route(request: web.Request) -> Route:
    """The route in the path as it is now, by the live projection. Raises NotFound, also for a deleted route."""
    return live_route_by_id(request, request.match_info["route"])


def live_route_by_id(request: web.Request, text: str) -> Route:
    """The tenant's route with the id `text` as it is now. Raises NotFound, also for a deleted route."""
    route = request.app[SERVICES].index.route(parsed_route_id(text))
    if route is None or route.tenant != request.match_info["tenant"] or route.status is RouteStatus.DELETED:
        raise NotFound(_NO_ROUTE)
    return route


def tenant_route_id(request: web.Request, text: str) -> UUID:
    """The id `text` of a route that the tenant has or had. Its deliveries outlive a deleted route. Raises NotFound."""
    return timeline_by_id(request, text).current.id


def timeline(request: web.Request) -> Timeline:
    """All states of the route in the path, by the live projection; also of a deleted route. Raises NotFound."""
    return timeline_by_id(request, request.match_info["route"])


def timeline_by_id(request: web.Request, text: str) -> Timeline:
    """All states of the tenant's route with the id `text`. Raises NotFound."""
    found = request.app[SERVICES].index.timeline(parsed_route_id(text))
    if found is None or found.current.tenant != request.match_info["tenant"]:
        raise NotFound(_NO_ROUTE)
    return found


async def delivery_detail(request: web.Request) -> DeliveryDetail:
    """Everything that is shown of the delivery in the path. Raises like `delivery_pair`."""
    services = request.app[SERVICES]
    detail = await deliveries.detail(
        query_database(request),
        services.index,
        services.keychain,
        await delivery_pair(request),
        request_options=request_options(services.config),
        places=services.filter_places,
    )
    if detail is None:
        raise NotFound(_NO_DELIVERY)
    return detail


async def delivery_pair(request: web.Request) -> EventAndRoute:
    """The event and route of the delivery in the path.

    Raises NotFound, Invalid if the search takes too long without the event's id, and Problem after too many searches:
    a caller who guesses ids would keep PostgreSQL busy.
    """
    services, text, event_id = request.app[SERVICES], request.match_info["delivery"], request.query.get("event")
    delivery_id = _parsed_id(text, _NO_DELIVERY)
    if "\0" in (event_id or ""):  # PostgreSQL has no such text, so there is no such event
        raise NotFound(_NO_DELIVERY)
    tenant = request.match_info["tenant"]
    pair = await deliveries.find(query_database(request), services.index, tenant, delivery_id, event_id=event_id)
    if pair is None and event_id is None:
        request.app[TENANT_LIMITS].take(RateLimit.SEARCH, tenant, asyncio.get_running_loop().time())
        try:
            pair = await deliveries.search(
                query_database(request), services.index, tenant, delivery_id, places=services.filter_places
            )
        except SearchUnfinished as error:
            raise Invalid((FieldProblem(field="event", message=_SEARCHED_TOO_LONG),)) from error
    if pair is None:
        raise NotFound(_NO_DELIVERY)
    return pair


def parsed_route_id(text: str) -> UUID:
    """The id in a text. Raises NotFound for one that no route can have."""
    return _parsed_id(text, _NO_ROUTE)


def _parsed_id(text: str, message: str) -> UUID:
    """Raises NotFound with `message` for text that is not a UUID as we write it."""
    try:
        parsed = UUID(text)
    except ValueError as error:
        raise NotFound(message) from error
    if str(parsed) != text.lower():
        raise NotFound(message)
    return parsed
