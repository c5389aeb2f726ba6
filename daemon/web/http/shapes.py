"""What the JSON of all answers shares: times, ids, masked secrets, and the response itself.

A shape is a TypedDict that stands beside its handler. mypy checks the answers against it, and the OpenAPI document is
generated from it, where its name is the class name without `Shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, overload

import orjson
from aiohttp import web
from pydantic import Field, WithJsonSchema

# What is shown instead of a secret value.
MASK = "***"

EXAMPLE_MOMENT = "2026-11-23T08:00:00.000000Z"

MOMENT_SCHEMA = {"type": "string", "format": "date-time"}

Moment = Annotated[str, WithJsonSchema({**MOMENT_SCHEMA, "examples": [EXAMPLE_MOMENT]})]
Uuid = Annotated[
    str, WithJsonSchema({"type": "string", "format": "uuid", "examples": ["018f6d3e-7c1a-4a5b-9d2e-3f4a5b6c7d8e"]})
]
EventId = Annotated[str, Field(examples=["evt_1"])]


def answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


@overload
def moment(at: datetime) -> Moment: ...
@overload
def moment(at: datetime | None) -> Moment | None: ...
def moment(at: datetime | None) -> Moment | None:
    """RFC 3339 in UTC with microseconds."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
