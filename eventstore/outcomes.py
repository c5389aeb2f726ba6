"""The outcome log as it is read: for explain, for audits, for whoever asks what became of a delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventstore.connect import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A row of the outcome log."""

    at: datetime
    seq: int
    route_id: UUID
    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    route_version: int
    key_ids: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Where a delivery without a last word waits: `retrying` with its next attempt, or `parked`."""

    seq: int
    route_id: UUID
    state: str
    failures: int
    due_at: datetime | None


_ATTEMPTS = """
SELECT at, seq, route_id, number, started_at, duration_ms, outcome, status_code, error, route_version, key_ids
  FROM hookledger.attempt
 WHERE route_id = ANY ($1::uuid[]) AND seq >= $2 AND seq <= $3
 ORDER BY at, number
"""

_PENDING = """
SELECT seq, route_id, 'retrying' AS state, failures, due_at FROM hookledger.retry
 WHERE route_id = ANY ($1::uuid[]) AND seq >= $2 AND seq <= $3
 UNION ALL
SELECT s.seq, p.route_id, 'parked', 0, NULL FROM hookledger.parked p, unnest(p.seqs) AS s (seq)
 WHERE p.route_id = ANY ($1::uuid[]) AND s.seq >= $2 AND s.seq <= $3
"""


_RANGES = "SELECT route_id, from_tick FROM hookledger.parked_range WHERE route_id = ANY ($1::uuid[])"


async def attempts(database: Database, routes: Sequence[UUID], *, first: int, last: int) -> list[Attempt]:
    """What was recorded for these routes and the events with seq in [first, last], in the order of recording."""
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_ATTEMPTS, routes, first, last)
    return [Attempt(**row) for row in rows]


async def pending(database: Database, routes: Sequence[UUID], *, first: int, last: int) -> list[Pending]:
    """What of the same still waits."""
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_PENDING, routes, first, last)
    return [Pending(**row) for row in rows]


async def ranges(database: Database, routes: Sequence[UUID]) -> dict[UUID, int]:
    """Of these routes, those with a range: all that they are due of ticks from that one on is parked.

    What waits moves from ranges to rows and from rows to outcomes. So read this first, then `pending`, then `attempts`:
    in that order nothing slips through.
    """
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_RANGES, routes)
    return {row["route_id"]: row["from_tick"] for row in rows}
