"""The charts of a webhook's requests, in coordinates: one bar for each period, and a small one of a day for each row.

Horizontal coordinates of the large chart are in per cent of the width, so that a chart is as wide as its card and its
text is not scaled; vertical ones are in pixels. A part of a bar is at least two pixels high, so that it can be seen
beside a high bar. Requests are drawn and not ends of deliveries: a receiver that is down ends none for hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.delivery.request_cells import RequestCounts
from daemon.web.service.routes import metric_series
from daemon.web.service.routes.metric_series import MetricPeriod, MetricRange
from eventstore.queries.metrics.route_metrics import Counts, RecentRequests, RouteMetrics

HEIGHT = 160
MIN_HEIGHT = 2
# Horizontal lines, without the one at 0.
MAX_TICKS = 4
# The gap between two bars, as a part of the width of a period.
_GAP = 0.3

# The small chart: hours, and pixels.
SPARK_HOURS = 24
SPARK_HEIGHT = 24
SPARK_STEP = 5

_UNITS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartScale:
    """How a range is labelled: every so many periods, counted back from the present one, in that format."""

    title: str
    periods_per_label: int
    label: str
    period: str
    present: str


SCALES: Mapping[MetricRange, ChartScale] = {
    MetricRange.HOUR: ChartScale(title="last hour", periods_per_label=3, label="%H:%M", period="%H:%M", present="Now"),
    MetricRange.DAY: ChartScale(
        title="last 24 hours", periods_per_label=6, label="%H:00", period="%-d %b, %H:00", present="Now"
    ),
    MetricRange.WEEK: ChartScale(
        title="last 7 days", periods_per_label=24, label="%-d %b", period="%-d %b, %H:00", present="Now"
    ),
    MetricRange.MONTH: ChartScale(
        title="last 30 days", periods_per_label=7, label="%-d %b", period="%-d %b", present="Today"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPart:
    """A part of a bar: requests with one result. `top`, from the top of the chart, and `height` are in pixels."""

    kind: str
    top: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """A period. `left`, `width` and `middle` are in per cent. `label` is the text to write below the bar, or None."""

    since: datetime
    name: str
    counts: Counts
    requests: RequestCounts
    left: float
    width: float
    middle: float
    label: str | None
    parts: tuple[BarPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisTick:
    """A horizontal line; `top` is in pixels."""

    text: str
    top: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart. `ticks` are in order from the top, the last one at 0. `pending` counts the deliveries that wait now."""

    metric_range: MetricRange
    bars: tuple[ChartBar, ...]
    ticks: tuple[AxisTick, ...]
    total: Counts
    requests: RequestCounts
    pending: int

    @property
    def title(self) -> str:
        return SCALES[self.metric_range].title

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def has_hours(self) -> bool:
        """True if its periods are shorter than a day: those of a month are days of UTC, for every reader."""
        return ":" in SCALES[self.metric_range].period

    @property
    def not_sent(self) -> int:
        return self.total.suppressed + self.total.expired

    @property
    def is_empty(self) -> bool:
        """True if no request was made."""
        return not self.requests.total

    @property
    def success_rate(self) -> str | None:
        """The share of requests that succeeded, None if there was none."""
        return share(self.requests.successful, self.requests.total)

    @property
    def delivered_rate(self) -> str | None:
        """The share of sent deliveries that succeeded in the end, None if none has ended."""
        return share(self.total.successful, self.total.successful + self.total.failed)

    @property
    def answers(self) -> list[tuple[str, int]]:
        """The answers that there were, by class."""
        by_class = self.requests.by_class
        named = [(f"{first}xx", by_class[first]) for first in sorted(by_class) if first]
        return named + ([("no answer", self.requests.unanswered)] if self.requests.unanswered else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """A small chart of a day's requests: the paths of two strokes, and the hour with the most requests, in UTC."""

    successful: str
    failed: str
    requests: RequestCounts
    busiest: str | None

    @property
    def width(self) -> int:
        return SPARK_HOURS * SPARK_STEP

    @property
    def height(self) -> int:
        return SPARK_HEIGHT


def of_route(metrics: RouteMetrics, metric_range: MetricRange) -> Chart:
    """The chart of a route."""
    periods = metric_series.series(metrics, metric_range)
    step, ticks = _scale(max(period.requests.total for period in periods))
    return Chart(
        metric_range=metric_range,
        bars=tuple(_bar(periods, index, step * ticks, SCALES[metric_range]) for index in range(len(periods))),
        ticks=tuple(
            AxisTick(text=short(step * line), top=round(HEIGHT * (1 - line / ticks), 1))
            for line in range(ticks, -1, -1)
        ),
        total=metric_series.total(metrics),
        requests=metric_series.requests(metrics),
        pending=metrics.pending,
    )


def sparkline(recent: RecentRequests) -> Sparkline:
    """The chart of a route's last day."""
    starts = [recent.this_hour - timedelta(hours=back) for back in reversed(range(SPARK_HOURS))]
    hours = [RequestCounts(recent.cells.get(start, {})) for start in starts]
    top = max(hour.total for hour in hours)
    busiest = max(zip(starts, hours, strict=True), key=lambda each: each[1].total)[0]
    strokes: dict[str, list[str]] = {"successful": [], "failed": []}
    for place, hour in enumerate(hours):
        bottom = float(SPARK_HEIGHT)
        for part in _stacked(_parts(hour), top or 1, height=SPARK_HEIGHT):
            strokes[part.kind].append(f"M{place * SPARK_STEP + 2} {bottom:g}V{part.top:g}")
            bottom = part.top
    return Sparkline(
        successful="".join(strokes["successful"]),
        failed="".join(strokes["failed"]),
        requests=RequestCounts.summed(hour.cells for hour in hours),
        busiest=f"{busiest:%H:00} UTC" if top else None,
    )


def share(part: int, whole: int) -> str | None:
    """The part in per cent, None of nothing. Only exact shares are 100 % or 0 %."""
    if not whole:
        return None
    percent = part / whole * 100
    return f"{percent:.0f} %" if part in (0, whole) else f"{min(max(percent, 0.1), 99.9):.1f} %"


def short(count: int) -> str:
    """A round number for a line: 1.5k, 20M."""
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:g}{unit}"
    return str(count)


def _scale(highest: int) -> tuple[int, int]:
    """The step between two lines, a round number, and how many steps reach `highest`."""
    least = max(1, math.ceil(highest / MAX_TICKS))
    power = 10 ** (len(str(least)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    return step, max(1, math.ceil(highest / step))


def _bar(periods: Sequence[MetricPeriod], index: int, top: int, scale: ChartScale) -> ChartBar:
    period, slot = periods[index], 100 / len(periods)
    back = len(periods) - 1 - index
    label = scale.present if not back else f"{period.since:{scale.label}}"
    return ChartBar(
        since=period.since,
        name=f"{period.since:{scale.period}}",
        counts=period.counts,
        requests=period.requests,
        left=round(slot * (index + _GAP / 2), 3),
        width=round(slot * (1 - _GAP), 3),
        middle=round(slot * (index + 0.5), 3),
        label=label if back % scale.periods_per_label == 0 else None,
        parts=tuple(_stacked(_parts(period.requests), top, height=HEIGHT)),
    )


def _stacked(parts: Mapping[str, int], top: int, *, height: int) -> list[BarPart]:
    """The parts from the bottom up. The highest part shrinks if minimum heights of others make the bar too high."""
    heights = {kind: max(height * count / top, MIN_HEIGHT) for kind, count in parts.items() if count}
    excess = sum(heights.values()) - height
    if excess > 0:
        heights[max(heights, key=lambda kind: heights[kind])] -= excess
    stacked, top_of_stack = [], float(height)
    for kind, part in heights.items():
        top_of_stack -= part
        stacked.append(BarPart(kind=kind, top=round(top_of_stack, 2), height=round(part, 2)))
    return stacked


def _parts(requests: RequestCounts) -> dict[str, int]:
    """The numbers of requests by result, from the bottom of the bar up."""
    return {"successful": requests.successful, "failed": requests.failed}
