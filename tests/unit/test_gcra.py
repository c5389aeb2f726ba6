"""Both rate limits: an allowance with its burst and the rate after it, and the even spacing of a request rate."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.gcra import UNUSED, Allowance, RequestRate

THREE = Allowance(burst=3, per_second=0.5)


def admitted(allowance: Allowance, times: Sequence[float]) -> list[float]:
    """Those of these moments at which a request may start."""
    arrival, starts = UNUSED, []
    for now in times:
        if allowance.wait(arrival, now) == 0:
            arrival = allowance.next_arrival(arrival, now)
            starts.append(now)
    return starts


def test_a_burst_starts_at_once_and_then_one_request_after_the_other() -> None:
    assert admitted(THREE, [0, 0, 0, 0, 1, 1.9, 2, 2, 3.9, 4]) == [0, 0, 0, 2, 4]


def test_the_time_to_wait_is_exact() -> None:
    arrival = UNUSED
    for _ in range(3):
        assert THREE.wait(arrival, 100) == 0
        arrival = THREE.next_arrival(arrival, 100)
    assert THREE.wait(arrival, 100) == 2
    assert THREE.wait(arrival, 101.5) == 0.5
    assert THREE.wait(arrival, 102) == 0


def test_the_burst_comes_back_after_a_rest_and_grows_no_further() -> None:
    assert len(admitted(THREE, [0] * 5 + [1000] * 5)) == 6


@given(
    st.integers(1, 20),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 1000), max_size=100).map(sorted),
)
def test_no_span_of_time_has_more_requests_than_burst_and_rate(burst: int, rate: float, times: list[float]) -> None:
    starts = admitted(Allowance(burst=burst, per_second=rate), times)
    for first, start in enumerate(starts):
        for last, end in enumerate(starts[first:], first):
            assert last - first + 1 <= burst + (end - start) * rate + 1e-6


@pytest.mark.parametrize(("burst", "rate"), [(0, 1), (1, 0), (1, -1), (1, math.inf), (1, math.nan)])
def test_an_allowance_that_never_lets_anything_through_is_refused(burst: int, rate: float) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Allowance(burst=burst, per_second=rate)


def spaced(rate: float, *, late: list[float], seconds: float) -> list[float]:
    """The starts of requests that wait all the time, each this much later than it might be."""
    request_rate, now, starts = RequestRate(rate), 50.0, []
    for lateness in late:
        now += request_rate.wait(now) + lateness
        if now > 50.0 + seconds:
            break
        request_rate.start(now)
        starts.append(now)
    return starts


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_not_positive_and_finite_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        RequestRate(rate)


def test_requests_are_evenly_spaced() -> None:
    starts = spaced(4, late=[0.0] * 100, seconds=3)
    assert [round(at - 50, 6) for at in starts] == [n / 4 for n in range(13)]


@given(rate=st.floats(0.5, 2000), late=st.lists(st.floats(0, 0.2), min_size=50, max_size=300))
def test_no_second_sees_more_than_a_fifth_above_the_rate(rate: float, late: list[float]) -> None:
    starts = spaced(rate, late=late, seconds=math.inf)
    for first, begin in enumerate(starts):
        within = sum(1 for at in starts[first:] if at < begin + 1 - 1e-9)
        assert within <= max(1, math.ceil(rate - 1e-6) if rate < 20 else rate * 1.2)


def test_timers_that_fire_two_milliseconds_late_do_not_slow_a_fast_lane() -> None:
    starts = spaced(200, late=[0.002] * 4000, seconds=5)
    assert len(starts) >= 990


def test_a_start_that_led_to_no_request_is_taken_back() -> None:
    request_rate = RequestRate(1)
    request_rate.start(10.0)
    request_rate.cancel_start()
    assert request_rate.wait(10.0) == 0.0
    request_rate.start(10.0)
    assert math.isclose(request_rate.wait(10.0), 1.0)
