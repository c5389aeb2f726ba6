"""Keeps this process's leases, takes those that it should have, and hands over those that another one should.

Two loops, since renewing must not wait behind a takeover. `beat_once` says every 2 s that the process lives and renews
what it holds; the database's clock decides when a lease ends, ours has to be pessimistic: a lease counts as held for
the TTL less a margin, from *before* the renewal was asked for, and after that is in doubt
(daemon.pipeline.sending.send_gate). It is lost only if PostgreSQL says that it is another's.

`share_once` compares who holds what with who should (daemon.core.rendezvous). Joining, handing over and leaving are
announced, so it looks at once; without a word it looks every 2 s, every 0.5 s while something is not where it belongs,
and when the lease of somebody who does not renew runs out.

    free      --we should have it-----------> taking     what is done of it is read; renewed meanwhile
    taking    --read------------------------> held       tailed, sent, recorded
    held      --another live one should-----> parting    nothing starts any more; all that is noted is flushed
    parting   --flushed---------------------> free       announced; requests under way end by a farewell
    held, taking, parting  --another's epoch--> lost     everything in memory is dropped
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from daemon.core.rendezvous import preferred
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events.events import SHARDS
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import lease, process
from eventstore.progress.lease import LeaseSurvey
from eventstore.progress.process import Process

log = structlog.get_logger()

RENEW_SECONDS = 2.0
UNSETTLED_SECONDS = 0.5
MARGIN_SECONDS = 1.0

# Sets to work, without an await, on those of the shards taken that are still ours.
StartShards = Callable[[Collection[int]], None]


class Leases:
    """`on_taken` reads what a takeover needs and returns what starts it; `on_parting` returns once all of these shards
    is written down; `on_lost` is called with each shard that is another's.
    """

    def __init__(
        self,
        database: Database,
        this: Process,
        send_gate: SendGate,
        *,
        on_taken: Callable[[dict[int, int]], Awaitable[StartShards]],
        on_parting: Callable[[Collection[int]], Awaitable[None]],
        on_lost: Callable[[int], None],
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._this = this
        self._send_gate = send_gate
        self._on_taken = on_taken
        self._on_parting = on_parting
        self._on_lost = on_lost
        self._epochs: dict[int, int] = {}
        self._taking: dict[int, int] = {}
        self._parting: set[int] = set()
        self._valid_until: dict[int, float] = {}
        self._is_closed = False
        self._has_left = False
        self._beating = asyncio.Lock()
        self._acquiring = asyncio.Lock()
        self._handing_over = asyncio.Lock()

    @property
    def shards(self) -> list[int]:
        """What is held, less what is being handed over."""
        return [shard for shard in self._epochs if shard not in self._parting]

    def epoch(self, shard: int) -> int | None:
        """The epoch under which a shard is held, None if it is not."""
        return None if shard in self._parting else self._epochs.get(shard)

    def lose(self, shard: int) -> None:
        """Lets go of a shard that is another's."""
        self._taking.pop(shard, None)
        if self._epochs.pop(shard, None) is not None:
            self._send_gate.withdraw(shard)
            log.warning("lease.lost", shard=shard)
            self._on_lost(shard)
            self.wakeup.set()

    async def beat_once(self) -> None:
        """Renews all leases, then waits for the next turn."""
        await self._beat()
        await asyncio.sleep(RENEW_SECONDS)

    async def share_once(self) -> None:
        """Takes and hands over what there is to, then waits until there may be more."""
        self.wakeup.clear()
        survey = await lease.survey(self._database)
        wait = UNSETTLED_SECONDS
        if self._this.owner in survey.live and not self._is_closed:
            settled = await self._share(survey, {shard: preferred(shard, survey.live) for shard in range(SHARDS)})
            if settled:
                others = [
                    left for shard, left in survey.left_seconds.items() if survey.held[shard][0] != self._this.owner
                ]
                wait = min([RENEW_SECONDS, *others])
        await self.wakeup.wait(max(wait, 0.01))

    def close(self) -> None:
        """Takes no more shards."""
        self._is_closed = True

    async def leave(self) -> None:
        """Hands over all shards at once and says goodbye. Raises StoreUnavailable; to be repeated then."""
        self.close()
        async with self._acquiring:
            self._taking.clear()
        async with self._handing_over:
            await self._part(list(self._epochs))
            async with self._beating:
                self._has_left = True
                await process.leave(self._database, self._this.owner)
        log.info("lease.left")

    async def _beat(self) -> None:
        async with self._beating:
            if self._has_left:
                return
            asked_at = time.monotonic()
            epochs = self._epochs | self._taking
            held = await process.beat(self._database, self._this, epochs)
        for shard, epoch in epochs.items():
            if (self._epochs | self._taking).get(shard) != epoch:
                continue
            if shard in held:
                self._hold(shard, asked_at)
            else:
                self.lose(shard)

    def _hold(self, shard: int, asked_at: float) -> None:
        self._valid_until[shard] = asked_at + lease.TTL.total_seconds() - MARGIN_SECONDS
        if shard in self._epochs and shard not in self._parting:
            self._send_gate.hold(shard, self._valid_until[shard])

    async def _share(self, survey: LeaseSurvey, wanted: dict[int, str]) -> bool:
        """True if everything is where it belongs already."""
        me = self._this.owner
        strangers = [shard for shard in self._epochs if wanted[shard] != me]
        strays = {
            shard: epoch
            for shard, (owner, epoch) in survey.held.items()
            if owner == me and wanted[shard] != me and shard not in self._epochs
        }
        missing = [
            shard
            for shard in range(SHARDS)
            if wanted[shard] == me and shard not in self._epochs and survey.held.get(shard, (me, 0))[0] == me
        ]
        if strangers or strays:
            await self._hand_over(strangers, strays)
        if missing:
            await self._take(missing)
        return all(shard in survey.held and survey.held[shard][0] == owner for shard, owner in wanted.items())

    async def _hand_over(self, shards: list[int], strays: dict[int, int]) -> None:
        async with self._handing_over:
            parted = await self._part(shards)
            await lease.release(self._database, self._this.owner, strays | parted)
        log.info("lease.handed_over", shards=sorted(parted))

    async def _part(self, shards: list[int]) -> dict[int, int]:
        """Ends the work on shards; shard → epoch of those that are still ours to free."""
        epochs = {shard: self._epochs[shard] for shard in shards if shard in self._epochs}
        self._parting = set(epochs)
        for shard in epochs:
            self._send_gate.withdraw(shard)
        try:
            if epochs:
                await self._on_parting(list(epochs))
        finally:
            self._parting = set()
            # From here on a beat does not ask for them, and so does not find them lost.
            freed = {shard: epoch for shard, epoch in epochs.items() if self._epochs.get(shard) == epoch}
            for shard in freed:
                del self._epochs[shard]
        return freed

    async def _take(self, shards: list[int]) -> None:
        async with self._acquiring:
            if self._is_closed:
                return
            asked_at = time.monotonic()
            taken = await lease.acquire(self._database, self._this.owner, shards)
            self._taking = dict(taken)
        for shard in taken:
            self._hold(shard, asked_at)
        try:
            if taken:
                self._start(taken, await self._on_taken(taken))
        except StoreUnavailable:
            log.warning("lease.takeover_failed", shards=sorted(taken))
        finally:
            self._taking = {}

    def _start(self, taken: dict[int, int], start: StartShards) -> None:
        ours = {shard: epoch for shard, epoch in taken.items() if self._taking.get(shard) == epoch}
        if ours:
            start(ours.keys())
            self._epochs |= ours
            for shard in ours:
                self._send_gate.hold(shard, self._valid_until[shard])
            log.info("lease.taken", shards=sorted(ours))
