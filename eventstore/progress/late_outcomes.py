"""Farewells: the outcome of a request that was under way when its shard was handed over.

Whoever handed the shard over holds no lease on it any more. What lets it write is the row in `retry` that it left there
before it let go, with its own name as `holder`: the successor leaves the row alone until it is due, and until then the
holder may replace it by the outcome. A row that is gone, due or another's writes nothing, so repeating is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from eventstore.postgres.connect import DEADLINE_SECONDS, Database
from eventstore.progress.recording import AttemptRow


class LateOutcome(NamedTuple):
    """An outcome; with `after` the delivery is to be tried again by then, having failed `failures` times."""

    attempt: AttemptRow
    failures: int
    after: timedelta | None


_ROW = "r.holder = $1 AND r.due_at > clock_timestamp() AND r.route_id = s.route_id AND r.seq = s.seq"

# $1 the holder, $2 to $21 the outcomes, $22 failures, $23 after
_SAY = f"""
WITH said AS MATERIALIZED (
    SELECT * FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::timestamptz[], $7::timestamptz[],
           $8::smallint[], $9::integer[], $10::integer[], $11::integer[], $12::text[], $13::text[], $14::text[],
           $15::text[], $16::text[], $17::text[], $18::text[], $19::bytea[], $20::boolean[], $21::integer[],
           $22::integer[], $23::interval[])
        AS s (shard, seq, tick, route_id, event_time, started_at, status_code, number, duration_ms, route_version,
              outcome, error, tenant, event_id, event_type, key_ids, response_head, response_body, is_test,
              delivery_key, failures, after)
), ended AS (
    DELETE FROM hookledger.retry r USING said s WHERE s.after IS NULL AND {_ROW}
    RETURNING r.route_id, r.seq
), postponed AS (
    UPDATE hookledger.retry r SET failures = s.failures, due_at = clock_timestamp() + s.after, holder = NULL
      FROM said s WHERE s.after IS NOT NULL AND {_ROW}
    RETURNING r.route_id, r.seq
), allowed AS (
    SELECT route_id, seq FROM ended UNION ALL SELECT route_id, seq FROM postponed
)
INSERT INTO hookledger.attempt (shard, seq, tick, route_id, event_time, started_at, status_code, number, duration_ms,
       route_version, outcome, error, tenant, event_id, event_type, key_ids, response_head, response_body, is_test,
       delivery_key)
SELECT s.shard, s.seq, s.tick, s.route_id, s.event_time, s.started_at, s.status_code, s.number, s.duration_ms,
       s.route_version, s.outcome, s.error, s.tenant, s.event_id, s.event_type, s.key_ids, s.response_head,
       s.response_body, s.is_test, s.delivery_key
  FROM said s WHERE (s.route_id, s.seq) IN (SELECT route_id, seq FROM allowed)
RETURNING route_id, seq
"""


async def write(
    database: Database, holder: str, farewells: Sequence[LateOutcome], *, seconds: float = DEADLINE_SECONDS * 2
) -> set[tuple[UUID, int]]:
    """Records what may still be recorded of one farewell or more; returns those pairs of route and seq."""
    async with database.connection(seconds=seconds) as connection:
        rows = await connection.fetch(
            _SAY,
            holder,
            *zip(*(farewell.attempt for farewell in farewells), strict=True),
            [farewell.failures for farewell in farewells],
            [farewell.after for farewell in farewells],
        )
    return {(row["route_id"], row["seq"]) for row in rows}
