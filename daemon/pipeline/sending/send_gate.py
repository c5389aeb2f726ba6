"""Whether a request may start now: the lease of its shard is certainly ours, and the routes are at most a second old.

Both facts have an expiry on the monotonic clock, counted from *before* PostgreSQL was asked. So a process that is cut
off, frozen or starved stops sending by itself, and a second after a disable was acknowledged no request for the route
starts in any process. An expired fact does not mean that the lease is lost: deliveries are kept, attempts wait, and
they continue when PostgreSQL confirms the fact again. Only `close` is for good.

To make a connection may take as long as the timeout. So an attempt asks again once it is there, before it writes.

The hot path is `allows`: a lookup, two comparisons and no await.
"""

from __future__ import annotations

import time

from daemon.pipeline.held_shards import HeldShards

# A disable that was acknowledged elsewhere takes effect within FRESH_SECONDS. The margin is for a loop that runs late
# between the check and the request.
FRESH_SECONDS = 1.0
FRESH_MARGIN_SECONDS = 0.1


class SendGate:
    """`allows` checks both facts, `changed` waits for an update. `HeldShards` knows the leases."""

    def __init__(self, shards: HeldShards) -> None:
        self._shards = shards
        self._known_until = 0.0
        self._is_closed = False

    def allows(self, shard: int) -> bool:
        """True if a request of the shard may start at this moment."""
        now = time.monotonic()
        return now < self._known_until and not self._is_closed and self._shards.is_certain(shard, now)

    def knows(self, shard: int) -> bool:
        """True if the shard's lease was ours at the last update, even if that has expired."""
        return self._shards.is_held(shard)

    async def changed(self) -> None:
        """Returns after the next update. There is no timeout: PostgreSQL may be down for any time."""
        await self._shards.wait_changed()

    def close(self) -> None:
        """Lets no request start any more: what the routes are, is in doubt."""
        self._is_closed = True

    def known(self, asked_at: float) -> None:
        """Notes that the projection contains the whole route log as of `asked_at` (monotonic seconds)."""
        self._known_until = max(self._known_until, asked_at + FRESH_SECONDS - FRESH_MARGIN_SECONDS)
        self._shards.notify()
