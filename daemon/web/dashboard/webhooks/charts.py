"""The chart of a webhook's last 30 days, in coordinates: one bar for each day, stacked by the outcome of deliveries.

Horizontal coordinates are in per cent of the width, so that a chart is as wide as its card and its text is not scaled;
vertical ones are in pixels. A part of a bar is at least two pixels high, so that it can be seen beside a high bar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from daemon.web.service import metric_series
from daemon.web.service.metric_series import MetricPeriod
from eventstore.queries.route_metrics import Counts, RouteMetrics

HEIGHT = 160
MIN_HEIGHT = 2
# Horizontal lines, without the one at 0.
MAX_TICKS = 4
# The gap between two bars, as a part of the width of a day.
_GAP = 0.3
# Every seventh day has its date below the chart, counted back from today.
_DAYS_PER_LABEL = 7

_UNITS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPart:
    """A part of a bar: deliveries with one outcome. `top`, from the top of the chart, and `height` are in pixels."""

    kind: str
    top: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """A day. `left`, `width` and `middle` are in per cent. `label` is the date to write below the bar, or None."""

    day: datetime
    counts: Counts
    left: float
    width: float
    middle: float
    label: str | None
    parts: tuple[BarPart, ...]

    @property
    def not_sent(self) -> int:
        return _not_sent(self.counts)

    @property
    def total(self) -> int:
        return sum(_parts(self.counts).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisTick:
    """A horizontal line; `top` is in pixels."""

    text: str
    top: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart. `ticks` are in order from the top, the last one at 0. `pending` counts the deliveries that wait now."""

    bars: tuple[ChartBar, ...]
    ticks: tuple[AxisTick, ...]
    total: Counts
    pending: int

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def not_sent(self) -> int:
        return _not_sent(self.total)

    @property
    def is_empty(self) -> bool:
        """True if no delivery ended on any of the days."""
        return not any(_parts(self.total).values())

    @property
    def success_rate(self) -> str | None:
        """The share of sent deliveries that succeeded, None if none was sent. Only exact shares are 100 % or 0 %."""
        sent = self.total.successful + self.total.failed
        if not sent:
            return None
        share = self.total.successful / sent * 100
        return f"{share:.0f} %" if share in (0, 100) else f"{min(max(share, 0.1), 99.9):.1f} %"


def of_route(metrics: RouteMetrics) -> Chart:
    """The chart of a route."""
    days = metric_series.by_day(metrics)
    step, ticks = _scale(max(sum(_parts(day.counts).values()) for day in days))
    top = step * ticks
    return Chart(
        bars=tuple(_bar(days, index, top) for index in range(len(days))),
        ticks=tuple(
            AxisTick(text=short(step * line), top=round(HEIGHT * (1 - line / ticks), 1))
            for line in range(ticks, -1, -1)
        ),
        total=metric_series.total(metrics),
        pending=metrics.pending,
    )


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


def _bar(days: list[MetricPeriod], index: int, top: int) -> ChartBar:
    day, slot = days[index], 100 / len(days)
    return ChartBar(
        day=day.since,
        counts=day.counts,
        left=round(slot * (index + _GAP / 2), 3),
        width=round(slot * (1 - _GAP), 3),
        middle=round(slot * (index + 0.5), 3),
        label=f"{day.since:%-d %b}" if (len(days) - 1 - index) % _DAYS_PER_LABEL == 0 else None,
        parts=tuple(_stacked(_parts(day.counts), top)),
    )


def _stacked(parts: Mapping[str, int], top: int) -> list[BarPart]:
    """The parts from the bottom up. The highest part shrinks if minimum heights of others make the bar too high."""
    heights = {kind: max(HEIGHT * count / top, MIN_HEIGHT) for kind, count in parts.items() if count}
    excess = sum(heights.values()) - HEIGHT
    if excess > 0:
        heights[max(heights, key=lambda kind: heights[kind])] -= excess
    stacked, top_of_stack = [], float(HEIGHT)
    for kind, height in heights.items():
        top_of_stack -= height
        stacked.append(BarPart(kind=kind, top=round(top_of_stack, 2), height=round(height, 2)))
    return stacked


def _parts(counts: Counts) -> dict[str, int]:
    """The numbers of deliveries of a day by outcome, from the bottom of the bar up."""
    return {"successful": counts.successful, "failed": counts.failed, "not-sent": _not_sent(counts)}


def _not_sent(counts: Counts) -> int:
    return counts.suppressed + counts.expired
