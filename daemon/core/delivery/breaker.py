"""A route's circuit breaker: after so many failures in a row it asks less and less often whether the receiver is back.

    CLOSED     --`failures_to_open` failures in a row-->  OPEN
    OPEN       --the pause is over, or any success----->  HALF_OPEN, one probe at a time
    HALF_OPEN  --a success----------------------------->  HALF_OPEN, twice as many at once; CLOSED at the lane's limit
    HALF_OPEN  --a failure----------------------------->  OPEN, for twice as long

It rules first attempts alone. Retries keep their schedule, since a merchant was promised one (contract.md §5), and are
probes by nature: a failure while OPEN begins the pause anew, so nothing more is spent on asking while retries ask.
Times are monotonic seconds given by the caller; `roll` in [0, 1) spreads the probes of many routes.
"""

from __future__ import annotations

import math
from enum import StrEnum

# The first pause, and the longest: a receiver that is back gets what waited within half a minute.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
_JITTER = 0.1


class BreakerState(StrEnum):
    """See the head of this file."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`failures_to_open` in a row open it; `limit` is what a healthy lane may have under way."""

    __slots__ = ("_failures_to_open", "_pause", "_until", "allowance", "failures", "limit", "state")

    def __init__(self, *, failures_to_open: int, limit: int) -> None:
        self._failures_to_open = failures_to_open
        self._pause = FIRST_PAUSE_SECONDS
        self._until = -math.inf
        self.limit = limit
        self.allowance = limit
        self.failures = 0
        self.state = BreakerState.CLOSED

    @property
    def is_closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def wait(self, now: float) -> float:
        """Seconds until first attempts may start again, 0 if they may."""
        return max(0.0, self._until - now) if self.state is BreakerState.OPEN else 0.0

    def room(self, now: float) -> int:
        """How many first attempts may be under way at once. Asking after the pause begins to probe."""
        if self.state is BreakerState.OPEN:
            if now < self._until:
                return 0
            self._probe()
        return self.allowance

    def succeeded(self) -> None:
        """Notes that the receiver took a delivery."""
        self.failures = 0
        match self.state:
            case BreakerState.CLOSED:
                pass
            case BreakerState.OPEN:
                self._probe()
            case BreakerState.HALF_OPEN:
                self.allowance *= 2
                if self.allowance >= self.limit:
                    self.reset()

    def failed(self, now: float, *, roll: float) -> bool:
        """Notes that the receiver failed; True if that opened the breaker."""
        self.failures += 1
        if self.state is BreakerState.CLOSED and self.failures < self._failures_to_open:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        opens = self.state is not BreakerState.OPEN
        self.state = BreakerState.OPEN
        self._until = now + self._spread(roll)
        return opens

    def reset(self) -> None:
        """Closes it: the receiver is well, or another one."""
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.allowance = self.limit
        self._pause = FIRST_PAUSE_SECONDS

    def _probe(self) -> None:
        self.state = BreakerState.HALF_OPEN
        self.allowance = 1

    def _spread(self, roll: float) -> float:
        return self._pause * (1 + _JITTER * (2 * roll - 1))
