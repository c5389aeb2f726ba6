"""Places for requests: two pools, so that slow receivers do not hold every connection.

A prompt lane starts in the fast pool, which has `concurrency` places. A lane whose requests take long starts in the
slow pool. A request in the fast pool that turns out to be slow gives up its place after a second, whatever the receiver
does, and takes none from those that are slow and answer. There are workers for twice `concurrency`: requests without a
place have the others. A tenant has three quarters of the workers that the others leave at most: a thousand receivers
that hang would have all of them in two seconds, and hold up everybody until their requests time out.

Tenants take turns at the places, and so do the lanes of one tenant. Else a tenant with a thousand busy routes would
have a thousand turns for one of another: with receivers that take 0.8 s, the others waited for 10 s.

A receiver that has not answered lately may never do so. When many requests are in flight, the lane of such a receiver
has only one of them until it answers. Otherwise two hundred names that never resolve would hold every place for a
second, and thirty receivers that begin to hang at once, as when their provider fails, every worker until their requests
time out: each had sixteen of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from daemon.pipeline.scheduling.lane import Lane

# Places of the slow pool, as a part of `concurrency`.
SLOW_PART = 0.25
# The part of `concurrency` that may be in flight before a lane that does not answer is limited to one request.
TRIAL_PART = 0.125
# The part of the workers that the others leave that one tenant may have. More than both pools have places, so that a
# tenant that is alone has all of these.
TENANT_PART = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimits:
    """How much at once: requests over all lanes, and in one; failures in a row that open a lane's breaker."""

    concurrency: int
    route_concurrency: int
    breaker_failures: int = 20

    @property
    def slow_places(self) -> int:
        """Requests that lanes known to be slow may have in flight."""
        return max(1, int(self.concurrency * SLOW_PART))

    @property
    def trial_places(self) -> int:
        """Requests in flight from which on a lane that does not answer may have only one."""
        return max(self.route_concurrency, int(self.concurrency * TRIAL_PART))

    @property
    def many_slow(self) -> int:
        """Slow requests to one host with which it may hang: more than one lane has."""
        return 2 * self.route_concurrency

    @property
    def probes(self) -> int:
        """Requests at a time to a host that hangs, of those that are not slow yet. Each is slow after a second, so they
        are half of `concurrency` until the first of them times out: fewer than the workers that the pools leave.
        """
        return max(1, self.concurrency // 32)

    @property
    def workers(self) -> int:
        """Workers: half of them may be waiting for slow receivers."""
        return self.concurrency * 2


class Pool:
    """Places for requests, and the lanes that are ready to take one. `turns` are the tenants of these lanes, in the
    order of their turns, but for those in `withheld`.
    """

    __slots__ = ("_ready", "in_flight", "places", "turns", "withheld")

    def __init__(self, places: int) -> None:
        self.places = places
        self.in_flight = 0
        self.turns: deque[str] = deque()
        self.withheld: list[str] = []
        self._ready: dict[str, deque[Lane]] = {}

    def line_up(self, lane: Lane) -> None:
        """Puts a lane behind the others of its tenant."""
        lanes = self._ready.get(lane.tenant)
        if lanes is None:
            lanes = self._ready[lane.tenant] = deque()
            self.turns.append(lane.tenant)
        lanes.append(lane)

    def next_lane(self) -> Lane:
        """The lane whose turn it is. Its tenant has its next turn after all others."""
        tenant = self.turns.popleft()
        lanes = self._ready[tenant]
        lane = lanes.popleft()
        if lanes:
            self.turns.append(tenant)
        else:
            del self._ready[tenant]
        return lane

    def withhold(self) -> None:
        """Passes over the tenant whose turn it is until `release`."""
        self.withheld.append(self.turns.popleft())

    def release(self) -> None:
        """Gives those who were passed over their turns again."""
        self.turns.extend(self.withheld)
        self.withheld.clear()
