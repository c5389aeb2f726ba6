"""Lists the deliveries of a tenant or of a route, newest event first.

There is no row for each delivery. Deliveries that were attempted have outcomes in `attempt`; the others wait in `retry`
or `parked`. So a list is merged from these three tables. Each function here reads one table and returns a *stretch*:
all matching deliveries of that table from a given position down to a position that the stretch names. It looks at a
bounded number of rows, however few of them match, so a stretch may be empty without being the last. For a status an
index has nothing but matches; for a type `deliveries_of_type` begins with its events.

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


BELOW = "(event_time, seq, route_id) < ($2, $3, $4) AND event_time >= $5"
DOWNWARDS = "event_time DESC, seq DESC, route_id DESC"
OUTCOME_COLUMNS = "event_time, seq, route_id, event_id, event_type, is_test, outcome"

# Outcome → the condition of the partial index that has its rows. All of them together have one or two rows of each
# delivery, however often it was tried. Rows with an outcome are found whatever other outcomes the delivery has.
BY_OUTCOME = {
    "retrying": "outcome = 'retrying' AND number <= 1",
    "delivered": "outcome = 'delivered'",
    **{
        word: f"outcome = '{word}' AND outcome IN ('failed', 'suppressed', 'expired')"
        for word in ("failed", "suppressed", "expired")
    },
}

# A part of _ATTEMPTED: the rows of one outcome. An outcome is recorded after its event; the day allows for clocks that
# are set back. WITH TIES, so that a delivery's rows are never split.
_OF_OUTCOME = f"""
(SELECT {OUTCOME_COLUMNS} FROM hookledger.attempt
  WHERE {{whose}} AND {{which}} AND {BELOW} AND at >= $5 - interval '1 day'
  ORDER BY {DOWNWARDS} FETCH FIRST $6 ROWS WITH TIES)
"""

# $1 tenant or route, $2 to $4 the position to begin below, $5 the lowest event time, $6 rows to look at.
_ATTEMPTED = f"""
SELECT * FROM (
    SELECT *, row_number() OVER (ORDER BY {DOWNWARDS}) AS nth FROM ({{rows}}) of_outcomes
     ORDER BY {DOWNWARDS} FETCH FIRST $6 ROWS WITH TIES) looked_at
 WHERE nth >= $6 OR {{condition}}
 ORDER BY nth
"""

# The arguments of _ATTEMPTED.
_RETRYING = f"""
SELECT r.event_time, r.seq, r.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test
  FROM (SELECT event_time, seq, route_id, recorded_at FROM hookledger.retry
         WHERE {{whose}} AND {BELOW} ORDER BY {DOWNWARDS} LIMIT $6) r
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
     WHERE {BELOW} AND u.event_time >= coalesce((SELECT at FROM read_upto), $5)
     ORDER BY {DOWNWARDS} LIMIT $6
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
    types = [] if scope.event_type is None else [scope.event_type]
    statement = attempted_statement(scope, outcome)
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *arguments(scope, begin), rows, *types)
    down_to = _position(found[-1]) if found and found[-1]["nth"] >= rows else None
    return Stretch([found_delivery(row) for row in found if _matches(row, scope)], down_to)


def attempted_statement(scope: ListScope, outcome: str | None) -> str:
    """The statement of `attempted`."""
    conditions = [condition for each, condition in BY_OUTCOME.items() if outcome in (None, each)]
    parts = [_OF_OUTCOME.format(whose=whose(scope), which=condition) for condition in conditions]
    return _ATTEMPTED.format(
        rows="UNION ALL".join(parts), condition="true" if scope.event_type is None else "event_type = $7"
    )


async def retrying(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    """Deliveries with a row in `retry`. At most `rows` rows are looked at."""
    statement = _RETRYING.format(whose=whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *arguments(scope, begin), rows)
    down_to = _position(found[-1]) if len(found) == rows else None
    return Stretch([found_delivery(row) for row in found if _matches(row, scope)], down_to)


async def parked(database: Database, scope: ListScope, begin: ListPosition, rows: int, *, packed: int) -> Stretch:
    """Deliveries in packed rows of `parked`, some of which may have been sent meanwhile.

    At most `rows` pairs are returned, from about `packed` packed rows.
    """
    statement = _PARKED.format(whose=whose(scope))
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(statement, *arguments(scope, begin), rows, packed)
    read_upto = found[0]["read_upto"]
    pairs = [row for row in found if row["seq"] is not None]
    down_to = _position(pairs[-1]) if len(pairs) == rows else None if read_upto is None else before(read_upto)
    return Stretch([found_delivery(row) for row in pairs if _matches(row, scope)], down_to)


def whose(scope: ListScope) -> str:
    """The condition for the tenant or route of the scope, which is $1."""
    return "tenant = $1" if scope.route_id is None else "route_id = $1"


def arguments(scope: ListScope, begin: ListPosition) -> Sequence[object]:
    """$1 to $5 of the statements: tenant or route, the position to begin below, and the lowest event time."""
    return scope.tenant if scope.route_id is None else scope.route_id, *begin, scope.bottom.event_time


def found_delivery(row: asyncpg.Record) -> FoundDelivery:
    """The delivery in a row."""
    return FoundDelivery(_position(row), row["event_id"], row["event_type"], row["is_test"])


def _matches(row: asyncpg.Record, scope: ListScope) -> bool:
    """True if a row that was looked at belongs in the list. A row whose event was dropped cannot be listed."""
    return (
        row["event_id"] is not None and scope.event_type in (None, row["event_type"]) and _position(row) >= scope.bottom
    )


def _position(row: asyncpg.Record) -> ListPosition:
    return ListPosition(row["event_time"], row["seq"], row["route_id"])
