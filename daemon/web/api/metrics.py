"""Metrics of a route: the results of its deliveries in the last 30 days, in total and as a series."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.access.queries import query_database
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.shapes import Moment, moment
from daemon.web.service import metric_series
from daemon.web.service.lookup import live_route
from daemon.web.service.metric_series import MetricPeriod
from eventstore.queries import route_metrics
from eventstore.queries.route_metrics import Counts

DeliveryCount = Annotated[int, Field(ge=0, examples=[42])]
SpanShape = TypedDict("SpanShape", {"from": Moment, "to": Moment})


class CountsShape(TypedDict):
    """Deliveries by result. `successful_retries` are the successful ones that took more than one request."""

    successful: DeliveryCount
    failed: DeliveryCount
    successful_retries: DeliveryCount
    suppressed: DeliveryCount
    expired: DeliveryCount


class PeriodShape(SpanShape, CountsShape):
    """The deliveries that ended between `from` (inclusive) and `to` (exclusive)."""


class RouteMetricsShape(CountsShape):
    """The deliveries that ended in the last 30 days, today included. `pending_delivery`: how many deliveries wait now.

    The series has a period for each UTC day, or for each hour of the last 7 days, the present period last.
    """

    pending_delivery: DeliveryCount
    series: list[PeriodShape]


INTERVAL = Query(
    name="interval",
    description="the periods of the series",
    schema={"type": "string", "enum": ["day", "hour"], "default": "day"},
)


@endpoint(Access.READ, INTERVAL, answers={200: RouteMetricsShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """The results of the route's deliveries in the last 30 days. A delivery that is sent again by hand counts again.
    Deliveries of test events are left out.
    """
    route, interval = live_route(request), request.query.get("interval", "day")
    found = await route_metrics.read(query_database(request), route.id)
    periods = metric_series.by_hour(found) if interval == "hour" else metric_series.by_day(found)
    series = [_of_period(period) for period in periods]
    total = _of_counts(metric_series.total(found))
    body: RouteMetricsShape = {**total, "pending_delivery": found.pending, "series": series}
    return shapes.answer(body)


def _of_period(period: MetricPeriod) -> PeriodShape:
    return {"from": moment(period.since), "to": moment(period.until), **_of_counts(period.counts)}


def _of_counts(counts: Counts) -> CountsShape:
    return {
        "successful": counts.successful,
        "failed": counts.failed,
        "successful_retries": counts.successful_retries,
        "suppressed": counts.suppressed,
        "expired": counts.expired,
    }
