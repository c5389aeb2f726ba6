"""Rate limits by GCRA, the generic cell rate algorithm (ITU-T I.371).

The state of a limit is one moment in monotonic seconds, its theoretical arrival time. Every request moves that moment
later by 1/rate; a request that comes too early waits until its time. The two limits differ in what they tolerate:

- `RequestRate` spaces the requests of one route evenly, without bursts. It keeps its own state. Timers that fire late
  would cost throughput, so lateness up to CREDIT_SECONDS is made up for, if 1/rate is no more than that. Then no second
  sees more than rate x 1.05 requests. A slower rate gets no credit, since one request more would be a fifth more.
- `Allowance` permits a burst and limits the rate in the long run. It is a constant that many callers share, so each
  caller keeps the state, beginning with UNUSED. `Arrivals` keeps it for many keys, such as tenants.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

CREDIT_SECONDS = 0.05

# The theoretical arrival time of a limit from which nothing was taken yet.
UNUSED = -math.inf


class RequestRate:
    """`rate` is in requests per second, above 0; times are monotonic seconds given by the caller."""

    __slots__ = ("_arrival", "_credit", "_interval", "rate")

    def __init__(self, rate: float) -> None:
        if not 0 < rate < math.inf:
            raise ValueError("a rate is above 0 and finite")
        self.rate = rate
        self._interval = 1 / rate
        self._credit = CREDIT_SECONDS if self._interval <= CREDIT_SECONDS else 0.0
        self._arrival = UNUSED

    def wait(self, now: float) -> float:
        """Seconds until the next request may start, 0 if it may start now."""
        return max(0.0, self._arrival - now)

    def start(self, now: float) -> None:
        """Counts a request that starts now."""
        self._arrival = max(self._arrival, now - self._credit) + self._interval

    def is_rested(self, now: float) -> bool:
        """True if it behaves as a new one would: what was started before matters no more."""
        return self._arrival <= now - self._credit

    def cancel_start(self) -> None:
        """Takes back a start that led to no request."""
        self._arrival -= self._interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """`burst` requests at once, `per_second` in the long run. `arrival` is the theoretical arrival time, see above."""

    burst: int
    per_second: float

    def __post_init__(self) -> None:
        if self.burst < 1 or not 0 < self.per_second < math.inf:
            raise ValueError("an allowance lets at least one through, at a rate above 0")

    def wait(self, arrival: float, now: float) -> float:
        """Seconds until another request may start, 0 if it may start now."""
        return max(0.0, arrival - now - (self.burst - 1) / self.per_second)

    def next_arrival(self, arrival: float, now: float) -> float:
        """The theoretical arrival time after one more request, which starts now."""
        return max(arrival, now) + 1 / self.per_second


class Arrivals:
    """The state of allowances by key. Beyond `max_keys` keys the least recently used one is forgotten."""

    __slots__ = ("_arrivals", "_max_keys")

    def __init__(self, *, max_keys: int) -> None:
        self._max_keys = max_keys
        self._arrivals: dict[Hashable, float] = {}

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._arrivals)

    def take(self, allowance: Allowance, key: Hashable, now: float) -> float:
        """Counts a request that starts now. Seconds to wait if it is one too many, which is not counted; else 0."""
        arrival = self._arrivals.pop(key, UNUSED)
        seconds = allowance.wait(arrival, now)
        self._arrivals[key] = arrival if seconds else allowance.next_arrival(arrival, now)
        if len(self._arrivals) > self._max_keys:
            del self._arrivals[next(iter(self._arrivals))]
        return seconds
