"""Hosts that hang. When a provider fails, the receivers of very many tenants hang at once.

A lane is found slow once its first request has hung for a second. A thousand lanes of one host would have every worker
by then, two seconds after the provider failed, until their requests time out. So a host is found out too: it *hangs*
when many requests to it are slow, and none of these has succeeded lately. Then its lanes start a few requests at a
time, as probes, and wait here for their turns. A success ends it.

Hosts are names, with the port, as targets have them. The log says `host.hangs` and `host.answers`.
"""

from __future__ import annotations

import math
from collections import deque

import structlog

from daemon.pipeline.scheduling.lane import Lane

log = structlog.get_logger()

# A host of which no slow request has succeeded for so long may hang.
QUIET_SECONDS = 2.0
# One that hangs for longer is told. Where only some receivers hang, the others end it sooner, again and again.
TOLD_SECONDS = 2.0


class _SlowRequests:
    """Those to one host that are under way. `succeeded_at` is when one of them last succeeded."""

    __slots__ = ("count", "succeeded_at")

    def __init__(self) -> None:
        self.count = 0
        self.succeeded_at = -math.inf


class HangingHost:
    """`lanes` wait for its end, the longest first. It hangs since `since`, which the log says if it `is_told`."""

    __slots__ = ("is_told", "lanes", "since")

    def __init__(self, since: float) -> None:
        self.lanes: deque[Lane] = deque()
        self.since = since
        self.is_told = False


class HangingHosts:
    """A host may hang if `many` requests to it are slow. `held` has those that hang. Times are monotonic seconds."""

    def __init__(self, many: int) -> None:
        self._many = many
        self._slow: dict[str, _SlowRequests] = {}
        self.held: dict[str, HangingHost] = {}

    def slow_began(self, host: str, now: float) -> None:
        """Notes that a request to a host takes long."""
        slow = self._slow.get(host)
        if slow is None:
            slow = self._slow[host] = _SlowRequests()
        slow.count += 1
        if slow.count >= self._many and slow.succeeded_at < now - QUIET_SECONDS and host not in self.held:
            self.held[host] = HangingHost(now)

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
        self.held[lane.host].lanes.append(lane)

    def let_go(self, lane: Lane, host: str) -> bool:
        """Has a lane wait no longer that was held for this host; False if it was not."""
        hanging = self.held.get(host)
        if hanging is None or lane not in hanging.lanes:
            return False
        hanging.lanes.remove(lane)
        return True

    def probing(self, host: str, places: int) -> list[Lane]:
        """The next lanes of a host that hangs which may start a request: as many as there are places. They wait no
        longer.
        """
        lanes = self.held[host].lanes
        return [lanes.popleft() for _ in range(min(places, len(lanes)))]

    def succeeded(self, host: str, now: float) -> list[Lane]:
        """The lanes that were held for a host: it hangs no more."""
        hanging = self.held.pop(host)
        if hanging.is_told:
            log.info("host.answers", host=host, seconds=round(now - hanging.since, 1))
        return list(hanging.lanes)

    def review(self, now: float) -> None:
        """Tells which hosts hang, and forgets those for which nothing waits and of which no request is slow."""
        for host, hanging in list(self.held.items()):
            slow = self._slow.get(host)
            if slow is None and not hanging.lanes:
                del self.held[host]
            elif slow is not None and not hanging.is_told and now - hanging.since >= TOLD_SECONDS:
                hanging.is_told = True
                log.warning("host.hangs", host=host, requests=slow.count, webhooks_waiting=len(hanging.lanes))
