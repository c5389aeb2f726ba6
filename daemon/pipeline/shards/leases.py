"""Keeps this process's leases, takes those that it should have, and hands over those that another one should.

Two loops, since renewing must not wait behind a takeover. `beat_once` says every 2 s that the process lives and renews
what it holds. The database's clock decides when a lease ends, so ours has to be pessimistic: a lease counts as held for
its time to live less a margin, from *before* the renewal was asked for. After that it is in doubt, and nothing is sent
(daemon.pipeline.sending.send_gate). It is lost only if PostgreSQL says that another process has it.

`share_once` compares who holds what with who should (daemon.core.rendezvous). Joining, handing over and leaving are
announced, so it looks at once. Without a word it looks every 2 s, or 10 s if it is alone; every 0.5 s while something
is not where it belongs; and when the lease of a process that does not renew runs out. It looks at once when a process
is found dead, and frees what that one held (daemon.pipeline.shards.lifelines).

    free      --we should have it-----------> TAKING     what is done of it is read; renewed meanwhile
    TAKING    --read------------------------> HELD       tailed, sent, recorded
    HELD      --another live one should-----> PARTING    nothing starts any more; all that is noted is flushed
    PARTING   --flushed---------------------> free       announced; the outcome of a request under way is written late
    any       --another's epoch-------------> lost       everything in memory is dropped
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from daemon.core.rendezvous import preferred
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.shards.lifelines import Lifelines
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events.events import SHARDS
from eventstore.leases import lease, lifeline, process
from eventstore.leases.lease import LeaseSurvey
from eventstore.leases.process import Process
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

UNSETTLED_SECONDS = 0.5
# For a process that is alone and has every shard. One that joins it says so.
ALONE_SECONDS = 10.0


class Leases:
    """`on_taken` reads what a takeover needs; `on_parting` returns once all of these shards is written down.
    `on_renewed` is told each transaction that renewed.
    """

    def __init__(
        self,
        database: Database,
        this: Process,
        shards: HeldShards,
        lifelines: Lifelines,
        *,
        on_taken: Callable[[Mapping[int, int]], Awaitable[Takeover]],
        on_parting: Callable[[Collection[int]], Awaitable[None]],
        on_renewed: Callable[[int], None] = lambda _txid: None,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.wakeup = shards.changed
        self._database = database
        self._this = this
        self._shards = shards
        self._lifelines = lifelines
        self._on_taken = on_taken
        self._on_parting = on_parting
        self._on_renewed = on_renewed
        self._renew_seconds = tunables.lease_renew_seconds
        self._certain_seconds = lease.TTL.total_seconds() - tunables.lease_margin_seconds
        self._is_closed = False
        self._has_left = False
        self._beating = asyncio.Lock()
        self._acquiring = asyncio.Lock()
        self._handing_over = asyncio.Lock()

    async def beat_once(self) -> None:
        """Renews all leases, then waits for the next turn, or until there is another lifeline to note."""
        self._lifelines.changed.clear()
        await self._beat()
        await self._lifelines.changed.wait(self._renew_seconds)

    async def share_once(self) -> None:
        """Takes and hands over what there is to, then waits until there may be more."""
        self.wakeup.clear()
        await self._bury()
        survey = await lease.survey(self._database)
        wait = UNSETTLED_SECONDS
        if self._this.owner in survey.live and not self._is_closed:
            settled = await self._share(survey, {shard: preferred(shard, survey.live) for shard in range(SHARDS)})
            if settled:
                others = [
                    left for shard, left in survey.left_seconds.items() if survey.held[shard][0] != self._this.owner
                ]
                alone = survey.live == {self._this.owner}
                wait = min([ALONE_SECONDS if alone else self._renew_seconds, *others])
        await self.wakeup.wait(max(wait, 0.01))

    def close(self) -> None:
        """Takes no more shards."""
        self._is_closed = True

    async def leave(self) -> None:
        """Hands over all shards at once and says goodbye. Raises StoreUnavailable; to be repeated then."""
        self.close()
        async with self._acquiring:
            self._shards.abandon_taking()
        async with self._handing_over:
            await self._part(self._shards.held)
            async with self._beating:
                self._has_left = True
                await process.leave(self._database, self._this.owner)
        log.info("lease.left")

    async def _beat(self) -> None:
        async with self._beating:
            if self._has_left:
                return
            asked_at = time.monotonic()
            epochs, ours = self._shards.renewable(), self._lifelines.current
            renewal = await process.heartbeat(self._database, self._this, epochs, lifeline=ours)
        self._on_renewed(renewal.txid)
        present = self._shards.renewable()
        for shard, epoch in epochs.items():
            if present.get(shard) != epoch:
                continue
            if shard in renewal.held:
                self._shards.renew(shard, epoch, asked_at + self._certain_seconds)
            else:
                self._shards.lose(shard)
        # After the leases: what was lost meanwhile must not be sent by a new permit.
        self._lifelines.noted(ours, is_watched=renewal.is_watched)

    async def _bury(self) -> None:
        """Frees what dead processes held."""
        for dead in self._lifelines.dead():
            freed = await lifeline.bury(self._database, dead)
            self._lifelines.buried(dead)
            if freed is not None:
                log.warning("process.found_dead", owner=dead.owner, shards=freed)

    async def _share(self, survey: LeaseSurvey, wanted: dict[int, str]) -> bool:
        """True if everything is where it belongs already."""
        me = self._this.owner
        ours = self._shards.writable()
        strangers = [shard for shard in ours if wanted[shard] != me]
        strays = {
            shard: epoch
            for shard, (owner, epoch) in survey.held.items()
            if owner == me and wanted[shard] != me and shard not in ours
        }
        missing = [
            shard
            for shard in range(SHARDS)
            if wanted[shard] == me and shard not in ours and survey.held.get(shard, (me, 0))[0] == me
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
        """Ends the work on shards; shard → epoch of those whose rows are still ours to free."""
        epochs = self._shards.part(shards)
        freed: dict[int, int] = {}
        try:
            if epochs:
                await self._on_parting(list(epochs))
        finally:
            # From here on a beat does not ask for them, and so does not find them lost.
            freed = self._shards.free(epochs)
        return freed

    async def _take(self, shards: list[int]) -> None:
        async with self._acquiring:
            if self._is_closed:
                return
            asked_at = time.monotonic()
            taken = await lease.acquire(self._database, self._this.owner, shards)
            self._shards.take(taken, asked_at + self._certain_seconds)
        try:
            if taken:
                held = self._shards.hold(await self._on_taken(taken), taken)
                if held:
                    log.info("lease.taken", shards=sorted(held))
        except StoreUnavailable as error:
            log.warning("lease.takeover_failed", shards=sorted(taken), cause=str(error))
        finally:
            self._shards.abandon_taking()
