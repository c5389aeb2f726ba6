"""Whether a request may start now: its shard's lease is surely ours, and the routes are surely no older than a second.

Both are evidence with a date, by our monotonic clock, from *before* PostgreSQL was asked; so a process that is cut off,
frozen or starved stops by itself, whatever happens elsewhere meanwhile (contract.md §5: after a disable was
acknowledged, no request starts anywhere a second later). Evidence that has run out is doubt, not loss: nothing is
forgotten, whoever wants to send waits, and goes on when PostgreSQL says that all is as it was.

The hot path is `allows`: two comparisons and no await.
"""

from __future__ import annotations

import asyncio
import time

# A disable that was acknowledged elsewhere is acted on within this time; the margin is for a loop that runs late
# between the last look at the clock and the request.
FRESH_SECONDS = 1.0
FRESH_MARGIN_SECONDS = 0.1


class SendGate:
    """`known`, `hold` and `withdraw` give and take evidence, `allows` weighs it, `changed` waits for more."""

    def __init__(self) -> None:
        self._known_until = 0.0
        self._held_until: dict[int, float] = {}
        self._news = asyncio.Event()
        self._is_awaited = False

    def allows(self, shard: int) -> bool:
        """True if a request of the shard may start at this moment."""
        now = time.monotonic()
        return now < self._known_until and now < self._held_until.get(shard, 0.0)

    def knows(self, shard: int) -> bool:
        """True if the shard's lease is ours, or was when it was heard of last."""
        return shard in self._held_until

    async def changed(self) -> None:
        """Returns when there is other evidence. How long that takes is PostgreSQL's affair."""
        self._is_awaited = True
        await self._news.wait()

    def known(self, asked_at: float) -> None:
        """Notes that all which was in the route log at `asked_at` is applied here."""
        self._known_until = max(self._known_until, asked_at + FRESH_SECONDS - FRESH_MARGIN_SECONDS)
        self._wake()

    def hold(self, shard: int, until: float) -> None:
        """Notes that a lease is ours for certain until then."""
        self._held_until[shard] = until
        self._wake()

    def withdraw(self, shard: int) -> None:
        """Forbids requests of a shard that is no longer ours, or about to be another's."""
        self._held_until.pop(shard, None)
        self._wake()

    def _wake(self) -> None:
        if self._is_awaited:
            self._news.set()
            self._news = asyncio.Event()
            self._is_awaited = False
