"""Keeps this process's leases, and says before each request whether one is surely still ours.

The database's clock decides when a lease ends; ours only has to be pessimistic: a lease counts as held for the TTL
less a margin, from *before* the renewal was asked for. Past that moment nothing is sent for the shard, whatever the
database may say later; the shard is dropped and, if nobody else has it, taken anew under a higher epoch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from daemon.pipeline.bell import Bell
from eventstore import lease
from eventstore.connect import Database
from eventstore.errors import StoreUnavailable
from eventstore.stream import SHARDS

log = structlog.get_logger()

RENEW_SECONDS = 2.0
MARGIN_SECONDS = 1.0


class Leases:
    """`on_taken` is awaited with shard → epoch of new leases, `on_lost` called with each shard that is gone.

    What is taken counts as held once `on_taken` returns: so it reads first, then sets to work without an await.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        *,
        on_taken: Callable[[dict[int, int]], Awaitable[None]],
        on_lost: Callable[[int], None],
    ) -> None:
        self.bell = Bell()
        self._database = database
        self._owner = owner
        self._on_taken = on_taken
        self._on_lost = on_lost
        self._epochs: dict[int, int] = {}
        self._valid_until: dict[int, float] = {}
        self._is_closed = False
        self._taking = asyncio.Lock()

    def may_send(self, shard: int) -> bool:
        """True if the lease is ours beyond doubt. A shard in doubt is dropped at once."""
        if time.monotonic() < self._valid_until.get(shard, 0.0):
            return True
        self.lose(shard)
        return False

    def lose(self, shard: int) -> None:
        """Lets go of a shard that may belong to somebody else."""
        if self._epochs.pop(shard, None) is not None:
            self._valid_until.pop(shard, None)
            log.warning("lease.lost", shard=shard)
            self._on_lost(shard)
            self.bell.ring()

    @property
    def shards(self) -> list[int]:
        return list(self._epochs)

    def epoch(self, shard: int) -> int | None:
        """The epoch under which a shard is held, None if it is not."""
        return self._epochs.get(shard)

    async def run_once(self) -> None:
        self.bell.hush()
        await self._renew()
        async with self._taking:
            await self._take()
        await self.bell.wait(RENEW_SECONDS if len(self._epochs) == SHARDS else RENEW_SECONDS / 4)

    def close(self) -> None:
        """Takes no more shards."""
        self._is_closed = True

    async def release(self) -> None:
        """Frees all shards, so that a successor need not wait; those too that are being taken over."""
        async with self._taking:
            self._valid_until.clear()
            epochs, self._epochs = self._epochs, {}
        if epochs:
            await lease.release(self._database, self._owner, epochs)

    async def _renew(self) -> None:
        for shard in [shard for shard, until in self._valid_until.items() if time.monotonic() >= until]:
            self.lose(shard)
        if not self._epochs:
            return
        asked_at = time.monotonic()
        epochs = dict(self._epochs)
        held = await lease.renew(self._database, self._owner, epochs)
        for shard, epoch in epochs.items():
            if shard in held and self._epochs.get(shard) == epoch:
                self._valid_until[shard] = asked_at + lease.TTL.total_seconds() - MARGIN_SECONDS
            else:
                self.lose(shard)

    async def _take(self) -> None:
        missing = [shard for shard in range(SHARDS) if shard not in self._epochs]
        if not missing or self._is_closed:
            return
        asked_at = time.monotonic()
        taken = await lease.acquire(self._database, self._owner, missing)
        if not taken:
            return
        try:
            await self._on_taken(taken)
        except StoreUnavailable:
            log.warning("lease.takeover_failed", shards=sorted(taken))
            return
        self._epochs |= taken
        self._valid_until |= dict.fromkeys(taken, asked_at + lease.TTL.total_seconds() - MARGIN_SECONDS)
        log.info("lease.taken", shards=sorted(taken))
