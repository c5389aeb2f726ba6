"""Metrics of a route: what became of its deliveries, and which answers its requests got, in total and as a series."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.delivery.request_cells import RequestCounts
from daemon.core.events.event import FieldProblem
from daemon.web.access.queries import query_database
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.shapes import Moment, moment
from daemon.web.service.lookup import live_route
from daemon.web.service.routes import metric_series
from daemon.web.service.routes.metric_series import MetricPeriod, MetricRange
from eventstore.queries.metrics.route_metrics import Counts

DeliveryCount = Annotated[int, Field(ge=0, examples=[42])]
RequestCount = Annotated[int, Field(ge=0, examples=[57])]
Milliseconds = Annotated[float | None, Field(examples=[84.5])]
SpanShape = TypedDict("SpanShape", {"from": Moment, "to": Moment})
AnswersShape = TypedDict(
    "AnswersShape",
    {
        "2xx": RequestCount,
        "3xx": RequestCount,
        "4xx": RequestCount,
        "5xx": RequestCount,
        "other": RequestCount,
        "none": RequestCount,
    },
)


class CountsShape(TypedDict):
    """Deliveries by result. `successful_retries` are the successful ones that took more than one request."""

    successful: DeliveryCount
    failed: DeliveryCount
    successful_retries: DeliveryCount
    suppressed: DeliveryCount
    expired: DeliveryCount


class RequestsShape(TypedDict):
    """Requests, retries included. One without a 2xx failed, whether it was tried again or not."""

    total: RequestCount
    successful: RequestCount
    failed: RequestCount


class DurationsShape(TypedDict):
    """In milliseconds, to about a fifth: half of the requests took no longer than `p50`, 95 of 100 no longer than
    `p95`. Null if there were none.
    """

    p50: Milliseconds
    p95: Milliseconds


class PeriodShape(SpanShape, CountsShape):
    """The deliveries that ended, and the requests that were made, between `from` (inclusive) and `to` (exclusive)."""

    requests: RequestsShape


class RouteMetricsShape(CountsShape):
    """The deliveries that ended, and the requests that were made. `pending_delivery`: how many deliveries wait now,
    those of test events too.

    `answers` are the requests by the class of the answer; `none` had no answer. The series has a period for each five
    minutes, hour or UTC day, the present period last. `range` is null if none was asked for: then these are the last 30
    days, today included.
    """

    range: Annotated[MetricRange | None, Field(examples=["24h"])]
    pending_delivery: DeliveryCount
    requests: RequestsShape
    answers: AnswersShape
    duration_ms: DurationsShape
    series: list[PeriodShape]


RANGE = Query(
    name="range",
    description="how far back: an hour by five minutes, a day or 7 days by hours, 30 days by days",
    schema={"type": "string", "enum": list(MetricRange)},
)
INTERVAL = Query(
    name="interval",
    description="the periods of the series if no range is given: the days of 30 days, or the hours of 7 days",
    schema={"type": "string", "enum": ["day", "hour"], "default": "day"},
)


@endpoint(Access.READ, RANGE, INTERVAL, answers={200: RouteMetricsShape}, refuses=(404,))
async def show(request: web.Request) -> web.Response:
    """The results of the route's deliveries and requests. A delivery that is sent again by hand counts again.
    Deliveries of test events are left out, but of those that wait.
    """
    route, query = live_route(request), request.query
    if "range" in query and "interval" in query:
        message = "goes with no range: the range decides the periods, so leave one of the two out"
        raise Invalid((FieldProblem(field="interval", message=message),))
    metric_range = MetricRange(query["range"]) if "range" in query else None
    found = await metric_series.read(query_database(request), route.id, metric_range or MetricRange.MONTH)
    if query.get("interval") == "hour":
        periods = metric_series.by_hour(found)
    else:
        periods = metric_series.series(found, metric_range or MetricRange.MONTH)
    requests = metric_series.requests(found)
    body: RouteMetricsShape = {
        **_of_counts(metric_series.total(found)),
        "range": metric_range,
        "pending_delivery": found.pending,
        "requests": _of_requests(requests),
        "answers": _of_answers(requests),
        "duration_ms": {"p50": _rounded(requests.percentile_ms(0.5)), "p95": _rounded(requests.percentile_ms(0.95))},
        "series": [_of_period(period) for period in periods],
    }
    return shapes.answer(body)


def _of_period(period: MetricPeriod) -> PeriodShape:
    return {
        "from": moment(period.since),
        "to": moment(period.until),
        **_of_counts(period.counts),
        "requests": _of_requests(period.requests),
    }


def _of_counts(counts: Counts) -> CountsShape:
    return {
        "successful": counts.successful,
        "failed": counts.failed,
        "successful_retries": counts.successful_retries,
        "suppressed": counts.suppressed,
        "expired": counts.expired,
    }


def _of_requests(requests: RequestCounts) -> RequestsShape:
    return {"total": requests.total, "successful": requests.successful, "failed": requests.failed}


def _of_answers(requests: RequestCounts) -> AnswersShape:
    found = requests.by_class
    named = {first: found.get(first, 0) for first in (2, 3, 4, 5)}
    return {
        "2xx": named[2],
        "3xx": named[3],
        "4xx": named[4],
        "5xx": named[5],
        "other": requests.total - requests.unanswered - sum(named.values()),
        "none": requests.unanswered,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
