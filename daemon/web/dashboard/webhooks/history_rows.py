"""Lifecycle events as rows of a history: who did what, when and why, and what an edit changed.

The configuration before an edit is in the timeline of the route. A process that has not applied the edit yet has a
timeline that ends before it, which does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEventType, Route, RouteConfig, config_from_body, config_to_body
from daemon.web.dashboard.html.text import actor
from eventstore.route_log.log import RouteEvent

# Rows show only the beginning of longer values and lists.
SHORT_CHARACTERS = 160
SHORT_ITEMS = 8

TITLES: Mapping[LifecycleEventType, str] = {
    LifecycleEventType.CREATED: "Created",
    LifecycleEventType.EDITED: "Edited",
    LifecycleEventType.DISABLED: "Disabled",
    LifecycleEventType.ENABLED: "Enabled",
    LifecycleEventType.DELETED: "Deleted",
    LifecycleEventType.KEY_ROTATED: "Verification key rotated",
    LifecycleEventType.KEY_REVOKED: "Old verification key revoked",
}

_BEFORE = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """The change of one field: its old and its new value; of a list only the items that were removed and added."""

    label: str
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """A lifecycle event. `detail` is one more sentence, or empty; `name` is the route's name now, None if unknown."""

    pos: int
    version: int
    route_id: UUID
    name: str | None
    type: LifecycleEventType
    at: datetime
    by: str
    reason: str | None
    detail: str
    changes: tuple[FieldChange, ...]
    hash: str

    @property
    def title(self) -> str:
        return TITLES[self.type]

    @property
    def is_long(self) -> bool:
        """True if a row shows a value or a list only in part."""
        values = [values for change in self.changes for values in (change.removed, change.added)]
        return any(len(each) > SHORT_ITEMS or any(len(text) > SHORT_CHARACTERS for text in each) for each in values)


def rows(events: Sequence[RouteEvent], index: RouteIndex) -> list[HistoryRow]:
    """A row for each event, in their order. `index` has the routes, deleted ones too."""
    return [_row(event, index) for event in events]


def _row(event: RouteEvent, index: RouteIndex) -> HistoryRow:
    timeline = index.timeline(event.route_id)
    before = None if timeline is None else timeline.as_of(event.effective_at - _BEFORE)
    body: dict[str, Any] = orjson.loads(event.body)
    return HistoryRow(
        pos=event.pos,
        version=event.version,
        route_id=event.route_id,
        name=None if timeline is None else timeline.current.config.name,
        type=LifecycleEventType(event.type),
        at=event.effective_at,
        by=actor(event.actor),
        reason=event.reason,
        detail=_detail(LifecycleEventType(event.type), body),
        changes=_changes(body, before),
        hash=event.hash.hex(),
    )


def _detail(lifecycle_type: LifecycleEventType, body: Mapping[str, Any]) -> str:
    match lifecycle_type:
        case LifecycleEventType.CREATED:
            return "" if body["enabled"] else "Disabled from the start."
        case LifecycleEventType.KEY_ROTATED:
            hours = body["grace_seconds"] // 3600
            return (
                f"The new key has the fingerprint {body['key']['fingerprint']}. The old one signs along for {hours} h."
            )
        case _:
            return ""


def _changes(body: Mapping[str, Any], before: Route | None) -> tuple[FieldChange, ...]:
    if "config" not in body:
        return ()
    config = config_from_body(body["config"])
    return tuple(_differences(None if before is None else before.config, config))


def _differences(old: RouteConfig | None, new: RouteConfig) -> Iterator[FieldChange]:
    """The changes by field; without an old configuration, all fields that the new one sets."""
    old_texts, new_texts = {} if old is None else _texts(old), _texts(new)
    for label, text in new_texts.items():
        if text != old_texts.get(label, ""):
            yield FieldChange(label=label, removed=_present(old_texts.get(label, "")), added=_present(text))
    for label, before, after in (
        ("Event types", () if old is None else old.event_types, new.event_types),
        ("Custom headers", () if old is None else old.header_names, new.header_names),
    ):
        if set(before) != set(after):
            yield FieldChange(label=label, removed=_without(before, after), added=_without(after, before))
        elif label == "Custom headers" and old is not None and old.headers_id != new.headers_id:
            yield FieldChange(label=label, added=("values were set anew",))


def _texts(config: RouteConfig) -> dict[str, str]:
    """The fields that are not lists, by label; a field with its default value is empty."""
    snapshot = config_to_body(config)["payload"]["snapshot"]
    rate = config.rate_limit_per_second
    return {
        "Name": config.name,
        "Target": config.target_url,
        "Snapshot": "" if snapshot is None else orjson.dumps(snapshot).decode(),
        "Filter": config.payload.filter or "",
        "Transform": config.payload.transform or "",
        "Order": "one at a time, in order" if config.ordered else "",
        "Rate limit": "" if rate is None else f"{rate:g} per second",
    }


def _present(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _without(items: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    left_out = set(others)
    return tuple(item for item in items if item not in left_out)
