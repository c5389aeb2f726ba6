"""The list of webhooks, newest first, as they are now or as they were at a moment in the past.

Saving a webhook leads here: the list marks it, and what comes next stands above.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from uuid import UUID

from aiohttp import web

from daemon import receivers
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.html.text import parse_moment, whole_number
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.dashboard.webhooks import charts, history_rows
from daemon.web.dashboard.webhooks.history_rows import HistoryRow
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health, route_metrics

PAGE_SIZE = 50
# Steps of the slider between the first webhook and now.
SLIDER_STEPS = 1000
# Selects the enabled webhooks that fail, beside the statuses.
FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFilter:
    """Which webhooks to list. `as_of` is None for now. `failing` are those that fail, if only these are listed."""

    text: str
    status: RouteStatus | None
    as_of: datetime | None
    failing: Collection[UUID] | None

    def matches(self, route: Route) -> bool:
        """True for a route to list: `text` is in its name, its target or one of its event types."""
        if not _is_live(route) or self.status not in (None, route.status):
            return False
        if self.failing is not None and (not route.is_enabled or route.id not in self.failing):
            return False
        config = route.config
        return not self.text or any(
            self.text in each.casefold() for each in (config.name, config.target_url, *config.event_types)
        )


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The webhooks of a tenant, newest first; only their rows if page.js polls them. `?saved=` marks one, and
    `?done=created` has the next steps with it.
    """
    services, tenant, query = request.app[SERVICES], request.match_info["tenant"], request.query
    first_created_at = next((timeline.current.created_at for timeline in services.index.timelines(tenant)), None)
    if first_created_at is not None and "slider" in query:
        filters = {name: query.get(name) or None for name in ("q", "status")}
        as_of = _from_slider(query["slider"], first_created_at, services.now())
        return redirect(request, "t", tenant, "webhooks", as_of=as_of, **filters)
    at, as_of_error = _as_of(query.get("as_of", ""), services.now())
    if at is not None and query.get("status") == FAILING:  # who failed in the past is not kept
        return redirect(request, "t", tenant, "webhooks", as_of=query["as_of"], q=query.get("q") or None)
    failing = await route_health.failing(query_database(request), tenant) if at is None and first_created_at else set()
    route_filter = RouteFilter(
        text=query.get("q", "").strip().casefold(),
        status=RouteStatus(query["status"]) if query.get("status") in ("enabled", "disabled") else None,
        as_of=at,
        failing=failing if query.get("status") == FAILING else None,
    )
    routes, after, total = _page(services.index, tenant, route_filter, query.get("after", ""))
    sparklines, found, endings = {}, {}, {}
    if at is None and routes:
        ids = [route.id for route in routes]
        recent = await route_metrics.recent(query_database(request), ids, hours=charts.SPARK_HOURS)
        sparklines = {route_id: charts.sparkline(counts) for route_id, counts in recent.items()}
        found = await receivers.read(query_database(request), ids)
        endings = await _endings(query_database(request), services.index, routes)
    return render(
        request,
        "webhooks/listing_rows.html" if wants_part(request) else "webhooks/listing.html",
        status=422 if as_of_error else 200,
        routes=routes,
        sparklines=sparklines,
        healths=found,
        endings=endings,
        saved=None if at is not None else _saved(services.index, tenant, query.get("saved", "")),
        done=query.get("done"),
        after=after,
        total=total,
        query=query,
        as_of=at,
        as_of_error=as_of_error,
        first_created_at=first_created_at,
        slider=_slider_position(first_created_at, at, services.now()),
        counts=_counts(services.index, tenant, at),
        failing=sum(_is_enabled(services.index, route_id) for route_id in failing),
    )


def _page(index: RouteIndex, tenant: str, route_filter: RouteFilter, after: str) -> tuple[list[Route], str | None, int]:
    """A page of routes, the cursor of the next page, and how many routes match in all."""
    matches = [route for route in _routes(index, tenant, route_filter.as_of) if route_filter.matches(route)]
    begin = paging.decoded(after)
    rest = (route for route in matches if begin is None or moment(route.created_at) < begin)
    page_routes = list(islice(rest, PAGE_SIZE + 1))
    is_more = len(page_routes) > PAGE_SIZE
    cursor = paging.encoded(moment(page_routes[PAGE_SIZE - 1].created_at)) if is_more else None
    return page_routes[:PAGE_SIZE], cursor, len(matches)


async def _endings(database: Database, index: RouteIndex, routes: Collection[Route]) -> dict[UUID, HistoryRow]:
    """Who disabled the webhooks that are, and why; nothing of one that never was enabled."""
    versions = []
    for route in routes:
        timeline = index.timeline(route.id)
        if timeline is None or route.is_enabled or not route.windows or route.windows[-1].end is None:
            continue
        state = timeline.as_of(route.windows[-1].end)
        versions += [] if state is None else [(route.id, state.version)]
    events = await route_log.of_versions(database, versions) if versions else {}
    return {row.route_id: row for row in history_rows.rows(list(events.values()), index)}


def _saved(index: RouteIndex, tenant: str, text: str) -> Route | None:
    """The webhook with that id, None if there is none."""
    if not text:
        return None
    return next((route for route in _routes(index, tenant, None) if text == str(route.id) and _is_live(route)), None)


def _is_live(route: Route) -> bool:
    return route.status is not RouteStatus.DELETED


def _is_enabled(index: RouteIndex, route_id: UUID) -> bool:
    timeline = index.timeline(route_id)
    return timeline is not None and timeline.current.is_enabled


def _counts(index: RouteIndex, tenant: str, as_of: datetime | None) -> dict[str, int]:
    statuses = [route.status for route in _routes(index, tenant, as_of)]
    return {status.value: statuses.count(status) for status in RouteStatus}


def _routes(index: RouteIndex, tenant: str, as_of: datetime | None) -> Iterator[Route]:
    for timeline in reversed(list(index.timelines(tenant))):
        route = timeline.current if as_of is None else timeline.as_of(as_of)
        if route is not None:
            yield route


def _as_of(text: str, now: datetime) -> tuple[datetime | None, str | None]:
    """The moment in the query, None for now, and what is wrong with it, if anything is."""
    try:
        at = parse_moment(text)
    except ValueError as error:
        return None, str(error)
    if at is not None and at > now:
        return None, "is in the future: what will be is not known here"
    return at, None


def _from_slider(text: str, first: datetime, now: datetime) -> str | None:
    """The moment at a position of the slider; None for now, at its right end."""
    step = whole_number(text)
    return None if step is None or step >= SLIDER_STEPS else moment(first + (now - first) * step / SLIDER_STEPS)


def _slider_position(first: datetime | None, as_of: datetime | None, now: datetime) -> int:
    """The position of the slider for a moment."""
    if first is None or as_of is None or now <= first:
        return SLIDER_STEPS
    return max(0, min(SLIDER_STEPS, round((as_of - first) / (now - first) * SLIDER_STEPS)))
