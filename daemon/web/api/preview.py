"""What a route, or the draft of one, would send of an event; with the mistakes of its expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import orjson
from aiohttp import web
from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon import preview
from daemon.commands import Invalid
from daemon.core.events import raw_json
from daemon.core.events.event import MAX_TEXT_CHARACTERS, FieldProblem, IncomingEvent
from daemon.preview import Preview
from daemon.web.forms import request_forms
from daemon.web.forms.request_forms import BODY, BaseForm, RouteEdit, Text
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, RateLimit, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.ingest.event_shapes import EVENT_SCHEMA
from daemon.web.service import lookup, previews

# What a preview takes and answers.

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


@endpoint(Access.MANAGE, takes=PreviewForm, answers={200: PreviewShape}, refuses=(404,), limit=RateLimit.PREVIEW)
async def show(request: web.Request) -> web.Response:
    """The request that would be sent, of an event or of the catalogue's example of a type. Nothing is sent or stored.

    A filter or transform that cannot be evaluated is an error of the field `route.payload.filter` or
    `route.payload.transform`, with the reason that a delivery would fail for.
    """
    services = request.app[SERVICES]
    limit = services.config.events.max_bytes + request_forms.MAX_BODY_BYTES
    form = await request_forms.read(request, PreviewForm, most_bytes=limit)
    stored = None if form.route_id is None else lookup.live_route_of(request, form.route_id)
    drafted = preview.drafted(stored, form.route.changes(), mask=MASK)
    problems = [*_in_route(previews.wrong(drafted, services.config))]
    found = await _event(request, form)
    if not isinstance(found, IncomingEvent):
        problems += found
    if problems or not isinstance(found, IncomingEvent):
        raise Invalid(tuple(problems))
    shown = await previews.show(request.app, drafted, found, stored=stored)
    if not isinstance(shown, Preview):
        raise Invalid(_in_route(shown))
    return shapes.answer(_shape(shown, drafted.target_url))


def _in_route(problems: Sequence[FieldProblem]) -> tuple[FieldProblem, ...]:
    return tuple(FieldProblem(field=f"route.{problem.field}", message=problem.message) for problem in problems)


async def _event(request: web.Request, form: PreviewForm) -> IncomingEvent | tuple[FieldProblem, ...]:
    """The event that is asked for, or what is wrong with it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if (form.event is None) == (form.type is None):
        message = "is missing: give an event as it is published, or the type of one in the catalogue"
        return (
            FieldProblem(field="event", message=message if form.event is None else "is given, and type too: give one"),
        )
    if form.type is not None:
        example = await previews.example(services, tenant, form.type)
        return example if isinstance(example, IncomingEvent) else (FieldProblem(field="type", message=example),)
    # As it stands in the body, so that every byte of it shows as it would be sent.
    raw = dict(raw_json.members(request[BODY].decode()))["event"].encode()
    parsed = previews.published(services, tenant, raw)
    if isinstance(parsed, IncomingEvent):
        return parsed
    return tuple(replace(problem, field=f"event.{problem.field}".rstrip(".")) for problem in parsed)


def _shape(shown: Preview, url: str) -> PreviewShape:
    body = shown.request.body
    return {
        "would_send": shown.reason is None,
        "reason": shown.reason,
        "method": "POST",
        "url": url,
        "headers": shown.request.headers,
        "signed_with": "placeholder",
        "body": orjson.Fragment(body),
        "body_text": body.decode(),
    }
