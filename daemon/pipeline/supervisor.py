"""Builds the stages, runs their loops in one TaskGroup, and stops them in the order that loses nothing.

A loop whose PostgreSQL is away waits and tries again; any other failure of a loop ends the process, which its own
supervisor starts anew. To stop: nothing more is started; the shards are handed over at once, so that a successor goes
on while requests of ours are still under way; those are finished and recorded.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog

from daemon import __version__
from daemon.commands import Commands
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, Route
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.pipeline.backlog.parking import Parking
from daemon.pipeline.backlog.ranges import Ranges
from daemon.pipeline.backlog.replayer import Replayer
from daemon.pipeline.backlog.retrier import Retrier
from daemon.pipeline.backlog.suppressor import Suppressor
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.intake.tailer import Tailer
from daemon.pipeline.intake.ticker import Ticker
from daemon.pipeline.recording.attempt_log import AttemptLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.sending.attempt import Attempt, AttemptSettings
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.sending.sender import Sender
from daemon.pipeline.shards.leases import Leases
from daemon.pipeline.shards.transfer import ShardTransfer
from daemon.pipeline.upkeep.auto_disable import AutoDisable, RouteDisabler
from daemon.pipeline.upkeep.gauges import Gauges
from daemon.pipeline.upkeep.maintenance import Maintenance, MetricsRollup
from daemon.pipeline.wakeup import Wakeup
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress.process import Process
from eventstore.progress.retention import Keep

log = structlog.get_logger()

BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0)
# Beyond the timeout of the requests under way, for recording what they brought.
DRAIN_GRACE_SECONDS = 4.0


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
        limits: SendingLimits,
        settings: AttemptSettings,
        commands: Commands,
        auto_disable_after: timedelta | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._database = database
        self._projection = projection
        self._metrics = metrics
        self._limits = limits
        self._settings = settings
        self._stopping = Wakeup()
        self._ledger = Ledger()
        self._recorder = Recorder(database, self._ledger, metrics, owner=owner, on_lost=self._lost)
        self._lanes = Lanes(
            limits,
            park=self._recorder.park,
            extend_range=self._recorder.extend_range,
            persist_in_flight=self._persist_in_flight,
            route_of=self._route,
        )
        self._send_gate = SendGate()
        self._seen_types = SeenTypes(database)
        self._tailer = Tailer(
            database,
            projection,
            self._ledger,
            self._lanes,
            metrics,
            self._seen_types,
            on_read=self._recorder.noted,
        )
        self._ticker = Ticker(database, projection, self._send_gate, on_tick=self._tailer.wakeup.set)
        self._retrier = Retrier(database, self._lanes, shards=lambda: self._leases.shards)
        self._replayer = Replayer(
            database, projection.index, self._lanes, self._retrier, shards=lambda: self._leases.shards
        )
        self._parking = Parking(
            database,
            self._ledger,
            self._lanes,
            self._recorder,
            Ranges(database, projection.index, self._ledger, self._recorder, keep=(keep or Keep()).events),
            timeout_seconds=settings.timeout_seconds,
            hold=self._retrier.hold,
        )
        self._suppressor = Suppressor(
            database, self._lanes, self._recorder, self._retrier, self._parking, owner=owner, epoch=self._epoch
        )
        self._transfer = ShardTransfer(
            database,
            projection,
            self._ledger,
            self._lanes,
            self._tailer,
            self._retrier,
            self._parking,
            self._recorder,
            replayer=self._replayer,
            timeout_seconds=settings.timeout_seconds,
            review=self._suppressor.review,
        )
        self._leases = Leases(
            database,
            Process(
                owner=owner,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                master_key=keychain.master_key_id,
            ),
            self._send_gate,
            on_taken=self._transfer.adopt,
            on_parting=self._transfer.part,
            on_lost=self._transfer.drop,
        )
        self._gauges = Gauges(database, projection.index, self._lanes, metrics, shards=lambda: self._leases.shards)
        self._maintenance = Maintenance(database, keep or Keep())
        self._metrics_rollup = MetricsRollup(database)
        self._route_disabler = RouteDisabler(projection.index, commands)
        self._auto_disable = None
        if auto_disable_after is not None:
            self._auto_disable = AutoDisable(
                database,
                projection.index,
                self._route_disabler,
                after=auto_disable_after,
                shards=lambda: self._leases.shards,
            )
        self._attempt = Attempt(
            projection.index,
            keychain,
            sender,
            self._recorder,
            metrics,
            settings,
            send_gate=self._send_gate,
            on_gone=self._route_disabler.gone,
        )
        self._recorder.on_recorded.append(AttemptLog())
        self._recorder.on_recorded.append(self._retrier.recorded)
        self._recorder.on_recorded.append(self._replayer.recorded)
        projection.on_change.append(self._changed)

    def hurry(self) -> None:
        """Something was published here: make a tick now."""
        self._ticker.wakeup.set()

    def stop(self) -> None:
        """Asks for a clean end."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set

    async def run(self) -> None:
        """Runs until `stop`. Raises what a loop raised, if one failed."""
        async with asyncio.TaskGroup() as group:
            intake = [
                group.create_task(self._forever("ticker", self._ticker.run_once)),
                group.create_task(self._forever("tailer", self._tailer.run_once)),
                group.create_task(self._forever("retrier", self._retrier.run_once)),
                group.create_task(self._forever("replayer", self._replayer.run_once)),
                group.create_task(self._forever("parking", self._parking.run_once)),
            ]
            workers = [group.create_task(self._work()) for _ in range(self._limits.workers)]
            rest = [
                group.create_task(self._forever("recorder", self._recorder.run_once)),
                group.create_task(self._forever("leases", self._leases.beat_once)),
                group.create_task(self._forever("sharing", self._leases.share_once)),
                group.create_task(self._forever("projection", self._projection.run_once)),
                group.create_task(self._forever("suppressor", self._suppressor.run_once)),
                group.create_task(self._forever("listener", self._listen)),
                group.create_task(self._forever("maintenance", self._maintenance.run_once)),
                group.create_task(self._forever("gauges", self._gauges.run_once)),
                group.create_task(self._forever("loop lag", self._gauges.probe_once)),
                group.create_task(self._forever("metrics rollup", self._metrics_rollup.run_once)),
                group.create_task(self._forever("seen_types", self._seen_types.run_once)),
                group.create_task(self._forever("route disabler", self._route_disabler.run_once)),
            ]
            if self._auto_disable is not None:
                rest.append(group.create_task(self._forever("auto disable", self._auto_disable.run_once)))
            await self._stopping.wait_set()
            await self._drain(intake, workers)
            for task in rest:
                task.cancel()

    async def _drain(self, intake: list[asyncio.Task[None]], workers: list[asyncio.Task[None]]) -> None:
        for task in intake:
            task.cancel()
        self._lanes.close()
        try:
            async with asyncio.timeout(self._settings.timeout_seconds + DRAIN_GRACE_SECONDS):
                await asyncio.gather(self._leave(), asyncio.wait(workers))
                await self._recorder.settle()
        except TimeoutError:
            log.warning("daemon.stopped_unrecorded", rows=self._recorder.backlog)
        for task in workers:
            task.cancel()

    async def _leave(self) -> None:
        while True:
            try:
                return await self._leases.leave()
            except StoreUnavailable:
                await asyncio.sleep(BACKOFF_SECONDS[0])

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

    def _epoch(self, shard: int) -> int | None:
        return self._leases.epoch(shard)

    def _lost(self, shard: int) -> None:
        self._leases.lose(shard)

    def _persist_in_flight(self, delivery: Delivery) -> None:
        self._parking.persist_in_flight(delivery)

    def _route(self, route_id: UUID) -> Route | None:
        timeline = self._projection.index.timeline(route_id)
        return None if timeline is None else timeline.current

    def _changed(self, route: Route, event: LifecycleEvent) -> None:
        self._lanes.configure(route)
        self._gauges.wakeup.set()
        if event.type in (LifecycleEventType.DISABLED, LifecycleEventType.DELETED):
            self._suppressor.review(route)

    async def _listen(self) -> None:
        def wake(channel: str) -> None:
            for wakeup in wakeups[channel]:
                wakeup.set()

        wakeups = {
            listen.ROUTE: (self._projection.wakeup,),
            listen.TICK: (self._tailer.wakeup,),
            listen.LEASE: (self._leases.wakeup,),
            listen.RETRY: (self._retrier.wakeup, self._replayer.wakeup),
        }
        await listen.listen(self._database.url, list(wakeups), wake)


def incarnation(host: str, pid: int) -> str:
    """A name for this incarnation of the process: no other one ever had it."""
    return f"{host}:{pid}:{time.time_ns():x}"
