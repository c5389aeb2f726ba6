"""When a failed delivery is tried again: exponential, capped, jittered, and no sooner than the receiver asked for.

With the defaults: 60 s, doubling to a cap of 600 s, 60 attempts in all, which spans 9 h 25 min.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# A receiver may ask for more patience than the schedule has, but not for a year (contract.md §5).
RETRY_AFTER_CAP_FACTOR = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts` counts all requests, the first included; `jitter` is a fraction of the delay, either way."""

    first: timedelta = timedelta(seconds=60)
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=600)
    attempts: int = 60
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.first <= timedelta(0) or self.cap < self.first:
            raise ValueError("the first delay must be positive and not above the cap")
        if not 1 <= self.factor < math.inf or self.attempts < 1 or not 0 <= self.jitter < 1:
            raise ValueError("factor (finite) and attempts are at least 1, jitter lies in [0, 1)")


def delay(policy: RetryPolicy, *, failures: int, roll: float, asked: timedelta | None = None) -> timedelta | None:
    """How long to wait after `failures` failed requests; None if that was the last one.

    `roll` in [0, 1) places the jitter. `asked` is the receiver's Retry-After: a lower bound, up to the cap times six.
    """
    if failures >= policy.attempts:
        return None
    try:
        plain = min(policy.first.total_seconds() * policy.factor ** (failures - 1), policy.cap.total_seconds())
    except OverflowError:  # 2.0 ** 1100; a growth that overflows has passed the cap long ago
        plain = policy.cap.total_seconds()
    seconds = plain * (1 + policy.jitter * (2 * roll - 1))
    if asked is not None:
        seconds = max(seconds, min(asked, policy.cap * RETRY_AFTER_CAP_FACTOR).total_seconds())
    return timedelta(seconds=seconds)


def retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """The wait that a Retry-After header asks for, as seconds or a date (RFC 9110, 10.2.3); None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        # Nine digits are thirty years: more only serves to overflow.
        return timedelta(seconds=int(digits)) if len(digits) <= 9 else timedelta(days=36500)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter: an offset or a year of ten digits
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at - now if at > now else None
