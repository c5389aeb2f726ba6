"""A route's rate limit: requests evenly spaced, with a little credit for timers that ring late.

The virtual schedule of GCRA (ITU-T I.371): each start moves the next one by 1/rate. Where that is less than
CREDIT_SECONDS, lateness up to it is made up for, so that no second sees more than rate x 1.05 requests; a slower rate
knows no credit, since one request more would be a fifth more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CREDIT_SECONDS = 0.05


class RequestRate:
    """`rate` is in requests per second, above 0; times are monotonic seconds given by the caller."""

    __slots__ = ("_credit", "_interval", "_next", "rate")

    def __init__(self, rate: float) -> None:
        if not 0 < rate < math.inf:
            raise ValueError("a rate is above 0 and finite")
        self.rate = rate
        self._interval = 1 / rate
        self._credit = CREDIT_SECONDS if self._interval <= CREDIT_SECONDS else 0.0
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until the next request may start, 0 if it may now."""
        return max(0.0, self._next - now)

    def start(self, now: float) -> None:
        """Notes that a request starts."""
        self._next = max(self._next, now - self._credit) + self._interval

    def return_to_table(self) -> None:
        """Takes back a start that came to no request."""
        self._next -= self._interval


# So many of something at once, and then one each so many seconds: the virtual schedule of GCRA (ITU-T I.371).
#
# All that is kept of whoever asks is one number, the moment at which everything taken so far is paid for.
#

UNUSED = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """`burst` at once, `per_second` in the long run."""

    burst: int
    per_second: float

    def __post_init__(self) -> None:
        if self.burst < 1 or not 0 < self.per_second < math.inf:
            raise ValueError("an allowance lets at least one through, at a rate above 0")

    def wait(self, paid_at: float, now: float) -> float:
        """Seconds until another may be taken, 0 if it may now."""
        return max(0.0, paid_at - now - (self.burst - 1) / self.per_second)

    def taken(self, paid_at: float, now: float) -> float:
        """When everything is paid for, after one more was taken."""
        return max(paid_at, now) + 1 / self.per_second
