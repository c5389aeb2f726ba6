"""Spacing of requests: never above the rate, and not far below it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.gcra import RequestRate


def starts(rate: float, *, late: list[float], seconds: float) -> list[float]:
    """When requests start that are wanted all the time, each so much later than it might."""
    pace, now, found = RequestRate(rate), 50.0, []
    for lateness in late:
        now += pace.wait(now) + lateness
        if now > 50.0 + seconds:
            break
        pace.start(now)
        found.append(now)
    return found


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        RequestRate(rate)


def test_requests_are_evenly_spaced() -> None:
    found = starts(4, late=[0.0] * 100, seconds=3)
    assert [round(at - 50, 6) for at in found] == [n / 4 for n in range(13)]


@given(rate=st.floats(0.5, 2000), late=st.lists(st.floats(0, 0.2), min_size=50, max_size=300))
def test_no_second_sees_more_than_a_fifth_above_the_rate(rate: float, late: list[float]) -> None:
    found = starts(rate, late=late, seconds=math.inf)
    for first, begin in enumerate(found):
        within = sum(1 for at in found[first:] if at < begin + 1 - 1e-9)
        assert within <= max(1, math.ceil(rate - 1e-6) if rate < 20 else rate * 1.2)


def test_timers_that_ring_two_milliseconds_late_do_not_slow_a_fast_lane() -> None:
    found = starts(200, late=[0.002] * 4000, seconds=5)
    assert len(found) >= 990


def test_what_came_to_no_request_is_given_back() -> None:
    pace = RequestRate(1)
    pace.start(10.0)
    pace.return_to_table()
    assert pace.wait(10.0) == 0.0
    pace.start(10.0)
    assert math.isclose(pace.wait(10.0), 1.0)
