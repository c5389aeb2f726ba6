"""A type of events as it is shown, over HTTP and by the command line."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.catalogue import group_of
from eventstore.catalogue import ListedType


class ExampleShape(TypedDict):
    """Parts of an event as it is published."""

    data: dict[str, object]
    context: dict[str, object]
    snapshot: dict[str, object]


class EventTypeShape(TypedDict):
    """A type of events. One that was seen in events and is not in the catalogue has neither description nor example."""

    name: Annotated[str, Field(examples=["order.create"])]
    group: Annotated[str, Field(examples=["order"])]
    description: Annotated[str | None, Field(examples=["An order is placed."])]
    example: Annotated[
        ExampleShape | None, Field(examples=[{"data": {"public_id": "7dc6"}, "context": {}, "snapshot": {}}])
    ]
    is_catalogued: bool


def of_type(listed: ListedType) -> EventTypeShape:
    """A type of the list."""
    return {
        "name": listed.name,
        "group": group_of(listed.name),
        "description": listed.description,
        "example": None if listed.example is None else orjson.loads(listed.example),
        "is_catalogued": listed.example is not None,
    }
