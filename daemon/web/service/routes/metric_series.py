"""The metrics of a route as a series of periods in UTC, the present one last: an hour, a day, 7 or 30 days of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from daemon.core.delivery.request_cells import RequestCounts
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_metrics
from eventstore.queries.metrics.route_metrics import KEPT_DAYS, RECENT_PERIOD, Counts, RequestCells, RouteMetrics

HOURLY_DAYS = 7
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class MetricRange(StrEnum):
    """How far metrics go back. The values are those of the API."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPeriod:
    """The deliveries that ended, and the requests that were made, in [since, until)."""

    since: datetime
    until: datetime
    counts: Counts
    requests: RequestCounts


async def read(database: Database, route_id: UUID, metric_range: MetricRange) -> RouteMetrics:
    """The metrics of a route for a range."""
    match metric_range:
        case MetricRange.HOUR:
            return await route_metrics.read_last_hour(database, route_id)
        case MetricRange.DAY:
            return await route_metrics.read_hours(database, route_id, hours=24)
        case MetricRange.WEEK:
            return await route_metrics.read_hours(database, route_id, hours=HOURLY_DAYS * 24)
        case MetricRange.MONTH:
            return await route_metrics.read(database, route_id)


def series(metrics: RouteMetrics, metric_range: MetricRange) -> list[MetricPeriod]:
    """The periods of a range: five minutes of an hour, hours of a day or a week, days of a month."""
    match metric_range:
        case MetricRange.HOUR:
            return by_five_minutes(metrics)
        case MetricRange.DAY:
            return by_hour(metrics, hours=24)
        case MetricRange.WEEK:
            return by_hour(metrics)
        case MetricRange.MONTH:
            return by_day(metrics)


def total(metrics: RouteMetrics) -> Counts:
    """The sum over the whole time of the metrics."""
    return sum(metrics.periods.values(), Counts())


def requests(metrics: RouteMetrics) -> RequestCounts:
    """All requests of the metrics."""
    return RequestCounts.summed(metrics.cells.values())


def by_day(metrics: RouteMetrics) -> list[MetricPeriod]:
    """A period for each day, also for days on which nothing ended."""
    days: dict[datetime, Counts] = {}
    cells: dict[datetime, list[RequestCells]] = {}
    for hour, counts in metrics.periods.items():
        day = hour.replace(hour=0)
        days[day] = days.get(day, Counts()) + counts
        cells.setdefault(day, []).append(metrics.cells.get(hour, {}))
    requests_of_days = {day: RequestCounts.summed(parts) for day, parts in cells.items()}
    today = metrics.now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _series(days, requests_of_days, today, step=_DAY, periods=KEPT_DAYS)


def by_hour(metrics: RouteMetrics, *, hours: int = HOURLY_DAYS * 24) -> list[MetricPeriod]:
    """A period for each hour, also for hours in which nothing ended."""
    this_hour = metrics.now.replace(minute=0, second=0, microsecond=0)
    return _series(metrics.periods, _counted(metrics), this_hour, step=_HOUR, periods=hours)


def by_five_minutes(metrics: RouteMetrics) -> list[MetricPeriod]:
    """A period for each five minutes of an hour."""
    now = metrics.now
    these = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    return _series(metrics.periods, _counted(metrics), these, step=RECENT_PERIOD, periods=_HOUR // RECENT_PERIOD)


def _counted(metrics: RouteMetrics) -> dict[datetime, RequestCounts]:
    return {period: RequestCounts(cells) for period, cells in metrics.cells.items()}


def _series(
    counts: Mapping[datetime, Counts],
    requests: Mapping[datetime, RequestCounts],
    last: datetime,
    *,
    step: timedelta,
    periods: int,
) -> list[MetricPeriod]:
    starts = [last - step * back for back in reversed(range(periods))]
    return [
        MetricPeriod(
            since=start,
            until=start + step,
            counts=counts.get(start, Counts()),
            requests=requests.get(start, RequestCounts()),
        )
        for start in starts
    ]
