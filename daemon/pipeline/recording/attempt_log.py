"""The canonical log line of each attempt, written after its outcome is durable.

A success that looks like a thousand others is not worth a line each: above a rate (`log.successes_per_second`) they are
counted, in a metric of their own, and the count goes with the next line that is written. Failures are always written.
These lines are left out on purpose, so they are none of those that could not be written.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from daemon.core.delivery.answer import Outcome
from daemon.pipeline.scheduling.delivery import Delivery
from eventstore.progress.rows import AttemptRow

log = structlog.get_logger()


class AttemptLog:
    """Call it with what a flush has written. `on_left_out` gets how many lines it left out, if there are any."""

    def __init__(self, *, successes_per_second: int, on_left_out: Callable[[int], None]) -> None:
        self._successes_per_second = successes_per_second
        self._on_left_out = on_left_out
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def __call__(self, rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        left_out, delivered = 0, Outcome.DELIVERED.value
        for row in rows:
            if row.outcome != delivered:
                self._write(row)
            elif self._lines < self._successes_per_second:
                self._lines += 1
                self._write(row)
            else:
                self._left_out += 1
                left_out += 1
        if left_out:
            self._on_left_out(left_out)

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
