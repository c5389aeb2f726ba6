"""Watches the database's clock: notices its steps, has steady time corrected for them, and measures our clock's skew.

The database's clock decides about the time of events, which has a floor (rule 1 of routing), about due times, which are
kept in steady time (eventstore/progress/steady_time.py), and about leases. A step is told, since the second does not
help who reads times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database
from eventstore.progress import steady_time
from eventstore.progress.steady_time import ClockReading, TimedReading

log = structlog.get_logger()

# How long a step is told on the status page.
TOLD_SECONDS = 3600.0
# How long ago a poll may have read the clock, and how long it may have taken.
FRESH_SECONDS = 0.35
PROMPT_SECONDS = 0.05
# A reading that comes after this part of the interval between looks is looked at. An idle daemon has one every 0.75 s.
LEAST_PART = 0.5


class ClockWatch:
    """`run_once` looks, then waits, less if it is `told` that somebody has read the clock. `latest` is what was read
    lately, so that nobody has to ask for it. `on_step` is called after each step. `monotonic` returns seconds,
    `wall_clock` this machine's time, in UTC.
    """

    def __init__(
        self,
        database: Database,
        clock: SteadyClock,
        metrics: Metrics,
        *,
        owner: str,
        tunables: Tunables = DEFAULTS,
        latest: Callable[[], TimedReading | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._owner = owner
        self._look_seconds = tunables.clock_look_seconds
        self._skew_told_seconds = tunables.clock_step_seconds
        self._latest = latest
        self.on_step: Callable[[], None] = lambda: None
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._wakeup = Wakeup()
        self._looked_at = -math.inf
        self._is_skewed = False
        self._step_seconds = 0.0
        self._stepped_at = 0.0
        self.skew_seconds = 0.0

    @property
    def step_seconds(self) -> float:
        """The last step of the database's clock within the last hour, negative if it went back; 0 if there was none."""
        return self._step_seconds if self._monotonic() - self._stepped_at < TOLD_SECONDS else 0.0

    def told(self) -> None:
        """Somebody has read the clock."""
        if self._monotonic() >= self._looked_at + LEAST_PART * self._look_seconds:
            self._wakeup.set()

    async def run_once(self) -> None:
        self._wakeup.clear()
        timed = self._of_a_poll() or await self._read()
        self._compare(timed)
        step = self._clock.observe(timed.reading, asked_at=timed.asked_at, answered_at=timed.answered_at)
        if step is not None:
            await self._stepped(step, timed.reading)
        self._looked_at = self._monotonic()
        await self._wakeup.wait(self._look_seconds)

    def _of_a_poll(self) -> TimedReading | None:
        """What the last poll read, unless that is too long ago or took too long to set a clock by."""
        timed = self._latest()
        if timed is None or timed.answered_at - timed.asked_at > PROMPT_SECONDS:
            return None
        return None if self._monotonic() - timed.answered_at > FRESH_SECONDS else timed

    async def _read(self) -> TimedReading:
        asked_at = self._monotonic()
        reading = await steady_time.read(self._database)
        return TimedReading(reading=reading, asked_at=asked_at, answered_at=self._monotonic())

    async def _stepped(self, step: timedelta, reading: ClockReading) -> None:
        ahead = reading.ahead_microseconds - step // timedelta(microseconds=1)
        corrected = await steady_time.correct(
            self._database, self._owner, read=reading.ahead_microseconds, microseconds=ahead
        )
        if corrected:
            self._clock.corrected(ahead)
        else:
            # Another process was faster, or this one has no shards and so no say.
            timed = await self._read()
            self._clock.follow(timed.reading, asked_at=timed.asked_at, answered_at=timed.answered_at)
        self._step_seconds, self._stepped_at = step.total_seconds(), self._monotonic()
        self._metrics.clock_steps.inc()
        log.warning("clock.stepped", seconds=round(step.total_seconds(), 3), corrected=corrected)
        self.on_step()

    def _compare(self, timed: TimedReading) -> None:
        half_way = timedelta(seconds=(timed.answered_at - timed.asked_at) / 2)
        since = timedelta(seconds=self._monotonic() - timed.answered_at)
        self.skew_seconds = (self._wall_clock() - since - half_way - timed.reading.at).total_seconds()
        if self._metrics.sets_shared_gauges:
            self._metrics.clock_skew.set(self.skew_seconds)
        is_skewed = abs(self.skew_seconds) > self._skew_told_seconds + half_way.total_seconds()
        if is_skewed != self._is_skewed:
            self._is_skewed = is_skewed
            if is_skewed:
                log.warning("clock.skewed", seconds=round(self.skew_seconds, 3))
            else:
                log.info("clock.agreed", seconds=round(self.skew_seconds, 3))
