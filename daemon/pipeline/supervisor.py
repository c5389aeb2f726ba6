"""Builds the stages, runs their loops in one TaskGroup, and stops them in the order that loses nothing.

A loop whose PostgreSQL is away waits and tries again; any other failure of a loop ends the process, which its own
supervisor starts anew. To stop: no more is read; what is under way is finished and recorded; the leases are freed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from daemon.core.route import Happening, LifecycleEvent, Route
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.pipeline.attempt import Attempt, Settings, is_still_gone
from daemon.pipeline.bell import Bell
from daemon.pipeline.census import Census
from daemon.pipeline.journal import Journal
from daemon.pipeline.lanes import Lanes
from daemon.pipeline.leases import Leases
from daemon.pipeline.parking import Parking
from daemon.pipeline.projection import Projection
from daemon.pipeline.recorder import Recorder
from daemon.pipeline.retrier import Retrier
from daemon.pipeline.sender import Sender
from daemon.pipeline.suppressor import Suppressor
from daemon.pipeline.tailer import Tailer
from daemon.pipeline.ticker import Ticker
from daemon.pipeline.work import Ledger
from eventstore import backlog, listen, partitions, ticks
from eventstore.connect import Database
from eventstore.errors import StoreUnavailable

log = structlog.get_logger()

BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0)
PARTITION_SECONDS = 3600.0
# Beyond the timeout of the requests under way, for recording what they brought.
DRAIN_GRACE_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once."""

    concurrency: int
    route_concurrency: int


class Pipeline:
    """All stages of one process. `run` returns after `stop`, when everything under way is recorded."""

    def __init__(  # noqa: PLR0913 - everything that the stages are built of
        self,
        database: Database,
        projection: Projection,
        keychain: Keychain,
        sender: Sender,
        metrics: Metrics,
        *,
        owner: str,
        limits: Limits,
        settings: Settings,
        on_gone: Callable[[Route], Awaitable[None]],
    ) -> None:
        self._database = database
        self._projection = projection
        self._metrics = metrics
        self._limits = limits
        self._settings = settings
        self._on_gone = on_gone
        self._gone: asyncio.Queue[Route] = asyncio.Queue()
        self._stopping = Bell()
        self._ledger = Ledger()
        self._recorder = Recorder(database, self._ledger, metrics, owner=owner, on_lost=self._lost)
        self._lanes = Lanes(route_concurrency=limits.route_concurrency, park=self._recorder.park)
        self._leases = Leases(database, owner, on_taken=self._adopt, on_lost=self._drop)
        self._tailer = Tailer(database, projection, self._ledger, self._lanes, metrics, on_read=self._recorder.noted)
        self._ticker = Ticker(database, on_tick=self._tailer.bell.ring)
        self._retrier = Retrier(database, self._lanes, shards=lambda: self._leases.shards)
        self._parking = Parking(
            database,
            self._ledger,
            self._lanes,
            self._recorder,
            timeout_seconds=settings.timeout_seconds,
            hold=self._retrier.hold,
        )
        self._suppressor = Suppressor(
            database, self._lanes, self._recorder, self._retrier, self._parking, self._leases, owner=owner
        )
        self._census = Census(database, projection.index, self._lanes, metrics, shards=lambda: self._leases.shards)
        self._attempt = Attempt(
            projection.index,
            keychain,
            sender,
            self._recorder,
            metrics,
            settings,
            may_send=self._leases.may_send,
            on_gone=self._gone.put_nowait,
        )
        self._recorder.on_recorded.append(Journal())
        self._recorder.on_recorded.append(self._retrier.recorded)
        projection.on_change.append(self._changed)

    def hurry(self) -> None:
        """Something was published here: make a tick now."""
        self._ticker.bell.ring()

    def stop(self) -> None:
        """Asks for a clean end."""
        self._stopping.ring()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_rung

    async def run(self) -> None:
        """Runs until `stop`. Raises what a loop raised, if one failed."""
        async with asyncio.TaskGroup() as group:
            intake = [
                group.create_task(self._forever("ticker", self._ticker.run_once)),
                group.create_task(self._forever("tailer", self._tailer.run_once)),
                group.create_task(self._forever("retrier", self._retrier.run_once)),
                group.create_task(self._forever("parking", self._parking.run_once)),
            ]
            workers = [group.create_task(self._work()) for _ in range(self._limits.concurrency)]
            rest = [
                group.create_task(self._forever("recorder", self._recorder.run_once)),
                group.create_task(self._forever("leases", self._leases.run_once)),
                group.create_task(self._forever("projection", self._projection.run_once)),
                group.create_task(self._forever("suppressor", self._suppressor.run_once)),
                group.create_task(self._forever("listener", self._listen)),
                group.create_task(self._forever("partitions", self._tend_partitions)),
                group.create_task(self._forever("census", self._census.run_once)),
                group.create_task(self._forever("lag", self._census.probe_once)),
                group.create_task(self._forever("gone", self._disable_gone)),
            ]
            await self._stopping.wait_rung()
            await self._drain(intake, workers)
            for task in rest:
                task.cancel()

    async def _drain(self, intake: list[asyncio.Task[None]], workers: list[asyncio.Task[None]]) -> None:
        for task in intake:
            task.cancel()
        self._lanes.close()
        self._leases.close()
        await asyncio.wait(workers, timeout=self._settings.timeout_seconds + DRAIN_GRACE_SECONDS / 2)
        for task in workers:
            task.cancel()
        try:
            async with asyncio.timeout(DRAIN_GRACE_SECONDS):
                await self._recorder.settle()
                await self._leases.release()
        except (TimeoutError, StoreUnavailable):
            log.warning("daemon.stopped_unrecorded", rows=self._recorder.backlog)

    async def _work(self) -> None:
        while (delivery := await self._lanes.take()) is not None:
            try:
                await self._attempt(delivery)
            finally:
                self._lanes.done(delivery)

    async def _forever(self, name: str, run_once: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await run_once()
                if failures:
                    log.info("database.recovered", loop=name)
                failures = 0
            except StoreUnavailable as error:
                if failures == 0:
                    log.warning("database.unavailable", loop=name, cause=str(error))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _adopt(self, epochs: dict[int, int]) -> None:
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
        for shard, tick in checkpoints.items():
            self._ledger.adopt(shard, tick)
        self._recorder.adopt(epochs, checkpoints)
        self._parking.adopt(parked)
        self._tailer.adopt(checkpoints, accounted, newest)
        self._retrier.bell.ring()
        for route_id in parked.keys() | retrying:
            timeline = self._projection.index.timeline(route_id)
            if timeline is not None:
                self._suppressor.review(timeline.current)

    def _lost(self, shard: int) -> None:
        self._leases.lose(shard)

    def _drop(self, shard: int) -> None:
        self._tailer.drop(shard)
        self._recorder.drop(shard)
        self._lanes.drop(shard)
        self._retrier.drop(shard)
        self._parking.drop(shard)
        self._ledger.drop(shard)

    def _changed(self, route: Route, event: LifecycleEvent) -> None:
        if event.type in (Happening.DISABLED, Happening.DELETED):
            self._suppressor.review(route)

    async def _listen(self) -> None:
        def ring(channel: str) -> None:
            if channel == listen.ROUTE:
                self._projection.bell.ring()
            else:
                self._tailer.bell.ring()

        await listen.listen(self._database.url, (listen.ROUTE, listen.TICK), ring)

    async def _tend_partitions(self) -> None:
        await partitions.maintain(self._database)
        await asyncio.sleep(PARTITION_SECONDS)

    async def _disable_gone(self) -> None:
        route = await self._gone.get()
        try:
            if is_still_gone(route, self._projection.index):
                await self._on_gone(route)
        except StoreUnavailable:
            self._gone.put_nowait(route)
            raise


def incarnation(host: str, pid: int) -> str:
    """A name for this incarnation of the process: no other one ever had it."""
    return f"{host}:{pid}:{time.time_ns():x}"
