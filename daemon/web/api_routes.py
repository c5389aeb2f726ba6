"""Routes: list, create, show, edit, delete, enable, disable, keys, history. All writing goes through `Commands`.

What is read is the live projection: a command has been applied to it before its answer goes out.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from daemon.commands import Context, Invalid, NotFound
from daemon.core.event import Problem as FieldProblem
from daemon.core.event import instant
from daemon.core.route import Route, Status
from daemon.web import auth, paging, shapes
from daemon.web.endpoints import Access, Query, endpoint
from daemon.web.forms import BODY, Command, NewRoute, Rotation, RouteEdit, read, validated
from daemon.web.problems import Problem
from daemon.web.services import SERVICES, Services
from eventstore import log

MAX_REQUEST_KEY_CHARACTERS = 255

STATUS = Query(
    name="status", description="only routes that are so", schema={"type": "string", "enum": ["enabled", "disabled"]}
)
AS_OF = Query(
    name="as_of",
    description="the past: routes as they were at this moment",
    schema={"type": "string", "format": "date-time"},
)
REASON = Query(name="reason", description="why, for the route's history", schema={"type": "string", "maxLength": 1000})


@endpoint(Access.READ, STATUS, AS_OF, *paging.QUERY)
async def list_routes(request: web.Request) -> web.Response:
    """The tenant's routes, oldest first; with `as_of` as they were."""
    services = request.app[SERVICES]
    wanted = _status(request)
    as_of = _as_of(request)
    routes = []
    for timeline in services.index.timelines(request.match_info["tenant"]):
        route = timeline.current if as_of is None else timeline.as_of(as_of)
        if route is not None and route.status is not Status.DELETED and wanted in (None, route.status):
            routes.append(route)
    page, after = paging.page(request, routes, key=lambda route: f"{shapes.moment(route.created_at)}")
    shown_at = as_of or services.now()
    return shapes.answer({"items": [shapes.of_route(r, now=shown_at) for r in page], "next": after})


@endpoint(Access.MANAGE, takes=NewRoute, answers={201: None}, is_command=True)
async def create(request: web.Request) -> web.Response:
    """A new route, active at once unless it is to be created disabled; with its verification key."""
    form = await read(request, NewRoute)
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    done = await services.commands.create(tenant, form.draft(), _context(request, form))
    key = await services.commands.reveal_key(tenant, done.route.id)
    body = shapes.of_route(done.route, now=services.now()) | {"verification_key": key}
    location = f"/v1/tenants/{quote(tenant, safe='')}/routes/{done.route.id}"
    return shapes.answer(body, status=201, headers=_etag(done.route) | {"Location": location})


@endpoint(Access.READ, AS_OF)
async def show(request: web.Request) -> web.Response:
    """One route; with `as_of` as it was."""
    timeline = request.app[SERVICES].index.timeline(_route_id(request))
    as_of = _as_of(request)
    route = None
    if timeline is not None and timeline.current.tenant == request.match_info["tenant"]:
        route = timeline.current if as_of is None else timeline.as_of(as_of)
    if route is None or route.status is Status.DELETED:
        raise NotFound("there is no such route")
    return _shown(request, route, at=as_of)


@endpoint(Access.MANAGE, takes=RouteEdit, is_command=True)
async def edit(request: web.Request) -> web.Response:
    """Changes the fields that are given."""
    form = await read(request, RouteEdit)
    services = request.app[SERVICES]
    done = await services.commands.edit(
        request.match_info["tenant"], _route_id(request), form.changes(), _context(request, form)
    )
    return _shown(request, done.route)


@endpoint(Access.MANAGE, REASON, answers={204: None}, is_command=True)
async def delete(request: web.Request) -> web.Response:
    """Ends the route for good."""
    services = request.app[SERVICES]
    form = await read(request, Command)
    if "reason" in request.query:
        form = validated(Command, {"reason": request.query["reason"]}, services)
    await services.commands.delete(request.match_info["tenant"], _route_id(request), _context(request, form))
    return web.Response(status=204)


@endpoint(Access.MANAGE, takes=Command, is_command=True)
async def disable(request: web.Request) -> web.Response:
    """Nothing is sent any more; already disabled: no event."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.disable(request.match_info["tenant"], _route_id(request), _context(request, form))
    return _shown(request, done.route)


@endpoint(Access.MANAGE, takes=Command, is_command=True)
async def enable(request: web.Request) -> web.Response:
    """What happens from now on is sent; already enabled: no event."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.enable(request.match_info["tenant"], _route_id(request), _context(request, form))
    return _shown(request, done.route)


@endpoint(Access.MANAGE)
async def show_key(request: web.Request) -> web.Response:
    """The verification key, for whoever asks for it on purpose."""
    services = request.app[SERVICES]
    route = _live(services, request)
    key = await services.commands.reveal_key(route.tenant, route.id)
    return shapes.answer(_keys(route, services.now()) | {"verification_key": key})


@endpoint(Access.MANAGE, takes=Rotation, is_command=True)
async def rotate_key(request: web.Request) -> web.Response:
    """A new key; the present one signs along for 24 hours."""
    form = await read(request, Rotation)
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    done = await services.commands.rotate_key(tenant, _route_id(request), _context(request, form), force=form.force)
    key = await services.commands.reveal_key(tenant, done.route.id)
    return shapes.answer(_keys(done.route, services.now()) | {"verification_key": key}, headers=_etag(done.route))


@endpoint(Access.MANAGE, takes=Command, is_command=True)
async def revoke_old_key(request: web.Request) -> web.Response:
    """The previous key stops signing at once."""
    form = await read(request, Command)
    services = request.app[SERVICES]
    done = await services.commands.revoke_old_key(
        request.match_info["tenant"], _route_id(request), _context(request, form)
    )
    return shapes.answer(_keys(done.route, services.now()), headers=_etag(done.route))


@endpoint(Access.READ, *paging.QUERY)
async def history(request: web.Request) -> web.Response:
    """What happened to the route, newest first; deleted routes have theirs too."""
    services = request.app[SERVICES]
    events = await log.history(services.database, _route_id(request))
    if not events or events[0].tenant != request.match_info["tenant"]:
        raise NotFound("there is no such route")
    shown = shapes.of_history(events)
    page, after = paging.page(request, shown, key=lambda it: f"{it['pos']:020d}", is_descending=True)
    return shapes.answer({"items": page, "next": after})


@endpoint(Access.OPERATIONS, *paging.QUERY)
async def tenants(request: web.Request) -> web.Response:
    """Tenants that have, or had, routes."""
    counts: dict[str, int] = {}
    for route in request.app[SERVICES].index.routes():
        counts[route.tenant] = counts.get(route.tenant, 0) + (route.status is not Status.DELETED)
    shown = [{"tenant": tenant, "routes": count} for tenant, count in sorted(counts.items())]
    page, after = paging.page(request, shown, key=lambda item: f"{item['tenant']}")
    return shapes.answer({"items": page, "next": after})


def _shown(request: web.Request, route: Route, *, at: datetime | None = None) -> web.Response:
    """A route as it is, or as it was `at` that time."""
    return shapes.answer(shapes.of_route(route, now=at or request.app[SERVICES].now()), headers=_etag(route))


def _keys(route: Route, now: datetime) -> dict[str, object]:
    return shapes.of_keys(route.keys, route.keys_at(now))


def _live(services: Services, request: web.Request) -> Route:
    timeline = services.index.timeline(_route_id(request))
    route = None if timeline is None else timeline.current
    if route is None or route.tenant != request.match_info["tenant"] or route.status is Status.DELETED:
        raise NotFound("there is no such route")
    return route


def _route_id(request: web.Request) -> UUID:
    """The id in the path; one that is no UUID belongs to no route."""
    text = request.match_info["route"]
    try:
        route_id = UUID(text)
    except ValueError as error:
        raise NotFound("there is no such route") from error
    if str(route_id) != text.lower():
        raise NotFound("there is no such route")
    return route_id


def _context(request: web.Request, form: Command | NewRoute | RouteEdit) -> Context:
    """Who commands, and why.

    An Idempotency-Key stands for one command of a tenant: it is recognised by its hash, and whether it is the same
    command by a hash of the request. That one is keyed, because the body may hold secrets.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return auth.context(request, reason=form.reason)
    if not (0 < len(key) <= MAX_REQUEST_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise Problem(400, f"Idempotency-Key must be 1 to {MAX_REQUEST_KEY_CHARACTERS} printable ASCII characters")
    secret = key.encode()
    request_id = hashlib.sha256(f"{request.match_info['tenant']}\n".encode() + secret)
    command = hmac.new(secret, f"{request.method} {request.rel_url.raw_path_qs}\n".encode() + request[BODY], "sha256")
    return auth.context(
        request, reason=form.reason, request_id=request_id.hexdigest(), causation_id=command.hexdigest()
    )


def _etag(route: Route) -> dict[str, str]:
    return {"ETag": f'"{route.version}"'}


def _status(request: web.Request) -> Status | None:
    text = request.query.get("status")
    if text is None:
        return None
    if text not in (Status.ENABLED, Status.DISABLED):
        raise Invalid((FieldProblem(field="status", message="must be enabled or disabled"),))
    return Status(text)


def _as_of(request: web.Request) -> datetime | None:
    text = request.query.get("as_of")
    try:
        # An unescaped + of an offset arrives as a space.
        return None if text is None else instant(text.replace(" ", "+"))
    except ValueError as error:
        raise Invalid((FieldProblem(field="as_of", message=str(error)),)) from error
