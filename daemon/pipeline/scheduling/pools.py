"""Places for requests: two pools, so that slow receivers do not hold every connection.

A prompt lane starts in the fast pool, of `concurrency` places; a lane whose requests take long starts in the slow one.
A request that turns out to be slow moves over, so that its place is free again after a second whatever the receiver
does. There are workers for twice `concurrency`: what has moved over is not bounded by the places of the slow pool.

A receiver that never answered may be one that never will. Where many are at work, such a lane has one request under way
until it is known: two hundred names that are never resolved would else hold every place until they are found slow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from daemon.pipeline.scheduling.lane import Lane

# What lanes known to be slow may start, as a part of `concurrency`.
SLOW_PART = 0.25
# What may be taken before lanes that nothing is known of are held to one request each.
TRIAL_PART = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimits:
    """How much at once: requests over all lanes, and in one; failures in a row that open a lane's breaker."""

    concurrency: int
    route_concurrency: int
    breaker_failures: int = 20

    @property
    def slow_places(self) -> int:
        """What lanes that are known to be slow may start."""
        return max(1, int(self.concurrency * SLOW_PART))

    @property
    def trial_places(self) -> int:
        """So much may be under way before unknown lanes are held to one request each."""
        return max(self.route_concurrency, int(self.concurrency * TRIAL_PART))

    @property
    def workers(self) -> int:
        """As many again may be waiting for slow receivers."""
        return self.concurrency * 2


class Pool:
    """Places for requests, and the lanes in line for them."""

    __slots__ = ("in_flight", "places", "ready")

    def __init__(self, places: int) -> None:
        self.places = places
        self.in_flight = 0
        self.ready: deque[Lane] = deque()

    @property
    def has_turn(self) -> bool:
        return bool(self.ready) and self.in_flight < self.places
