"""What a preview takes and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.core.event import MAX_TEXT_CHARACTERS
from daemon.web.api.event_shapes import EVENT_SCHEMA
from daemon.web.forms import BaseForm, RouteEdit, Text

_ROUTE_ID = {
    "type": ["string", "null"],
    "format": "uuid",
    "description": "A stored route, for what the draft leaves out.",
}
_TYPE = {
    "type": ["string", "null"],
    "maxLength": MAX_TEXT_CHARACTERS,
    "description": "Instead of an event: the catalogue's example of this type.",
    "examples": ["order.create"],
}
_EVENT = {"anyOf": [EVENT_SCHEMA, {"type": "null"}]}


class DraftForm(RouteEdit):
    """A route that need not exist, or changes of one that does; what is left out is as usual, or as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"event_types": ["order.*"], "payload": {"transform": "data.object"}}]}
    )

    enabled: bool = True


class PreviewForm(BaseForm):
    """A draft of a route, and an event for it: either as it is published, or the example of a type."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "route": {"event_types": ["order.*"], "payload": {"transform": "data.object"}},
                    "event": {"type": "order.create", "data": {"public_id": "7dc6"}},
                }
            ]
        }
    )

    route: DraftForm = DraftForm()
    route_id: Annotated[Text | None, WithJsonSchema(_ROUTE_ID)] = None
    event: Annotated[dict[str, object] | None, WithJsonSchema(_EVENT)] = None
    type: Annotated[Text | None, WithJsonSchema(_TYPE)] = None


class PreviewShape(TypedDict):
    """A request as it would be sent. Values of custom headers are masked, and the signatures are made with a
    placeholder key: what is signed with the route's own is sent by the route only.
    """

    would_send: bool
    reason: Annotated[str | None, Field(description="Why it would not be sent.", examples=[None])]
    method: Literal["POST"]
    url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    headers: Annotated[dict[str, str], Field(examples=[{"Content-Type": "application/json", "X-Shop": "***"}])]
    signed_with: Literal["placeholder"]
    body: Annotated[object, Field(description="The JSON of the body.", examples=[{"public_id": "7dc6"}])]
    body_text: Annotated[
        str, Field(description="The body to the letter, as it is signed.", examples=['{"public_id":"7dc6"}'])
    ]
