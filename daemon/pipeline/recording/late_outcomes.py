"""Outcomes of requests that were under way when their shard was handed over (eventstore/progress/late_outcomes.py).

They are noted like any outcome and written without the lease, by right of the row that was left in `retry`. The flush
before the hand-over writes that row. So the recorder takes late outcomes before a flush, and writes them after it.
"""

from __future__ import annotations

from datetime import timedelta

from daemon.pipeline.loops import Patience
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.steady_clock import SteadyClock
from eventstore.postgres.connect import Database
from eventstore.progress import late_outcomes
from eventstore.progress.late_outcomes import LateOutcome
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.rows import AttemptRow

_BACKOFF_SECONDS = 0.25


class LateOutcomes:
    """`note` collects them, `take` returns what was noted, `write` writes it."""

    def __init__(self, database: Database, owner: str, macs: LogMacs, clock: SteadyClock) -> None:
        self._database = database
        self._owner = owner
        self._macs = macs
        self._clock = clock
        self._patience = Patience("late outcomes", pause_seconds=_BACKOFF_SECONDS)
        self._noted: list[LateOutcome] = []

    def __bool__(self) -> bool:
        return bool(self._noted)

    def note(self, delivery: Delivery, row: AttemptRow, retry_after: timedelta | None) -> None:
        """Notes how the last request of a delivery ended."""
        self._noted.append(LateOutcome(row, delivery.failures, retry_after))

    def take(self) -> list[LateOutcome]:
        """What was noted so far."""
        noted, self._noted = self._noted, []
        return noted

    async def write(self, outcomes: list[LateOutcome]) -> list[AttemptRow]:
        """Writes them, however long that takes; returns the rows that were still ours to write."""
        written = await self._patience.until_answered(
            lambda: late_outcomes.write(self._database, self._owner, outcomes, macs=self._macs, now=self._clock.now())
        )
        return [o.attempt for o in outcomes if (o.attempt.route_id, o.attempt.seq) in written]
