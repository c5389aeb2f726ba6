"""The body of a webhook: the event in our envelope, its snapshot reduced to the route's selection, then transformed.

Without a transform the producer's bytes are sent unchanged; they are parsed only for a JMESPath expression, once for
all filters of an event. What a transform only picks is sent as it was published. If an expression fails, the delivery
fails with the reason, and nothing is sent in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from daemon.core.events import raw_json, trace_context
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import expression, json_values
from daemon.core.webhook.expression import StepAllowance
from daemon.core.webhook.json_values import Json, TooLong

SnapshotSelection = tuple[tuple[str, tuple[str, ...] | None], ...]


# What expressions read at most. Parsed it may take 150 times as much memory, and 20 s; the default of events.max_bytes
# is a sixteenth of it, but SQL publishes what it likes. It is part of the decision, as the steps are.
MAX_DOCUMENT_BYTES = 4 << 20

# To cut a snapshot of 250 kB to the chosen fields takes 40 to 140 ms, so it may be too heavy as well. What is beyond
# this might have no room in another process, which has 1 GiB.
MAX_CUT_APART_BYTES = 8 << 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_TOO_LARGE = f"the event has more than {MAX_DOCUMENT_BYTES >> 20} MiB, and expressions read no larger ones"


class RenderError(ValueError):
    """The body cannot be rendered; `str()` is the reason to show to the merchant.

    `is_over_budget` is true if an expression took too many steps, or the event is too large for expressions.
    """

    def __init__(self, reason: str, *, is_over_budget: bool = False) -> None:
        super().__init__(reason)
        self.is_over_budget = is_over_budget


class FilterResult(StrEnum):
    """What a filter makes of an event. An event passes a filter that fails or takes too many steps.

    Then the delivery fails in `render` with a reason that the merchant sees, instead of being skipped silently.
    """

    PASSES = "passes"
    STOPS = "stops"
    FAILS = "fails"
    OVER_BUDGET = "over_budget"

    @property
    def lets_through(self) -> bool:
        return self is not FilterResult.STOPS


@dataclass(slots=True, kw_only=True)
class PayloadEvent:
    """The event that a body is rendered from. `created` is the event time; the parts are JSON objects as published.

    `hops` is how many deliveries of ours in a row led to the event. Not frozen: one is made for every decision and for
    every delivery, and making a frozen one takes twice as long.
    """

    event_id: str
    event_type: str
    created: datetime
    data: bytes
    context: bytes | None
    snapshot: bytes | None
    hops: int = 0


class EventFilters:
    """The filters of one event: the event is parsed when the first one asks, and each expression is evaluated once.

    `results` has those evaluated so far. With an allowance both raise TooHeavy beyond it; what was evaluated stays.
    """

    def __init__(self, event: PayloadEvent, *, allowance: StepAllowance | None = None) -> None:
        self.results: dict[str, FilterResult] = {}
        self._event = event
        self._allowance = allowance
        self._parsed: tuple[Json, int] | RenderError | None = None

    def passes(self, test: str) -> bool:
        """True if the event is let through."""
        return self.result(test).lets_through

    def result(self, test: str) -> FilterResult:
        """What a filter makes of the event."""
        known = self.results.get(test)
        if known is None:
            try:
                known = FilterResult.PASSES if self.holds(test) else FilterResult.STOPS
            except RenderError as error:
                known = FilterResult.OVER_BUDGET if error.is_over_budget else FilterResult.FAILS
            self.results[test] = known
        return known

    def holds(self, test: str) -> bool:
        """True if a filter is true of the event with its whole snapshot. Raises RenderError if the filter fails."""
        document, size_bytes = self.document()
        result = _evaluated(test, document, steps=expression.filter_steps(size_bytes), allowance=self._allowance)
        # JMESPath's notion of false: null, false, and empty strings, lists and objects - not 0.
        return not (result is None or result is False or result in ("", [], {}))

    def document(self) -> tuple[Json, int]:
        """The event with its whole snapshot, parsed, and the number of bytes of its text. Raises RenderError."""
        if self._parsed is None:
            body = envelope(self._event, self._event.snapshot or b"{}")
            try:
                self._parsed = _parsed(json_values.read, body, self._allowance), len(body)
            except RenderError as error:
                self._parsed = error
        if isinstance(self._parsed, RenderError):
            raise self._parsed
        return self._parsed


def render(
    event: PayloadEvent, options: PayloadOptions, *, max_bytes: int, allowance: StepAllowance | None = None
) -> bytes:
    """The bytes of the body; one made by a transform has at most `max_bytes`. Raises RenderError.

    The filter has decided before. It is evaluated again only so that a filter that fails makes the body fail, see
    `FilterResult`. With an allowance raises TooHeavy if the expressions, or the snapshot that is cut, take more.
    """
    if options.filter is not None:
        EventFilters(event, allowance=allowance).holds(options.filter)
    snapshot = b"{}"
    if options.snapshot is not None and event.snapshot is not None:
        if allowance is not None and len(event.snapshot) <= MAX_CUT_APART_BYTES:
            allowance.check_document(len(event.snapshot))
        try:
            snapshot = select(event.snapshot.decode(), options.snapshot).encode()
        except RecursionError as error:
            raise RenderError("the event's snapshot is nested too deeply to be cut to the chosen fields") from error
    body = envelope(event, snapshot)
    if options.transform is None:
        return body
    return _written(_transformed(body, options.transform, allowance=allowance), max_bytes=max_bytes)


def envelope(event: PayloadEvent, snapshot: bytes) -> bytes:
    """The body without a transform, around the producer's bytes."""
    return enclosed(event.event_id, event.event_type, event.created, event.data, event.context, snapshot)


def enclosed(
    event_id: str, event_type: str, created: datetime, data: bytes, context: bytes | None, snapshot: bytes = b"{}"
) -> bytes:
    """The parts of an event in our envelope. Ids are printable ASCII, types need no escape. On the hot path."""
    since_epoch = created - _EPOCH
    return b'{"id":%s,"type":"%s","created":%d,"data":{"object":%s},"context":%s,"snapshot":%s}' % (
        orjson.dumps(event_id),
        event_type.encode(),
        since_epoch.days * 86400 + since_epoch.seconds,  # exact, and rounded down before 1970 as well
        data,
        trace_context.published(context) or b"{}",
        snapshot,
    )


def select(snapshot: str, selection: SnapshotSelection) -> str:
    """The selected entities of a snapshot, whole or with the selected fields. Entities that it lacks are left out.

    Raises RecursionError for more than `raw_json.MAX_STORED_DEPTH` levels.
    """
    raw_json.check_stored_depth(snapshot)
    entities = dict(raw_json.members(snapshot))
    chosen = (
        (entity, entities[entity] if fields is None else _project(entities[entity], fields))
        for entity, fields in selection
        if entity in entities
    )
    return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in chosen) + "}"


def _transformed(body: bytes, transform: str, *, allowance: StepAllowance | None) -> Json:
    """The result of a transform; what it picks of the body knows its text."""
    steps = expression.transform_steps(len(body))
    unpaid = allowance
    if not expression.only_picks(transform, allowance=allowance):
        values = _parsed(json_values.read, body, allowance)
        result = _evaluated(transform, values, steps=steps, allowance=allowance)
        if not json_values.needs_document(result, values, body.decode()):
            return result
        unpaid = None
    document = _parsed(json_values.document, body, allowance)
    return _evaluated(transform, document, steps=steps, allowance=unpaid)


def _written(result: Json, *, max_bytes: int) -> bytes:
    try:
        shaped = json_values.written(result, max_characters=max_bytes).encode()
    except TooLong as error:
        raise RenderError(f"the transform made more than the {max_bytes} bytes that are allowed") from error
    except UnicodeEncodeError as error:  # an unpaired surrogate (\ud800) that was not published as one
        raise RenderError("the transform made a value that JSON cannot hold") from error
    if len(shaped) > max_bytes:
        raise RenderError(f"the transform made {len(shaped)} bytes, {max_bytes} are allowed")
    return shaped


def _parsed(parse: Callable[[str], Json], body: bytes, allowance: StepAllowance | None) -> Json:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise RenderError(_TOO_LARGE, is_over_budget=True)
    if allowance is not None:
        allowance.check_document(len(body) * (json_values.DOCUMENT_READS if parse is json_values.document else 1))
    try:
        return parse(body.decode())
    except (ValueError, RecursionError) as error:
        raise RenderError("the event is nested too deeply for expressions") from error


def _evaluated(text: str, document: Json, *, steps: int, allowance: StepAllowance | None) -> Json:
    try:
        return expression.evaluate(text, document, steps=steps, allowance=allowance)
    except expression.ExpressionError as error:
        is_over_budget = isinstance(error, expression.OverBudget)
        raise RenderError(f"the expression {error}", is_over_budget=is_over_budget) from error


def _project(entity: str, fields: tuple[str, ...]) -> str:
    """An object, or each object of a list, with the selected fields only; any other value unchanged."""
    if entity.startswith("["):
        return f"[{','.join(_project_object(element, fields) for element in raw_json.elements(entity))}]"
    return _project_object(entity, fields)


def _project_object(value: str, fields: tuple[str, ...]) -> str:
    if not value.startswith("{"):
        return value
    return raw_json.cut(value, fields)
