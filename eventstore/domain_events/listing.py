"""The domain stream as a tenant reads it: what was published, newest first by the time at which it happened.

An event's time is settled by the tick that reads it (design.md §2.1). Until then, and for the order of lists, it is the
time that the event claims; the two differ only where a clock was set back between the event and its tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

READ_SECONDS = 5.0
# The same id is one event within 24 hours only.
MAX_NAMESAKES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event without its payload. `claimed` is never before its time; `tick` is None until one has read it."""

    seq: int
    recorded_at: datetime
    id: str
    type: str
    occurred_at: datetime | None
    backfill: bool
    test_route: UUID | None
    claimed: datetime
    tick: int | None
    closed_upto: datetime | None

    @property
    def event_time(self) -> datetime:
        return self.claimed if self.closed_upto is None else min(self.claimed, self.closed_upto)


_EVERY_TYPE = "*"

CLAIMED = "least(occurred_at, recorded_at)"
COLUMNS = f"seq, recorded_at, id, type, occurred_at, backfill, test_route, txid, tick, {CLAIMED} AS claimed"

# Subscribed to by its own name, or by its group's. As subqueries both are hashed, however many patterns there are.
_IS_OF_TYPES = (
    "(type IN (SELECT unnest({patterns}::text[])) OR split_part(type, '.', 1) || '.*' IN "
    "(SELECT unnest({patterns}::text[])))"
)

# Of `events`, each with `nth` to be sorted by. Ticks are looked up: joined, the planner reads all there are.
WITH_TICK = """
SELECT e.seq, e.recorded_at, e.id, e.type, e.occurred_at, e.backfill, e.test_route, e.claimed, e.nth,
       t.tick, t.closed_upto
  FROM (SELECT *, coalesce(tick, hookledger.tick_of(txid)) AS in_tick FROM ({events}) given) e
  LEFT JOIN LATERAL (SELECT tick, closed_upto FROM hookledger.tick WHERE tick = e.in_tick LIMIT 1) t ON true
 ORDER BY e.nth
"""

# $1 the tenant, $2 and $3 the time and seq to begin below, $4 the lowest time, $5 events to look at, $6 those to give
_LISTED = WITH_TICK.format(
    events=f"""
    SELECT * FROM (
        SELECT {COLUMNS}, row_number() OVER (ORDER BY {CLAIMED} DESC, seq DESC) AS nth
          FROM hookledger.domain_event
         WHERE tenant = $1 AND ({CLAIMED}, seq) < ($2, $3) AND {CLAIMED} >= $4
         ORDER BY {CLAIMED} DESC, seq DESC LIMIT $5) looked_at
     WHERE nth = $5 OR {{wanted}}
     ORDER BY nth LIMIT $6"""
)

# OFFSET 0 keeps the planner from walking down the tenant's events until it happens upon the id.
_NAMED = WITH_TICK.format(
    events=f"""
    SELECT *, row_number() OVER (ORDER BY claimed DESC, seq DESC) AS nth FROM (
        SELECT {COLUMNS} FROM hookledger.domain_event WHERE tenant = $1 AND id = $2 OFFSET 0) found
     ORDER BY nth LIMIT {MAX_NAMESAKES}"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Events, downwards. `down_to` is the last one looked at if no more were to be; None if there is nothing below, or
    if they are as many as were to be given.
    """

    events: list[LoggedEvent]
    down_to: tuple[datetime, int] | None


async def listed(
    database: Database,
    tenant: str,
    begin: tuple[datetime, int],
    *,
    since: datetime,
    patterns: Sequence[str],
    rows: int,
    most: int,
) -> Listed:
    """A tenant's events below a time and seq, among so many `rows`: of those of these types (patterns, as a route has
    them) the first, `most` at most.
    """
    wanted, bound = of_types(patterns, place="$7")
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_LISTED.format(wanted=wanted), tenant, *begin, since, rows, most, *bound)
    down_to = (found[-1]["claimed"], found[-1]["seq"]) if found and found[-1]["nth"] == rows else None
    events = [logged(row) for row in found if not bound or _is_of(row["type"], patterns)]
    return Listed(events=events, down_to=down_to)


async def named(database: Database, tenant: str, event_id: str) -> list[LoggedEvent]:
    """A tenant's events of that id, newest first."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_NAMED, tenant, event_id)
    return [logged(row) for row in found]


def of_types(patterns: Sequence[str], *, place: str) -> tuple[str, list[list[str]]]:
    """A condition that an event is of one of these types, and what its parameter `place` is bound to, if it has one."""
    return ("true", []) if _EVERY_TYPE in patterns else (_IS_OF_TYPES.format(patterns=place), [list(patterns)])


def _is_of(event_type: str, patterns: Sequence[str]) -> bool:
    return event_type in patterns or f"{event_type.partition('.')[0]}.*" in patterns


def logged(row: asyncpg.Record) -> LoggedEvent:
    return LoggedEvent(
        seq=row["seq"],
        recorded_at=row["recorded_at"],
        id=row["id"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        backfill=row["backfill"],
        test_route=row["test_route"],
        claimed=row["claimed"],
        tick=row["tick"],
        closed_upto=row["closed_upto"],
    )
