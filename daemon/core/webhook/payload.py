"""The body of a webhook: the event in our envelope, its snapshot reduced to the route's selection, then transformed.

Without a transform the producer's bytes are sent unchanged; they are parsed only for a JMESPath expression. If an
expression fails, the delivery fails with the reason, and nothing is sent in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from daemon.core.events import raw_json
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import expression

SnapshotSelection = tuple[tuple[str, tuple[str, ...] | None], ...]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RenderError(ValueError):
    """The body cannot be rendered; `str()` is the reason to show to the merchant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSource:
    """The event that a body is rendered from. `created` is the event time; the parts are JSON objects as published."""

    event_id: str
    event_type: str
    created: datetime
    data: bytes
    context: bytes | None
    snapshot: bytes | None


def render(source: PayloadSource, options: PayloadOptions, *, max_bytes: int) -> bytes:
    """The bytes of the body; one made by a transform has at most `max_bytes`. Raises RenderError.

    The filter has decided before. It is evaluated again only so that a filter that fails makes the body fail, see
    `passes`.
    """
    if options.filter is not None:
        holds(options.filter, source)
    snapshot = b"{}"
    if options.snapshot is not None and source.snapshot is not None:
        try:
            snapshot = select(source.snapshot.decode(), options.snapshot).encode()
        except RecursionError as error:
            raise RenderError("the event's snapshot is nested too deeply to be cut to the chosen fields") from error
    body = envelope(source, snapshot)
    return body if options.transform is None else _transformed(body, options.transform, max_bytes=max_bytes)


def envelope(source: PayloadSource, snapshot: bytes) -> bytes:
    """The body without a transform, around the producer's bytes. Ids are printable ASCII, types need no escape."""
    return b'{"id":%s,"type":"%s","created":%d,"data":{"object":%s},"context":%s,"snapshot":%s}' % (
        json.dumps(source.event_id).encode(),
        source.event_type.encode(),
        (source.created - _EPOCH) // timedelta(seconds=1),  # exact, and rounded down before 1970 as well
        source.data,
        source.context or b"{}",
        snapshot,
    )


def select(snapshot: str, selection: SnapshotSelection) -> str:
    """The selected entities of a snapshot, whole or with the selected fields. Entities that it lacks are left out."""
    entities = dict(raw_json.members(snapshot))
    chosen = (
        (entity, entities[entity] if fields is None else _project(entities[entity], fields))
        for entity, fields in selection
        if entity in entities
    )
    return _object(chosen)


def passes(test: str, source: PayloadSource) -> bool:
    """True if a filter lets the event through.

    A filter that fails on this event lets it through. Then the delivery fails in `render` with a reason that the
    merchant sees, instead of being skipped silently.
    """
    try:
        return holds(test, source)
    except RenderError:
        return True


def holds(test: str, source: PayloadSource) -> bool:
    """True if a filter is true of the event with its whole snapshot. Raises RenderError if the filter fails."""
    result = _evaluated(test, envelope(source, source.snapshot or b"{}"))
    # JMESPath's notion of false: null, false, and empty strings, lists and objects - not 0.
    return not (result is None or result is False or result in ("", [], {}))


def _transformed(body: bytes, transform: str, *, max_bytes: int) -> bytes:
    result = _evaluated(transform, body)
    try:
        shaped = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:  # infinity (1e999), an unpaired surrogate (\ud800), too deep
        raise RenderError("the transform made a value that JSON cannot hold") from error
    if len(shaped) > max_bytes:
        raise RenderError(f"the transform made {len(shaped)} bytes, {max_bytes} are allowed")
    return shaped


def _evaluated(text: str, body: bytes) -> object:
    try:
        return expression.evaluate(text, json.loads(body), size_bytes=len(body))
    except expression.ExpressionError as error:
        raise RenderError(f"the expression {error}") from error
    except (ValueError, RecursionError) as error:
        raise RenderError("the event is nested too deeply for expressions, or has a number that is too long") from error


def _project(entity: str, fields: tuple[str, ...]) -> str:
    """An object, or each object of a list, with the selected fields only; any other value unchanged."""
    if entity.startswith("["):
        return f"[{','.join(_project_object(element, fields) for element in raw_json.elements(entity))}]"
    return _project_object(entity, fields)


def _project_object(value: str, fields: tuple[str, ...]) -> str:
    if not value.startswith("{"):
        return value
    return _object((name, text) for name, text in raw_json.members(value) if name in fields)


def _object(parts: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in parts) + "}"
