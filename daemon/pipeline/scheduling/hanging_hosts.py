"""Hosts that hang. When a provider fails, the receivers of very many tenants hang at once.

A lane is found slow once its first request has hung for a second. A thousand lanes of one host would have every worker
by then, two seconds after the provider failed, until their requests time out. So a host is found out too: it *hangs*
when many requests to it are slow, and none of these has succeeded lately. Then its lanes start a few requests at a
time, as probes, and wait here for their turns. A success ends it.

Hosts are names, with the port, as targets have them.
"""

from __future__ import annotations

import math
from collections import deque

from daemon.pipeline.scheduling.lane import Lane

# A host of which no slow request has succeeded for so long may hang.
QUIET_SECONDS = 2.0


class _SlowRequests:
    """Those to one host that are under way. `succeeded_at` is when one of them last succeeded."""

    __slots__ = ("count", "succeeded_at")

    def __init__(self) -> None:
        self.count = 0
        self.succeeded_at = -math.inf


class HangingHosts:
    """A host may hang if `many` requests to it are slow. `held` has the hosts that hang, with the lanes that wait for
    it to end, the longest first. Times are monotonic seconds.
    """

    def __init__(self, many: int) -> None:
        self._many = many
        self._slow: dict[str, _SlowRequests] = {}
        self.held: dict[str, deque[Lane]] = {}

    def slow_began(self, host: str, now: float) -> None:
        """Notes that a request to a host takes long."""
        slow = self._slow.get(host)
        if slow is None:
            slow = self._slow[host] = _SlowRequests()
        slow.count += 1
        if slow.count >= self._many and slow.succeeded_at < now - QUIET_SECONDS and host not in self.held:
            self.held[host] = deque()

    def slow_ended(self, host: str, now: float, *, has_succeeded: bool) -> None:
        """Notes that such a request has ended."""
        slow = self._slow[host]
        slow.count -= 1
        if has_succeeded:
            slow.succeeded_at = now
        if not slow.count:
            del self._slow[host]

    def hold(self, lane: Lane) -> None:
        """Has a lane wait, whose host hangs."""
        self.held[lane.host].append(lane)

    def let_go(self, lane: Lane, host: str) -> bool:
        """Has a lane wait no longer that was held for this host; False if it was not."""
        lanes = self.held.get(host)
        if lanes is None or lane not in lanes:
            return False
        lanes.remove(lane)
        return True

    def probing(self, host: str, places: int) -> list[Lane]:
        """The next lanes of a host that may start a request: as many as there are places. They wait no longer."""
        lanes = self.held.get(host)
        return [] if lanes is None else [lanes.popleft() for _ in range(min(places, len(lanes)))]

    def succeeded(self, host: str) -> list[Lane]:
        """The lanes that were held for a host: it does not hang."""
        return list(self.held.pop(host, ()))

    def forget_idle(self) -> None:
        """Forgets hosts for which nothing waits, and of which no request is slow any more."""
        for host in [host for host, lanes in self.held.items() if not lanes and host not in self._slow]:
            del self.held[host]
