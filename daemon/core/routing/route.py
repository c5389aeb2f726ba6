"""A route as a state machine over its lifecycle events.

The one thing to know: the route log is the source of truth, and a `Route` is a fold over its events. `TRANSITIONS` says
which lifecycle event may follow in which status. `may` refuses a command by that table, and `evolve` applies an event.
An event that the table does not allow, or whose body no command can have written, means that the log is broken, and
raises BrokenHistory.

    (none) --created--> enabled | disabled
    enabled <--enabled/disabled--> disabled
    enabled, disabled --edited, key_rotated, key_revoked--> the same
    enabled, disabled --deleted--> deleted (final)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import NoneType
from typing import Any, NamedTuple, TypeVar, assert_never
from uuid import UUID

from daemon.core.routing import windows
from daemon.core.routing.windows import Window, Windows

_Kept = TypeVar("_Kept")

# What comes of a body that is not as `evolve` expects it.
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class RouteStatus(StrEnum):
    """The states of the diagram above."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


class LifecycleEventType(StrEnum):
    """The types of lifecycle events."""

    CREATED = "created"
    EDITED = "edited"
    DISABLED = "disabled"
    ENABLED = "enabled"
    DELETED = "deleted"
    KEY_ROTATED = "key_rotated"
    KEY_REVOKED = "key_revoked"


# The statuses in which each lifecycle event is allowed. `created` is missing, because there is no route before it.
TRANSITIONS: dict[LifecycleEventType, frozenset[RouteStatus]] = {
    LifecycleEventType.EDITED: frozenset({RouteStatus.ENABLED, RouteStatus.DISABLED}),
    LifecycleEventType.DISABLED: frozenset({RouteStatus.ENABLED}),
    LifecycleEventType.ENABLED: frozenset({RouteStatus.DISABLED}),
    LifecycleEventType.DELETED: frozenset({RouteStatus.ENABLED, RouteStatus.DISABLED}),
    LifecycleEventType.KEY_ROTATED: frozenset({RouteStatus.ENABLED, RouteStatus.DISABLED}),
    LifecycleEventType.KEY_REVOKED: frozenset({RouteStatus.ENABLED, RouteStatus.DISABLED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadOptions:
    """Which parts of an event go into the body. `snapshot` maps an entity to its fields, or to None for all of them."""

    snapshot: tuple[tuple[str, tuple[str, ...] | None], ...] | None = None
    filter: str | None = None
    transform: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """What a merchant configures. Header values are secrets and are stored apart, sealed, under `headers_id`."""

    name: str
    target_url: str
    event_types: tuple[str, ...]
    payload: PayloadOptions = PayloadOptions()
    header_names: tuple[str, ...] = ()
    headers_id: str | None = None
    ordered: bool = False
    rate_limit_per_second: float | None = None


_BLANK = RouteConfig(name="", target_url="", event_types=())

# The types of values in a configuration. A subclass is none of them: JSON makes no other values.
_TEXT, _OPTIONAL_TEXT = frozenset({str}), frozenset({str, NoneType})
_FLAG, _RATE = frozenset({bool}), frozenset({int, float, NoneType})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """A verification key by id and fingerprint; `valid_until` is None for the newest one.

    `is_standard` is false for a text that was brought along and is not whsec_ and base64.
    """

    id: str
    fingerprint: str
    valid_until: datetime | None = None
    is_standard: bool = True


class LifecycleEvent(NamedTuple):
    """One entry of the route log. `body` is its parsed JSON, with keys that depend on `type` (see `evolve`).

    A tuple, since a rebuild makes millions: a frozen dataclass takes four times as long to make.
    """

    pos: int
    route_id: UUID
    tenant: str
    version: int
    type: LifecycleEventType
    effective_at: datetime
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route as of `version`. `pos` is the log position of that version's event; `windows` are those up to then."""

    id: UUID
    tenant: str
    version: int
    pos: int
    status: RouteStatus
    config: RouteConfig
    windows: Sequence[Window]
    keys: tuple[KeyRef, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def is_enabled(self) -> bool:
        """True if it receives events that happen now."""
        return self.status is RouteStatus.ENABLED

    def keys_at(self, now: datetime) -> tuple[KeyRef, ...]:
        """The keys to sign with: the newest, then the previous one during its grace period."""
        if len(self.keys) == 1:
            return self.keys
        return tuple(key for key in self.keys if key.valid_until is None or now < key.valid_until)

    def old_key_at(self, now: datetime) -> KeyRef | None:
        """The previous key during its grace period, else None."""
        keys = self.keys_at(now)
        return keys[1] if len(keys) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefusal:
    """Why a command is refused; `reason` is shown to the caller."""

    reason: str


class BrokenHistory(ValueError):
    """A lifecycle event that cannot follow the ones before it."""


def may(route: Route | None, lifecycle_type: LifecycleEventType) -> CommandRefusal | None:
    """None if `lifecycle_type` is allowed in the route's current status, else why it is not."""
    if lifecycle_type is LifecycleEventType.CREATED:
        return None if route is None else CommandRefusal(reason="the route exists already")
    if route is None:
        return CommandRefusal(reason="there is no such route")
    if route.status in TRANSITIONS[lifecycle_type]:
        return None
    if route.status is RouteStatus.DELETED:
        return CommandRefusal(reason="the route was deleted, and deleting is final: create a new one")
    return CommandRefusal(reason=f"the route is {route.status} already")


def evolve(route: Route | None, event: LifecycleEvent) -> Route:
    """The route after `event`. Raises BrokenHistory if the event cannot follow."""
    refusal = may(route, event.type)
    if refusal is not None:
        raise BrokenHistory(f"position {event.pos}: {event.type} of {event.route_id}: {refusal.reason}")
    if route is None:
        if event.version != 1:
            raise BrokenHistory(f"position {event.pos}: {event.route_id} was created as version {event.version}")
    elif not _follows(event, route):
        raise BrokenHistory(
            f"position {event.pos}: {event.type} of {event.route_id}, version {event.version}, does not follow version "
            f"{route.version} of {route.id} at position {route.pos}: one of route, tenant, position or time is wrong"
        )
    try:
        return _created(event) if route is None else _changed(route, event)
    except _UNREADABLE as error:
        raise BrokenHistory(f"position {event.pos}: {event.type} of {event.route_id} has no such body") from error


def config_to_body(config: RouteConfig) -> dict[str, Any]:
    """The JSON of a configuration in the log: the same keys as the API's, header values replaced by their id."""
    snapshot = config.payload.snapshot
    return {
        "name": config.name,
        "target_url": config.target_url,
        "event_types": list(config.event_types),
        "payload": {
            "snapshot": None
            if snapshot is None
            else {entity: True if fields is None else list(fields) for entity, fields in snapshot},
            "filter": config.payload.filter,
            "transform": config.payload.transform,
        },
        "header_names": list(config.header_names),
        "headers_id": config.headers_id,
        "ordered": config.ordered,
        "rate_limit_per_second": config.rate_limit_per_second,
    }


def config_from_body(body: dict[str, Any], before: RouteConfig | None = None) -> RouteConfig:
    """The inverse of `config_to_body`. Raises TypeError, among others, for what that cannot have made.

    What is the same as in `before` is the very object that it was there. A timeline keeps every configuration, so an
    edit costs memory for what it changed alone. Only for texts and tuples of texts: equal ones are the same text,
    whereas 1 and 1.0 are not.
    """
    known = before or _BLANK
    config = RouteConfig(
        name=_kept(body["name"], known.name),
        target_url=_kept(body["target_url"], known.target_url),
        event_types=_kept(tuple(body["event_types"]), known.event_types),
        payload=_payload(body["payload"], known.payload),
        header_names=_kept(tuple(body["header_names"]), known.header_names),
        headers_id=_kept(body["headers_id"], known.headers_id),
        ordered=body["ordered"],
        rate_limit_per_second=body["rate_limit_per_second"],
    )
    _check_types(config, known)
    return config


# What a configuration takes in memory without its texts, and a text without its characters.
_CONFIG_BYTES = 512
_TEXT_BYTES = 64


def config_bytes(config: RouteConfig, before: RouteConfig | None = None) -> int:
    """About how many bytes a configuration takes in memory, beside one `before` it of which it was made by
    `config_from_body`.
    """
    known, payload, texts = before or _BLANK, config.payload, list[str | None]()
    texts += (
        text for text, was in ((config.name, known.name), (config.target_url, known.target_url)) if text is not was
    )
    texts += () if config.event_types is known.event_types else config.event_types
    texts += () if config.header_names is known.header_names else config.header_names
    if payload is not known.payload:
        texts += () if payload.filter is known.payload.filter else (payload.filter,)
        texts += () if payload.transform is known.payload.transform else (payload.transform,)
        if payload.snapshot is not known.payload.snapshot:
            for entity, fields in payload.snapshot or ():
                texts += (entity, *(fields or ()))
    return _CONFIG_BYTES + sum(_TEXT_BYTES + len(text) for text in texts if text is not None)


def _payload(body: dict[str, Any], known: PayloadOptions) -> PayloadOptions:
    snapshot = _kept(snapshot_selection(body["snapshot"]), known.snapshot)
    filter, transform = _kept(body["filter"], known.filter), _kept(body["transform"], known.transform)
    if snapshot is known.snapshot and filter is known.filter and transform is known.transform:
        return known
    return PayloadOptions(snapshot=snapshot, filter=filter, transform=transform)


def snapshot_selection(
    selection: dict[str, bool | list[str]] | None,
) -> tuple[tuple[str, tuple[str, ...] | None], ...] | None:
    """`{"customer": true, "orders": ["total"]}` as the tuples of `PayloadOptions`; false leaves an entity out."""
    if selection is None:
        return None
    return tuple(
        (entity, None if fields is True else tuple(fields))
        for entity, fields in sorted(selection.items())
        if fields is not False
    )


def _check_types(config: RouteConfig, known: RouteConfig) -> None:
    """Raises TypeError. The stages of the pipeline rely on the types; a log that somebody forged has any.

    What is the very object that `known` has was checked with that.
    """
    payload = config.payload
    if not (
        (config.name is known.name or type(config.name) is str)
        and (config.target_url is known.target_url or type(config.target_url) is str)
        and (config.event_types is known.event_types or {*map(type, config.event_types)} <= _TEXT)
        and (config.header_names is known.header_names or {*map(type, config.header_names)} <= _TEXT)
        and (config.headers_id is known.headers_id or type(config.headers_id) in _OPTIONAL_TEXT)
        and (payload is known.payload or {type(payload.filter), type(payload.transform)} <= _OPTIONAL_TEXT)
        and type(config.ordered) in _FLAG
        and type(config.rate_limit_per_second) in _RATE
    ):
        raise TypeError("a value of the configuration has another type")


def _follows(event: LifecycleEvent, route: Route) -> bool:
    """True if the event has the next version of this route, a later position and a later time."""
    return (
        (event.route_id, event.tenant, event.version) == (route.id, route.tenant, route.version + 1)
        and event.pos > route.pos
        and event.effective_at > route.updated_at
    )


def _changed(route: Route, event: LifecycleEvent) -> Route:
    at = event.effective_at
    status, config, periods, keys = route.status, route.config, route.windows, route.keys
    match event.type:
        case LifecycleEventType.EDITED:
            config = config_from_body(event.body["config"], config)
        case LifecycleEventType.DISABLED:
            status, periods = RouteStatus.DISABLED, windows.closed(periods, at)
        case LifecycleEventType.ENABLED:
            status, periods = RouteStatus.ENABLED, windows.opened(periods, at)
        case LifecycleEventType.DELETED:
            status, periods = RouteStatus.DELETED, windows.closed(periods, at)
        case LifecycleEventType.KEY_ROTATED:
            previous = replace(keys[0], valid_until=at + timedelta(seconds=event.body["grace_seconds"]))
            keys = (_key(event.body["key"]), previous)
        case LifecycleEventType.KEY_REVOKED:
            keys = keys[:1]
        case LifecycleEventType.CREATED:
            raise BrokenHistory(f"position {event.pos}: created twice")
        case _:
            assert_never(event.type)
    # Not `replace`, which takes five times as long: a rebuild makes a route for each of a million events.
    return Route(
        id=route.id,
        tenant=route.tenant,
        version=event.version,
        pos=event.pos,
        status=status,
        config=config,
        windows=periods,
        keys=keys,
        created_at=route.created_at,
        updated_at=at,
    )


def _kept(value: _Kept, before: _Kept) -> _Kept:
    return before if value == before else value


def _created(event: LifecycleEvent) -> Route:
    enabled = bool(event.body["enabled"])
    return Route(
        id=event.route_id,
        tenant=event.tenant,
        version=event.version,
        pos=event.pos,
        status=RouteStatus.ENABLED if enabled else RouteStatus.DISABLED,
        config=config_from_body(event.body["config"]),
        windows=Windows([], 0, Window(event.effective_at) if enabled else None),
        keys=(_key(event.body["key"]),),
        created_at=event.effective_at,
        updated_at=event.effective_at,
    )


def _key(body: dict[str, Any]) -> KeyRef:
    key = KeyRef(id=body["id"], fingerprint=body["fingerprint"], is_standard=body.get("is_standard", True))
    if not (type(key.id) is str and type(key.fingerprint) is str and type(key.is_standard) is bool):
        raise TypeError("a value of the key has another type")
    return key
