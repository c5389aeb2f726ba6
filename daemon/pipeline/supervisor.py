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
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import timedelta
from types import coroutine

import structlog

from daemon import __version__
from daemon.commands import Commands
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, Route
from daemon.credentials.keys import Keychain
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.judging import FilterPlaces
from daemon.operations import NOBODY, Audience
from daemon.pipeline.backlog.backlog import Backlog
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.http_client.sender import Sender
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.pipeline.intake.intake import Intake
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.loops import BACKOFF_SECONDS, Loops, Outages, Patience, run_forever
from daemon.pipeline.recording.attempt_log import AttemptLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lanes import Lanes, Scheduling
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.sending.attempt import Attempt, AttemptSettings
from daemon.pipeline.sending.attempt_spans import AttemptSpans
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.shards.leases import Leases
from daemon.pipeline.shards.lifelines import Lifelines
from daemon.pipeline.shards.transfer import ShardTransfer
from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.upkeep.auto_disable import RouteDisabler
from daemon.pipeline.upkeep.operational_events import OperationalEvents
from daemon.pipeline.upkeep.sealing import SealSettings
from daemon.pipeline.upkeep.upkeep import Upkeep
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime.tasks import TaskGroup
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.spans import Tracing
from eventstore.domain_events.events import NewEvent
from eventstore.leases.process import Process
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.retention.retention import Keep

log = structlog.get_logger()

# Beyond the timeout of the requests under way, for recording what they brought.
DRAIN_GRACE_SECONDS = 4.0

# A stage that waits for PostgreSQL for longer makes the process unready. Nothing is delivered without these.
OUTAGE_SECONDS = 10.0
STANDING_SECONDS = 600.0
_NEEDED = ("ticker", "tailer", "recorder", "leases", "projection")


class Pipeline:
    """All stages of one process. `run` returns after `stop`, when everything under way is recorded. `feed` serves those
    who follow events beside it, and `tracing` takes a span of each attempt. `success_lines_per_second`
    attempts that succeed have a line in the log.
    """

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
        audience: Audience = NOBODY,
        seals: SealSettings | None = None,
        keep: Keep | None = None,
        needs_durability: bool = False,
        feed: EventFeed | None = None,
        tracing: Tracing | None = None,
        success_lines_per_second: int = 50,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._settings = settings
        self._limits = limits
        self._stopping = Wakeup()
        self._outages = Outages()
        index, keep = projection.index, keep or Keep()

        # What every stage stands on.
        self.shards = HeldShards()
        self._gate = SendGate(self.shards)
        clock = SteadyClock(tunables)
        self._ledger = Ledger(tunables)
        self._working_set = WorkingSet()
        self._evaluator = Evaluator(metrics)
        # For those who judge events to answer a request.
        self.filter_places = FilterPlaces(
            evaluator=self._evaluator, allowance=tunables.loop_allowance, patience_seconds=tunables.judge_seconds
        )
        known = KnownLog()

        # The way of an event, from the tick to its outcome.
        self._projection = projection
        self._recorder = Recorder(
            database,
            self._ledger,
            self.shards,
            self._working_set,
            metrics,
            owner=owner,
            known=known,
            macs=keychain.log_macs,
            timeout_seconds=settings.timeout_seconds,
            clock=clock,
            outages=self._outages,
            tunables=tunables,
        )
        self._recorder.on_recorded.append(
            AttemptLog(successes_per_second=success_lines_per_second, on_left_out=metrics.log_lines_left_out.inc)
        )
        self._lanes = Lanes(limits, self._recorder, self._working_set, index, tunables)
        scheduling = Scheduling(ledger=self._ledger, working_set=self._working_set, lanes=self._lanes)
        self._intake = Intake(
            database,
            projection,
            self._gate,
            self.shards,
            scheduling,
            self._evaluator,
            metrics,
            owner=owner,
            known=known,
            tunables=tunables,
        )
        self._feed = feed
        if feed is not None:
            self._intake.ticker.on_tick.append(feed.told)
            self._intake.log_watch.on_begun_anew.append(feed.forget)
        route_disabler = RouteDisabler(index, commands)
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
            on_gone=route_disabler.gone,
            on_heavy=self._lanes.found_slow,
            on_attempted=None if tracing is None else AttemptSpans(tracing),
        )

        # What waits in the tables, and what goes on beside.
        self._backlog = Backlog(
            database,
            index,
            self.shards,
            scheduling,
            self._recorder,
            self._evaluator,
            clock,
            owner=owner,
            known=known,
            macs=keychain.log_macs,
            keep=keep.events,
            tunables=tunables,
        )
        self._operational_events: OperationalEvents | None = None
        if audience != NOBODY:
            self._operational_events = OperationalEvents(database, index, audience, owner=owner, tunables=tunables)
            self._recorder.on_recorded.append(self._operational_events.recorded)
        self._upkeep = Upkeep(
            database,
            index,
            self._lanes,
            self.shards,
            keychain,
            route_disabler,
            metrics,
            clock,
            owner=owner,
            polled_at=lambda: self._intake.log_watch.polled_at,
            clock_reading=lambda: self._intake.log_watch.clock_reading,
            auto_disable_after=auto_disable_after,
            seals=seals,
            operational_events=self._operational_events,
            keep=keep,
            needs_durability=needs_durability,
            tunables=tunables,
        )

        self._recorder.on_recorded.append(self._upkeep.health_watch.recorded)
        self._recorder.on_recorded.append(self._upkeep.metrics_rollup.recorded)
        self._intake.log_watch.on_clock_read.append(self._upkeep.clock_watch.told)
        self._recorder.on_recorded.append(self._upkeep.quiet_time.heard)
        self._intake.ticker.on_tick.append(self._upkeep.quiet_time.heard)

        # In the order in which they end: nothing new is decided, nothing new is sent, all is written, all is forgotten.
        self.shards.members = (
            self._intake.tailer,
            self._lanes,
            self._backlog.parking,
            self._backlog.retrier,
            self._recorder,
            self._ledger,
        )
        transfer = ShardTransfer(database, projection, self.shards, self._intake.log_watch)
        self._lifelines = Lifelines(owner, self.shards, tunables, on_glance=self._intake.ticker.glanced)
        self._leases = Leases(
            database,
            _process(owner, keychain),
            self.shards,
            self._lifelines,
            on_taken=transfer.read,
            on_parting=transfer.part,
            on_renewed=known.heartbeats.append,
            tunables=tunables,
        )
        projection.on_change.append(self._changed)
        projection.on_folded_anew.append(self._lanes.configure_anew)

    def hurry(self) -> None:
        """Something was published here: make a tick now."""
        self._intake.ticker.wakeup.set()

    async def publish(
        self, database: Database, events: Sequence[NewEvent], *, seconds: float, lock_seconds: float | None = None
    ) -> list[bool]:
        """Publishes as `domain_events.publish` does, and makes the tick of it at once."""
        return await self._intake.publisher.publish(database, events, seconds=seconds, lock_seconds=lock_seconds)

    def tell(self, events: Sequence[NewEvent]) -> None:
        """Publishes operational events soon, if anybody is told of any."""
        if self._operational_events is not None:
            self._operational_events.tell(events)

    def stop(self) -> None:
        """Asks for a clean end."""
        self._stopping.set()
        if self._feed is not None:
            self._feed.close()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set

    @property
    def log_fault(self) -> str | None:
        """Why nothing is sent any more, as a sentence, if the route log was rewritten."""
        rewritten = self._intake.log_watch.rewritten
        return None if rewritten is None else f"{rewritten}. Next: {rewritten.hint}"

    @property
    def sealing_fault(self) -> str | None:
        """What keeps this process from sealing, or from keeping signed heads, as a sentence."""
        return None if self._upkeep.sealing is None else self._upkeep.sealing.fault

    @property
    def stage_faults(self) -> list[str]:
        """Which stages that every delivery needs get no answer from PostgreSQL for long, and why, and what else is
        wrong with the server, in sentences.
        """
        return self._outages.longer_than(OUTAGE_SECONDS, _NEEDED) + self._upkeep.server_watch.faults

    @property
    def standing_faults(self) -> list[str]:
        """The same of all other stages, after a time in which what passes by itself has passed; and what keeps old days
        from being dropped.
        """
        standing = self._outages.longer_than(STANDING_SECONDS, _NEEDED, others=True)
        return standing + self._upkeep.maintenance.faults

    @property
    def tick_age_seconds(self) -> float:
        """How long committed events have been waiting for a tick, 0 if none are."""
        return self._upkeep.tick_watch.age_seconds

    @property
    def clock_skew_seconds(self) -> float:
        """How far this machine's clock is ahead of the database's."""
        return self._upkeep.clock_watch.skew_seconds

    @property
    def clock_step_seconds(self) -> float:
        """The last step of the database's clock within an hour, 0 if there was none."""
        return self._upkeep.clock_watch.step_seconds

    async def run(self) -> None:
        """Runs until `stop`. Raises what a loop raised, if one failed."""
        intake: Loops = {
            **self._intake.loops(),
            "retrier": self._backlog.retrier.run_once,
            "replayer": self._backlog.replayer.run_once,
            "parking": self._backlog.parking.run_once,
            "ranges": self._backlog.ranges.run_once,
        }
        rest: Loops = {
            "recorder": self._recorder.run_once,
            "evaluator": self._evaluator.run_once,
            "leases": self._leases.beat_once,
            "sharing": self._leases.share_once,
            "projection": self._projection.run_once,
            "suppressor": self._backlog.suppressor.run_once,
            "seen types": self._intake.seen_types.run_once,
            "listener": self._listen,
            **({} if self._feed is None else {"event feed": self._feed.run_once}),
            **self._upkeep.loops,
        }
        async with TaskGroup() as group:
            taking_in = [
                group.create_task(run_forever(name, run_once, self._outages)) for name, run_once in intake.items()
            ]
            workers = [group.create_task(self._work()) for _ in range(self._limits.workers)]
            others = [group.create_task(self._repeat(name, run_once)) for name, run_once in rest.items()]
            await self._stopping.wait_set()
            await self._drain(taking_in, workers)
            for task in others:
                task.cancel()

    async def _repeat(self, name: str, run_once: Callable[[], Awaitable[None]]) -> None:
        await run_forever(name, run_once, self._outages)

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
        await Patience("leaving", pause_seconds=BACKOFF_SECONDS[0]).until_answered(self._leases.leave)

    async def _work(self) -> None:
        """Makes one attempt after the other. It lets the others go first before each attempt and after it.

        Under load many workers end their attempts one after the other then, after that all of them take the next
        deliveries, and then make their requests, instead of each doing all of it. What was run just before is still in
        the caches of the processor: to note an answer and to end the turn takes 3.7 µs less, to build a request 2.5 µs.
        Each pause takes less than 1 µs. A delivery takes an eighth less of the daemon's CPU time in all.
        """
        while (delivery := await self._lanes.take()) is not None:
            try:
                await _others()
                await self._attempt(delivery)
            finally:
                self._lanes.done(delivery, takes_next=True)
            await _others()

    def _changed(self, route: Route, event: LifecycleEvent) -> None:
        self._lanes.configure(route)
        self._upkeep.gauges.wakeup.set()
        if event.type in (LifecycleEventType.DISABLED, LifecycleEventType.DELETED):
            self._backlog.review(route)
            self._upkeep.health_watch.ended(route)

    async def _listen(self) -> None:
        wakeups = {
            listen.ROUTE: (self._projection.wakeup,),
            listen.LEASE: (self._leases.wakeup,),
            listen.RETRY: (self._backlog.retrier.wakeup, self._backlog.replayer.wakeup),
        }

        def heard(channel: str, payload: str) -> None:
            if channel == listen.TICK:
                self._intake.ticker.heard(payload)
                return
            for wakeup in wakeups[channel]:
                wakeup.set()

        await listen.listen(self._database.url, [listen.TICK, *wakeups], heard, guest=self._lifelines)


@coroutine
def _others() -> Generator[None, None, None]:
    """Lets go first what is to run now. `asyncio.sleep(0)` does the same, and takes a coroutine more."""
    yield


def _process(owner: str, keychain: Keychain) -> Process:
    return Process(
        owner=owner, host=socket.gethostname(), pid=os.getpid(), version=__version__, master_key=keychain.master_key_id
    )


def incarnation(host: str, pid: int) -> str:
    """A name for this incarnation of the process: no other one ever had it."""
    return f"{host}:{pid}:{time.time_ns():x}"
