"""Lists the deliveries of a tenant or of a route, newest event first.

There is no row for each delivery. Deliveries that were attempted have outcomes in `attempt`; the others wait in `retry`
or `parked`. So a list is merged from these three tables. Each function here reads one table and returns a *stretch*:
all matching deliveries of that table from a given position down to a position that the stretch names. It looks at a
bounded number of rows, however few of them match, so a stretch may be empty without being the last.

A waiting delivery moves from `parked` to `retry` and from there to `attempt`. If the tables are read in that order,
none is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

READ_SECONDS = 5.0


class ListPosition(NamedTuple):
    """The position of a delivery in a list. Positions are sorted like tuples, and lists are read downwards."""

    event_time: datetime
    seq: int
    route_id: UUID


TOP = ListPosition(datetime(9999, 12, 31, tzinfo=UTC), 0, UUID(int=0))
BOTTOM = ListPosition(datetime(1970, 1, 1, tzinfo=UTC), -1, UUID(int=0))


def before(moment: datetime) -> ListPosition:
    """The position below all events of that moment or later."""
    return ListPosition(moment, -1, UUID(int=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListScope:
    """The deliveries to list: of a tenant, or of one of its routes; with `event_type` only of that type; none below
    `bottom`.
    """

    tenant: str
    route_id: UUID | None = None
    event_type: str | None = None
    bottom: ListPosition = BOTTOM


class FoundDelivery(NamedTuple):
    """A delivery that was found in a table."""

    position: ListPosition
    event_id: str
    event_type: str
    is_test: bool


class Stretch(NamedTuple):
    """The deliveries that were found, downwards: all of them down to and including `down_to`, or to the end if it is
    None.
    """

    found: list[FoundDelivery]
    down_to: ListPosition | None


_BELOW = "(event_time, seq, route_id) < ($2, $3, $4) AND event_time >= $5"
_DOWNWARDS = "event_time DESC, seq DESC, route_id DESC"

# $1 tenant or route, $2 to $4 the position to begin below, $5 the lowest event time, $6 rows to look at. An outcome is
# recorded after its event; the day allows for clocks that are set back. WITH TIES, so that a delivery's rows are never
# split.
_ATTEMPTED = f"""
SELECT * FROM (
    SELECT event_time, seq, route_id, event_id, event_type, is_test, outcome,
           row_number() OVER (ORDER BY {_DOWNWARDS}) AS nth
      FROM hookledger.attempt
     WHERE {{whose}} AND {{which}} AND {_BELOW} AND at >= $5 - interval '1 day'
     ORDER BY {_DOWNWARDS} FETCH FIRST $6 ROWS WITH TIES) looked_at
 WHERE nth >= $6 OR {{conditions}}
 ORDER BY nth
"""

_FIRST_OR_LAST = "(number <= 1 OR outcome <> 'retrying')"
# Outcome → the condition of a partial index, and further conditions. Rows with the outcome are found whatever other
# outcomes the delivery has.
_BY_OUTCOME: dict[str | None, tuple[str, list[str]]] = {
    None: (_FIRST_OR_LAST, []),
    "delivered": (_FIRST_OR_LAST, ["outcome = 'delivered'"]),
    **{
        word: (f"outcome = '{word}' AND outcome IN ('failed', 'suppressed', 'expired')", [])
        for word in ("failed", "suppressed", "expired")
    },
}

# The arguments of _ATTEMPTED.
_RETRYING = f"""
SELECT r.event_time, r.seq, r.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test
  FROM (SELECT event_time, seq, route_id, recorded_at FROM hookledger.retry
         WHERE {{whose}} AND {_BELOW} ORDER BY {_DOWNWARDS} LIMIT $6) r
  LEFT JOIN hookledger.domain_event e ON e.seq = r.seq AND e.recorded_at = r.recorded_at
 ORDER BY r.event_time DESC, r.seq DESC, r.route_id DESC
"""

# The arguments of _ATTEMPTED, but $6 is pairs, and $7 packed rows. Rows are sorted by the time of their last pair.
# Pairs below the position are in rows that end below it (`below`) or span it (`across`). All pairs above the last_time
# of the last row that was read (`read_upto`) were read.
_PARKED = f"""
WITH below AS MATERIALIZED (
    SELECT route_id, last_time, seqs, recorded_ats, event_times FROM hookledger.parked
     WHERE {{whose}} AND last_time < $2 AND last_time >= $5
     ORDER BY last_time DESC FETCH FIRST $7 ROWS WITH TIES
), across AS MATERIALIZED (
    SELECT route_id, last_time, seqs, recorded_ats, event_times FROM hookledger.parked
     WHERE {{whose}} AND tstzrange(first_time, last_time, '[]') @> $2
), read_upto AS MATERIALIZED (
    SELECT CASE WHEN count(*) >= $7 THEN min(last_time) END AS at FROM below
), pairs AS MATERIALIZED (
    SELECT u.event_time, u.seq, p.route_id, u.recorded_at
      FROM (SELECT * FROM below UNION ALL SELECT * FROM across) p,
           unnest(p.seqs, p.recorded_ats, p.event_times) AS u (seq, recorded_at, event_time)
     WHERE {_BELOW} AND u.event_time >= coalesce((SELECT at FROM read_upto), $5)
     ORDER BY {_DOWNWARDS} LIMIT $6
)
SELECT p.event_time, p.seq, p.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test,
       r.at AS read_upto
  FROM read_upto r LEFT JOIN pairs p ON true
  LEFT JOIN hookledger.domain_event e ON e.seq = p.seq AND e.recorded_at = p.recorded_at
 ORDER BY p.event_time DESC, p.seq DESC, p.route_id DESC
"""


async def attempted(
    database: Database, scope: ListScope, begin: ListPosition, rows: int, *, outcome: str | None
) -> Stretch:
    """Deliveries with a row in `attempt`, or only those with this `outcome`. At most `rows` rows are looked at."""
    which, conditions = _BY_OUTCOME[outcome]
    types = [] if scope.event_type is None else [scope.event_type]
    conditions = [*conditions, *("event_type = $7" for _ in types)]
    statement = _ATTEMPTED.format(whose=_whose(scope), which=which, conditions=" AND ".join(conditions) or "true")
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows, *types)
    down_to = _position(found[-1]) if found and found[-1]["nth"] >= rows else None
    return Stretch([_found(row) for row in found if _matches(row, scope, outcome)], down_to)


async def retrying(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    """Deliveries with a row in `retry`. At most `rows` rows are looked at."""
    statement = _RETRYING.format(whose=_whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows)
    down_to = _position(found[-1]) if len(found) == rows else None
    return Stretch([_found(row) for row in found if _matches(row, scope, None)], down_to)


async def parked(database: Database, scope: ListScope, begin: ListPosition, rows: int, *, packed: int) -> Stretch:
    """Deliveries in packed rows of `parked`, some of which may have been sent meanwhile.

    At most `rows` pairs are returned, from about `packed` packed rows.
    """
    statement = _PARKED.format(whose=_whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows, packed)
    read_upto = found[0]["read_upto"]
    pairs = [row for row in found if row["seq"] is not None]
    down_to = _position(pairs[-1]) if len(pairs) == rows else None if read_upto is None else before(read_upto)
    return Stretch([_found(row) for row in pairs if _matches(row, scope, None)], down_to)


def _whose(scope: ListScope) -> str:
    return "tenant = $1" if scope.route_id is None else "route_id = $1"


def _arguments(scope: ListScope, begin: ListPosition) -> Sequence[object]:
    return scope.tenant if scope.route_id is None else scope.route_id, *begin, scope.bottom.event_time


def _matches(row: asyncpg.Record, scope: ListScope, outcome: str | None) -> bool:
    """True if a row that was looked at belongs in the list. A row whose event was dropped cannot be listed."""
    return (
        row["event_id"] is not None
        and scope.event_type in (None, row["event_type"])
        and (outcome is None or row["outcome"] == outcome)
        and _position(row) >= scope.bottom
    )


def _position(row: asyncpg.Record) -> ListPosition:
    return ListPosition(row["event_time"], row["seq"], row["route_id"])


def _found(row: asyncpg.Record) -> FoundDelivery:
    return FoundDelivery(_position(row), row["event_id"], row["event_type"], row["is_test"])
