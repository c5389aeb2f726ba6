"""The charts of requests: their coordinates, and the part of the page that draws them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.delivery.request_cells import cell_of
from daemon.web.dashboard.webhooks import charts
from daemon.web.dashboard.webhooks.charts import HEIGHT, MIN_HEIGHT, SPARK_HEIGHT, Chart
from daemon.web.service.routes.metric_series import MetricRange
from eventstore.queries.metrics.route_metrics import Counts, RecentRequests, RouteMetrics

NOW = datetime(2026, 11, 24, 18, 5, 12, tzinfo=UTC)
NOON = NOW.replace(hour=12, minute=0, second=0)
COUNT = st.integers(0, 3) | st.integers(0, 10**12)
OK, BAD, NO_ANSWER = cell_of(200, 30), cell_of(500, 30), cell_of(None, 15_000)


def cells(successful: int, failed: int) -> dict[int, int]:
    return {cell: count for cell, count in ((OK, successful), (BAD, failed)) if count}


def chart_of(by_days_back: dict[int, tuple[int, int]], *, pending: int = 0) -> Chart:
    """The chart of 30 days, with so many successful and failed requests at noon of a day."""
    hours = {NOON - timedelta(days=days): cells(*requests) for days, requests in by_days_back.items()}
    periods = {hour: Counts(successful=1) for hour in hours}
    return charts.of_route(RouteMetrics(now=NOW, pending=pending, periods=periods, cells=hours), MetricRange.MONTH)


def test_a_bar_for_each_of_thirty_days_today_at_the_end() -> None:
    chart = chart_of({0: (1, 0)})
    assert [bar.since for bar in chart.bars] == [
        datetime(2026, 10, 26, tzinfo=UTC) + timedelta(days=n) for n in range(30)
    ]
    assert [bar.requests.total for bar in chart.bars] == [0] * 29 + [1]
    assert [(bar.label, place) for place, bar in enumerate(chart.bars) if bar.label] == [
        ("27 Oct", 1), ("3 Nov", 8), ("10 Nov", 15), ("17 Nov", 22), ("Today", 29),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metric_range", "bars", "labels"),
    [
        (MetricRange.HOUR, 12, ["17:20", "17:35", "17:50", "Now"]),
        (MetricRange.DAY, 24, ["00:00", "06:00", "12:00", "Now"]),
        (MetricRange.WEEK, 168, ["18 Nov", "19 Nov", "20 Nov", "21 Nov", "22 Nov", "23 Nov", "Now"]),
    ],
)
def test_each_range_has_its_periods_and_labels(metric_range: MetricRange, bars: int, labels: list[str]) -> None:
    chart = charts.of_route(RouteMetrics(now=NOW, pending=0, periods={}), metric_range)
    assert len(chart.bars) == bars
    assert [bar.label for bar in chart.bars if bar.label] == labels


def test_all_hours_of_a_day_are_one_bar() -> None:
    hours = {NOON.replace(hour=hour): Counts(successful=hour, failed=1) for hour in (0, 7, 23)}
    requests = {hour: cells(2, 1) for hour in hours}
    metrics = RouteMetrics(now=NOW.replace(hour=23), pending=4, periods=hours, cells=requests)
    chart = charts.of_route(metrics, MetricRange.MONTH)
    assert chart.bars[-1].counts == Counts(successful=30, failed=3)
    assert (chart.bars[-1].requests.successful, chart.bars[-1].requests.failed) == (6, 3)
    assert (chart.total, chart.pending) == (Counts(successful=30, failed=3), 4)


def test_the_parts_of_a_bar_lie_on_each_other_and_are_as_high_as_their_numbers() -> None:
    (bar,) = [bar for bar in chart_of({3: (50, 30), 4: (100, 0)}).bars if bar.requests.failed]
    assert [(part.kind, part.top, part.height) for part in bar.parts] == [
        ("successful", HEIGHT * 0.5, HEIGHT * 0.5),
        ("failed", HEIGHT * 0.2, HEIGHT * 0.3),
    ]


@given(st.dictionaries(st.integers(0, 29), st.tuples(COUNT, COUNT)))
def test_any_numbers_are_drawn_inside_the_chart_and_visibly(days: dict[int, tuple[int, int]]) -> None:
    for bar in chart_of(days).bars:
        there = {
            kind for kind, count in (("successful", bar.requests.successful), ("failed", bar.requests.failed)) if count
        }
        assert {part.kind for part in bar.parts} == there
        assert all(part.height >= MIN_HEIGHT for part in bar.parts)
        assert all(part.top >= -0.01 and part.top + part.height <= HEIGHT + 0.01 for part in bar.parts)
        assert bar.left >= 0
        assert bar.left + bar.width <= 100


def test_one_request_beside_a_million_is_still_seen() -> None:
    chart = chart_of({0: (1_000_000, 1), 1: (0, 1)})
    assert [part.height for part in chart.bars[-2].parts] == [MIN_HEIGHT]
    assert {part.kind: part.height for part in chart.bars[-1].parts}["failed"] == MIN_HEIGHT


@pytest.mark.parametrize(
    ("most", "texts"),
    [
        (0, ["1", "0"]),
        (1, ["1", "0"]),
        (3, ["3", "2", "1", "0"]),
        (4, ["4", "3", "2", "1", "0"]),
        (5, ["6", "4", "2", "0"]),
        (17, ["20", "15", "10", "5", "0"]),
        (1234, ["1.5k", "1k", "500", "0"]),
        (2_000_000, ["2M", "1.5M", "1M", "500k", "0"]),
        (9_999_999_999, ["10G", "5G", "0"]),
    ],
)
def test_the_lines_are_at_round_numbers(most: int, texts: list[str]) -> None:
    chart = chart_of({0: (most, 0)})
    assert [tick.text for tick in chart.ticks] == texts
    assert (chart.ticks[0].top, chart.ticks[-1].top) == (0, HEIGHT)


def test_nothing_at_all_is_known_to_be_nothing() -> None:
    assert chart_of({}).is_empty
    assert not chart_of({29: (0, 1)}).is_empty


def test_the_answers_that_there_were_are_told_by_class() -> None:
    requests = {NOON: {OK: 3, BAD: 2, NO_ANSWER: 1}}
    chart = charts.of_route(RouteMetrics(now=NOW, pending=0, periods={}, cells=requests), MetricRange.DAY)
    assert chart.answers == [("2xx", 3), ("5xx", 2), ("no answer", 1)]
    assert chart.success_rate == "50.0 %"


@pytest.mark.parametrize(
    ("part", "whole", "rate"),
    [
        (0, 0, None),
        (5, 5, "100 %"),
        (0, 5, "0 %"),
        (1_000_000, 1_000_001, "99.9 %"),
        (1, 1_000_001, "0.1 %"),
        (2, 3, "66.7 %"),
    ],
)
def test_a_rate_is_whole_only_if_all_of_it_was(part: int, whole: int, rate: str | None) -> None:
    assert charts.share(part, whole) == rate


def test_a_small_chart_draws_each_hour_with_requests_in_its_place() -> None:
    this_hour = NOW.replace(minute=0, second=0)
    recent = RecentRequests(
        this_hour=this_hour, cells={this_hour: cells(2, 2), this_hour - timedelta(hours=23): cells(4, 0)}
    )
    spark = charts.sparkline(recent)
    assert spark.successful == f"M2 {SPARK_HEIGHT}V0M117 {SPARK_HEIGHT}V12"
    assert spark.failed == "M117 12V0"
    assert (spark.requests.total, spark.requests.failed, spark.width) == (8, 2, 120)


def test_a_small_chart_of_nothing_draws_nothing() -> None:
    spark = charts.sparkline(RecentRequests(this_hour=NOW, cells={}))
    assert (spark.successful, spark.failed, spark.requests.total, spark.busiest) == ("", "", 0, None)
