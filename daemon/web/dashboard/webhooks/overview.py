"""The page of one webhook: how it does, its deliveries, configuration and key, when it was enabled, what it missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from daemon import deliveries, receivers
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.routing.timeline import Timeline
from daemon.deliveries import DeliveryFilter
from daemon.receivers import RouteHealth
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.html.text import parse_moment
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.dashboard.webhooks import charts, health_text, history_rows
from daemon.web.dashboard.webhooks.history_rows import HistoryRow
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from daemon.web.service import lookup
from daemon.web.service.routes import metric_series
from daemon.web.service.routes.metric_series import MetricRange
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.queries.events import missed_events
from eventstore.queries.events.missed_events import MissedEvents

RECENT_DELIVERIES = 8
RECENT_WINDOWS = 4

_NO_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisabledPeriod:
    """A time when the webhook was disabled; `until` is None while it lasts.

    `missed` counts events of the types that the webhook has now. Its filter is not evaluated: fewer may have passed.
    """

    since: datetime
    until: datetime | None
    missed: MissedEvents


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A webhook as it is now, or as it was when it was deleted; with `?as_of=` as it was at that moment.

    Only how it does if page.js polls it.
    """
    services, timeline = request.app[SERVICES], lookup.timeline(request)
    if (past_page := _as_of(request, timeline)) is not None:
        return past_page
    route = timeline.current
    period = await last_disabled_period(query_database(request), route)
    of_route = DeliveryFilter(tenant=route.tenant, route_id=route.id)
    recent = await deliveries.page(
        query_database(request),
        services.index,
        of_route,
        begin=None,
        limit=RECENT_DELIVERIES,
        places=services.filter_places,
    )
    metric_range = _range(request.query.get("range", ""))
    healths = await receivers.read(query_database(request), [route.id])
    return render(
        request,
        "webhooks/health_part.html" if wants_part(request) else "webhooks/overview.html",
        route=route,
        is_deleted=route.status is RouteStatus.DELETED,
        old_key=route.old_key_at(services.now()),
        disabled_period=period,
        ending=await _ending_event(query_database(request), services.index, timeline, period),
        chart=charts.of_route(await metric_series.read(query_database(request), route.id, metric_range), metric_range),
        view=health_text.view(route, healths.get(route.id, RouteHealth()), services.now()),
        items=recent.items,
        is_more=recent.next is not None,
        windows=route.windows[: -RECENT_WINDOWS - 1 : -1],
        earlier_windows=max(0, len(route.windows) - RECENT_WINDOWS),
        done=request.query.get("done"),
    )


async def last_disabled_period(database: Database, route: Route) -> DisabledPeriod | None:
    """The period since the webhook was disabled, else the one before it was last enabled; None if there was none."""
    period = _last_period(route)
    if period is None:
        return None
    since, until = period
    missed = await missed_events.count(
        database, route.tenant, route.config.event_types, since=since, until=until or _NO_END
    )
    return DisabledPeriod(since=since, until=until, missed=missed)


def _range(text: str) -> MetricRange:
    """The range in the query, a day if there is none."""
    return next((each for each in MetricRange if each.value == text), MetricRange.DAY)


def _as_of(request: web.Request, timeline: Timeline) -> web.Response | None:
    """The page for `?as_of=`; None if that is not a moment in the past, or the webhook did not exist yet."""
    try:
        at = parse_moment(request.query.get("as_of", ""))
    except ValueError:
        return None
    route = None if at is None else timeline.as_of(at)
    if at is None or route is None or at > request.app[SERVICES].now():
        return None
    next_version = timeline.of_version(route.version + 1)
    return render(
        request,
        "webhooks/as_of.html",
        route=route,
        as_of=at,
        windows=route.windows[::-1],
        next_at=None if next_version is None else moment(next_version.updated_at),
    )


async def _ending_event(
    database: Database, index: RouteIndex, timeline: Timeline, period: DisabledPeriod | None
) -> HistoryRow | None:
    """The event that disabled or deleted the webhook; None if it is enabled."""
    state = _ended_state(timeline, period)
    event = None if state is None else await route_log.of_version(database, state.id, state.version)
    return None if event is None else history_rows.rows([event], index)[0]


def _ended_state(timeline: Timeline, period: DisabledPeriod | None) -> Route | None:
    if timeline.current.status is RouteStatus.DELETED:
        return timeline.current
    if period is None or period.until is not None:
        return None
    return timeline.as_of(period.since)


def _last_period(route: Route) -> tuple[datetime, datetime | None] | None:
    """The period as its beginning and end; a webhook may be disabled from its creation on."""
    windows = route.windows
    if route.status is RouteStatus.DISABLED:
        return (windows[-1].end if windows else None) or route.created_at, None
    if route.status is RouteStatus.DELETED or windows[0].start == windows[-1].start == route.created_at:
        return None
    before = windows[-2].end if len(windows) > 1 else None
    return before or route.created_at, windows[-1].start
