"""Finished deliveries as rows: an event for each, and the outcomes of its attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from daemon.core.delivery.answer import delivery_id, delivery_key
from tests.support.values.builders import ROUTE

_WRITE = """
WITH event AS (
    INSERT INTO hookledger.domain_event (seq, tenant, id, type, data, test_route, occurred_at)
    SELECT $1::bigint, 'acme', 'e' || $1::bigint, 'order.create', '{}', CASE WHEN $4 THEN $2::uuid END,
           CASE WHEN $5::interval > interval '0' THEN clock_timestamp() - $5::interval END
    RETURNING seq, least(occurred_at, recorded_at) AS event_time, shard
)
INSERT INTO hookledger.attempt (at, seq, tick, route_id, event_time, started_at, shard, number, duration_ms, route_version, outcome, is_test, tenant, event_id, event_type, delivery_key)
SELECT clock_timestamp(), e.seq, 1, $2, e.event_time, clock_timestamp(), e.shard, o.number, 1, 1, o.outcome, $4, 'acme', 'e' || e.seq, 'order.create', $6
  FROM event e, unnest($3::text[]) WITH ORDINALITY AS o (outcome, number)
"""


async def store_finished(
    connection: Any,
    seq: int,
    *outcomes: str,
    route_id: UUID = ROUTE,
    is_test: bool = False,
    ago: timedelta = timedelta(0),
) -> None:
    """Stores event number `seq`, which happened `ago`, and an attempt for each outcome, in order."""
    key = delivery_key(delivery_id(route_id, f"e{seq}", datetime.now(UTC) - ago))
    await connection.execute(_WRITE, seq, route_id, list(outcomes), is_test, ago, key)
