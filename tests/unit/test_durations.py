"""Durations, as they are written and as they are read."""

from __future__ import annotations

import pytest

from daemon.core import durations


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0444, "44 ms"), (1.25, "1.2 s"), (59.94, "59.9 s"), (60, "1 min"), (7261, "2 h 1 min")],
)
def test_an_age_is_exact_below_a_minute_and_rough_above(seconds: float, text: str) -> None:
    assert durations.age(seconds) == text
