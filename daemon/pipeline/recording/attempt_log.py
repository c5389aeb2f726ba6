"""The canonical log line of each attempt, written after its outcome is durable.

A success that looks like a thousand others is not worth a line each: above a rate, successes are counted and the count
goes with the next line that is written. Failures are always written.
"""

from __future__ import annotations

import time

import structlog

from daemon.core.delivery.answer import Outcome
from daemon.pipeline.scheduling.delivery import Delivery
from eventstore.progress.rows import AttemptRow

SUCCESS_LINES_PER_SECOND = 50

log = structlog.get_logger()


class AttemptLog:
    """Call it with what a flush has written."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def __call__(self, rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        for row in rows:
            if row.outcome == Outcome.DELIVERED and self._lines >= SUCCESS_LINES_PER_SECOND:
                self._left_out += 1
            else:
                self._lines += row.outcome == Outcome.DELIVERED
                self._write(row)

    def _write(self, row: AttemptRow) -> None:
        log.info(
            "delivery.attempted",
            tenant=row.tenant,
            route_id=str(row.route_id),
            event_id=row.event_id,
            event_type=row.event_type,
            attempt=row.number,
            outcome=row.outcome,
            status=row.status_code,
            error=row.error,
            duration_ms=row.duration_ms,
            successes_left_out=self._left_out,
        )
        self._left_out = 0
