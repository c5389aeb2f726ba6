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

import structlog

from daemon import __version__
from daemon.commands import Commands
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, Route
from daemon.expressions.evaluator import Evaluator
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.pipeline.backlog.backlog import Backlog
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.deferred import DeferredEvents
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.intake.tailer import Tailer
from daemon.pipeline.intake.ticker import Ticker
from daemon.pipeline.recording.attempt_log import AttemptLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lanes import Lanes, Scheduling
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.sending.attempt import Attempt, AttemptSettings
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.sending.sender import Sender
from daemon.pipeline.shards.leases import Leases
from daemon.pipeline.shards.transfer import ShardTransfer
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.upkeep.auto_disable import AutoDisable, RouteDisabler
from daemon.pipeline.upkeep.gauges import Gauges
from daemon.pipeline.upkeep.maintenance import Maintenance, MetricsRollup
from daemon.pipeline.upkeep.tick_watch import TickWatch
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

Loops = dict[str, Callable[[], Awaitable[None]]]


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
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._settings = settings
        self._limits = limits
        self._stopping = Wakeup()
        index, keep = projection.index, keep or Keep()

        # What every stage stands on.
        self.shards = HeldShards()
        self._gate = SendGate(self.shards)
        self._ledger = Ledger(tunables)
        self._working_set = working_set = WorkingSet()

        # The way of an event, from the tick to its outcome.
        self._projection = projection
        self._recorder = Recorder(
            database,
            self._ledger,
            self.shards,
            working_set,
            metrics,
            owner=owner,
            timeout_seconds=settings.timeout_seconds,
            tunables=tunables,
        )
        self._lanes = Lanes(limits, self._recorder, working_set, index, tunables)
        self._seen_types = SeenTypes(database)
        self._evaluator = Evaluator(metrics)
        self._decider = Decider(
            index,
            self._ledger,
            self._lanes,
            metrics,
            self._seen_types,
            self._evaluator,
            DeferredEvents(database, tunables),
            tunables=tunables,
        )
        self._deferring_tenants = tunables.deferring_tenants
        self._tailer = Tailer(
            database, projection, self._ledger, self._decider, on_read=self._recorder.noted, tunables=tunables
        )
        self._ticker = Ticker(database, projection, self._gate, on_tick=self._tailer.wakeup.set)
        self._route_disabler = RouteDisabler(index, commands)
        self._attempt = Attempt(
            index,
            keychain,
            sender,
            self._recorder,
            metrics,
            settings,
            evaluator=self._evaluator,
            tunables=tunables,
            send_gate=self._gate,
            on_gone=self._route_disabler.gone,
            on_heavy=self._lanes.found_slow,
        )

        # What waits in the tables, and which shards are ours.
        self._recorder.on_recorded.append(AttemptLog())
        self._backlog = Backlog(
            database,
            index,
            self.shards,
            Scheduling(ledger=self._ledger, working_set=working_set, lanes=self._lanes),
            self._recorder,
            self._evaluator,
            owner=owner,
            keep=keep.events,
            tunables=tunables,
        )
        # In the order in which they end: nothing new is decided, nothing new is sent, all is written, all is forgotten.
        self.shards.members = (
            self._tailer,
            self._lanes,
            self._backlog.parking,
            self._backlog.retrier,
            self._backlog.replayer,
            self._recorder,
            self._ledger,
            self._backlog.suppressor,
        )
        transfer = ShardTransfer(database, projection, self.shards)
        self._leases = Leases(
            database,
            _process(owner, keychain),
            self.shards,
            on_taken=transfer.read,
            on_parting=transfer.part,
            tunables=tunables,
        )

        # Beside the way.
        self._gauges = Gauges(database, index, self._lanes, metrics, shards=self.shards)
        self._keychain = keychain
        self._idle_secret_seconds = tunables.idle_secret_seconds
        self._tick_watch = TickWatch(database, metrics)
        self._upkeep: Loops = {
            "keychain": self._forget_idle_secrets,
            "tick watch": self._tick_watch.run_once,
            "maintenance": Maintenance(database, keep, tunables).run_once,
            "metrics rollup": MetricsRollup(database, tunables).run_once,
            "route disabler": self._route_disabler.run_once,
            "gauges": self._gauges.run_once,
            "loop lag": self._gauges.probe_once,
            "seen types": self._seen_types.run_once,
        }
        if auto_disable_after is not None:
            self._upkeep["auto disable"] = AutoDisable(
                database, index, self._route_disabler, after=auto_disable_after, shards=self.shards, tunables=tunables
            ).run_once
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

    @property
    def tick_age_seconds(self) -> float:
        """How long committed events have been waiting for a tick, 0 if none are."""
        return self._tick_watch.age_seconds

    async def run(self) -> None:
        """Runs until `stop`. Raises what a loop raised, if one failed."""
        intake: Loops = {
            "ticker": self._ticker.run_once,
            "tailer": self._tailer.run_once,
            **{f"decider {number}": self._decider.run_once for number in range(self._deferring_tenants)},
            "retrier": self._backlog.retrier.run_once,
            "replayer": self._backlog.replayer.run_once,
            "parking": self._backlog.parking.run_once,
        }
        rest: Loops = {
            "recorder": self._recorder.run_once,
            "evaluator": self._evaluator.run_once,
            "leases": self._leases.beat_once,
            "sharing": self._leases.share_once,
            "projection": self._projection.run_once,
            "suppressor": self._backlog.suppressor.run_once,
            "listener": self._listen,
            **self._upkeep,
        }
        async with asyncio.TaskGroup() as group:
            taking_in = [group.create_task(_forever(name, run_once)) for name, run_once in intake.items()]
            workers = [group.create_task(self._work()) for _ in range(self._limits.workers)]
            others = [group.create_task(_forever(name, run_once)) for name, run_once in rest.items()]
            await self._stopping.wait_set()
            await self._drain(taking_in, workers)
            for task in others:
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

    def _changed(self, route: Route, event: LifecycleEvent) -> None:
        self._lanes.configure(route)
        self._gauges.wakeup.set()
        if event.type in (LifecycleEventType.DISABLED, LifecycleEventType.DELETED):
            self._backlog.review(route)

    async def _forget_idle_secrets(self) -> None:
        await asyncio.sleep(self._idle_secret_seconds)
        self._keychain.age()

    async def _listen(self) -> None:
        wakeups = {
            listen.ROUTE: (self._projection.wakeup,),
            listen.TICK: (self._tailer.wakeup,),
            listen.LEASE: (self._leases.wakeup,),
            listen.RETRY: (self._backlog.retrier.wakeup, self._backlog.replayer.wakeup),
        }

        def wake(channel: str) -> None:
            for wakeup in wakeups[channel]:
                wakeup.set()

        await listen.listen(self._database.url, list(wakeups), wake)


async def _forever(name: str, run_once: Callable[[], Awaitable[None]]) -> None:
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


def _process(owner: str, keychain: Keychain) -> Process:
    return Process(
        owner=owner, host=socket.gethostname(), pid=os.getpid(), version=__version__, master_key=keychain.master_key_id
    )


def incarnation(host: str, pid: int) -> str:
    """A name for this incarnation of the process: no other one ever had it."""
    return f"{host}:{pid}:{time.time_ns():x}"
