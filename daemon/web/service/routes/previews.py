"""Previews for the API and the dashboard: find the event, check the draft, and show what would be sent.

Problems name the fields of a route or of an event. The caller adds the path that these fields have in its request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from daemon.config import Config
from daemon.core.drafts import route_draft
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.events import event
from daemon.core.events.catalogue import Example, KnownTypes, name_problem
from daemon.core.events.event import FieldProblem, IncomingEvent
from daemon.core.routing.route import Route
from daemon.core.webhook.payload import PayloadEvent
from daemon.deliveries import preview
from daemon.deliveries.preview import Preview
from daemon.web.http.services import SERVICES, Services, request_options
from daemon.web.http.shapes import MASK
from eventstore.domain_events import catalogue
from eventstore.postgres.connect import Database


def draft_problems(draft: RouteDraft, config: Config, *, stored: Route | None) -> tuple[FieldProblem, ...]:
    """What is wrong with a draft, which may change the route `stored`. A masked header value is allowed here."""
    return route_draft.check(
        draft,
        tenant="-",
        policy=config.egress_policy,
        signing_header=config.signing.header,
        kept_target=None if stored is None else stored.config.target_url,
    )


def parse_event(services: Services, tenant: str, raw: bytes) -> IncomingEvent | Sequence[FieldProblem]:
    """The event in `raw`, which is JSON as it would be published, or what is wrong with it."""
    return event.parse(raw, now=services.now(), max_bytes=services.config.events.max_bytes, tenant=tenant)


async def catalogue_example(database: Database, tenant: str, name: str) -> IncomingEvent | str:
    """The example of a type in the catalogue, or what is wrong with the type."""
    if (problem := name_problem(name)) is not None:
        return problem
    examples = await catalogue.examples(database, [name])
    if name not in examples:
        known = KnownTypes(frozenset(await catalogue.names(database)))
        return known.problem(name) or "was added in this moment: try again"
    parts = Example.read(examples[name])
    return IncomingEvent(
        tenant=tenant,
        type=name,
        id="evt_example",
        occurred_at=None,
        data=parts.data,
        context=parts.context,
        snapshot=parts.snapshot,
        backfill=False,
    )


async def show(
    application: web.Application, draft: RouteDraft, incoming: IncomingEvent, *, stored: Route | None
) -> Preview | tuple[FieldProblem, ...]:
    """What a valid draft would send of an event, or the errors of its expressions. It may change the route `stored`.

    Raises Saturated.
    """
    services = application[SERVICES]
    now = services.now()
    event = PayloadEvent(
        event_id=incoming.id or "evt_preview",
        event_type=incoming.type,
        created=min(incoming.occurred_at or now, now),
        data=incoming.data,
        context=incoming.context,
        snapshot=incoming.snapshot,
    )
    return await preview.show(
        replace(draft, headers=dict.fromkeys(draft.headers, MASK)),
        event,
        tenant=incoming.tenant,
        stored=stored,
        backfill=incoming.backfill,
        timestamp=int(services.now().timestamp()),
        request_options=request_options(services.config),
        places=services.filter_places,
    )
