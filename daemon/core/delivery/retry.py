"""When a failed delivery is tried again: exponential backoff, capped, with jitter, and not before Retry-After.

With the defaults: 60 s, doubling to a cap of 600 s, 60 attempts in all, which spans 9 h 25 min.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# A Retry-After may exceed the schedule's longest delay, but only so many times: a receiver must not ask for a year.
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


def delay(policy: RetryPolicy, *, failures: int, roll: float, at_least: timedelta | None = None) -> timedelta | None:
    """How long to wait after `failures` failed requests; None if that was the last one.

    `roll` in [0, 1) places the jitter. `at_least` is the receiver's Retry-After: a lower bound, limited to the cap
    times RETRY_AFTER_CAP_FACTOR.
    """
    if failures >= policy.attempts:
        return None
    try:
        plain = min(policy.first.total_seconds() * policy.factor ** (failures - 1), policy.cap.total_seconds())
    except OverflowError:  # such as 2.0 ** 1100, which is far above the cap
        plain = policy.cap.total_seconds()
    seconds = plain * (1 + policy.jitter * (2 * roll - 1))
    if at_least is not None:
        seconds = max(seconds, min(at_least, policy.cap * RETRY_AFTER_CAP_FACTOR).total_seconds())
    return timedelta(seconds=seconds)


def retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """The wait of a Retry-After header in seconds or as a date (RFC 9110, 10.2.3); None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0") or "0"
        # Nine digits are thirty years; a longer number would only overflow.
        return timedelta(seconds=int(digits)) if len(digits) <= 9 else timedelta(days=36500)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # OverflowError: an offset or a year of ten digits
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at - now if at > now else None
