"""Lists of a tenant's events, newest first by the time at which they happened.

The tick that reads an event settles its event time (rule 1 of routing). Until then, and for the order of lists, its
claimed time is used: least(occurred_at, recorded_at). The two differ only if a clock was set back between the event and
its tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

READ_SECONDS = 5.0
# An id may be used again after 24 hours, so several events may have the same id.
MAX_SAME_ID = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event without its payload. `claimed` is the claimed time, never before the event time. `tick` and
    `closed_upto` are None until a tick has read the event.
    """

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

# A pattern is a type or `group.*`. As subqueries both lists are hashed, however many patterns there are.
_IS_OF_TYPES = (
    "(type IN (SELECT unnest({patterns}::text[])) OR split_part(type, '.', 1) || '.*' IN "
    "(SELECT unnest({patterns}::text[])))"
)

# Adds its tick to each row of `events`, sorted by `nth`. LATERAL looks the tick up; with a plain join the planner reads
# all ticks.
WITH_TICK = """
SELECT e.seq, e.recorded_at, e.id, e.type, e.occurred_at, e.backfill, e.test_route, e.claimed, e.nth,
       t.tick, t.closed_upto
  FROM (SELECT *, coalesce(tick, hookledger.tick_of(txid)) AS in_tick FROM ({events}) given) e
  LEFT JOIN LATERAL (SELECT tick, closed_upto FROM hookledger.tick WHERE tick = e.in_tick LIMIT 1) t ON true
 ORDER BY e.nth
"""

# $1 the tenant, $2 and $3 the time and seq to begin below, $4 the lowest time, $5 events to look at, $6 the limit
_LISTED = WITH_TICK.format(
    events=f"""
    SELECT * FROM (
        SELECT {COLUMNS}, row_number() OVER (ORDER BY {CLAIMED} DESC, seq DESC) AS nth
          FROM hookledger.domain_event
         WHERE tenant = $1 AND ({CLAIMED}, seq) < ($2, $3) AND {CLAIMED} >= $4
         ORDER BY {CLAIMED} DESC, seq DESC LIMIT $5) looked_at
     WHERE nth = $5 OR {{condition}}
     ORDER BY nth LIMIT $6"""
)

# OFFSET 0 keeps the planner from walking down the tenant's events until it finds the id.
_BY_ID = WITH_TICK.format(
    events=f"""
    SELECT *, row_number() OVER (ORDER BY claimed DESC, seq DESC) AS nth FROM (
        SELECT {COLUMNS} FROM hookledger.domain_event WHERE tenant = $1 AND id = $2 OFFSET 0) found
     ORDER BY nth LIMIT {MAX_SAME_ID}"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Events, newest first. `down_to` is the time and seq of the last event looked at, if the bound on rows ended the
    search; None if there is nothing below, or if the limit on events was reached.
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
    limit: int,
) -> Listed:
    """At most `limit` of a tenant's events below the time and seq `begin`, recorded with a claimed time from `since`
    on.

    `patterns` are event types as in a route. At most `rows` events are looked at.
    """
    condition, bound = of_types(patterns, parameter="$7")
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_LISTED.format(condition=condition), tenant, *begin, since, rows, limit, *bound)
    down_to = (found[-1]["claimed"], found[-1]["seq"]) if found and found[-1]["nth"] == rows else None
    events = [logged_event(row) for row in found if not bound or _is_of(row["type"], patterns)]
    return Listed(events=events, down_to=down_to)


async def by_id(database: Database, tenant: str, event_id: str) -> list[LoggedEvent]:
    """A tenant's events with that id, newest first; MAX_SAME_ID at most."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_BY_ID, tenant, event_id)
    return [logged_event(row) for row in found]


def of_types(patterns: Sequence[str], *, parameter: str) -> tuple[str, list[list[str]]]:
    """A condition that an event has one of these types, and the values to bind: for `parameter`, or none."""
    return ("true", []) if _EVERY_TYPE in patterns else (_IS_OF_TYPES.format(patterns=parameter), [list(patterns)])


def _is_of(event_type: str, patterns: Sequence[str]) -> bool:
    return event_type in patterns or f"{event_type.partition('.')[0]}.*" in patterns


def logged_event(row: asyncpg.Record) -> LoggedEvent:
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
