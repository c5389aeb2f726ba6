"""Rate limits by tenant, for requests that are expensive, or that would be valuable to an attacker.

Each process counts by itself, so several workers together allow as many times more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from aiohttp import web

from daemon.core.gcra import Allowance, Arrivals
from daemon.web.http.endpoints import RateLimit
from daemon.web.http.problems import Problem

ALLOWANCES: Mapping[RateLimit, Allowance] = {
    RateLimit.REVEAL: Allowance(burst=30, per_second=0.5),
    RateLimit.TEST: Allowance(burst=20, per_second=0.2),
    RateLimit.PREVIEW: Allowance(burst=60, per_second=5),
    RateLimit.REPLAY: Allowance(burst=30, per_second=0.5),
    RateLimit.SEARCH: Allowance(burst=60, per_second=0.5),
}

# The counts that are kept; beyond that, the one that was used longest ago is forgotten.
MAX_COUNTS = 10_000


class TenantLimits:
    """Counts requests. Times are monotonic seconds, given by the caller."""

    def __init__(self, allowances: Mapping[RateLimit, Allowance] = ALLOWANCES) -> None:
        self._allowances = allowances
        self._arrivals = Arrivals(max_keys=MAX_COUNTS)

    def take(self, limit: RateLimit, tenant: str, now: float) -> None:
        """Counts one request of a tenant. Raises Problem 429 if it is one too many, which is not counted."""
        seconds = self._arrivals.take(self._allowances[limit], (limit, tenant), now)
        if seconds:
            whole = math.ceil(seconds)
            raise Problem(
                429,
                f"too many of these for one tenant: try again in {whole} s",
                headers={"Retry-After": str(whole)},
                for_people=f"too many of these in a short time: try again in {whole} s",
            )


TENANT_LIMITS = web.AppKey("limits", TenantLimits)
