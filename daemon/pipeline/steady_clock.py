"""Steady time in this process: what the database's clock would show now if it had not stepped since it was last read.

It goes on by the monotonic clock, and follows the database's while that runs as fast. Due times are set by it, and no
retry is taken up that is not due by it, so a step does no harm in the moment before it is noticed either. The one thing
to know: before the first reading there is no steady time here (None), and the database's is used as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.progress.steady_time import ClockReading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchor:
    """`steady` was the time at the earliest at `asked_at`, and at the latest `doubt` later, in monotonic seconds."""

    steady: datetime
    asked_at: float
    doubt: timedelta
    ahead_microseconds: int


class SteadyClock:
    """`monotonic` returns seconds."""

    def __init__(self, tunables: Tunables = DEFAULTS, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tolerated = timedelta(seconds=tunables.clock_step_seconds)
        self._monotonic = monotonic
        self._anchor: _Anchor | None = None

    def now(self) -> datetime | None:
        """The time, never too early: by as much too late as the last reading took."""
        return None if self._anchor is None else _at(self._anchor, self._monotonic())

    def latest(self) -> datetime | None:
        """What the database can show at the latest, unless its clock stepped forward."""
        now = self.now()
        return None if now is None else now + self._tolerated

    def observe(self, reading: ClockReading, *, asked_at: float, answered_at: float) -> timedelta | None:
        """Compares a reading of the database's clock. Returns the step that it made, None if it made none.

        A step is not followed: steady time goes on as before, and is to be corrected in the database. What another
        process has corrected there is followed.
        """
        anchor = self._anchor
        if anchor is not None and anchor.ahead_microseconds == reading.ahead_microseconds:
            if reading.steady < _at(anchor, asked_at) - anchor.doubt - self._tolerated:
                return reading.steady - _at(anchor, asked_at)
            if reading.steady > _at(anchor, answered_at) + self._tolerated:
                return reading.steady - _at(anchor, answered_at)
            if timedelta(seconds=answered_at - asked_at) > self._tolerated:
                return None  # too slow an answer to set a clock by
        self.follow(reading, asked_at=asked_at, answered_at=answered_at)
        return None

    def follow(self, reading: ClockReading, *, asked_at: float, answered_at: float) -> None:
        """Goes on from this reading."""
        self._anchor = _Anchor(
            steady=reading.steady,
            asked_at=asked_at,
            doubt=timedelta(seconds=answered_at - asked_at),
            ahead_microseconds=reading.ahead_microseconds,
        )

    def corrected(self, ahead_microseconds: int) -> None:
        """Steady time is so far ahead of the database's clock from now on; it goes on here as before."""
        if self._anchor is not None:
            self._anchor = replace(self._anchor, ahead_microseconds=ahead_microseconds)


def _at(anchor: _Anchor, monotonic: float) -> datetime:
    return anchor.steady + timedelta(seconds=monotonic - anchor.asked_at)
