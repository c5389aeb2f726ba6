"""The chart of 30 days: its coordinates, and the part of the page that draws it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.webhooks import charts
from daemon.web.dashboard.webhooks.charts import HEIGHT, MIN_HEIGHT
from eventstore.queries.route_metrics import Counts, RouteMetrics

NOW = datetime(2026, 11, 24, 18, 5, 12, tzinfo=UTC)
NOON = NOW.replace(hour=12, minute=0, second=0)
COUNT = st.integers(0, 3) | st.integers(0, 10**12)


def metrics(by_days_back: dict[int, Counts], *, pending: int = 0) -> RouteMetrics:
    hours = {NOON - timedelta(days=days): counts for days, counts in by_days_back.items()}
    return RouteMetrics(now=NOW, pending=pending, periods=hours)


def test_a_bar_for_each_of_thirty_days_today_at_the_end() -> None:
    chart = charts.of_route(metrics({0: Counts(successful=1)}))
    assert [bar.day for bar in chart.bars] == [
        datetime(2026, 10, 26, tzinfo=UTC) + timedelta(days=n) for n in range(30)
    ]
    assert [bar.total for bar in chart.bars] == [0] * 29 + [1]
    assert [(bar.label, place) for place, bar in enumerate(chart.bars) if bar.label] == [
        ("27 Oct", 1), ("3 Nov", 8), ("10 Nov", 15), ("17 Nov", 22), ("24 Nov", 29),
    ]  # fmt: skip


def test_all_hours_of_a_day_are_one_bar() -> None:
    hours = {NOON.replace(hour=hour): Counts(successful=hour, failed=1) for hour in (0, 7, 23)}
    chart = charts.of_route(RouteMetrics(now=NOW.replace(hour=23), pending=4, periods=hours))
    assert chart.bars[-1].counts == Counts(successful=30, failed=3)
    assert (chart.total, chart.pending) == (Counts(successful=30, failed=3), 4)


def test_the_parts_of_a_bar_lie_on_each_other_and_are_as_high_as_their_numbers() -> None:
    (bar,) = [
        bar
        for bar in charts.of_route(metrics({3: Counts(successful=50, failed=30, suppressed=12, expired=8)})).bars
        if bar.total
    ]
    assert [(part.kind, part.top, part.height) for part in bar.parts] == [
        ("successful", HEIGHT * 0.5, HEIGHT * 0.5),
        ("failed", HEIGHT * 0.2, HEIGHT * 0.3),
        ("not-sent", 0.0, HEIGHT * 0.2),
    ]


@given(st.dictionaries(st.integers(0, 29), st.builds(Counts, successful=COUNT, failed=COUNT, suppressed=COUNT)))
def test_any_numbers_are_drawn_inside_the_chart_and_visibly(days: dict[int, Counts]) -> None:
    for bar in charts.of_route(metrics(days)).bars:
        there = {
            kind
            for kind, count in (
                ("successful", bar.counts.successful),
                ("failed", bar.counts.failed),
                ("not-sent", bar.counts.suppressed),
            )
            if count
        }
        assert {part.kind for part in bar.parts} == there
        assert all(part.height >= MIN_HEIGHT for part in bar.parts)
        assert all(part.top >= -0.01 and part.top + part.height <= HEIGHT + 0.01 for part in bar.parts)
        assert bar.left >= 0
        assert bar.left + bar.width <= 100


def test_one_delivery_beside_a_million_is_still_seen() -> None:
    chart = charts.of_route(metrics({0: Counts(successful=1_000_000, failed=1), 1: Counts(failed=1)}))
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
    chart = charts.of_route(metrics({0: Counts(successful=most)}))
    assert [tick.text for tick in chart.ticks] == texts
    assert (chart.ticks[0].top, chart.ticks[-1].top) == (0, HEIGHT)


def test_nothing_at_all_is_known_to_be_nothing() -> None:
    assert charts.of_route(metrics({})).is_empty
    assert not charts.of_route(metrics({29: Counts(expired=1)})).is_empty


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        (Counts(), None),
        (Counts(suppressed=5), None),
        (Counts(successful=5, suppressed=5), "100 %"),
        (Counts(failed=5), "0 %"),
        (Counts(successful=1_000_000, failed=1), "99.9 %"),
        (Counts(successful=1, failed=1_000_000), "0.1 %"),
        (Counts(successful=2, failed=1), "66.7 %"),
    ],
)
def test_the_rate_is_of_what_was_sent_and_is_whole_only_if_all_of_it_was(counts: Counts, rate: str | None) -> None:
    assert charts.of_route(metrics({0: counts})).success_rate == rate
