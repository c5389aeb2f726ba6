"""A route's circuit breaker: after many failures in a row, requests probe the receiver less and less often.

    CLOSED     --`failures_to_open` failures in a row-->  OPEN
    OPEN       --the pause is over, or any success----->  HALF_OPEN, one probe at a time
    HALF_OPEN  --a success----------------------------->  HALF_OPEN, twice as many at once; CLOSED at the lane's limit
    HALF_OPEN  --a failure----------------------------->  OPEN, for twice as long

The breaker holds back first attempts only. Retries keep the schedule that the merchant was promised, and each is a
probe too: a retry that fails while the breaker is OPEN starts the pause again, so no other probe is sent meanwhile.
Times are monotonic seconds given by the caller; `roll` in [0, 1) spreads the probes of many routes.
"""

from __future__ import annotations

import math
from enum import StrEnum

# The first and the longest pause: a receiver that recovers gets its waiting deliveries within half a minute.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_JITTER = 0.1


class BreakerState(StrEnum):
    """The states of the diagram above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`failures_to_open` failures in a row open it; `limit` is the number of concurrent requests of a healthy lane."""

    __slots__ = (
        "_capacity",
        "_failures_to_open",
        "_first_pause",
        "_longest_pause",
        "_pause",
        "_until",
        "failures",
        "is_closed",
        "limit",
        "state",
    )

    def __init__(
        self,
        *,
        failures_to_open: int,
        limit: int,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._first_pause = self._pause = first_pause_seconds
        self._longest_pause = longest_pause_seconds
        self._until = -math.inf
        self.limit = limit
        self._capacity = limit
        self.failures = 0
        self._enter(BreakerState.CLOSED)

    def wait(self, now: float) -> float:
        """Seconds until first attempts may start again, 0 if they may."""
        return max(0.0, self._until - now) if self.state is BreakerState.OPEN else 0.0

    def capacity(self, now: float) -> int:
        """How many first attempts may be under way at once. The first call after the pause moves OPEN to HALF_OPEN."""
        if self.state is BreakerState.OPEN:
            if now < self._until:
                return 0
            self._probe()
        return self._capacity

    def succeeded(self) -> None:
        """Counts a request that succeeded."""
        self.failures = 0
        if self.is_closed:
            return
        if self.state is BreakerState.OPEN:
            self._probe()
        else:
            self._capacity *= 2
            if self._capacity >= self.limit:
                self.reset()

    def failed(self, now: float, *, roll: float) -> bool:
        """Counts a request that failed; True if that opened the breaker."""
        self.failures += 1
        if self.state is BreakerState.CLOSED and self.failures < self._failures_to_open:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._pause = min(self._pause * 2, self._longest_pause)
        opens = self.state is not BreakerState.OPEN
        self._enter(BreakerState.OPEN)
        self._until = now + self._spread(roll)
        return opens

    def reset(self) -> None:
        """Closes the breaker: the receiver has recovered, or the route has another target."""
        self._enter(BreakerState.CLOSED)
        self.failures = 0
        self._capacity = self.limit
        self._pause = self._first_pause

    def _probe(self) -> None:
        self._enter(BreakerState.HALF_OPEN)
        self._capacity = 1

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self.is_closed = state is BreakerState.CLOSED

    def _spread(self, roll: float) -> float:
        return self._pause * (1 + _JITTER * (2 * roll - 1))
