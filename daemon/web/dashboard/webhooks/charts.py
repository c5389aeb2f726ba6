"""The chart of a webhook's last 30 days, as numbers to draw by: bars of days, stacked by what became of deliveries.

Across, all is in per cent of the width, so that a chart is as wide as its card and its letters stay as they are;
upwards it is in pixels. What is there is seen: a part is never lower than two pixels, beside however high a bar.
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
LEAST_HEIGHT = 2
# Lines across the chart, the one at 0 left out.
MOST_TICKS = 4
# Between a bar and the next, of what there is for a bar.
_GAP = 0.3
# From today back, so many days from one date below the chart to the next.
_DAYS_OF_LABEL = 7

_UNITS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPart:
    """Of a bar: deliveries that ended alike. `top` and `height` in pixels, from the top of the chart."""

    kind: str
    top: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartBar:
    """A day; `left`, `width` and `middle` in per cent. `label` is the date to write below, if one is."""

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
    """A line across, `top` in pixels."""

    text: str
    top: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """`ticks` from the top downwards, the last one at 0. `pending` is how many deliveries wait now."""

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
        """True if nothing ended in all these days."""
        return not any(_parts(self.total).values())

    @property
    def success_rate(self) -> str | None:
        """Of what was sent, the share that was delivered; 100 % only if all of it was."""
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
        bars=tuple(_bar(days, place, top) for place in range(len(days))),
        ticks=tuple(
            AxisTick(text=short(step * line), top=round(HEIGHT * (1 - line / ticks), 1))
            for line in range(ticks, -1, -1)
        ),
        total=metric_series.total(metrics),
        pending=metrics.pending,
    )


def short(count: int) -> str:
    """1.5k, 20M: for the lines, which are at round numbers."""
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:g}{unit}"
    return str(count)


def _scale(most: int) -> tuple[int, int]:
    """From one line to the next, a round number; and how many lines it takes to be above `most`."""
    least = max(1, math.ceil(most / MOST_TICKS))
    power = 10 ** (len(str(least)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    return step, max(1, math.ceil(most / step))


def _bar(days: list[MetricPeriod], place: int, top: int) -> ChartBar:
    day, room = days[place], 100 / len(days)
    return ChartBar(
        day=day.since,
        counts=day.counts,
        left=round(room * (place + _GAP / 2), 3),
        width=round(room * (1 - _GAP), 3),
        middle=round(room * (place + 0.5), 3),
        label=f"{day.since:%-d %b}" if (len(days) - 1 - place) % _DAYS_OF_LABEL == 0 else None,
        parts=tuple(_stacked(_parts(day.counts), top)),
    )


def _stacked(parts: Mapping[str, int], top: int) -> list[BarPart]:
    """The parts from the bottom up. What small ones are given, the highest gives if there is no room above it."""
    heights = {kind: max(HEIGHT * count / top, LEAST_HEIGHT) for kind, count in parts.items() if count}
    over = sum(heights.values()) - HEIGHT
    if over > 0:
        heights[max(heights, key=lambda kind: heights[kind])] -= over
    stacked, reached = [], float(HEIGHT)
    for kind, height in heights.items():
        reached -= height
        stacked.append(BarPart(kind=kind, top=round(reached, 2), height=round(height, 2)))
    return stacked


def _parts(counts: Counts) -> dict[str, int]:
    """What is drawn of a day, from the bottom up."""
    return {"successful": counts.successful, "failed": counts.failed, "not-sent": _not_sent(counts)}


def _not_sent(counts: Counts) -> int:
    return counts.suppressed + counts.expired
