"""Metrics of a route: what became of its deliveries in the last 30 days, in sum and as a series."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web import shapes
from daemon.web.endpoints import Access, Query, endpoint
from daemon.web.route_path import live_route
from daemon.web.services import SERVICES
from daemon.web.shapes import Moment, moment
from eventstore import route_metrics
from eventstore.route_metrics import KEPT_DAYS, Counts

HOURLY_DAYS = 7

Count = Annotated[int, Field(ge=0, examples=[42])]
SpanShape = TypedDict("SpanShape", {"from": Moment, "to": Moment})


class CountsShape(TypedDict):
    """Deliveries that ended so; `successful_retries` are the successful ones that took more than one request."""

    successful: Count
    failed: Count
    successful_retries: Count
    suppressed: Count
    expired: Count


class PeriodShape(SpanShape, CountsShape):
    """What ended from then (inclusive) to then (exclusive)."""


class RouteMetricsShape(CountsShape):
    """What ended in the last 30 days, today included; `pending_delivery` is how many deliveries wait now.

    The series has a period for each UTC day, or for each hour of the last 7 days, the present one at the end.
    """

    pending_delivery: Count
    series: list[PeriodShape]


INTERVAL = Query(
    name="interval",
    description="the periods of the series",
    schema={"type": "string", "enum": ["day", "hour"], "default": "day"},
)


@endpoint(Access.READ, INTERVAL, answers={200: RouteMetricsShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """What became of the route's deliveries in the last 30 days. A delivery sent again by hand ends again; deliveries
    of test events are left out.
    """
    route, interval = live_route(request), request.query.get("interval", "day")
    found = await route_metrics.read(request.app[SERVICES].database, route.id)
    series = _by_hour(found.hours, found.now) if interval == "hour" else _by_day(found.hours, found.now)
    total = _of_counts(sum(found.hours.values(), Counts()))
    body: RouteMetricsShape = {**total, "pending_delivery": found.pending, "series": series}
    return shapes.answer(body)


def _by_day(hours: dict[datetime, Counts], now: datetime) -> list[PeriodShape]:
    days: dict[datetime, Counts] = {}
    for hour, counts in hours.items():
        day = hour.replace(hour=0)
        days[day] = days.get(day, Counts()) + counts
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _series(days, today, step=timedelta(days=1), periods=KEPT_DAYS)


def _by_hour(hours: dict[datetime, Counts], now: datetime) -> list[PeriodShape]:
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    return _series(hours, this_hour, step=timedelta(hours=1), periods=HOURLY_DAYS * 24)


def _series(counts: dict[datetime, Counts], last: datetime, *, step: timedelta, periods: int) -> list[PeriodShape]:
    starts = [last - step * back for back in reversed(range(periods))]
    return [
        {"from": moment(start), "to": moment(start + step), **_of_counts(counts.get(start, Counts()))}
        for start in starts
    ]


def _of_counts(counts: Counts) -> CountsShape:
    return {
        "successful": counts.successful,
        "failed": counts.failed,
        "successful_retries": counts.successful_retries,
        "suppressed": counts.suppressed,
        "expired": counts.expired,
    }
