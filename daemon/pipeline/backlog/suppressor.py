"""When a window closes, turns what waits for its route - retries and parked deliveries - into `suppressed`, in bulk.

What is in memory passes the gate before each attempt and needs no help from here; this is for the tables, where a
delivery might otherwise lie until its retry is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon.core.routing.route import Route
from daemon.pipeline.backlog.parking import Parking
from daemon.pipeline.backlog.retrier import Retrier
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lanes import Lanes
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.progress import recording


class Suppressor:
    """`review` takes note, `run_once` acts. `epoch` says under which one a shard is held, None if it is not."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        recorder: Recorder,
        retrier: Retrier,
        parking: Parking,
        *,
        owner: str,
        epoch: Callable[[int], int | None],
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._recorder = recorder
        self._retrier = retrier
        self._parking = parking
        self._epoch = epoch
        self._owner = owner
        self._closed: asyncio.Queue[Route] = asyncio.Queue()

    def review(self, route: Route) -> None:
        """Notes a route if it ever closed a window: something from before may still wait for it."""
        if any(not window.is_open for window in route.windows):
            self._closed.put_nowait(route)

    async def run_once(self) -> None:
        route = await self._closed.get()
        try:
            await self._suppress(route)
        except BaseException:
            self._closed.put_nowait(route)
            raise

    async def _suppress(self, route: Route) -> None:
        """A batch at a time, so that between two of them others may write, and lanes be filled.

        First it has written what was noted before the window was seen to close: a failure among that has a retry to
        come, perhaps in an hour. What is noted later is due at once (pipeline/attempt).
        """
        await self._recorder.flush()
        shard = shard_of(route.tenant)
        closed_at = max(window.end for window in route.windows if window.end is not None)
        is_more = True
        while is_more:
            async with self._lanes.intake:
                epoch = self._epoch(shard)
                if epoch is None:
                    return
                done = await recording.suppress(
                    self._database,
                    self._owner,
                    shard=shard,
                    epoch=epoch,
                    route_id=route.id,
                    closed_at=closed_at,
                    in_flight=self._in_memory(route),
                    route_version=route.version,
                )
            is_more = done.removed > 0

    def _in_memory(self, route: Route) -> set[int]:
        """What of the route is not only in the tables: it gets its outcome from the gate, or has it already."""
        return (
            self._lanes.seqs(route.id)
            | self._retrier.seqs(route.id)
            | self._parking.seqs(route.id)
            | self._recorder.seqs(route.id)
        )
