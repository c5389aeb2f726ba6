"""One event: what was published, and for each webhook that it concerned why it was sent to it, or was not."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from daemon import audit
from daemon.audit import Explanation
from daemon.commands import NotFound
from daemon.web.dashboard.logs import route_lookup
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.text import Excerpt, json_excerpt, whole_number
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES, Services
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent

# Webhooks explained on a page; the others are behind a link.
PAGE_SIZE = 25

# Bytes in the page, for what was published.
DATA_ROOM = 24_000
OTHER_ROOM = 12_000


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The event; with `?route=` only that webhook, be it one that the event did not concern."""
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    event = await _find(services, tenant, request.match_info["event"])
    text = query.get("route", "").strip()
    matches = route_lookup.routes(services.index, tenant, text)
    route = matches[0] if len(matches) == 1 else None
    begin = whole_number(query.get("after", "")) or 0
    explained = await audit.explain_event(
        services.database,
        event,
        route_id=None if route is None else route.id,
        live=services.index,
        part=slice(begin, begin + PAGE_SIZE + 1),
        concerned_only=route is None,
    )
    return render(
        request,
        "logs/event.html",
        status=422 if text and not matches else 200,
        event=event,
        parts=_parts(event),
        explained=explained[:PAGE_SIZE],
        after=begin + PAGE_SIZE if len(explained) > PAGE_SIZE else None,
        is_first=begin == 0,
        choices=route_lookup.choices(services.index, tenant),
        route=route,
        matches=matches,
        text=text,
        waits=_waits(explained[:PAGE_SIZE]),
    )


async def _find(services: Services, tenant: str, event_id: str) -> StoredEvent:
    """The newest event with that id. Raises NotFound."""
    found = [] if "\0" in event_id else await domain_events.find(services.database, event_id, tenant=tenant)
    if not found:
        raise NotFound("there is no such event, or it is so old that it is no longer kept")
    return found[0]


def _parts(event: StoredEvent) -> list[tuple[str, Excerpt]]:
    """What was published, part by part; what it did not have is left out."""
    given = [("Data", event.data, DATA_ROOM)]
    given += [(title, part, OTHER_ROOM) for title, part in _besides(event) if part is not None]
    return [(title, json_excerpt(part.decode(), room)) for title, part, room in given]


def _besides(event: StoredEvent) -> list[tuple[str, bytes | None]]:
    return [("Context", event.context), ("Snapshot", event.snapshot)]


def _waits(explained: Sequence[Explanation]) -> bool:
    """True if somebody who looks again soon will see more."""
    return any(each.verdict in ("pending", "not_yet_read") for each in explained)
