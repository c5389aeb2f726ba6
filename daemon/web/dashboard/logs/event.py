"""One event: what was published, and why it was delivered to each webhook that it concerned, or was not."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from daemon import audit
from daemon.audit import Explanation
from daemon.core.events import trace_context
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.html.text import Excerpt, json_excerpt, whole_number
from daemon.web.dashboard.logs import route_lookup
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import lookup
from eventstore.domain_events.events import StoredEvent

# Webhooks that are explained on a page; the others are on the next pages.
PAGE_SIZE = 25

# Bytes of the page for the data of the event, and for each other part of it.
MAX_DATA_BYTES = 24_000
MAX_OTHER_BYTES = 12_000


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The event; with `?route=` explained for that webhook only, even if the event did not concern it."""
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    found = await lookup.event(request)
    event = found.event
    text = query.get("route", "").strip()
    matches = route_lookup.routes(services.index, tenant, text)
    route = matches[0] if len(matches) == 1 else None
    begin = whole_number(query.get("after", "")) or 0
    explained = await audit.explain_event(
        query_database(request),
        event,
        route_id=None if route is None else route.id,
        live=services.index,
        part=slice(begin, begin + PAGE_SIZE + 1),
        concerned_only=route is None,
        places=services.filter_places,
    )
    return render(
        request,
        "logs/event.html",
        status=422 if text and not matches else 200,
        event=event,
        others_recorded_at=found.others_recorded_at,
        parts=_parts(event),
        message=await lookup.message_place(request, event),
        explained=explained[:PAGE_SIZE],
        after=begin + PAGE_SIZE if len(explained) > PAGE_SIZE else None,
        is_first=begin == 0,
        choices=route_lookup.choices(services.index, tenant),
        route=route,
        matches=matches,
        text=text,
        is_pending=_is_pending(explained[:PAGE_SIZE]),
    )


def _parts(event: StoredEvent) -> list[tuple[str, Excerpt]]:
    """The beginnings of the parts that were published, by title; parts that the event does not have are left out."""
    optional = (("Context", trace_context.published(event.context)), ("Snapshot", event.snapshot))
    given = [("Data", event.data, MAX_DATA_BYTES)]
    given += [(title, part, MAX_OTHER_BYTES) for title, part in optional if part is not None]
    return [(title, json_excerpt(part.decode(), max_bytes)) for title, part, max_bytes in given]


def _is_pending(explained: Sequence[Explanation]) -> bool:
    """True if a reload will soon show more."""
    return any(each.verdict in ("pending", "not_yet_read") for each in explained)
