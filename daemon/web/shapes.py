"""How things look from outside: the JSON of routes, history and explanations, with RFC 3339 times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from aiohttp import web

from daemon.audit import Explanation
from daemon.core.route import KeyRef, Route, config_to_body
from daemon.core.windows import Window
from eventstore.log import RouteEvent

MASK = "***"


def answer(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def of_route(route: Route, *, now: datetime) -> dict[str, object]:
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


def of_window(window: Window) -> dict[str, object]:
    return {"from": moment(window.start), "to": moment(window.end)}


def of_keys(keys: tuple[KeyRef, ...], valid: tuple[KeyRef, ...]) -> dict[str, object]:
    """The newest key, and until when the one before signs along."""
    until = valid[1].valid_until if len(valid) > 1 else None
    return {"id": keys[0].id, "fingerprint": keys[0].fingerprint, "previous_valid_until": moment(until)}


def of_history(events: list[RouteEvent]) -> list[dict[str, object]]:
    """Lifecycle events, newest first, each with what it changed."""
    shown: list[dict[str, object]] = []
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
                "type": event.type,
                "effective_at": moment(event.effective_at),
                "actor": event.actor,
                "origin": event.origin,
                "reason": event.reason,
                "changes": changes,
                "hash": event.hash.hex(),
            }
        )
    return shown[::-1]


def of_explanation(it: Explanation) -> dict[str, object]:
    """Why an event did or did not reach a route; with its delivery, if there was one due."""
    shown: dict[str, object] = {
        "event": it.event.id,
        "route": str(it.route_id),
        "route_name": it.route_name,
        "decision": it.verdict.value,
        "detail": it.detail,
        "event_time": moment(it.event.event_time),
        "window": None if it.window is None else of_window(it.window),
        "route_version": it.route_version,
        "route_pos": it.route_pos,
        "tick": it.event.tick,
    }
    return shown if it.delivery_id is None else shown | {"delivery": _delivery(it)}


def _delivery(it: Explanation) -> dict[str, object]:
    return {
        "id": it.delivery_id,
        "attempts": [
            {
                "number": attempt.number,
                "at": moment(attempt.started_at),
                "outcome": attempt.outcome,
                "status_code": attempt.status_code,
                "error": attempt.error,
                "duration_ms": attempt.duration_ms,
            }
            for attempt in it.attempts
        ],
        "next_attempt_at": None if it.pending is None else moment(it.pending.due_at),
    }


def _changes(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """Field → [old, new] of what differs. Header values are not in the log; new ones show as a change of `headers`."""
    changes: dict[str, object] = {
        name: [before.get(name), value]
        for name, value in after.items()
        if name not in ("headers_id", "header_names") and before.get(name) != value
    }
    if before.get("headers_id") != after["headers_id"]:
        changes["headers"] = [before.get("header_names", []), after["header_names"]]
    return changes
