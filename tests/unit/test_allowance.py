"""An allowance: the burst, the rate after it, and what waiting gives back."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.gcra import UNUSED, Allowance

THREE = Allowance(burst=3, per_second=0.5)


def through(allowance: Allowance, times: Sequence[float]) -> list[float]:
    """Which of these moments one was let through at."""
    paid_at, let = UNUSED, []
    for now in times:
        if allowance.wait(paid_at, now) == 0:
            paid_at = allowance.taken(paid_at, now)
            let.append(now)
    return let


def test_so_many_come_through_at_once_and_then_one_after_the_other() -> None:
    assert through(THREE, [0, 0, 0, 0, 1, 1.9, 2, 2, 3.9, 4]) == [0, 0, 0, 2, 4]


def test_how_long_to_wait_is_said_exactly() -> None:
    paid_at = UNUSED
    for _ in range(3):
        assert THREE.wait(paid_at, 100) == 0
        paid_at = THREE.taken(paid_at, 100)
    assert THREE.wait(paid_at, 100) == 2
    assert THREE.wait(paid_at, 101.5) == 0.5
    assert THREE.wait(paid_at, 102) == 0


def test_the_burst_comes_back_after_a_rest_and_grows_no_further() -> None:
    assert len(through(THREE, [0] * 5 + [1000] * 5)) == 6


@given(
    st.integers(1, 20),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 1000), max_size=100).map(sorted),
)
def test_no_span_of_time_lets_more_through_than_burst_and_rate(burst: int, rate: float, times: list[float]) -> None:
    let = through(Allowance(burst=burst, per_second=rate), times)
    for first, start in enumerate(let):
        for last, end in enumerate(let[first:], first):
            assert last - first + 1 <= burst + (end - start) * rate + 1e-6


@pytest.mark.parametrize(("burst", "rate"), [(0, 1), (1, 0), (1, -1), (1, math.inf), (1, math.nan)])
def test_an_allowance_that_never_lets_anything_through_cannot_be(burst: int, rate: float) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Allowance(burst=burst, per_second=rate)
