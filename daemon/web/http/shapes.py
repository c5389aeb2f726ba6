"""How things look from outside: the JSON of routes, history and explanations, with RFC 3339 times in UTC.

Each shape is a type: mypy holds against it what is answered, and the OpenAPI document is made of it. A shape's name
there is its name here without `Shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, NotRequired, overload

import orjson
from aiohttp import web
from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.audit import Explanation
from daemon.core.delivery.explanation_text import ExplainedDecision
from daemon.core.routing.route import KeyRef, LifecycleEventType, Route, config_to_body
from daemon.core.routing.windows import Window
from eventstore.queries.attempts import RecordedAttempt
from eventstore.route_log.log import RouteEvent

MASK = "***"

_EXAMPLE_MOMENT = "2026-11-23T08:00:00.000000Z"

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time", "examples": [_EXAMPLE_MOMENT]})]
Uuid = Annotated[
    str, WithJsonSchema({"type": "string", "format": "uuid", "examples": ["018f6d3e-7c1a-4a5b-9d2e-3f4a5b6c7d8e"]})
]
Tenant = Annotated[str, Field(examples=["acme"])]
RouteName = Annotated[str, Field(examples=["Orders"])]
EventId = Annotated[str, Field(examples=["evt_1"])]
VerificationKey = Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])]

WindowShape = TypedDict("WindowShape", {"from": Moment, "to": Moment | None})


class KeyShape(TypedDict):
    """The newest key, and until when the one before signs along."""

    id: Annotated[str, Field(examples=["key_5f2c9a0e41b7"])]
    fingerprint: Annotated[str, Field(examples=["9f86d081884c7d65"])]
    previous_valid_until: Annotated[Moment | None, Field(examples=[None])]


class RevealedKeyShape(KeyShape):
    verification_key: VerificationKey


class PayloadOptionsShape(TypedDict):
    """What of an event goes into the body; an entity of `snapshot` is true for all of it, or a list of fields."""

    snapshot: Annotated[dict[str, bool | list[str]] | None, Field(examples=[{"customer": True, "orders": ["total"]}])]
    filter: Annotated[str | None, Field(examples=["data.total > `100`"])]
    transform: Annotated[str | None, Field(examples=["{id: id, order: data.object}"])]


class RouteShape(TypedDict):
    """A route. Values of custom headers are masked."""

    id: Uuid
    tenant: Tenant
    name: RouteName
    target_url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    event_types: Annotated[list[str], Field(examples=[["order.*"]])]
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["enabled", "disabled"]})]
    payload: PayloadOptionsShape
    headers: Annotated[dict[str, str], Field(examples=[{"X-Shop": MASK}])]
    ordered: bool
    rate_limit_per_second: Annotated[float | None, Field(examples=[None])]
    version: Annotated[int, Field(ge=1)]
    created_at: Moment
    updated_at: Moment
    windows: Annotated[list[WindowShape], Field(examples=[[{"from": _EXAMPLE_MOMENT, "to": None}]])]
    key: KeyShape


class CreatedRouteShape(RouteShape):
    """A route with its verification key: keep that, it signs what is sent."""

    verification_key: VerificationKey


class LifecycleEventShape(TypedDict):
    """What happened to a route. `changes` has the old and the new value of each field; `hash` chains the log."""

    pos: Annotated[int, Field(ge=1)]
    version: Annotated[int, Field(ge=1)]
    type: LifecycleEventType
    effective_at: Moment
    actor: Annotated[str, Field(examples=["admin"])]
    origin: Annotated[str, Field(examples=["api"])]
    reason: Annotated[str | None, Field(examples=["moved to the new shop"])]
    changes: Annotated[dict[str, list[object]], Field(examples=[{"name": ["Orders", "All orders"]}])]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["9f86d081884c7d65" * 4])]


class TenantShape(TypedDict):
    """A tenant, and how many routes it has now."""

    tenant: Tenant
    routes: Annotated[int, Field(ge=0, examples=[1])]


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
    """Why an event did or did not reach a route; `delivery` is there if one was due."""

    event: EventId
    route: Uuid
    route_name: RouteName
    decision: ExplainedDecision
    detail: Annotated[str, Field(examples=["Delivered on attempt 1, 2026-11-23 08:00:00 UTC."])]
    event_time: Moment
    window: WindowShape | None
    route_version: int | None
    route_pos: int | None
    tick: int | None
    delivery: NotRequired[ExplainedDeliveryShape]


def answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


@overload
def moment(at: datetime) -> Moment: ...
@overload
def moment(at: datetime | None) -> Moment | None: ...
def moment(at: datetime | None) -> Moment | None:
    """RFC 3339 in UTC with microseconds."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def of_route(route: Route, *, now: datetime) -> RouteShape:
    """A route; values of custom headers are masked."""
    config = config_to_body(route.config)
    return {
        "id": str(route.id),
        "tenant": route.tenant,
        "name": config["name"],
        "target_url": config["target_url"],
        "event_types": config["event_types"],
        "status": route.status.value,
        "payload": config["payload"],
        "headers": dict.fromkeys(route.config.header_names, MASK),
        "ordered": config["ordered"],
        "rate_limit_per_second": config["rate_limit_per_second"],
        "version": route.version,
        "created_at": moment(route.created_at),
        "updated_at": moment(route.updated_at),
        "windows": [of_window(window) for window in route.windows],
        "key": of_keys(route.keys, route.keys_at(now)),
    }


def of_window(window: Window) -> WindowShape:
    return {"from": moment(window.start), "to": moment(window.end)}


def of_keys(keys: tuple[KeyRef, ...], valid: tuple[KeyRef, ...]) -> KeyShape:
    """Of a route's keys; `valid` are those that sign now."""
    until = valid[1].valid_until if len(valid) > 1 else None
    return {"id": keys[0].id, "fingerprint": keys[0].fingerprint, "previous_valid_until": moment(until)}


def of_history(events: list[RouteEvent]) -> list[LifecycleEventShape]:
    """Lifecycle events, newest first, each with what it changed."""
    shown: list[LifecycleEventShape] = []
    before: dict[str, object] = {}
    for event in events:
        body = orjson.loads(event.body)
        config = body.get("config")
        changes = _changes(before, config) if config else {}
        before = config or before
        shown.append(
            {
                "pos": event.pos,
                "version": event.version,
                "type": LifecycleEventType(event.type),
                "effective_at": moment(event.effective_at),
                "actor": event.actor,
                "origin": event.origin,
                "reason": event.reason,
                "changes": changes,
                "hash": event.hash.hex(),
            }
        )
    return shown[::-1]


def of_explanation(it: Explanation) -> ExplanationShape:
    """A decision and its grounds."""
    shown: ExplanationShape = {
        "event": it.event.id,
        "route": str(it.route_id),
        "route_name": it.route_name,
        "decision": it.verdict,
        "detail": it.detail,
        "event_time": moment(it.event.event_time),
        "window": None if it.window is None else of_window(it.window),
        "route_version": it.route_version,
        "route_pos": it.route_pos,
        "tick": it.event.tick,
    }
    if it.delivery_id is not None:
        shown["delivery"] = {
            "id": it.delivery_id,
            "attempts": [_of_request(attempt) for attempt in it.attempts],
            "next_attempt_at": None if it.pending is None else moment(it.pending.due_at),
        }
    return shown


def _of_request(attempt: RecordedAttempt) -> RequestShape:
    return {
        "number": attempt.number,
        "at": moment(attempt.started_at),
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
    }


def _changes(before: dict[str, object], after: dict[str, object]) -> dict[str, list[object]]:
    """Field → [old, new] of what differs. Header values are not in the log; new ones show as a change of `headers`."""
    changes: dict[str, list[object]] = {
        name: [before.get(name), value]
        for name, value in after.items()
        if name not in ("headers_id", "header_names") and before.get(name) != value
    }
    if before.get("headers_id") != after["headers_id"]:
        changes["headers"] = [before.get("header_names", []), after["header_names"]]
    return changes
