"""What the deliveries of an event may wait for, as far as the tables tell: for the sentences of explanations.

What only the memory of the owner of a shard knows, such as how long a breaker stays open, is left to the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.progress.steady_time import AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReason:
    """Facts about a route with waiting deliveries. `failing_since` is when its first failure in a row was; `failed_at`
    and `error` belong to the first attempt that failed last. `first_…` is the earliest of its deliveries in `retry`,
    but for test events. `requested_…` is who had the delivery of the event sent again, when and why. `parked_upto` is
    the time of the last event of a packed row, of the row for which that is earliest.
    """

    route_id: UUID
    failing_since: datetime | None
    failed_at: datetime | None
    error: str | None
    first_seq: int | None
    first_event_id: str | None
    first_due_at: datetime | None
    requested_by: str | None
    requested_at: datetime | None
    requested_because: str | None
    parked_upto: datetime | None


# $1 routes, $2 the seq of the event
_REASONS = f"""
SELECT r.route_id, f.since AS failing_since, last.ended_at AS failed_at, last.error,
       first.seq AS first_seq, first.event_id AS first_event_id, first.due_at AS first_due_at,
       requested.actor AS requested_by, requested.at AS requested_at, requested.reason AS requested_because,
       (SELECT min(p.last_time) FROM hookledger.parked p WHERE p.route_id = r.route_id) AS parked_upto
  FROM unnest($1::uuid[]) AS r (route_id)
  LEFT JOIN hookledger.route_failing f ON f.route_id = r.route_id
  LEFT JOIN LATERAL (
       SELECT a.started_at + a.duration_ms * interval '1 millisecond' AS ended_at, a.error FROM hookledger.attempt a
        WHERE a.route_id = r.route_id AND a.outcome = 'retrying' AND a.number <= 1
        ORDER BY a.event_time DESC, a.seq DESC LIMIT 1) last ON true
  LEFT JOIN LATERAL (
       SELECT t.seq, t.due_at - {AHEAD} AS due_at,
              (SELECT e.id FROM hookledger.domain_event e
                WHERE e.seq = t.seq AND e.recorded_at = t.recorded_at) AS event_id
         FROM (SELECT * FROM hookledger.retry t
                WHERE t.route_id = r.route_id AND (  -- nothing waits behind a test event
                      SELECT e.test_route FROM hookledger.domain_event e
                       WHERE e.seq = t.seq AND e.recorded_at = t.recorded_at) IS NULL
                ORDER BY t.tick, t.seq LIMIT 1) t
       ) first ON true
  LEFT JOIN LATERAL (
       SELECT q.actor, q.at, q.reason FROM (
              SELECT m.actor, m.at, m.reason FROM hookledger.resend m WHERE m.route_id = r.route_id AND m.seq = $2
               UNION ALL
              SELECT p.actor, p.created_at, p.reason
                FROM hookledger.retry t JOIN hookledger.replay p ON p.id = t.replay
               WHERE t.route_id = r.route_id AND t.seq = $2) q
        ORDER BY q.at DESC LIMIT 1) requested ON true
"""

_IS_OWNED = """
SELECT EXISTS (SELECT FROM hookledger.lease
                WHERE shard = $1 AND owner IS NOT NULL AND expires_at >= clock_timestamp())
"""


async def of_routes(database: Database, route_ids: Sequence[UUID], *, seq: int) -> dict[UUID, WaitingReason]:
    """The facts about these routes, by route, and about the delivery to each of one event."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_REASONS, route_ids, seq)
    return {row["route_id"]: WaitingReason(**row) for row in rows}


async def is_owned(database: Database, shard: int) -> bool:
    """True if a running process sends for a shard."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_IS_OWNED, shard))
