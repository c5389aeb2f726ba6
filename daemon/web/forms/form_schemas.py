"""JSON Schemas of the fields of forms: what `daemon.core.drafts.route_draft` checks, as far as a schema can express it.

A schema cannot express where a target may be, or whether an expression compiles. The answer 422 says that.
"""

from __future__ import annotations

from pydantic.config import JsonDict

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES, MAX_NAME_CHARACTERS, MAX_RATE_PER_SECOND
from daemon.core.drafts.route_headers import MAX_HEADERS, MAX_VALUE_LENGTH
from daemon.core.drafts.verification_key import MAX_CHARACTERS, MIN_CHARACTERS
from daemon.core.events.event import BELOW_PATTERN, MAX_TEXT_CHARACTERS, TYPE_PATTERN
from daemon.core.webhook.egress import MAX_URL_BYTES
from daemon.core.webhook.expression import MAX_EXPRESSION_BYTES

INSTANT = {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00Z"]}

NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME_CHARACTERS,
    "pattern": r"\S",
    "description": "The name that people see; printable.",
    "examples": ["Orders"],
}

TARGET_URL = {
    "type": "string",
    "format": "uri",
    "maxLength": MAX_URL_BYTES,
    "description": "An https URL on a public address, unless `egress.*` says otherwise.",
    "examples": ["https://shop.example.com/hooks"],
}

EVENT_TYPES = {
    "type": "array",
    "items": {
        "type": "string",
        "maxLength": MAX_TEXT_CHARACTERS,
        "pattern": rf"^(\*|{BELOW_PATTERN}|{TYPE_PATTERN})$",
    },
    "minItems": 1,
    "maxItems": MAX_EVENT_TYPES,
    "description": "Types like `order.create`, prefixes like `order.*` or `customer.subscription.*`, or `*` for all.",
    "examples": [["order.*", "subscription.create"]],
}

VERIFICATION_KEY = {
    "type": ["string", "null"],
    "minLength": MIN_CHARACTERS,
    "maxLength": MAX_CHARACTERS,
    "pattern": r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f]$",
    "writeOnly": True,
    "description": "A key that receivers have already, so that they need not change: `whsec_…`, or any printable text "
    "of an earlier provider, which then signs in the first scheme only. Left out: a new random key.",
}

HEADERS = {
    "type": "object",
    "maxProperties": MAX_HEADERS,
    "propertyNames": {"type": "string", "pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"},
    "additionalProperties": {
        "type": "string",
        "maxLength": MAX_VALUE_LENGTH,
        "pattern": r"^[\t -~]*$",
        "not": {"const": "***"},
    },
    "description": "Sent with every webhook. Values are secrets and never shown. Names that Hookledger or "
    "HTTP sets are refused.",
    "examples": [{"X-Shop": "secret"}],
}

ORDERED = {"type": "boolean", "description": "Deliver one event at a time; while one fails, the following ones wait."}

RATE = {
    "type": ["number", "null"],
    "exclusiveMinimum": 0,
    "maximum": MAX_RATE_PER_SECOND,
    "description": "Requests per second at most; null for no limit.",
}

SELECTION = {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]}

EXPRESSION = {
    "type": ["string", "null"],
    "maxLength": MAX_EXPRESSION_BYTES,
    "description": "JMESPath over the body of a webhook, in which the event's data is `data.object`; null for none.",
}

REASON = {
    "type": ["string", "null"],
    "maxLength": 1000,
    "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$",
    "description": "The reason, for the history.",
    "examples": ["moved to the new shop"],
}

NEW_ROUTE_EXAMPLE: JsonDict = {
    "name": "Orders",
    "target_url": "https://shop.example.com/hooks",
    "event_types": ["order.*", "subscription.create"],
    "payload": {"snapshot": {"customer": True, "orders": ["public_id", "total"]}},
    "headers": {"X-Shop": "secret"},
}

ROUTE_EDIT_EXAMPLE: JsonDict = {"name": "All orders", "event_types": ["order.*"], "reason": "one type was not enough"}

COMMAND_EXAMPLE: JsonDict = {"reason": "moved to the new shop"}
