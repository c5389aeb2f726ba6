"""Routes: list, create, show, edit, delete, enable, disable, keys, history.

Handlers write through `Commands` and read from the live projection. A command is applied to the projection before its
answer is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from aiohttp import web

from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem, instant
from daemon.core.routing.route import Route, RouteStatus
from daemon.receivers import RouteHealth
from daemon.web.access.command_context import command_context
from daemon.web.access.queries import query_database
from daemon.web.api.routes import route_shapes
from daemon.web.api.routes.route_shapes import (
    CreatedRouteShape,
    KeyShape,
    LifecycleEventShape,
    RevealedKeyShape,
    RouteShape,
    TenantShape,
)
from daemon.web.forms.request_forms import Command, NewRoute, Rotation, RouteEdit, read, validated
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, RateLimit, endpoint
from daemon.web.http.requests.parameters import moment_of
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import route_id
from daemon.web.service.routes import route_healths
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health

_FAILING = "failing"
_POSITION_DIGITS = 20

STATUS = Query(
    name="status",
    description="only routes with this status; `failing`: enabled, and requests fail; not together with `as_of`",
    schema={"type": "string", "enum": ["enabled", "disabled", "failing"]},
)
AS_OF = Query(
    name="as_of",
    description="show routes as they were at this moment",
    schema=shapes.MOMENT_SCHEMA,
)
REASON = Query(name="reason", description="why, for the route's history", schema={"type": "string", "maxLength": 1000})


@endpoint(Access.READ, STATUS, AS_OF, *paging.QUERY, answers={200: paging.Page[RouteShape]})
async def list_routes(request: web.Request) -> web.Response:
    """The tenant's routes, oldest first; with `as_of` as they were at that moment."""
    services = request.app[SERVICES]
    as_of = moment_of(request.query, "as_of")
    routes = _routes_after_cursor(request, status=_status(request), as_of=as_of)
    if request.query.get("status") == _FAILING:
        if as_of is not None:
            raise Invalid((FieldProblem(field="status", message="is known of now alone: leave out as_of"),))
        failing = await route_health.failing(query_database(request), request.match_info["tenant"])
        routes = (route for route in routes if route.id in failing)
    items, after = paging.first(request, routes, key=lambda route: shapes.moment(route.created_at))
    shown_at = as_of or services.now()
    found = {} if as_of else await route_healths.read(query_database(request), [route.id for route in items])
    page: paging.Page[RouteShape] = {
        "items": [route_shapes.of_route(r, now=shown_at, health=found.get(r.id)) for r in items],
        "next": after,
    }
    return shapes.answer(page)


@endpoint(Access.MANAGE, takes=NewRoute, answers={201: CreatedRouteShape}, refuses=(429,), is_command=True)
async def create(request: web.Request) -> web.Response:
    """Creates a route and returns it with its verification key. It is active at once, unless it is created disabled."""
    form = await read(request, NewRoute)
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    done = await services.commands.create(tenant, form.draft(), command_context(request, form.reason))
    key = await services.commands.reveal_key(done.route)
    if done.appended:  # nothing was sent to it yet, so its health is not asked for
        shown = route_shapes.of_route(done.route, now=services.now(), health=RouteHealth())
    else:
        shown = await _shape(request, done.route, services.command_database)
    body: CreatedRouteShape = {**shown, "verification_key": key}
    location = f"/v1/tenants/{quote(tenant, safe='')}/routes/{done.route.id}"
    return shapes.answer(body, status=201, headers=_etag(done.route) | {"Location": location})


@endpoint(Access.READ, AS_OF, answers={200: RouteShape}, refuses=(404,), is_versioned=True)
async def show(request: web.Request) -> web.Response:
    """One route; with `as_of` as it was at that moment."""
    timeline = request.app[SERVICES].index.timeline(route_id(request))
    as_of = moment_of(request.query, "as_of")
    route = None
    if timeline is not None and timeline.current.tenant == request.match_info["tenant"]:
        route = timeline.current if as_of is None else timeline.as_of(as_of)
    if route is None or route.status is RouteStatus.DELETED:
        raise NotFound("there is no such route")
    if as_of is not None:
        return _shown(route, route_shapes.of_route(route, now=as_of))
    return _shown(route, await _shape(request, route, query_database(request)))


@endpoint(
    Access.MANAGE,
    takes=RouteEdit,
    answers={200: RouteShape},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def edit(request: web.Request) -> web.Response:
    """Changes the fields that are given."""
    form = await read(request, RouteEdit)
    services = request.app[SERVICES]
    done = await services.commands.edit(
        request.match_info["tenant"], route_id(request), form.changes(), command_context(request, form.reason)
    )
    return await _changed(request, done.route)


@endpoint(
    Access.MANAGE,
    REASON,
    takes=Command,
    answers={204: None},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def delete(request: web.Request) -> web.Response:
    """Deletes the route. This cannot be undone."""
    services = request.app[SERVICES]
    form = await read(request, Command)
    if "reason" in request.query:
        form = validated(Command, {"reason": request.query["reason"]}, services)
    await services.commands.delete(
        request.match_info["tenant"], route_id(request), command_context(request, form.reason)
    )
    return web.Response(status=204)


@endpoint(
    Access.MANAGE,
    takes=Command,
    answers={200: RouteShape},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def disable(request: web.Request) -> web.Response:
    """Disables the route: no events are sent to it. If it is disabled already, nothing is added to its history."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.disable(
        request.match_info["tenant"], route_id(request), command_context(request, form.reason)
    )
    return await _changed(request, done.route)


@endpoint(
    Access.MANAGE,
    takes=Command,
    answers={200: RouteShape},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def enable(request: web.Request) -> web.Response:
    """Enables the route: events from now on are sent. If it is enabled already, nothing is added to its history."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.enable(
        request.match_info["tenant"], route_id(request), command_context(request, form.reason)
    )
    return await _changed(request, done.route)


@endpoint(Access.MANAGE, answers={200: RevealedKeyShape}, refuses=(404,), limit=RateLimit.REVEAL)
async def show_key(request: web.Request) -> web.Response:
    """The verification key, which other answers do not show."""
    services = request.app[SERVICES]
    route = await services.commands.load(request.match_info["tenant"], route_id(request))
    key = await services.commands.reveal_key(route)
    return shapes.answer(_revealed(route, key, services.now()))


@endpoint(
    Access.MANAGE,
    takes=Rotation,
    answers={200: RevealedKeyShape},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def rotate_key(request: web.Request) -> web.Response:
    """Creates a new key, or takes the one that is brought along. The present key signs as well for 24 hours."""
    form = await read(request, Rotation)
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    done = await services.commands.rotate_key(
        tenant,
        route_id(request),
        command_context(request, form.reason),
        force=form.force,
        verification_key=form.verification_key,
    )
    key = await services.commands.reveal_key(done.route)
    return shapes.answer(_revealed(done.route, key, services.now()), headers=_etag(done.route))


@endpoint(
    Access.MANAGE,
    takes=Command,
    answers={200: KeyShape},
    refuses=(404, 429),
    is_command=True,
    is_versioned=True,
)
async def revoke_old_key(request: web.Request) -> web.Response:
    """Revokes the previous key: it stops signing at once."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.revoke_old_key(
        request.match_info["tenant"], route_id(request), command_context(request, form.reason)
    )
    return shapes.answer(route_shapes.of_key(done.route, now=services.now()), headers=_etag(done.route))


@endpoint(Access.READ, *paging.QUERY, answers={200: paging.Page[LifecycleEventShape]}, refuses=(404,))
async def history(request: web.Request) -> web.Response:
    """The lifecycle events of the route, newest first; also of a deleted route."""
    database, of_route, tenant = query_database(request), route_id(request), request.match_info["tenant"]
    created = await route_log.of_version(database, of_route, 1)
    if created is None or created.tenant != tenant:
        raise NotFound("there is no such route")
    begin, size = _position_before(request), paging.limit(request)
    events = await route_log.newest(database, tenant, size + 1, before=begin, route_id=of_route)
    configured = None if not events else await route_log.configured_before(database, of_route, events[-1].version)
    entries = route_shapes.of_history(events, configured=configured)
    items, after = paging.first(request, entries, key=lambda entry: f"{entry['pos']:0{_POSITION_DIGITS}d}")
    page: paging.Page[LifecycleEventShape] = {"items": items, "next": after}
    return shapes.answer(page)


@endpoint(Access.OPERATIONS, *paging.QUERY, answers={200: paging.Page[TenantShape]})
async def tenants(request: web.Request) -> web.Response:
    """Tenants that have or had routes."""
    index = request.app[SERVICES].index
    names, after = paging.page(request, index.tenants(), key=str)
    statuses = {name: index.statuses(name) for name in names}
    page: paging.Page[TenantShape] = {
        "items": [
            {"tenant": tenant, "routes": count[RouteStatus.ENABLED] + count[RouteStatus.DISABLED]}
            for tenant, count in statuses.items()
        ],
        "next": after,
    }
    return shapes.answer(page)


def _routes_after_cursor(
    request: web.Request, *, status: RouteStatus | None, as_of: datetime | None
) -> Iterator[Route]:
    """The routes of a list that were created after the route in the cursor. Raises Invalid for what is no cursor."""
    services, tenant, after = request.app[SERVICES], request.match_info["tenant"], paging.cursor(request)
    try:
        timelines = (
            services.index.timelines(tenant) if after is None else services.index.created_after(tenant, instant(after))
        )
    except ValueError as error:
        raise paging.unknown_cursor() from error
    routes = (timeline.current if as_of is None else timeline.as_of(as_of) for timeline in timelines)
    return (
        route
        for route in routes
        if route is not None and route.status is not RouteStatus.DELETED and status in (None, route.status)
    )


def _position_before(request: web.Request) -> int | None:
    """The position in the cursor of a history, None if there is no cursor. Raises Invalid for what is no cursor."""
    after = paging.cursor(request)
    if after is None:
        return None
    if not (len(after) == _POSITION_DIGITS and after.isascii() and after.isdigit()) or int(after) >= 1 << 63:
        raise paging.unknown_cursor()
    return int(after)


async def _changed(request: web.Request, route: Route) -> web.Response:
    """The response to a command. It reads like one, so that no crowd of queries keeps the answer back."""
    return _shown(route, await _shape(request, route, request.app[SERVICES].command_database))


def _shown(route: Route, shape: RouteShape) -> web.Response:
    return shapes.answer(shape, headers=_etag(route))


async def _shape(request: web.Request, route: Route, database: Database) -> RouteShape:
    """A route as it is now."""
    found = await route_healths.read(database, [route.id])
    return route_shapes.of_route(route, now=request.app[SERVICES].now(), health=found.get(route.id))


def _revealed(route: Route, key: str, now: datetime) -> RevealedKeyShape:
    return {**route_shapes.of_key(route, now=now), "verification_key": key}


def _etag(route: Route) -> dict[str, str]:
    return {"ETag": f'"{route.version}"'}


def _status(request: web.Request) -> RouteStatus | None:
    """The status in the query; routes that fail are enabled."""
    text = request.query.get("status")
    return None if text is None else RouteStatus.ENABLED if text == _FAILING else RouteStatus(text)
