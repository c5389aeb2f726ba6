"""Rows of the table of attempts, written in one statement as a flush does. Who fails for good has answered 500."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.support.values.builders import ROUTE

INSERT = """
INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, number, duration_ms, status_code, route_version, outcome, error, is_test, tenant, event_id, event_type)
SELECT o.at, n, 1, o.route_id, o.at, o.at, 3, o.number, 1, CASE o.outcome WHEN 'delivered' THEN 200 WHEN 'failed' THEN 500 END, 1, o.outcome, o.error, o.is_test, 'acme', 'e' || n, 'order.create'
  FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::timestamptz[], $5::text[], $6::boolean[]) WITH ORDINALITY
       AS o (route_id, outcome, number, at, error, is_test, n)
"""


async def note(
    connection: Any,
    *outcomes: str,
    route_id: UUID = ROUTE,
    number: int = 1,
    at: datetime | None = None,
    error: str | None = None,
    is_test: bool = False,
) -> None:
    """Records these outcomes, each of an event of its own, in one statement."""
    size = len(outcomes)
    times = [at or datetime.now(UTC)] * size
    await connection.execute(
        INSERT, [route_id] * size, outcomes, [number] * size, times, [error] * size, [is_test] * size
    )
