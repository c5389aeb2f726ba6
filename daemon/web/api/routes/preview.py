"""Previews: the request that a route, or the draft of a route, would send of an event; or the errors of the draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import orjson
from aiohttp import web
from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.events import raw_json
from daemon.core.events.event import MAX_TEXT_CHARACTERS, FieldProblem, IncomingEvent
from daemon.deliveries import preview
from daemon.deliveries.preview import Preview
from daemon.web.access.queries import query_database
from daemon.web.forms import request_forms
from daemon.web.forms.request_forms import BODY, BaseForm, RouteEdit, Text
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, RateLimit, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.ingest.event_shapes import EVENT_SCHEMA
from daemon.web.service import lookup
from daemon.web.service.routes import previews

_ROUTE_ID = {
    "type": ["string", "null"],
    "format": "uuid",
    "description": "A stored route. Its values are used for fields that the draft leaves out.",
}
_TYPE = {
    "type": ["string", "null"],
    "maxLength": MAX_TEXT_CHARACTERS,
    "description": "Use the catalogue's example of this type instead of an event.",
    "examples": ["order.create"],
}
_EVENT = {"anyOf": [EVENT_SCHEMA, {"type": "null"}]}


class DraftForm(RouteEdit):
    """A route that does not exist yet, or changes of a stored route. A field that is left out has its default or stored
    value.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"event_types": ["order.*"], "payload": {"transform": "data.object"}}]}
    )

    enabled: bool = True


class PreviewForm(BaseForm):
    """A draft of a route, and an event for it: either the event as it is published, or the type of an example."""

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
    """A request as it would be sent. The values of custom headers are masked. The signatures are made with a
    placeholder key: only real deliveries are signed with the route's key.
    """

    would_send: bool
    reason: Annotated[str | None, Field(description="Why it would not be sent.", examples=[None])]
    method: Literal["POST"]
    url: Annotated[str, Field(examples=["https://shop.example.com/hooks"])]
    headers: Annotated[dict[str, str], Field(examples=[{"Content-Type": "application/json", "X-Shop": "***"}])]
    signed_with: Literal["placeholder"]
    body: Annotated[object, Field(description="The JSON of the body.", examples=[{"public_id": "7dc6"}])]
    body_text: Annotated[
        str, Field(description="The exact text of the body, which is signed.", examples=['{"public_id":"7dc6"}'])
    ]


@endpoint(Access.MANAGE, takes=PreviewForm, answers={200: PreviewShape}, refuses=(404,), limit=RateLimit.PREVIEW)
async def show(request: web.Request) -> web.Response:
    """The request that would be sent of an event, or of the catalogue's example of a type. Nothing is sent or stored.

    A filter or transform that cannot be evaluated is an error of the field `route.payload.filter` or
    `route.payload.transform`. The message is the reason for which a delivery would fail.
    """
    services = request.app[SERVICES]
    limit = services.config.events.max_bytes + request_forms.MAX_BODY_BYTES
    form = await request_forms.read(request, PreviewForm, max_bytes=limit, opaque="event")
    stored = None if form.route_id is None else lookup.live_route_by_id(request, form.route_id)
    draft = preview.drafted(stored, form.route.changes(), mask=MASK)
    problems = [*_in_route(previews.draft_problems(draft, services.config, stored=stored))]
    event = await _event(request, form)
    if not isinstance(event, IncomingEvent):
        problems += event
    if problems or not isinstance(event, IncomingEvent):
        raise Invalid(tuple(problems))
    result = await previews.show(request.app, draft, event, stored=stored)
    if not isinstance(result, Preview):
        raise Invalid(_in_route(result))
    return shapes.answer(_of_preview(result, draft.target_url))


def _in_route(problems: Sequence[FieldProblem]) -> tuple[FieldProblem, ...]:
    """Problems of a route, as problems of the field `route`."""
    return tuple(FieldProblem(field=f"route.{problem.field}", message=problem.message) for problem in problems)


async def _event(request: web.Request, form: PreviewForm) -> IncomingEvent | tuple[FieldProblem, ...]:
    """The event of the form, or what is wrong with it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if (form.event is None) == (form.type is None):
        message = "is missing: give an event as it is published, or the type of one in the catalogue"
        return (
            FieldProblem(field="event", message=message if form.event is None else "is given, and type too: give one"),
        )
    if form.type is not None:
        example = await previews.catalogue_example(query_database(request), tenant, form.type)
        return example if isinstance(example, IncomingEvent) else (FieldProblem(field="type", message=example),)
    # The text of the event in the request, so that the preview has the same bytes as a delivery.
    raw = dict(raw_json.members(request[BODY].decode()))["event"].encode()
    parsed = previews.parse_event(services, tenant, raw)
    if isinstance(parsed, IncomingEvent):
        return parsed
    return tuple(replace(problem, field=f"event.{problem.field}".rstrip(".")) for problem in parsed)


def _of_preview(result: Preview, url: str) -> PreviewShape:
    body = result.request.body
    return {
        "would_send": result.reason is None,
        "reason": result.reason,
        "method": "POST",
        "url": url,
        "headers": result.request.headers,
        "signed_with": "placeholder",
        "body": orjson.Fragment(body),
        "body_text": body.decode(),
    }
