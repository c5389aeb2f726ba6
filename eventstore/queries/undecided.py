"""Events of which nobody has written down yet what became of them: those above a checkpoint, or in a range. Those that
no tick has read are above any.

A checkpoint and a range (`parked_range`) both begin at a tick. So the question is the same: which events of a tenant
were read after a tick. If few events at all were, which is nearly always, they are found by their transactions; else,
after an outage or for a route that is dead for long, by walking down what the tenant has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventstore.domain_events.events import shard_of
from eventstore.domain_events.listing import CLAIMED, COLUMNS, READ_SECONDS, WITH_TICK, LoggedEvent, logged
from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database
from eventstore.queries.delivery_log import ListPosition

# Of whichever tenant; more are walked.
FEW_EVENTS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How far a shard is accounted for: all up to the tick `checkpoint`, but for the routes with a range, of which all
    waits from that tick on.
    """

    checkpoint: int
    ranges: Mapping[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """Events, downwards: all that were read after the tick down to `down_to`, or all there are if that is None."""

    events: list[LoggedEvent]
    down_to: ListPosition | None


_MARKS = """
SELECT c.tick, p.route_id, p.from_tick
  FROM hookledger.checkpoint c LEFT JOIN hookledger.parked_range p USING (shard) WHERE c.shard = $1
"""

_SNAP = "SELECT snap::text FROM hookledger.tick WHERE tick = $1"

# $1 the tenant, $2 a snapshot, $3 its tick, $4 events to look at. What came with a dump says its tick itself.
_FEW = WITH_TICK.format(
    events=f"""
    SELECT * FROM (
        SELECT *, row_number() OVER () AS nth FROM (
            SELECT {COLUMNS}, tenant FROM hookledger.domain_event WHERE txid >= pg_snapshot_xmax($2::text::pg_snapshot)
             UNION ALL
            SELECT {COLUMNS}, tenant FROM hookledger.domain_event
             WHERE txid = ANY (ARRAY(SELECT pg_snapshot_xip($2::text::pg_snapshot)))
             UNION ALL
            SELECT {COLUMNS}, tenant FROM hookledger.domain_event WHERE tick > $3) above
         LIMIT $4) looked_at
     WHERE nth = $4 OR tenant = $1"""
)

# The same, but $4 and $5 the time and seq to begin below, $6 the lowest time, $7 events to look at.
_WALK = WITH_TICK.format(
    events=f"""
    SELECT * FROM (
        SELECT {COLUMNS}, row_number() OVER (ORDER BY {CLAIMED} DESC, seq DESC) AS nth
          FROM hookledger.domain_event
         WHERE tenant = $1 AND ({CLAIMED}, seq) < ($4, $5) AND {CLAIMED} >= $6
         ORDER BY {CLAIMED} DESC, seq DESC LIMIT $7) looked_at
     WHERE nth = $7 OR tick > $3 OR tick IS NULL AND NOT pg_visible_in_snapshot(txid, $2::text::pg_snapshot)"""
)


async def marks(database: Database, tenant: str) -> Marks:
    """The marks of a tenant's shard; ranges of other tenants in it are among them."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        rows = await connection.fetch(_MARKS, shard_of(tenant))
    ranges = {row["route_id"]: row["from_tick"] for row in rows if row["route_id"] is not None}
    return Marks(checkpoint=rows[0]["tick"], ranges=ranges)


async def few(database: Database, tenant: str, *, above_tick: int) -> list[LoggedEvent] | None:
    """The tenant's events that were read after a tick, in no order; None if so many were that one must walk."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        snap = await connection.fetchval(_SNAP, above_tick) or EMPTY_SNAP
        rows = await connection.fetch(_FEW, tenant, snap, above_tick, FEW_EVENTS + 1)
    if rows and rows[-1]["nth"] > FEW_EVENTS:
        return None
    return [logged(row) for row in rows]


async def walk(
    database: Database, tenant: str, begin: ListPosition, *, above_tick: int, since: datetime, rows: int
) -> Walked:
    """The same downwards from a place, the event there included, among so many of the tenant's events."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        snap = await connection.fetchval(_SNAP, above_tick) or EMPTY_SNAP
        found = await connection.fetch(_WALK, tenant, snap, above_tick, begin.event_time, begin.seq + 1, since, rows)
    events = [logged(row) for row in found if row["tick"] is None or row["tick"] > above_tick]
    last = found[-1] if found and found[-1]["nth"] == rows else None
    return Walked(
        events=events, down_to=None if last is None else ListPosition(last["claimed"], last["seq"], UUID(int=0))
    )
