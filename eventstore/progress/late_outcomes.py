"""Late outcomes: the outcomes of requests that were in flight when their shard was handed over.

The process that handed the shard over has no lease on it any more. Before the transfer it wrote a row into `retry` with
its own name as `holder`. The successor leaves this row alone until it is due, and until then the holder may replace it
by the outcome. If the row is gone, is due, or has another holder, nothing is written, so repeating is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from eventstore.postgres.connect import DEADLINE_SECONDS, Database
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.rows import RECORDED, AttemptRow, Parameters
from eventstore.progress.steady_time import CLOCK_TIME


class LateOutcome(NamedTuple):
    """An outcome. If `after` is given, the delivery is sent again after that time; it has failed `failures` times."""

    attempt: AttemptRow
    failures: int
    after: timedelta | None


_ROW = f"r.holder = $1 AND r.due_at > {CLOCK_TIME} AND r.route_id = s.route_id AND r.seq = s.seq"


def _statement() -> str:
    """Parameters: the holder, the steady time, those of `RECORDED`, then `failures` and `after`."""
    parameters = Parameters()
    parameters.one()
    now = parameters.one()
    given = parameters.unnest((*RECORDED, "failures", "after"), "s")
    recorded = ", ".join(RECORDED)
    values = ", ".join(f"s.{name}" for name in RECORDED)
    return f"""
WITH given AS MATERIALIZED (
    SELECT * FROM {given}
), ended AS (
    DELETE FROM hookledger.retry r USING given s WHERE s.after IS NULL AND {_ROW}
    RETURNING r.route_id, r.seq
), postponed AS (
    UPDATE hookledger.retry r SET failures = s.failures, due_at = coalesce({now}, {CLOCK_TIME}) + s.after, holder = NULL
      FROM given s WHERE s.after IS NOT NULL AND {_ROW}
    RETURNING r.route_id, r.seq
), allowed AS (
    SELECT route_id, seq FROM ended UNION ALL SELECT route_id, seq FROM postponed
)
INSERT INTO hookledger.attempt ({recorded})
SELECT {values}
  FROM given s WHERE (s.route_id, s.seq) IN (SELECT route_id, seq FROM allowed)
RETURNING route_id, seq
"""


_WRITE = _statement()


async def write(
    database: Database,
    holder: str,
    outcomes: Sequence[LateOutcome],
    *,
    macs: LogMacs,
    now: datetime | None = None,
    seconds: float = DEADLINE_SECONDS * 2,
) -> set[tuple[UUID, int]]:
    """Records those of one or more outcomes that may still be recorded. Returns their (route, seq).

    `now` is the steady time from which on they wait, None for the database's.
    """
    async with database.connection(seconds=seconds) as connection:
        rows = await connection.fetch(
            _WRITE,
            holder,
            now,
            *zip(*((*outcome.attempt, macs.of_outcome(outcome.attempt)) for outcome in outcomes), strict=True),
            [outcome.failures for outcome in outcomes],
            [outcome.after for outcome in outcomes],
        )
    return {(row["route_id"], row["seq"]) for row in rows}
