"""The event types that a merchant can subscribe to, by group; and one of them, with an example and its schema."""

from __future__ import annotations

from itertools import groupby

import orjson
from aiohttp import web

from daemon.commands import NotFound
from daemon.core.events.catalogue import Example, group_of
from daemon.core.events.example_schema import schema_of
from daemon.core.routing.index import patterns_of
from daemon.core.routing.route import RouteStatus
from daemon.core.webhook.payload import PayloadEvent, envelope
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.html.text import excerpt_of, json_excerpt
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.events.offered_types import offered
from eventstore.domain_events import catalogue

PAGE_SIZE = 100
DESCRIPTION_CHARACTERS = 160
# What is shown of an example and of a schema, in a page of at most 100 kB.
MAX_SHOWN_BYTES = 30_000
# Webhooks that are named.
MAX_NAMES = 20


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The types by group; `?q=` finds some by name or description, and the page is after `?after=`."""
    query = request.query
    whole = await catalogue.outline(query_database(request), characters=DESCRIPTION_CHARACTERS + 1, with_seen=False)
    outline = offered(request, request.match_info["tenant"], whole)
    text = query.get("q", "").strip().casefold()
    matches = [it for it in outline if text in it.name or text in (it.description or "").casefold()]
    rest = [it for it in matches if it.name > query.get("after", "")]
    return render(
        request,
        "catalogue/event_types.html",
        listed=[(name, list(types)) for name, types in groupby(rest[:PAGE_SIZE], lambda it: group_of(it.name))],
        after=rest[PAGE_SIZE - 1].name if len(rest) > PAGE_SIZE else None,
        total=len(outline),
        characters=DESCRIPTION_CHARACTERS,
        query=query,
    )


@page(Access.READ)
async def show_type(request: web.Request) -> web.Response:
    """One type: its description, the body that a webhook would get of its example, and the schema of that body."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    row = await catalogue.entry(query_database(request), request.match_info["name"])
    if row is None or not offered(request, tenant, [row]):
        raise NotFound("there is no such event type in the catalogue")
    parts = Example.read(row.example)
    event = PayloadEvent(
        event_id="evt_example",
        event_type=row.name,
        created=services.now(),
        data=parts.data,
        context=parts.context,
        snapshot=parts.snapshot,
    )
    body = envelope(event, parts.snapshot)
    schema = orjson.dumps(schema_of(orjson.loads(body)), option=orjson.OPT_INDENT_2).decode()
    patterns = frozenset(patterns_of(row.name))
    subscribed = [
        route
        for route in services.index.routes(tenant)
        if route.status is not RouteStatus.DELETED and not patterns.isdisjoint(route.config.event_types)
    ]
    return render(
        request,
        "catalogue/event_type.html",
        type=row,
        group=group_of(row.name),
        example=json_excerpt(body.decode(), MAX_SHOWN_BYTES),
        schema=excerpt_of(schema, MAX_SHOWN_BYTES),
        subscribed=subscribed[:MAX_NAMES],
        more=len(subscribed[MAX_NAMES:]),
    )
