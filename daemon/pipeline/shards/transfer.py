"""How shards come and go: taken over from whoever had them, handed over to whoever should, or lost.

Every stage keeps something of a shard in memory. Here they are set to work on it together and made to forget it
together, in the one order that neither loses a delivery nor sends it twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta

from daemon.core.routing.route import Route
from daemon.pipeline.backlog.parking import GRACE, Parking
from daemon.pipeline.backlog.replayer import Replayer
from daemon.pipeline.backlog.retrier import Retrier
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.tailer import Tailer
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.shards.leases import StartShards
from eventstore.domain_events import ticks
from eventstore.postgres.connect import Database
from eventstore.progress import backlog


class ShardTransfer:
    """`review` hears of routes that may have something waiting from a window that is closed."""

    def __init__(  # noqa: PLR0913 - every stage that keeps something of a shard
        self,
        database: Database,
        projection: Projection,
        ledger: Ledger,
        lanes: Lanes,
        tailer: Tailer,
        retrier: Retrier,
        parking: Parking,
        recorder: Recorder,
        *,
        replayer: Replayer,
        timeout_seconds: float,
        review: Callable[[Route], None],
    ) -> None:
        self._database = database
        self._projection = projection
        self._ledger = ledger
        self._lanes = lanes
        self._tailer = tailer
        self._retrier = retrier
        self._replayer = replayer
        self._parking = parking
        self._recorder = recorder
        self._timeout_seconds = timeout_seconds
        self._review = review

    async def adopt(self, epochs: dict[int, int]) -> StartShards:
        """Takes over shards: what is done of them is read once, then they are tailed from their checkpoints.

        Nothing is awaited once the first stage has them: nothing may be sent before all of them and the leases do.
        """
        shards = list(epochs)
        checkpoints = await backlog.checkpoints(self._database, shards)
        newest = await ticks.newest(self._database)
        accounted = await backlog.accounted(self._database, shards, above_tick=min(checkpoints.values()))
        parked = await backlog.parked_routes(self._database, shards)
        retrying = await backlog.retrying_routes(self._database, shards)
        # The routes of what waits may be younger than what was applied here.
        await self._projection.catch_up()

        def start(shards: Collection[int]) -> None:
            mine = {shard: checkpoints[shard] for shard in shards}
            waiting = {route_id: row for route_id, row in parked.items() if row.shard in mine}
            for shard, tick in mine.items():
                # What was learned of it since it was given away is another's affair, and old.
                self._lanes.drop(shard)
                self._parking.drop(shard)
                self._ledger.adopt(shard, tick)
            self._recorder.adopt({shard: epochs[shard] for shard in mine}, mine)
            self._parking.adopt(waiting, newest)
            self._tailer.adopt(mine, accounted, newest)
            self._retrier.wakeup.set()
            self._replayer.wakeup.set()
            for route_id in waiting.keys() | retrying:
                timeline = self._projection.index.timeline(route_id)
                if timeline is not None:
                    self._review(timeline.current)

        return start

    async def part(self, shards: Collection[int]) -> None:
        """Ends the work on shards, so that nothing of it is lost or done twice by whoever has them next.

        What was not sent yet is dropped: it is found again in the log or in its row. What is under way gets a row in
        `retry` that falls due once its request must have ended, so that it is left alone until then.
        """
        for shard in shards:
            self._tailer.drop(shard)
        for delivery in self._lanes.in_flight:
            if delivery.shard not in shards or delivery.is_withdrawn:
                continue
            if not delivery.sent_at:
                self._recorder.return_to_table(delivery)
            else:
                left = self._timeout_seconds - (time.monotonic() - delivery.sent_at)
                self._recorder.part(delivery, due_after=timedelta(seconds=max(0.0, left)) + GRACE)
        for shard in shards:
            self._lanes.drop(shard)
            self._retrier.drop(shard)
            self._parking.drop(shard)
        await self._recorder.flush()
        for shard in shards:
            self._ledger.drop(shard)
            self._recorder.drop(shard)

    def drop(self, shard: int) -> None:
        """Forgets a shard that is another's."""
        self._tailer.drop(shard)
        self._recorder.drop(shard)
        self._lanes.drop(shard)
        self._retrier.drop(shard)
        self._parking.drop(shard)
        self._ledger.drop(shard)
