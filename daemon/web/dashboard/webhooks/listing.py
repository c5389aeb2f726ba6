"""The list of webhooks: as they are, or as they were at a moment of the past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from aiohttp import web

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.dashboard.text import typed_moment, whole_number
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from eventstore.queries import route_metrics

PAGE_SIZE = 50
# How a webhook did lately, for the list.
RECENT_HOURS = 24
# A slider has so many places between the first webhook and now.
SLIDER_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFilter:
    """Which webhooks to list. `as_of` is None for now."""

    text: str
    status: RouteStatus | None
    as_of: datetime | None

    def fits(self, route: Route) -> bool:
        """True for a route that is to be listed; `text` may be in its name, target or event types."""
        if route.status is RouteStatus.DELETED or self.status not in (None, route.status):
            return False
        config = route.config
        return not self.text or any(
            self.text in each.casefold() for each in (config.name, config.target_url, *config.event_types)
        )


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The webhooks of a tenant, the oldest first."""
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    first = next((timeline.current.created_at for timeline in services.index.timelines(tenant)), None)
    if first is not None and "slider" in query:
        kept = {name: query.get(name) or None for name in ("q", "status")}
        as_of = _slid(query["slider"], first, services.now())
        return redirect(request, "t", tenant, "webhooks", as_of=as_of, **kept)
    at, complaint = _as_of(query.get("as_of", ""), services.now())
    wanted = RouteFilter(
        text=query.get("q", "").strip().casefold(),
        status=RouteStatus(query["status"]) if query.get("status") in ("enabled", "disabled") else None,
        as_of=at,
    )
    found, after, total = _listed(services.index, tenant, wanted, query.get("after", ""))
    recent = {}
    if at is None and found:
        recent = await route_metrics.recent(services.database, [route.id for route in found], hours=RECENT_HOURS)
    return render(
        request,
        "webhooks/listing.html",
        status=422 if complaint else 200,
        routes=found,
        recent=recent,
        after=after,
        total=total,
        query=query,
        as_of=at,
        complaint=complaint,
        first=first,
        slider=_place(first, at, services.now()),
        counts=_counts(services.index, tenant, at),
    )


def _listed(index: RouteIndex, tenant: str, wanted: RouteFilter, after: str) -> tuple[list[Route], str | None, int]:
    """A page of them, the cursor of the next page, and how many there are in all."""
    fitting = [route for route in _as_of_then(index, tenant, wanted.as_of) if wanted.fits(route)]
    begin = paging.decoded(after)
    behind = (route for route in fitting if begin is None or moment(route.created_at) > begin)
    shown = list(islice(behind, PAGE_SIZE + 1))
    is_more = len(shown) > PAGE_SIZE
    cursor = paging.encoded(moment(shown[PAGE_SIZE - 1].created_at)) if is_more else None
    return shown[:PAGE_SIZE], cursor, len(fitting)


def _counts(index: RouteIndex, tenant: str, as_of: datetime | None) -> dict[str, int]:
    statuses = [route.status for route in _as_of_then(index, tenant, as_of)]
    return {status.value: statuses.count(status) for status in RouteStatus}


def _as_of_then(index: RouteIndex, tenant: str, as_of: datetime | None) -> Iterator[Route]:
    for timeline in index.timelines(tenant):
        route = timeline.current if as_of is None else timeline.as_of(as_of)
        if route is not None:
            yield route


def _as_of(text: str, now: datetime) -> tuple[datetime | None, str | None]:
    """The moment that was asked for, and what is wrong with it."""
    try:
        at = typed_moment(text)
    except ValueError as error:
        return None, str(error)
    if at is not None and at > now:
        return None, "is in the future: what will be is not known here"
    return at, None


def _slid(text: str, first: datetime, now: datetime) -> str | None:
    """The moment at a place of the slider; None for now, at its right end."""
    place = whole_number(text)
    return None if place is None or place >= SLIDER_STEPS else moment(first + (now - first) * place / SLIDER_STEPS)


def _place(first: datetime | None, as_of: datetime | None, now: datetime) -> int:
    """Where the slider stands for a moment."""
    if first is None or as_of is None or now <= first:
        return SLIDER_STEPS
    return max(0, min(SLIDER_STEPS, round((as_of - first) / (now - first) * SLIDER_STEPS)))
