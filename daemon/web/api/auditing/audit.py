"""Explanations and the live projection: why a route did or did not get an event, and a digest of all routes."""

from __future__ import annotations

import asyncio
from typing import Annotated, NotRequired

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon import audit, route_state
from daemon.audit import Explanation, UnknownEvent
from daemon.commands import Invalid, NotFound
from daemon.core.events.event import FieldProblem
from daemon.core.sentences.explanations import ExplainedDecision
from daemon.core.sentences.failures import error_code
from daemon.web.access.queries import query_database
from daemon.web.api.routes.route_shapes import RouteName, WindowShape, of_window
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.requests.parameters import RECORDED_AT, moment_of
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import EventId, Moment, Uuid, moment
from daemon.web.service.lookup import parsed_route_id
from eventstore.queries.deliveries.attempts import RecordedAttempt

_ROUTE_NUMBER_DIGITS = 9


class RequestShape(TypedDict):
    """One request of a delivery."""

    number: Annotated[int, Field(ge=0)]
    at: Moment
    outcome: Annotated[str, Field(examples=["delivered"])]
    status_code: Annotated[int | None, Field(examples=[200])]
    error: Annotated[str | None, Field(examples=[None, "http_5xx"])]
    duration_ms: Annotated[int, Field(ge=0, examples=[42])]


class ExplainedDeliveryShape(TypedDict):
    id: Uuid
    attempts: list[RequestShape]
    next_attempt_at: Moment | None


class ExplanationShape(TypedDict):
    """Why a route did or did not get an event. `delivery` is present if a delivery was due."""

    event: EventId
    route: Uuid
    route_name: RouteName
    decision: ExplainedDecision
    detail: Annotated[str, Field(examples=["It is due: its request is about to be made, or under way."])]
    event_time: Moment
    window: WindowShape | None
    route_version: int | None
    route_pos: int | None
    tick: int | None
    delivery: NotRequired[ExplainedDeliveryShape]


class ProjectionShape(TypedDict):
    """The live projection of a process. Two projections with the same routes have the same `state_sha256`."""

    position: Annotated[int, Field(ge=0)]
    routes: Annotated[int, Field(ge=0)]
    state_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["9f86d081884c7d65" * 4])]


def of_explanation(explanation: Explanation) -> ExplanationShape:
    """A decision and its grounds."""
    event, window, pending = explanation.event, explanation.window, explanation.pending
    shape: ExplanationShape = {
        "event": event.id,
        "route": str(explanation.route_id),
        "route_name": explanation.route_name,
        "decision": explanation.verdict,
        "detail": explanation.detail,
        "event_time": moment(event.event_time),
        "window": None if window is None else of_window(window),
        "route_version": explanation.route_version,
        "route_pos": explanation.route_pos,
        "tick": event.tick,
    }
    if explanation.delivery_id is not None:
        shape["delivery"] = {
            "id": explanation.delivery_id,
            "attempts": [_of_request(attempt) for attempt in explanation.attempts],
            "next_attempt_at": None if pending is None else moment(pending.due_at),
        }
    return shape


@endpoint(
    Access.READ,
    Query(name="event", description="the event's id", is_required=True),
    RECORDED_AT,
    Query(name="route", description="only this route", schema={"type": "string", "format": "uuid"}),
    *paging.QUERY,
    answers={200: paging.Page[ExplanationShape] | ExplanationShape},
    refuses=(404,),
)
async def explain(request: web.Request) -> web.Response:
    """For one route, or as a list for each of the tenant's routes, the decision about an event and its grounds."""
    event_id, route_text = request.query.get("event"), request.query.get("route")
    if not event_id:
        raise Invalid((FieldProblem(field="event", message="is missing: name the event to explain"),))
    if "\0" in event_id:  # PostgreSQL has no such text, so there is no such event
        raise UnknownEvent("there is no such event")
    route_id = None if route_text is None else parsed_route_id(route_text)
    services = request.app[SERVICES]
    first = 0 if route_id is not None else _first_route_number(request)
    explanations = await audit.explain(
        query_database(request),
        event_id,
        tenant=request.match_info["tenant"],
        recorded_at=moment_of(request.query, "recorded_at"),
        route_id=route_id,
        live=services.index,
        part=slice(first, first + paging.limit(request) + 1),
        places=services.filter_places,
    )
    if route_id is None:
        numbered = list(enumerate(explanations, first))
        items, after = paging.first(request, numbered, key=lambda item: f"{item[0]:0{_ROUTE_NUMBER_DIGITS}}")
        page: paging.Page[ExplanationShape] = {"items": [of_explanation(each) for _, each in items], "next": after}
        return shapes.answer(page)
    if not explanations:
        raise NotFound("there is no such route")
    return shapes.answer(of_explanation(explanations[0]))


@endpoint(Access.OPERATIONS, answers={200: ProjectionShape})
async def projection(request: web.Request) -> web.Response:
    """The live projection of this process: position, number of routes, digest."""
    index = request.app[SERVICES].index
    position, routes = index.position, list(index.routes())
    body: ProjectionShape = {
        "position": position,
        "routes": len(routes),
        # In a thread, because it takes a quarter of a second for ten thousand routes.
        "state_sha256": await asyncio.to_thread(route_state.digest, routes),
    }
    return shapes.answer(body)


def _of_request(attempt: RecordedAttempt) -> RequestShape:
    return {
        "number": attempt.number,
        "at": moment(attempt.started_at),
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "error": None if attempt.error is None else error_code(attempt.error),
        "duration_ms": attempt.duration_ms,
    }


def _first_route_number(request: web.Request) -> int:
    """The number of the first route to explain.

    Routes are numbered in order of creation; none is ever removed, so a number stays valid between two pages.
    """
    after = paging.cursor(request)
    if after is None:
        return 0
    if not (len(after) == _ROUTE_NUMBER_DIGITS and after.isascii() and after.isdigit()):
        raise paging.unknown_cursor()
    return int(after) + 1
