"""The deliveries of a tenant or of a route, newest event first, by what is written of them.

There is no row for each delivery. Those that were tried have outcomes, the others wait in `retry` or `parked`; so a
list is merged from what each table says. Every function here reads one of them: a *stretch*, which has all of the table
from where it was asked to begin down to a place that it names. It looks at a bounded number of rows however few of them
are wanted, so a stretch may be empty and yet not the last.

What waits moves from `parked` to `retry` and from there to outcomes. Read in that order nothing slips through.
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
    """Where a delivery stands in a list. Places are sorted like tuples, and lists are read downwards."""

    event_time: datetime
    seq: int
    route_id: UUID


TOP = ListPosition(datetime(9999, 12, 31, tzinfo=UTC), 0, UUID(int=0))
BOTTOM = ListPosition(datetime(1970, 1, 1, tzinfo=UTC), -1, UUID(int=0))


def before(moment: datetime) -> ListPosition:
    """The place behind all that happened at that moment or later."""
    return ListPosition(moment, -1, UUID(int=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListScope:
    """Whose deliveries, and which: of a route of the tenant's if there is one, down to `bottom` and not below it, with
    this type of event if there is one.
    """

    tenant: str
    route_id: UUID | None = None
    event_type: str | None = None
    bottom: ListPosition = BOTTOM


class FoundDelivery(NamedTuple):
    """A delivery that a table knows."""

    place: ListPosition
    event_id: str
    event_type: str
    is_test: bool


class Stretch(NamedTuple):
    """What was found, downwards: all down to `down_to`, that place included, or all there is if that is None."""

    found: list[FoundDelivery]
    down_to: ListPosition | None


_BELOW = "(event_time, seq, route_id) < ($2, $3, $4) AND event_time >= $5"
_DOWNWARDS = "event_time DESC, seq DESC, route_id DESC"

# $1 tenant or route, $2 to $4 the place to begin below, $5 the lowest event time, $6 rows to look at. Nothing is
# recorded before it happened; the day is for clocks that are set back. With ties: of a delivery all rows or none.
_ATTEMPTED = f"""
SELECT * FROM (
    SELECT event_time, seq, route_id, event_id, event_type, is_test, outcome,
           row_number() OVER (ORDER BY {_DOWNWARDS}) AS nth
      FROM hookledger.attempt
     WHERE {{whose}} AND {{which}} AND {_BELOW} AND at >= $5 - interval '1 day'
     ORDER BY {_DOWNWARDS} FETCH FIRST $6 ROWS WITH TIES) looked_at
 WHERE nth >= $6 OR {{wanted}}
 ORDER BY nth
"""

_FIRST_OR_LAST = "(number <= 1 OR outcome <> 'retrying')"
# Every row with the outcome is found by the first two, whatever else the delivery came to before and after.
_BY_OUTCOME: dict[str | None, tuple[str, list[str]]] = {
    None: (_FIRST_OR_LAST, []),
    "delivered": (_FIRST_OR_LAST, ["outcome = 'delivered'"]),
    **{
        word: (f"outcome = '{word}' AND outcome IN ('failed', 'suppressed', 'expired')", [])
        for word in ("failed", "suppressed", "expired")
    },
}

# Arguments as above.
_RETRYING = f"""
SELECT r.event_time, r.seq, r.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test
  FROM (SELECT event_time, seq, route_id, recorded_at FROM hookledger.retry
         WHERE {{whose}} AND {_BELOW} ORDER BY {_DOWNWARDS} LIMIT $6) r
  LEFT JOIN hookledger.domain_event e ON e.seq = r.seq AND e.recorded_at = r.recorded_at
 ORDER BY r.event_time DESC, r.seq DESC, r.route_id DESC
"""

# Arguments as above, but $6 are pairs, and $7 packed rows. Rows lie by their last pair: so what is not below the place
# that was asked for is in rows that span it, and what is below those that were read is not above the last of them.
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
    """Deliveries with outcomes; with `outcome` those that have this one, without it all of them."""
    which, wanted = _BY_OUTCOME[outcome]
    types = [] if scope.event_type is None else [scope.event_type]
    wanted = [*wanted, *("event_type = $7" for _ in types)]
    statement = _ATTEMPTED.format(whose=_whose(scope), which=which, wanted=" AND ".join(wanted) or "true")
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows, *types)
    down_to = _place(found[-1]) if found and found[-1]["nth"] >= rows else None
    return Stretch([_found(row) for row in found if _is_wanted(row, scope, outcome)], down_to)


async def retrying(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    """Deliveries with a row in `retry`."""
    statement = _RETRYING.format(whose=_whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows)
    down_to = _place(found[-1]) if len(found) == rows else None
    return Stretch([_found(row) for row in found if _is_wanted(row, scope, None)], down_to)


async def parked(database: Database, scope: ListScope, begin: ListPosition, rows: int, *, packed: int) -> Stretch:
    """Deliveries in packed rows of `parked`, sent meanwhile or not; of `packed` rows or somewhat more."""
    statement = _PARKED.format(whose=_whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *_arguments(scope, begin), rows, packed)
    read_upto = found[0]["read_upto"]
    pairs = [row for row in found if row["seq"] is not None]
    down_to = _place(pairs[-1]) if len(pairs) == rows else None if read_upto is None else before(read_upto)
    return Stretch([_found(row) for row in pairs if _is_wanted(row, scope, None)], down_to)


def _whose(scope: ListScope) -> str:
    return "tenant = $1" if scope.route_id is None else "route_id = $1"


def _arguments(scope: ListScope, begin: ListPosition) -> Sequence[object]:
    return scope.tenant if scope.route_id is None else scope.route_id, *begin, scope.bottom.event_time


def _is_wanted(row: asyncpg.Record, scope: ListScope, outcome: str | None) -> bool:
    """Whether a row was asked for, and not only looked at; one whose event is gone says too little."""
    return (
        row["event_id"] is not None
        and scope.event_type in (None, row["event_type"])
        and (outcome is None or row["outcome"] == outcome)
        and _place(row) >= scope.bottom
    )


def _place(row: asyncpg.Record) -> ListPosition:
    return ListPosition(row["event_time"], row["seq"], row["route_id"])


def _found(row: asyncpg.Record) -> FoundDelivery:
    return FoundDelivery(_place(row), row["event_id"], row["event_type"], row["is_test"])
