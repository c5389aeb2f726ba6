"""What a route, or the draft of one, would send of an event; with the mistakes of its expressions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson
from aiohttp import web

from daemon import preview
from daemon.commands import Invalid
from daemon.config import Config
from daemon.core import draft, event, rawjson
from daemon.core.catalogue import Example, KnownTypes, name_problem
from daemon.core.event import Incoming, Problem
from daemon.core.payload import Source
from daemon.preview import Preview
from daemon.web import forms, route_path, shapes
from daemon.web.api.preview_shapes import PreviewForm, PreviewShape
from daemon.web.dialect import dialect
from daemon.web.endpoints import Access, RateLimit, endpoint
from daemon.web.forms import BODY
from daemon.web.services import SERVICES, Services
from daemon.web.shapes import MASK
from eventstore import catalogue

# One evaluation at a time, beside the loop: each may take as long as two expressions may, and keeps Python busy.
TURN = web.AppKey("preview_turn", asyncio.Lock)


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
    problems = [*_wrong(drafted, services.config)]
    found = await _event(request, form)
    if not isinstance(found, Incoming):
        problems += found
    if problems or not isinstance(found, Incoming):
        raise Invalid(tuple(problems))
    source = _source(found, services.now())
    async with request.app[TURN]:
        shown = await asyncio.to_thread(
            preview.show,
            drafted,
            source,
            stored=stored,
            backfill=found.backfill,
            timestamp=int(services.now().timestamp()),
            mask=MASK,
            dialect=dialect(services.config),
        )
    if not isinstance(shown, Preview):
        raise Invalid(_in_route(shown))
    return shapes.answer(_shape(shown, drafted.target_url))


def _wrong(drafted: draft.RouteDraft, config: Config) -> tuple[Problem, ...]:
    """What is wrong with the draft; that a header is masked here is not its mistake."""
    found = draft.check(drafted, tenant="-", policy=config.egress_policy, signing_header=config.signing.header)
    return _in_route(found)


def _in_route(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(Problem(field=f"route.{problem.field}", message=problem.message) for problem in problems)


async def _event(request: web.Request, form: PreviewForm) -> Incoming | tuple[Problem, ...]:
    """The event that is asked for, or what is wrong with it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if (form.event is None) == (form.type is None):
        message = "is missing: give an event as it is published, or the type of one in the catalogue"
        return (Problem(field="event", message=message if form.event is None else "is given, and type too: give one"),)
    if form.type is not None:
        return await _example(services, tenant, form.type)
    # As it stands in the body, so that every byte of it shows as it would be sent.
    raw = dict(rawjson.members(request[BODY].decode()))["event"].encode()
    parsed = event.parse(raw, now=services.now(), max_bytes=services.config.events.max_bytes, tenant=tenant)
    if isinstance(parsed, Incoming):
        return parsed
    return tuple(replace(problem, field=f"event.{problem.field}".rstrip(".")) for problem in parsed)


async def _example(services: Services, tenant: str, name: str) -> Incoming | tuple[Problem, ...]:
    if (problem := name_problem(name)) is not None:
        return (Problem(field="type", message=problem),)
    found = await catalogue.examples(services.database, [name])
    if name not in found:
        known = KnownTypes(frozenset(await catalogue.names(services.database)))
        return (Problem(field="type", message=known.problem(name) or "was added in this moment: try again"),)
    example = Example.read(found[name])
    return Incoming(
        tenant=tenant,
        type=name,
        id="evt_example",
        occurred_at=None,
        data=example.data,
        context=example.context,
        snapshot=example.snapshot,
        backfill=False,
    )


def _source(found: Incoming, now: datetime) -> Source:
    return Source(
        event_id=found.id or "evt_preview",
        event_type=found.type,
        created=min(found.occurred_at or now, now),
        data=found.data,
        context=found.context,
        snapshot=found.snapshot,
    )


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
