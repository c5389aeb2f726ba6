"""Lifecycle events as the route log has them, made without a database. `created()` without arguments is valid."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from daemon.core.routing.route import (
    LifecycleEvent,
    LifecycleEventType,
    PayloadOptions,
    Route,
    RouteConfig,
    config_to_body,
    evolve,
)

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
ROUTE = UUID("11111111-2222-3333-4444-555555555555")
TICK = timedelta(microseconds=1)


def config(*event_types: str, **more: Any) -> RouteConfig:
    return RouteConfig(
        name="a route", target_url="https://hooks.example/in", event_types=event_types or ("order.create",), **more
    )


def filtered(expression: str | None, *event_types: str) -> RouteConfig:
    return config(*event_types, payload=PayloadOptions(filter=expression))


def created(
    *,
    route_id: UUID = ROUTE,
    pos: int = 1,
    at: datetime = NOON,
    tenant: str = "acme",
    enabled: bool = True,
    config: RouteConfig | None = None,
) -> LifecycleEvent:
    body = {
        "config": config_to_body(config or _CONFIG),
        "enabled": enabled,
        "key": {"id": f"key_{pos}", "fingerprint": f"{pos:012x}"},
    }
    return LifecycleEvent(
        pos=pos,
        route_id=route_id,
        tenant=tenant,
        version=1,
        type=LifecycleEventType.CREATED,
        effective_at=at,
        body=body,
    )


def after(
    route: Route,
    type: LifecycleEventType,
    *,
    pos: int | None = None,
    at: datetime | None = None,
    config: RouteConfig | None = None,
    version: int | None = None,
    grace_seconds: int = 86_400,
) -> LifecycleEvent:
    """The next lifecycle event of a route, a second after its last change unless `at` is given."""
    pos = route.pos + 1 if pos is None else pos
    bodies: dict[LifecycleEventType, dict[str, Any]] = {
        LifecycleEventType.EDITED: {"config": config_to_body(config or route.config)},
        LifecycleEventType.KEY_ROTATED: {
            "key": {"id": f"key_{pos}", "fingerprint": f"{pos:012x}"},
            "grace_seconds": grace_seconds,
        },
        LifecycleEventType.KEY_REVOKED: {"key_id": route.keys[-1].id},
        LifecycleEventType.CREATED: {
            "config": config_to_body(config or route.config),
            "enabled": True,
            "key": {"id": "key_again", "fingerprint": "0" * 12},
        },
    }
    return LifecycleEvent(
        pos=pos,
        route_id=route.id,
        tenant=route.tenant,
        version=route.version + 1 if version is None else version,
        type=type,
        effective_at=route.updated_at + timedelta(seconds=1) if at is None else at,
        body=bodies.get(type, {}),
    )


def life(*types: LifecycleEventType, **first: Any) -> Route:
    """A route after its creation and events of these types, a second apart."""
    route = evolve(None, created(**first))
    for lifecycle_type in types:
        route = evolve(route, after(route, lifecycle_type))
    return route


def fold(events: Sequence[LifecycleEvent]) -> Route | None:
    route: Route | None = None
    for event in events:
        route = evolve(route, event)
    return route


_CONFIG = config()
