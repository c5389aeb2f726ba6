"""Steady time goes on by the monotonic clock, and tells a step of the database's clock from a slow answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daemon.pipeline.steady_clock import SteadyClock
from eventstore.progress.steady_time import ClockReading

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class Both:
    """The database's clock, which shows `shift` more than the monotonic clock, and the steady clock that reads it."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.shift = timedelta()
        self.ahead = 0
        self.clock = SteadyClock(monotonic=lambda: self.monotonic)

    def read(self, *, there: float = 0.0, back: float = 0.0) -> timedelta | None:
        asked_at = self.monotonic
        self.monotonic += there
        reading = ClockReading(at=self.wall + self.shift, ahead_microseconds=self.ahead)
        self.monotonic += back
        return self.clock.observe(reading, asked_at=asked_at, answered_at=self.monotonic)

    @property
    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic - 1000.0)


def test_before_the_first_reading_there_is_no_time() -> None:
    assert Both().clock.now() is None
    assert Both().clock.latest() is None


def test_it_goes_on_between_two_readings_and_is_never_too_early() -> None:
    both = Both()
    assert both.read(there=0.3, back=0.1) is None
    both.monotonic += 60
    assert both.clock.now() == both.wall + timedelta(seconds=0.3)
    assert both.clock.latest() == both.wall + timedelta(seconds=1.3)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 2 * SECOND, -2 * SECOND])
def test_a_step_is_told_and_not_followed_until_it_is_corrected(step: timedelta) -> None:
    both = Both()
    both.read()
    both.shift = step
    both.monotonic += 1
    assert both.read() == step
    assert both.read() == step
    assert both.clock.now() == both.wall
    both.ahead = -(step // timedelta(microseconds=1))
    both.clock.corrected(both.ahead)
    assert both.read() is None
    assert both.clock.now() == both.wall


@pytest.mark.parametrize("drift", [SECOND / 2, -SECOND / 2])
def test_a_clock_that_runs_slow_or_fast_is_followed(drift: timedelta) -> None:
    both = Both()
    both.read()
    for _ in range(100):
        both.shift += drift
        both.monotonic += 1
        assert both.read() is None
    assert both.clock.now() == both.wall + both.shift


@pytest.mark.parametrize(("there", "back"), [(30.0, 0.0), (0.0, 30.0), (15.0, 15.0)])
def test_a_slow_answer_is_no_step_and_sets_no_clock(there: float, back: float) -> None:
    both = Both()
    both.read()
    assert both.read(there=there, back=back) is None
    assert both.clock.now() == both.wall


def test_what_another_process_corrected_is_followed() -> None:
    both = Both()
    both.read()
    both.shift, both.ahead = -HOUR, 3_600_000_000
    both.monotonic += 1
    assert both.read() is None
    assert both.clock.now() == both.wall
