"""The page of one webhook: how it is set, what became of its deliveries, when it receives, and what it missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from daemon import deliveries
from daemon.core.routing.index import Timeline
from daemon.core.routing.route import Route, RouteStatus
from daemon.deliveries import DeliveryFilter
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.text import typed_moment
from daemon.web.dashboard.webhooks import charts, history_rows
from daemon.web.dashboard.webhooks.history_rows import HistoryRow
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES, Services
from daemon.web.http.shapes import moment
from daemon.web.service import lookup
from eventstore import route_log
from eventstore.domain_events import missed_events
from eventstore.domain_events.missed_events import MissedEvents
from eventstore.postgres.connect import Database
from eventstore.queries import route_metrics

RECENT_DELIVERIES = 8
RECENT_WINDOWS = 4


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A webhook as it is; a deleted one as it was at last. With `?as_of=` as it was then."""
    services, timeline = request.app[SERVICES], lookup.timeline(request)
    if (then := _then(request, timeline)) is not None:
        return then
    route = timeline.current
    last_off = await last_disabled_period(services.database, route)
    recent = DeliveryFilter(tenant=route.tenant, route_id=route.id)
    listed = await deliveries.page(services.database, services.index, recent, begin=None, limit=RECENT_DELIVERIES)
    return render(
        request,
        "webhooks/overview.html",
        route=route,
        is_deleted=route.status is RouteStatus.DELETED,
        old_key=route.old_key_at(services.now()),
        off=last_off,
        ended=await _ended(services, timeline, last_off),
        chart=charts.of_route(await route_metrics.read(services.database, route.id)),
        items=listed.items,
        is_more=listed.next is not None,
        windows=route.windows[: -RECENT_WINDOWS - 1 : -1],
        windows_more=max(0, len(route.windows) - RECENT_WINDOWS),
        done=request.query.get("done"),
    )


def _then(request: web.Request, timeline: Timeline) -> web.Response | None:
    """The page of a moment of the past; None if none is asked for, or there was no such webhook yet."""
    try:
        at = typed_moment(request.query.get("as_of", ""))
    except ValueError:
        return None
    route = None if at is None else timeline.as_of(at)
    if at is None or route is None or at > request.app[SERVICES].now():
        return None
    later = timeline.of_version(route.version + 1)
    return render(
        request,
        "webhooks/then.html",
        route=route,
        as_of=at,
        windows=route.windows[::-1],
        next_at=None if later is None else moment(later.updated_at),
    )


async def _ended(services: Services, timeline: Timeline, last_off: DisabledPeriod | None) -> HistoryRow | None:
    """What turned the webhook off, or deleted it; None if it is on."""
    state = _state_that_ended(timeline, last_off)
    event = None if state is None else await route_log.of_version(services.database, state.id, state.version)
    return None if event is None else history_rows.rows([event], services.index)[0]


def _state_that_ended(timeline: Timeline, last_off: DisabledPeriod | None) -> Route | None:
    if timeline.current.status is RouteStatus.DELETED:
        return timeline.current
    if last_off is None or last_off.until is not None:
        return None
    return timeline.as_of(last_off.since)


_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisabledPeriod:
    """`until` is None while it lasts. `missed` are events of the types that the webhook has now; of one with a filter
    it is not known which of them would have passed.
    """

    since: datetime
    until: datetime | None
    missed: MissedEvents


async def last_disabled_period(database: Database, route: Route) -> DisabledPeriod | None:
    """The time since the webhook was disabled, or else that before it was last enabled; None if it was never off."""
    period = _last_period(route)
    if period is None:
        return None
    since, until = period
    missed = await missed_events.count(
        database, route.tenant, route.config.event_types, since=since, until=until or _FOR_EVER
    )
    return DisabledPeriod(since=since, until=until, missed=missed)


def _last_period(route: Route) -> tuple[datetime, datetime | None] | None:
    """From its creation on a webhook can be off."""
    windows = route.windows
    if route.status is RouteStatus.DISABLED:
        return (windows[-1].end if windows else None) or route.created_at, None
    if route.status is RouteStatus.DELETED or windows[0].start == windows[-1].start == route.created_at:
        return None
    before = windows[-2].end if len(windows) > 1 else None
    return before or route.created_at, windows[-1].start
