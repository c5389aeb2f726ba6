"""The metrics of a route as a series of periods in UTC, the present one last: 30 days, or the hours of 7 days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.queries.route_metrics import KEPT_DAYS, Counts, RouteMetrics

HOURLY_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPeriod:
    """The deliveries that ended in [since, until)."""

    since: datetime
    until: datetime
    counts: Counts


def total(metrics: RouteMetrics) -> Counts:
    """The sum over the whole time of the metrics."""
    return sum(metrics.periods.values(), Counts())


def by_day(metrics: RouteMetrics) -> list[MetricPeriod]:
    """A period for each day, also for days on which nothing ended."""
    days: dict[datetime, Counts] = {}
    for hour, counts in metrics.periods.items():
        day = hour.replace(hour=0)
        days[day] = days.get(day, Counts()) + counts
    today = metrics.now.replace(hour=0, minute=0, second=0, microsecond=0)
    return _series(days, today, step=timedelta(days=1), periods=KEPT_DAYS)


def by_hour(metrics: RouteMetrics) -> list[MetricPeriod]:
    """A period for each hour, also for hours in which nothing ended."""
    this_hour = metrics.now.replace(minute=0, second=0, microsecond=0)
    return _series(metrics.periods, this_hour, step=timedelta(hours=1), periods=HOURLY_DAYS * 24)


def _series(counts: Mapping[datetime, Counts], last: datetime, *, step: timedelta, periods: int) -> list[MetricPeriod]:
    starts = [last - step * back for back in reversed(range(periods))]
    return [MetricPeriod(since=start, until=start + step, counts=counts.get(start, Counts())) for start in starts]
