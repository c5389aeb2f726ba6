"""When a window closes, ends what waits for its route in the tables, retries and parked deliveries, as `suppressed`.

Deliveries in memory pass the gate before each attempt. In the tables a delivery would otherwise wait until its retry is
due, perhaps for an hour.

Only routes are noted, and each is looked at when its turn comes: if a standby was promoted that had not received the
disable, there never was one. Nor is anything suppressed in a log that is not the one that was applied.
"""

from __future__ import annotations

from uuid import UUID

from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.log_macs import LogMacs


class Suppressor:
    """`review` takes note, `run_once` acts."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        recorder: Recorder,
        working_set: WorkingSet,
        shards: HeldShards,
        *,
        owner: str,
        known: KnownLog,
        macs: LogMacs,
    ) -> None:
        self._database = database
        self._index = index
        self._recorder = recorder
        self._working_set = working_set
        self._shards = shards
        self._owner = owner
        self._known = known
        self._macs = macs
        self._closed: dict[UUID, None] = {}  # each route once
        self._noted = Wakeup()

    def review(self, route: Route) -> None:
        """Notes a route if it ever closed a window: something from before may still wait for it."""
        if windows.last_end(route.windows) is not None:
            self._closed[route.id] = None
            self._noted.set()

    def adopted(self, takeover: Takeover) -> None:
        """Reviews the routes of which something waits: their last owner may not have come to it."""
        for route_id in takeover.parked.keys() | takeover.retrying:
            timeline = self._index.timeline(route_id)
            if timeline is not None:
                self.review(timeline.current)

    async def run_once(self) -> None:
        self._noted.clear()
        while self._closed:
            route_id = next(iter(self._closed))
            del self._closed[route_id]
            try:
                await self._suppress(route_id)
            except BaseException:
                self._closed[route_id] = None
                raise
        await self._noted.wait_set()

    async def _suppress(self, route_id: UUID) -> None:
        """Suppresses batch by batch: between two batches others can write, and lanes can be filled.

        A flush comes first, so that failures that were noted before the window closed have their rows in `retry`.
        Failures that are noted later are due at once (daemon/pipeline/sending/attempt.py).
        """
        await self._recorder.flush()
        is_more = True
        while is_more:
            async with self._working_set.moving:
                is_more = await self._suppress_some(route_id)

    async def _suppress_some(self, route_id: UUID) -> bool:
        """Suppresses a batch. False if nothing is left, or if it is not for this process to do."""
        route = self._index.route(route_id)
        closed_at = None if route is None else windows.last_end(route.windows)
        if route is None or closed_at is None:
            return False
        shard = shard_of(route.tenant)
        epoch = self._shards.epoch(shard)
        if epoch is None:
            return False
        done = await recording.suppress(
            self._database,
            self._owner,
            shard=shard,
            epoch=epoch,
            route_id=route.id,
            closed_at=closed_at,
            in_flight=self._working_set.seqs(route.id),
            route_version=route.version,
            mark=self._known.mark,
            macs=self._macs,
        )
        return done.removed > 0
