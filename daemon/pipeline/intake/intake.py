"""Builds the stages from a committed event to a decided delivery, and gives their loops to the supervisor."""

from __future__ import annotations

from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.deferred import DeferredEvents
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.intake.tail.tailer import Tailer
from daemon.pipeline.intake.ticks.log_watch import LogWatch
from daemon.pipeline.intake.ticks.publishing import TickingPublisher
from daemon.pipeline.intake.ticks.ticker import Ticker
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.loops import Loops
from daemon.pipeline.scheduling.lanes import Scheduling
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.tunables import Tunables
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database


class Intake:
    """Builds the stages of this folder. `known` is what is known of the log."""

    def __init__(  # noqa: PLR0913 - what it is built of
        self,
        database: Database,
        projection: Projection,
        gate: SendGate,
        shards: HeldShards,
        scheduling: Scheduling,
        evaluator: Evaluator,
        metrics: Metrics,
        *,
        owner: str,
        known: KnownLog,
        tunables: Tunables,
    ) -> None:
        ledger = scheduling.ledger
        self._decisions_at_once = tunables.deferring_tenants
        self.seen_types = SeenTypes(database)
        self._decider = Decider(
            projection.index,
            ledger,
            scheduling.lanes,
            metrics,
            self.seen_types,
            evaluator,
            DeferredEvents(database, tunables),
            tunables=tunables,
        )
        self.tailer = Tailer(database, projection, ledger, self._decider, tunables=tunables)
        self.log_watch = LogWatch(database, projection, shards, known, metrics, owner=owner)
        self.log_watch.on_begun_anew.append(self.tailer.forget)
        self.log_watch.on_rewritten.append(gate.close)
        self.ticker = Ticker(self.log_watch, projection, gate, self.tailer)
        self.publisher = TickingPublisher(self.ticker, self.log_watch, lambda: self.tailer.read_upto)

    def loops(self) -> Loops:
        """What takes in events. It ends first when the process is to stop."""
        deciders: Loops = {f"decider {number}": self._decider.run_once for number in range(self._decisions_at_once)}
        return {"ticker": self.ticker.run_once, **self.tailer.loops(), **deciders}
