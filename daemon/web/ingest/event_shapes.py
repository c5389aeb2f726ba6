"""The request and response bodies of POST /v1/events, for the OpenAPI document.

`daemon.core.events.event` checks an event, not a pydantic model, because its payload must keep its bytes. So the schema
of an event is written by hand; a test compares it with those checks.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.events.cloud_event import SPEC_VERSION
from daemon.core.events.event import ID_PATTERN, MAX_TEXT_CHARACTERS, TENANT_PATTERN, TYPE_PATTERN
from daemon.web.http.endpoints import Media
from daemon.web.http.problems import FieldErrorShape
from daemon.web.http.shapes import EventId

EVENT_SCHEMA = {
    "type": "object",
    "description": "Something that happened in the platform. `data`, `context` and `snapshot` reach receivers as "
    "they are written here. Nested deeper than 254 levels, or longer than `events.max_bytes` (262,144 bytes unless "
    "configured), it is refused.",
    "required": ["type", "data"],
    "additionalProperties": False,
    "properties": {
        "tenant": {
            "description": "The merchant that it belongs to. May be left out if the token is bound to one.",
            "type": ["string", "null"],
            "pattern": f"^{TENANT_PATTERN}$",
        },
        "type": {
            "description": "`object.action`",
            "type": "string",
            "maxLength": MAX_TEXT_CHARACTERS,
            "pattern": f"^{TYPE_PATTERN}$",
        },
        "id": {
            "description": "Generated if absent. The same tenant and id within 24 hours is one event: repeat safely.",
            "type": ["string", "null"],
            "pattern": f"^{ID_PATTERN}$",
        },
        "occurred_at": {
            "description": "When it happened, at most a day ahead. Absent: now.",
            "type": ["string", "null"],
            "format": "date-time",
        },
        "data": {"type": "object"},
        "context": {"type": ["object", "null"]},
        "snapshot": {
            "description": "Entities related to the event, from which routes select with `payload.snapshot`.",
            "type": ["object", "null"],
        },
        "backfill": {
            "description": "Stored, and never delivered automatically.",
            "type": ["boolean", "null"],
            "default": False,
        },
    },
}

_EXAMPLE = {
    "tenant": "acme",
    "type": "order.create",
    "id": "evt_1",
    "occurred_at": "2026-11-23T08:00:00.000000Z",
    "data": {"public_id": "7dc6", "total": "19.90"},
    "context": {},
    "snapshot": {"customer": {"public_id": "c41"}},
}

EVENT = Media(content_type="application/json", name="Event", schema=EVENT_SCHEMA, example=_EXAMPLE)

EVENT_LINES = Media(
    content_type="application/x-ndjson",
    name="EventLines",
    schema={"description": "One event per line, at most `events.batch_max` (10,000)."},
    example='{"tenant":"acme","type":"order.create","data":{}}\n{"tenant":"acme","type":"order.cancel","data":{}}\n',
)

_CLOUD_EVENT_SCHEMA = {
    "type": "object",
    "description": "A CloudEvent 1.0. The tenant is the attribute `tenant`, or else that of the token, or else the "
    "`subject`. `data` that is no object is delivered inside of one.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": SPEC_VERSION},
        "id": {"type": "string", "pattern": f"^{ID_PATTERN}$"},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "maxLength": MAX_TEXT_CHARACTERS, "pattern": f"^{TYPE_PATTERN}$"},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "tenant": {"type": ["string", "null"], "pattern": f"^{TENANT_PATTERN}$"},
        "subject": {"type": ["string", "null"], "minLength": 1},
        "datacontenttype": {"type": ["string", "null"], "minLength": 1},
        "dataschema": {"type": ["string", "null"], "minLength": 1},
        "data": {},
        "data_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
    },
    "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
}

_CLOUD_EXAMPLE = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/orders",
    "type": "order.create",
    "time": "2026-11-23T08:00:00Z",
    "tenant": "acme",
    "data": {"public_id": "7dc6"},
}

CLOUD_EVENT = Media(
    content_type="application/cloudevents+json", name="CloudEvent", schema=_CLOUD_EVENT_SCHEMA, example=_CLOUD_EXAMPLE
)

CLOUD_EVENTS = Media(
    content_type="application/cloudevents-batch+json",
    name="CloudEvents",
    schema={
        "type": "array",
        "description": "CloudEvents, at most `events.batch_max` (10,000). One that is wrong is "
        "reported by its number; the others are stored.",
    },
    example=[_CLOUD_EXAMPLE],
)


class FateShape(TypedDict):
    """The result of one event. A rejected line of a batch has no id, but its number and what is wrong with it."""

    id: EventId | None
    status: Literal["accepted", "duplicate", "rejected"]
    line: NotRequired[Annotated[int, Field(ge=1, examples=[3])]]
    errors: NotRequired[list[FieldErrorShape]]


class PublishedShape(TypedDict):
    """The result of each event, in order. 202 means that the accepted events are durable."""

    accepted: Annotated[int, Field(ge=0, examples=[1])]
    duplicates: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]
    events: list[FateShape]
