"""Continues the replays of our shards (eventstore/progress/replays.py), as fast as their receivers answer.

A part is scheduled when little of a replay is left in `retry`. From there the retrier takes it up like any other retry,
so a replay gets no more of a process than a route with many retries. Retries do not ask the breaker, but a replay does,
because a hundred thousand retries would be no probes any more. While the breaker is not closed, a replay schedules as
many deliveries as the breaker has capacity for, and waits for their outcomes.

A cancelled replay has no rows in the table any more. At the wakeup, its deliveries in memory are withdrawn.
"""

from __future__ import annotations

import asyncio
import time
from operator import attrgetter

from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.texts import moment
from daemon.pipeline.backlog.retrier import Retrier
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.postgres.connect import Database
from eventstore.progress import replays
from eventstore.progress.replays import Replay
from eventstore.progress.rows import AttemptRow

POLL_SECONDS = 1.0
IDLE_SECONDS = 10.0

_replay = attrgetter("replay")


class Replayer:
    """`wakeup` says that a replay began or was cancelled, or that something of one has its outcome."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        retrier: Retrier,
        shards: HeldShards,
        working_set: WorkingSet,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._index = index
        self._lanes = lanes
        self._retrier = retrier
        self._shards = shards
        self._working_set = working_set
        self._tunables = tunables

    def adopted(self, _takeover: Takeover) -> None:
        """Looks whether replays of these shards go on."""
        self.wakeup.set()

    def recorded(self, _rows: list[AttemptRow], deliveries: list[Delivery]) -> None:
        """Hears of outcomes that are written."""
        if any(map(_replay, deliveries)):
            self.wakeup.set()

    async def run_once(self) -> None:
        self.wakeup.clear()
        await self._let_go()
        shards = self._shards.held
        running = await replays.running(self._database, shards) if shards else []
        for replay in running:
            await self._advance(replay)
        if running:
            await asyncio.sleep(self._tunables.replay_pause_seconds)
        await self.wakeup.wait(POLL_SECONDS if running else IDLE_SECONDS)

    async def _let_go(self) -> None:
        """Drops from memory what of cancelled replays is not started."""
        async with (
            self._working_set.moving
        ):  # what is being taken up at this moment may have been read before the cancel
            held = self._retrier.waiting_replays()
            if held:
                self._retrier.withdraw(await replays.ended(self._database, held))

    async def _advance(self, replay: Replay) -> None:
        timeline = self._index.timeline(replay.route_id)
        if timeline is None:
            return  # younger than what was applied here
        if not windows.is_sendable(timeline.current.windows, replay.sendable_from):
            await replays.cancel(self._database, replay, detail=window_closed(timeline.current))
            return
        if not replay.waiting and not replay.is_unscheduled:
            await replays.finish(self._database, replay.id)
            return
        room = self._room(replay)
        while room:
            scheduled = await replays.schedule(self._database, replay, limit=room)
            if scheduled.deliveries:
                self._retrier.wakeup.set()
            if scheduled.deliveries or not scheduled.is_more:
                return

    def _room(self, replay: Replay) -> int:
        """How many deliveries of a replay may be scheduled now."""
        breaker = self._lanes.lane(replay.route_id, replay.shard).breaker
        part = self._tunables.replay_part_seqs
        if breaker.is_closed:
            return part if replay.waiting <= self._tunables.replay_waiting_rows - part else 0
        return 0 if replay.waiting else min(part, breaker.capacity(time.monotonic()))


def window_closed(route: Route) -> str:
    """Why nothing of a replay is sent any more, as a sentence without a full stop."""
    what = "deleted" if route.status is RouteStatus.DELETED else "disabled"
    at = windows.last_end(route.windows)
    when = "" if at is None else f" at {moment(at)}"
    return f"the route was {what}{when}: what happened before is never sent"
