"""Builds the stages that take up deliveries from the tables: parking, ranges, retries, replays; and suppression."""

from __future__ import annotations

from datetime import timedelta

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.backlog.parking import Parking
from daemon.pipeline.backlog.ranges import Ranges
from daemon.pipeline.backlog.replayer import Replayer
from daemon.pipeline.backlog.retrier import Retrier
from daemon.pipeline.backlog.suppressor import Suppressor
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lanes import Scheduling
from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import Tunables
from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import LogMacs


class Backlog:
    """Builds the stages of this folder and joins them to the recorder. `keep` is how long events are kept."""

    def __init__(  # noqa: PLR0913 - what the stages are built of
        self,
        database: Database,
        index: RouteIndex,
        shards: HeldShards,
        scheduling: Scheduling,
        recorder: Recorder,
        evaluator: Evaluator,
        clock: SteadyClock,
        *,
        owner: str,
        known: KnownLog,
        macs: LogMacs,
        keep: timedelta,
        tunables: Tunables,
    ) -> None:
        ledger, lanes, working_set = scheduling.ledger, scheduling.lanes, scheduling.working_set
        self.retrier = Retrier(database, index, lanes, shards, working_set, clock, tunables)
        self.replayer = Replayer(database, index, lanes, self.retrier, shards, working_set, tunables)
        self.ranges = Ranges(
            database, index, ledger, recorder, evaluator, keep=keep, on_expanded=lanes.room.set, tunables=tunables
        )
        self.parking = Parking(database, ledger, lanes, recorder, self.ranges, working_set, tunables)
        self.suppressor = Suppressor(
            database, index, recorder, working_set, shards, owner=owner, known=known, macs=macs
        )
        shards.on_adopted += [self.replayer.adopted, self.suppressor.adopted]
        recorder.on_recorded += [self.retrier.recorded, self.replayer.recorded, self.parking.recorded]

    def review(self, route: Route) -> None:
        """Ends what waits for a route from a window that is closed."""
        self.suppressor.review(route)
