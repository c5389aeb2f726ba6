"""What a route, or the draft of one, would send of an event; with the mistakes of its expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
from aiohttp import web

from daemon import preview
from daemon.commands import Invalid
from daemon.core import rawjson
from daemon.core.event import Incoming, Problem
from daemon.preview import Preview
from daemon.web import forms, previewing, route_path, shapes
from daemon.web.api.preview_shapes import PreviewForm, PreviewShape
from daemon.web.endpoints import Access, RateLimit, endpoint
from daemon.web.forms import BODY
from daemon.web.services import SERVICES
from daemon.web.shapes import MASK


@endpoint(Access.MANAGE, takes=PreviewForm, answers={200: PreviewShape}, refuses=(404,), limit=RateLimit.PREVIEW)
async def show(request: web.Request) -> web.Response:
    """The request that would be sent, of an event or of the catalogue's example of a type. Nothing is sent or stored.

    A filter or transform that cannot be evaluated is an error of the field `route.payload.filter` or
    `route.payload.transform`, with the reason that a delivery would fail for.
    """
    services = request.app[SERVICES]
    limit = services.config.events.max_bytes + forms.MAX_BODY_BYTES
    form = await forms.read(request, PreviewForm, most_bytes=limit)
    stored = None if form.route_id is None else route_path.live_route_of(request, form.route_id)
    drafted = preview.drafted(stored, form.route.changes(), mask=MASK)
    problems = [*_in_route(previewing.wrong(drafted, services.config))]
    found = await _event(request, form)
    if not isinstance(found, Incoming):
        problems += found
    if problems or not isinstance(found, Incoming):
        raise Invalid(tuple(problems))
    shown = await previewing.show(request.app, drafted, found, stored=stored)
    if not isinstance(shown, Preview):
        raise Invalid(_in_route(shown))
    return shapes.answer(_shape(shown, drafted.target_url))


def _in_route(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(Problem(field=f"route.{problem.field}", message=problem.message) for problem in problems)


async def _event(request: web.Request, form: PreviewForm) -> Incoming | tuple[Problem, ...]:
    """The event that is asked for, or what is wrong with it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if (form.event is None) == (form.type is None):
        message = "is missing: give an event as it is published, or the type of one in the catalogue"
        return (Problem(field="event", message=message if form.event is None else "is given, and type too: give one"),)
    if form.type is not None:
        example = await previewing.example(services, tenant, form.type)
        return example if isinstance(example, Incoming) else (Problem(field="type", message=example),)
    # As it stands in the body, so that every byte of it shows as it would be sent.
    raw = dict(rawjson.members(request[BODY].decode()))["event"].encode()
    parsed = previewing.published(services, tenant, raw)
    if isinstance(parsed, Incoming):
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
