"""The circuit breaker, step by step and with random sequences."""

import math

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.delivery import breaker as breaker_module
from daemon.core.delivery.breaker import Breaker, BreakerState

MIDDLE = 0.5  # the roll without jitter


def opened(*, limit: int = 16, at: float = 100.0) -> Breaker:
    breaker = Breaker(failures_to_open=3, limit=limit)
    for _ in range(3):
        breaker.failed(at, roll=MIDDLE)
    return breaker


def test_it_opens_after_a_number_of_failures_in_a_row_and_returns_true_once() -> None:
    breaker = Breaker(failures_to_open=3, limit=16)
    assert [breaker.failed(1.0, roll=MIDDLE) for _ in range(2)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(1.0, roll=MIDDLE) for _ in range(4)] == [False, False, True, False]
    assert breaker.state is BreakerState.OPEN


def test_closed_its_capacity_is_the_limit_of_the_lane() -> None:
    assert Breaker(failures_to_open=1, limit=7).capacity(0.0) == 7


def test_open_its_capacity_is_zero_until_the_pause_is_over_and_then_one() -> None:
    breaker = opened(at=100.0)
    assert breaker.capacity(100.9) == 0
    assert math.isclose(breaker.wait(100.25), 0.75)
    assert breaker.capacity(101.0) == 1
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.wait(101.0) == 0.0


def test_probes_that_succeed_double_until_it_is_closed() -> None:
    breaker = opened(limit=16)
    capacities = []
    for _ in range(4):
        capacities.append(breaker.capacity(200.0))
        breaker.succeeded()
    assert capacities == [1, 2, 4, 8]
    assert breaker.is_closed
    assert breaker.capacity(200.0) == 16


def test_each_probe_that_fails_doubles_the_pause_up_to_half_a_minute() -> None:
    breaker, now, pauses = opened(at=0.0), 0.0, []
    for _ in range(8):
        pause = breaker.wait(now)
        pauses.append(pause)
        now += pause
        assert breaker.capacity(now) == 1
        assert breaker.failed(now, roll=MIDDLE)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_retry_that_fails_while_open_begins_the_pause_anew_and_one_that_succeeds_ends_it() -> None:
    breaker = opened(at=100.0)
    breaker.failed(100.8, roll=MIDDLE)
    assert math.isclose(breaker.wait(100.8), 1.0)
    breaker.succeeded()
    assert breaker.capacity(100.9) == 1


def test_reset_forgets_everything() -> None:
    breaker = opened()
    breaker.capacity(200.0)
    breaker.failed(200.0, roll=MIDDLE)
    breaker.reset()
    assert breaker.is_closed
    assert breaker.failures == 0
    for _ in range(3):
        breaker.failed(300.0, roll=MIDDLE)
    assert math.isclose(breaker.wait(300.0), 1.0), "the first pause again"


@given(roll=st.floats(0, 1, exclude_max=True))
def test_the_roll_moves_the_pause_by_a_tenth_at_most(roll: float) -> None:
    breaker = Breaker(failures_to_open=1, limit=1)
    breaker.failed(0.0, roll=roll)
    assert 0.9 - 1e-6 <= breaker.wait(0.0) <= 1.1 + 1e-6


@given(
    steps=st.lists(st.tuples(st.sampled_from(["success", "failure", "look"]), st.floats(0, 40)), max_size=80),
    limit=st.integers(1, 32),
)
def test_whatever_happens_it_is_never_shut_for_longer_than_the_longest_pause(
    steps: list[tuple[str, float]], limit: int
) -> None:
    breaker, now = Breaker(failures_to_open=2, limit=limit), 0.0
    for step, seconds in steps:
        now += seconds
        if step == "success":
            breaker.succeeded()
        elif step == "failure":
            breaker.failed(now, roll=MIDDLE)
        assert 0 <= breaker.capacity(now) <= limit
        assert breaker.wait(now) <= breaker_module.LONGEST_PAUSE_SECONDS + 1e-6, "up to rounding"
        assert breaker.capacity(now) > 0 or breaker.wait(now) > 0, "neither a probe nor a pause"
