"""The JSON of routes: the route itself, its keys, its history, and the tenants that have routes.

The API and the command line's `--json` show the same shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, NotRequired

import orjson
from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.core.routing.route import LifecycleEventType, Route, config_to_body
from daemon.core.routing.windows import Window
from daemon.core.webhook.signing import NO_STANDARD_WEBHOOKS
from daemon.receivers import RouteHealth
from daemon.web.api.routes import health_shapes
from daemon.web.api.routes.health_shapes import RouteHealthShape
from daemon.web.http.shapes import EXAMPLE_MOMENT, MASK, Moment, Uuid, moment
from eventstore.route_log.log import RouteEvent

Tenant = Annotated[str, Field(examples=["acme"])]
RouteName = Annotated[str, Field(examples=["Orders"])]
VerificationKey = Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])]

WindowShape = TypedDict("WindowShape", {"from": Moment, "to": Moment | None})


class KeyShape(TypedDict):
    """The newest key, and until when the previous key signs as well."""

    id: Annotated[str, Field(examples=["key_5f2c9a0e41b7"])]
    fingerprint: Annotated[str, Field(examples=["9f86d081884c7d65"])]
    previous_valid_until: Annotated[Moment | None, Field(examples=[None])]
    standard_webhooks_absent: NotRequired[
        Annotated[
            str,
            Field(
                examples=[NO_STANDARD_WEBHOOKS],
                description="Why requests that are signed with this key alone have no Standard Webhooks headers. Left "
                "out if they have.",
            ),
        ]
    ]


class RevealedKeyShape(KeyShape):
    verification_key: VerificationKey


class PayloadOptionsShape(TypedDict):
    """Which parts of an event the body has. An entity of `snapshot` is true for all of it, or a list of fields."""

    snapshot: Annotated[dict[str, bool | list[str]] | None, Field(examples=[{"customer": True, "orders": ["total"]}])]
    filter: Annotated[str | None, Field(examples=["data.object.total > `100`"])]
    transform: Annotated[str | None, Field(examples=["{id: id, order: data.object}"])]


class RouteShape(TypedDict):
    """A route. Values of custom headers are masked. `health` is how its receiver does now: it is left out of a route of
    the past, and while the database cannot be asked.
    """

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
    windows: Annotated[list[WindowShape], Field(examples=[[{"from": EXAMPLE_MOMENT, "to": None}]])]
    key: KeyShape
    health: NotRequired[RouteHealthShape]


class CreatedRouteShape(RouteShape):
    """A route with its verification key. Keep the key: it verifies the signatures of what is sent."""

    verification_key: VerificationKey


class LifecycleEventShape(TypedDict):
    """An entry of a route's history. `changes` has the old and the new value of each field; `hash` chains the log."""

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


def of_route(route: Route, *, now: datetime, health: RouteHealth | None = None) -> RouteShape:
    """A route. `now` decides whether a previous key is still valid."""
    config = config_to_body(route.config)
    shape: RouteShape = {
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
        "key": of_key(route, now=now),
    }
    return shape if health is None else {**shape, "health": health_shapes.of_health(health)}


def of_window(window: Window) -> WindowShape:
    return {"from": moment(window.start), "to": moment(window.end)}


def of_key(route: Route, *, now: datetime) -> KeyShape:
    """The newest key of a route."""
    newest, valid = route.keys[0], route.keys_at(now)
    until = valid[1].valid_until if len(valid) > 1 else None
    shape: KeyShape = {
        "id": newest.id,
        "fingerprint": newest.fingerprint,
        "previous_valid_until": moment(until),
    }
    return shape if newest.is_standard else {**shape, "standard_webhooks_absent": NO_STANDARD_WEBHOOKS}


def of_history(events: Sequence[RouteEvent], *, configured: RouteEvent | None) -> list[LifecycleEventShape]:
    """Lifecycle events of a route that follow each other, the newest first, each with what it changed. `configured` is
    the last one before all of them that has the configuration, None if there is none.
    """
    entries: list[LifecycleEventShape] = []
    before: Mapping[str, object] = {} if configured is None else orjson.loads(configured.body)["config"]
    for event in reversed(events):
        body = orjson.loads(event.body)
        config = body.get("config")
        changes = _changes(before, config) if config else {}
        before = config or before
        entries.append(
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
    return entries[::-1]


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, list[object]]:
    """Field → [old, new], for each field that differs.

    The log has no header values, only the id of a set of values and the names: other values show as a change of
    `headers` with the same names on both sides.
    """
    changes: dict[str, list[object]] = {
        name: [before.get(name), value]
        for name, value in after.items()
        if name not in ("headers_id", "header_names") and before.get(name) != value
    }
    if before.get("headers_id") != after["headers_id"]:
        changes["headers"] = [before.get("header_names", []), after["header_names"]]
    return changes
