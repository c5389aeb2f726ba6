"""Previews, as the API and the dashboard make them: which event is meant, what is wrong, and what would be sent.

Fields of problems are named as those of a route, or as those of an event; whoever asks says where theirs stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from daemon import preview
from daemon.config import Config
from daemon.core.drafts import route_draft
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.events import event
from daemon.core.events.catalogue import Example, KnownTypes, name_problem
from daemon.core.events.event import FieldProblem, IncomingEvent
from daemon.core.routing.route import Route
from daemon.core.webhook.payload import PayloadSource
from daemon.preview import Preview
from daemon.web.http.services import SERVICES, Services, request_options
from daemon.web.http.shapes import MASK
from eventstore.domain_events import catalogue

# One evaluation at a time, beside the loop: each may take as long as two expressions may, and keeps Python busy.
TURN = web.AppKey("preview_turn", asyncio.Lock)


def wrong(drafted: RouteDraft, config: Config) -> tuple[FieldProblem, ...]:
    """What is wrong with a draft; that a header is masked here is not its mistake."""
    return route_draft.check(drafted, tenant="-", policy=config.egress_policy, signing_header=config.signing.header)


def published(services: Services, tenant: str, raw: bytes) -> IncomingEvent | Sequence[FieldProblem]:
    """An event as it would be published, every byte of it, or what is wrong with it."""
    return event.parse(raw, now=services.now(), max_bytes=services.config.events.max_bytes, tenant=tenant)


async def example(services: Services, tenant: str, name: str) -> IncomingEvent | str:
    """The example of a type in the catalogue, or what is wrong with the type."""
    if (problem := name_problem(name)) is not None:
        return problem
    found = await catalogue.examples(services.database, [name])
    if name not in found:
        known = KnownTypes(frozenset(await catalogue.names(services.database)))
        return known.problem(name) or "was added in this moment: try again"
    parts = Example.read(found[name])
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
    application: web.Application, drafted: RouteDraft, found: IncomingEvent, *, stored: Route | None
) -> Preview | tuple[FieldProblem, ...]:
    """What a draft without mistakes would send of an event, or what its expressions say against it."""
    services = application[SERVICES]
    now = services.now()
    source = PayloadSource(
        event_id=found.id or "evt_preview",
        event_type=found.type,
        created=min(found.occurred_at or now, now),
        data=found.data,
        context=found.context,
        snapshot=found.snapshot,
    )
    async with application[TURN]:
        return await asyncio.to_thread(
            preview.show,
            drafted,
            source,
            stored=stored,
            backfill=found.backfill,
            timestamp=int(services.now().timestamp()),
            mask=MASK,
            dialect=request_options(services.config),
        )
