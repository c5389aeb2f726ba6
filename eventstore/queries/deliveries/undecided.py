"""Finds undecided events: those above a checkpoint or in a range, for which no outcome, retry or parked row need exist
yet. Events that no tick has read are above every checkpoint.

A checkpoint and a range (`parked_range`) are both given by a tick. So the query is the same for both: the events of a
tenant that were read after a tick. Usually few events of all tenants were, and these are found by transaction id
(`few`). After an outage, or for a route that has been dead for long, the tenant's events are walked downwards (`walk`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventstore.domain_events.events import shard_of
from eventstore.domain_events.ticks import EMPTY_SNAP, LogPosition
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries.delivery_log import ListPosition
from eventstore.queries.events.listing import (
    BELOW,
    BELOW_OF_TYPE,
    COLUMNS,
    DOWNWARDS,
    DOWNWARDS_OF_TYPE,
    READ_SECONDS,
    WITH_TICK,
    LoggedEvent,
    logged_event,
)

# The most events, of all tenants together, that `few` reads.
FEW_EVENTS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How far a shard is accounted for: up to the tick `checkpoint`. For a route in `ranges`, all deliveries from that
    position on are parked.
    """

    checkpoint: int
    ranges: Mapping[UUID, LogPosition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """Events, downwards: all that were read after the tick, down to `down_to`, or to the end if it is None."""

    events: list[LoggedEvent]
    down_to: ListPosition | None


_MARKS = """
SELECT c.tick, p.route_id, p.from_tick, p.from_seq
  FROM hookledger.checkpoint c LEFT JOIN hookledger.parked_range p USING (shard) WHERE c.shard = $1
"""

_SNAP = "SELECT snap::text FROM hookledger.tick WHERE tick = $1"

# $1 the tenant, $2 a snapshot, $3 its tick, $4 events to look at. Events of a restored dump have their tick as a
# number.
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

# $1 to $3 as in _FEW, $4 and $5 the time and seq to begin below, $6 the lowest time, $7 events to look at, $8 the
# type if there is one.
_WALK = WITH_TICK.format(
    events=f"""
    SELECT * FROM (
        SELECT {COLUMNS}, row_number() OVER (ORDER BY {{downwards}}) AS nth
          FROM hookledger.domain_event WHERE tenant = $1 AND {{below}} ORDER BY {{downwards}} LIMIT $7) looked_at
     WHERE nth = $7 OR tick > $3 OR tick IS NULL AND NOT pg_visible_in_snapshot(txid, $2::text::pg_snapshot)"""
)


async def marks(database: Database, tenant: str) -> Marks:
    """The marks of a tenant's shard, with the ranges of all tenants in that shard."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        rows = await connection.fetch(_MARKS, shard_of(tenant))
    ranges = {row["route_id"]: (row["from_tick"], row["from_seq"]) for row in rows if row["route_id"] is not None}
    return Marks(checkpoint=rows[0]["tick"], ranges=ranges)


async def few(database: Database, tenant: str, *, above_tick: int) -> list[LoggedEvent] | None:
    """The tenant's events that were read after a tick, in no order; None if there are so many that `walk` is needed."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        snap = await connection.fetchval(_SNAP, above_tick) or EMPTY_SNAP
        rows = await connection.fetch(_FEW, tenant, snap, above_tick, FEW_EVENTS + 1)
    if rows and rows[-1]["nth"] > FEW_EVENTS:
        return None
    return [logged_event(row) for row in rows]


async def walk(
    database: Database,
    tenant: str,
    begin: ListPosition,
    *,
    above_tick: int,
    event_type: str | None,
    since: datetime,
    rows: int,
) -> Walked:
    """The tenant's events that were read after a tick, downwards from the position `begin`, which is included.

    At most `rows` of the tenant's events, or of those of the type, are looked at.
    """
    types = () if event_type is None else (event_type,)
    bounds = begin.event_time, begin.seq + 1, since, rows
    async with database.connection(seconds=READ_SECONDS) as connection:
        snap = await connection.fetchval(_SNAP, above_tick) or EMPTY_SNAP
        found = await connection.fetch(walk_statement(event_type), tenant, snap, above_tick, *bounds, *types)
    events = [logged_event(row) for row in found if row["tick"] is None or row["tick"] > above_tick]
    last = found[-1] if found and found[-1]["nth"] == rows else None
    return Walked(
        events=events, down_to=None if last is None else ListPosition(last["claimed"], last["seq"], UUID(int=0))
    )


def walk_statement(event_type: str | None) -> str:
    """The statement of `walk`."""
    if event_type is None:
        return _WALK.format(below=BELOW.format(time="$4", seq="$5", since="$6"), downwards=DOWNWARDS)
    below = BELOW_OF_TYPE.format(name="$8", time="$4", seq="$5", since="$6")
    return _WALK.format(below=below, downwards=DOWNWARDS_OF_TYPE)
