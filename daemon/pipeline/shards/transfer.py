"""How shards come and go: taken over from their last owner, or handed over to the next.

Every stage that keeps something of a shard is a member of `HeldShards`. Here they begin together, after what is done of
the shard was read once, and end together, before its lease is freed. So no delivery is lost or sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.ticks.log_watch import LogWatch
from eventstore.domain_events import ticks
from eventstore.postgres.connect import Database
from eventstore.progress import backlog


class ShardTransfer:
    """`read` prepares a takeover, `part` ends the work on shards."""

    def __init__(self, database: Database, projection: Projection, shards: HeldShards, log_watch: LogWatch) -> None:
        self._database = database
        self._projection = projection
        self._shards = shards
        self._log_watch = log_watch

    async def read(self, epochs: Mapping[int, int]) -> Takeover:
        """What is done of these shards. Raises StoreUnavailable."""
        await self._log_watch.poll()  # what is read below is of the log that is known
        shards = list(epochs)
        checkpoints = await backlog.checkpoints(self._database, shards)
        newest = await ticks.newest(self._database)
        accounted = await backlog.accounted(self._database, checkpoints)
        parked = await backlog.parked_routes(self._database, shards)
        retrying = await backlog.retrying_routes(self._database, shards)
        # The routes of what waits may be younger than what was applied here.
        await self._projection.catch_up()
        return Takeover(
            checkpoints=checkpoints,
            newest_tick=newest,
            accounted=accounted,
            parked=parked,
            retrying=frozenset(retrying),
        )

    async def part(self, shards: Collection[int]) -> None:
        """Ends the work on shards; returns once all that was noted of them is written."""
        for member in self._shards.members:
            await member.part(shards)
