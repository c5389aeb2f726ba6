"""Requests by class of answer and by duration."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.delivery.request_cells import BOUNDS_MS, RequestCounts, cell_of


def counted(*requests: tuple[int | None, int]) -> RequestCounts:
    return RequestCounts.summed({cell_of(*request): 1} for request in requests)


def test_requests_are_counted_by_class() -> None:
    found = counted((200, 5), (204, 9), (404, 5), (500, 5), (503, 900), (None, 15_000))
    assert found.by_class == {2: 2, 4: 1, 5: 2, 0: 1}
    assert (found.total, found.successful, found.failed, found.unanswered) == (6, 2, 4, 1)


def test_without_requests_there_is_no_percentile() -> None:
    assert RequestCounts().percentile_ms(0.5) is None
    assert RequestCounts().total == 0


@given(
    durations=st.lists(st.integers(min_value=1, max_value=60_000), min_size=1, max_size=200),
    share=st.sampled_from([0.5, 0.95]),
)
def test_a_percentile_lies_in_the_same_bounds_as_the_request_it_is_of(durations: list[int], share: float) -> None:
    found = counted(*((200, each) for each in durations)).percentile_ms(share)
    exact = sorted(durations)[max(0, -(-int(share * 1000) * len(durations) // 1000) - 1)]
    assert found is not None
    assert found == pytest.approx(exact, rel=0.5, abs=1)


def test_bounds_grow_by_about_the_same_factor() -> None:
    assert all(1.2 < two / one <= 2 for one, two in itertools.pairwise(BOUNDS_MS))


def test_what_takes_longer_than_the_last_bound_counts_as_it() -> None:
    assert counted((200, 10_000_000)).percentile_ms(0.95) == BOUNDS_MS[-1]
