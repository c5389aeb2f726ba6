"""Test events: examples that are published like ordinary events, but for one route only.

They do not go through `hookledger.publish_many`, which producers can call: a producer must not be able to send to a
single route.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.queries.events.listing import COLUMNS, READ_SECONDS, WITH_TICK, LoggedEvent, logged_event

_PUBLISH = """
INSERT INTO hookledger.domain_event (tenant, id, type, data, context, snapshot, test_route)
SELECT e.tenant, e.id, e.type, e.data, e.context, e.snapshot, $1
  FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[])
       WITH ORDINALITY AS e (tenant, id, type, data, context, snapshot, ordinal)
 ORDER BY e.ordinal
RETURNING id, recorded_at
"""

# $1 tenant, $2 the ids, $3 the route. OFFSET 0 keeps the planner from walking through the tenant's events.
_SENT = WITH_TICK.format(
    events=f"""
    SELECT *, row_number() OVER (ORDER BY seq) AS nth FROM (
        SELECT {COLUMNS} FROM hookledger.domain_event WHERE tenant = $1 AND id = ANY ($2::text[]) OFFSET 0) found
     WHERE test_route = $3"""
)


async def publish(database: Database, route_id: UUID, events: Sequence[NewEvent]) -> dict[str, datetime]:
    """Stores test events for one route durably, and returns when each was recorded, by its id. The caller has made
    their ids new. Raises StoreUnavailable.
    """
    async with database.connection() as connection:
        stored = await connection.fetch(
            _PUBLISH,
            route_id,
            [event.tenant for event in events],
            [event.id for event in events],
            [event.type for event in events],
            [event.data for event in events],
            [event.context for event in events],
            [event.snapshot for event in events],
        )
    return {row["id"]: row["recorded_at"] for row in stored}


async def sent(database: Database, tenant: str, route_id: UUID, event_ids: Sequence[str]) -> list[LoggedEvent]:
    """Those of these events that are test events of the route, by seq."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_SENT, tenant, event_ids, route_id)
    return [logged_event(row) for row in found]
