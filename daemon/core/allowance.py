"""So many of something at once, and then one each so many seconds: the virtual schedule of GCRA (ITU-T I.371).

All that is kept of whoever asks is one number, the moment at which everything taken so far is paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
