"""Test events: the examples of the catalogue, sent to one route."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from daemon.core.events.event import MAX_TEXT_CHARACTERS, TYPE_PATTERN
from daemon.deliveries import sample_events
from daemon.deliveries.sample_events import MAX_TESTS, SentTest
from daemon.web.forms import request_forms
from daemon.web.forms.request_forms import BaseForm, Text
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, RateLimit, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import EventId, Uuid
from daemon.web.service.lookup import live_route

_EVENT_TYPES = {
    "type": ["array", "null"],
    "items": {"type": "string", "maxLength": MAX_TEXT_CHARACTERS, "pattern": f"^{TYPE_PATTERN}$"},
    "minItems": 1,
    "maxItems": MAX_TESTS,
    "description": "Types of the catalogue that the route subscribes to. If it is left out: all of them.",
}


class TestForm(BaseForm):
    """The types of the test events."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"event_types": ["order.create"]}]})

    event_types: Annotated[list[Text] | None, WithJsonSchema(_EVENT_TYPES)] = None


class SentTestShape(TypedDict):
    """The delivery of a test event."""

    id: Uuid
    event: Annotated[EventId, Field(examples=["test_5f2c9a0e41b75f2c9a0e41b75f2c9a0e"])]
    type: Annotated[str, Field(examples=["order.create"])]


class SentTestsShape(TypedDict):
    """The deliveries of the test events, one for each type."""

    deliveries: list[SentTestShape]


def of_sent(each: SentTest) -> SentTestShape:
    """A test event that was sent."""
    return {"id": each.id, "event": each.event_id, "type": each.event_type}


@endpoint(Access.MANAGE, takes=TestForm, answers={202: SentTestsShape}, refuses=(404, 409), limit=RateLimit.TEST)
async def send(request: web.Request) -> web.Response:
    """Sends examples of the catalogue to this route only, one for each type, at most 50.

    They are delivered like all events, except that the route's filter does not apply. Their requests have the header
    `Hookledger-Test: true`. Metrics and automatic disabling do not count them, but `410 Gone` disables the route.
    """
    route = live_route(request)
    form = await request_forms.read(request, TestForm)
    services = request.app[SERVICES]
    sent = await sample_events.send(services.command_database, route, form.event_types)
    services.request_tick()
    body: SentTestsShape = {"deliveries": [of_sent(each) for each in sent]}
    return shapes.answer(body, status=202)
