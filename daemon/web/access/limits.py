"""What a tenant may have only so often: each of these costs much, or is worth much to whoever should not have it.

Counted by tenant in each process, so that several workers together let through as many times more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from aiohttp import web

from daemon.core.gcra import UNUSED, Allowance
from daemon.web.http.endpoints import RateLimit
from daemon.web.http.problems import Problem

ALLOWANCES: Mapping[RateLimit, Allowance] = {
    RateLimit.REVEAL: Allowance(burst=30, per_second=0.5),
    RateLimit.TEST: Allowance(burst=20, per_second=0.2),
    RateLimit.PREVIEW: Allowance(burst=60, per_second=5),
    RateLimit.REPLAY: Allowance(burst=30, per_second=0.5),
    RateLimit.SEARCH: Allowance(burst=60, per_second=0.5),
}

# Of whoever asked longest ago is forgotten that he asked.
MAX_TENANTS = 10_000


class TenantLimits:
    """`take` counts. Times are monotonic seconds given by the caller."""

    def __init__(self, allowances: Mapping[RateLimit, Allowance] = ALLOWANCES) -> None:
        self._allowances = allowances
        self._paid_at: dict[tuple[RateLimit, str], float] = {}

    def take(self, limit: RateLimit, tenant: str, now: float) -> None:
        """Counts one more of these for a tenant. Raises Problem if it is one too many, and counts nothing then."""
        allowance = self._allowances[limit]
        paid_at = self._paid_at.pop((limit, tenant), UNUSED)
        seconds = allowance.wait(paid_at, now)
        self._paid_at[limit, tenant] = paid_at if seconds else allowance.taken(paid_at, now)
        if len(self._paid_at) > MAX_TENANTS:
            del self._paid_at[next(iter(self._paid_at))]
        if seconds:
            whole = math.ceil(seconds)
            raise Problem(
                429, f"too many of these for one tenant: try again in {whole} s", headers={"Retry-After": str(whole)}
            )


TENANT_LIMITS = web.AppKey("limits", TenantLimits)
