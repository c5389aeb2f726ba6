"""Lists of a tenant's events, newest first by the time at which they happened.

The tick that reads an event settles its event time (rule 1 of routing). Until then, and for the order of lists, its
claimed time is used: least(occurred_at, recorded_at). The two differ only if a clock was set back between the event and
its tick.

There are two ways to the events of some types: `listed` walks all events of the tenant; `of_names` has an index and
takes the newest of each type, if there are not too many types.
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

# The part of a list below a time and seq.
BELOW = f"({CLAIMED}, seq) < ({{time}}, {{seq}}) AND {CLAIMED} >= {{since}}"
DOWNWARDS = f"{CLAIMED} DESC, seq DESC"
# The same with one type, by an index. The bounds name the type as well, and so does the order: no other index
# has that order. With `type = …` the planner takes that of all types where a day has had one type only.
TYPE = 'type COLLATE "C"'
BELOW_OF_TYPE = (
    f"({TYPE}, {CLAIMED}, seq) < ({{name}}, {{time}}, {{seq}}) AND "
    f"({TYPE}, {CLAIMED}, seq) >= ({{name}}, {{since}}, -1)"
)
DOWNWARDS_OF_TYPE = f"{TYPE} DESC, {CLAIMED} DESC, seq DESC"

# A pattern is a type, or ends with `.*`. As a subquery the types are hashed, however many there are.
_IS_OF_TYPES = (
    "(type IN (SELECT unnest({patterns}::text[])) OR "
    "type ^@ ANY (SELECT rtrim(pattern, '*') FROM unnest({patterns}::text[]) pattern WHERE pattern LIKE '%.*'))"
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
        SELECT {COLUMNS}, row_number() OVER (ORDER BY {DOWNWARDS}) AS nth
          FROM hookledger.domain_event
         WHERE tenant = $1 AND {BELOW.format(time="$2", seq="$3", since="$4")} ORDER BY {DOWNWARDS} LIMIT $5) looked_at
     WHERE nth = $5 OR {{condition}}
     ORDER BY nth LIMIT $6"""
)

# $1 the tenant, $2 what types must begin with, $3 the most types. Goes from each type to the next one by index.
# What begins with `order.` lies before `order/`.
_NAMES = f"""
WITH RECURSIVE names (prefix, name) AS (
    SELECT prefix, (SELECT type FROM hookledger.domain_event
                     WHERE tenant = $1 AND {TYPE} >= prefix AND {TYPE} < rtrim(prefix, '.') || '/'
                     ORDER BY {TYPE} LIMIT 1)
      FROM unnest($2::text[]) prefix
     UNION ALL
    SELECT prefix, (SELECT type FROM hookledger.domain_event
                     WHERE tenant = $1 AND {TYPE} > name AND {TYPE} < rtrim(prefix, '.') || '/'
                     ORDER BY {TYPE} LIMIT 1)
      FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL LIMIT $3
"""

# $1 the tenant, $2 and $3 the time and seq to begin below, $4 the lowest time, $5 the limit, $6 the types
_OF_NAMES = WITH_TICK.format(
    events=f"""
    SELECT *, row_number() OVER (ORDER BY claimed DESC, seq DESC) AS nth FROM (
        SELECT e.* FROM unnest($6::text[]) AS name, LATERAL (
               SELECT {COLUMNS} FROM hookledger.domain_event
                WHERE tenant = $1 AND {BELOW_OF_TYPE.format(name="name", time="$2", seq="$3", since="$4")}
                ORDER BY {DOWNWARDS_OF_TYPE} LIMIT $5) e) found
     ORDER BY nth LIMIT $5"""
)

# OFFSET 0 keeps the planner from walking down the tenant's events until it finds the id.
_BY_ID = WITH_TICK.format(
    events=f"""
    SELECT *, row_number() OVER (ORDER BY claimed DESC, seq DESC) AS nth FROM (
        SELECT {COLUMNS} FROM hookledger.domain_event WHERE tenant = $1 AND id = $2 OFFSET 0) found
     ORDER BY nth LIMIT {MAX_SAME_ID}"""
)


# $1 the tenant
_OLDEST = f"""
SELECT {CLAIMED} FROM hookledger.domain_event WHERE tenant = $1 ORDER BY {CLAIMED}, seq LIMIT 1
"""

# $1 the id, $2 the most rows. OFFSET 0 as above.
_OWNERS = """
SELECT tenant, type, recorded_at FROM (
    SELECT DISTINCT ON (tenant) tenant, type, recorded_at FROM (
        SELECT tenant, type, recorded_at FROM hookledger.domain_event WHERE id = $1 OFFSET 0) found
     ORDER BY tenant, recorded_at DESC) newest
 ORDER BY recorded_at DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOwner:
    """A tenant with an event of some id, and what the newest such event is."""

    tenant: str
    type: str
    recorded_at: datetime


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


async def names(database: Database, tenant: str, patterns: Sequence[str], *, most: int) -> list[str] | None:
    """The types that a tenant's events have and that these patterns match; None if they may be more than `most`.

    Types that stand among the patterns themselves are there whether there are events of them or not.
    """
    found = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = [pattern.removesuffix("*") for pattern in patterns if pattern.endswith(".*")]
    if prefixes:
        async with database.connection(seconds=READ_SECONDS) as connection:
            found.update(row["name"] for row in await connection.fetch(_NAMES, tenant, prefixes, most + 1))
    return sorted(found) if len(found) <= most else None


async def of_names(
    database: Database, tenant: str, begin: tuple[datetime, int], *, since: datetime, names: Sequence[str], limit: int
) -> list[LoggedEvent]:
    """At most `limit` of a tenant's events of these types, as in `listed`."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_OF_NAMES, tenant, *begin, since, limit, names)
    return [logged_event(row) for row in found]


async def by_id(database: Database, tenant: str, event_id: str) -> list[LoggedEvent]:
    """A tenant's events with that id, newest first; MAX_SAME_ID at most."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(_BY_ID, tenant, event_id)
    return [logged_event(row) for row in found]


async def oldest(database: Database, tenant: str) -> datetime | None:
    """The earliest claimed time of the tenant's events that are kept, None if there are none. It may be long before
    they were recorded.
    """
    async with database.connection(seconds=READ_SECONDS) as connection:
        found: datetime | None = await connection.fetchval(_OLDEST, tenant)
    return found


async def owners(database: Database, event_id: str, *, most: int) -> list[EventOwner]:
    """The tenants that have an event with that id, the newest event first."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return [EventOwner(**row) for row in await connection.fetch(_OWNERS, event_id, most)]


def of_types(patterns: Sequence[str], *, parameter: str) -> tuple[str, list[list[str]]]:
    """A condition that an event has one of these types, and the values to bind: for `parameter`, or none."""
    return ("true", []) if _EVERY_TYPE in patterns else (_IS_OF_TYPES.format(patterns=parameter), [list(patterns)])


def _is_of(event_type: str, patterns: Sequence[str]) -> bool:
    return any(
        event_type.startswith(pattern.removesuffix("*")) if pattern.endswith(".*") else event_type == pattern
        for pattern in patterns
    )


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
