"""Lists the deliveries of one event type, beginning with the events of that type.

`delivery_log` walks the deliveries of a tenant or route and passes over those of other types. A webhook for all types
may have a hundred thousand of those before one of a rare type. Here an index leads from event to event of the type, and
from each to its deliveries. It is the better way unless most events of the type went to nobody, or were dropped before
their outcomes (`retention.*`): then a stretch does not begin. So `daemon.deliveries.scanning.scans` goes both ways.

The one thing to know: events are sorted by their claimed time, deliveries by event time. They differ only if a clock
was set back between an event and its tick; a delivery of such an event may be left out at the end of a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.queries.deliveries.delivery_log import (
    BOTTOM,
    BY_OUTCOME,
    OUTCOME_COLUMNS,
    READ_SECONDS,
    ListPosition,
    ListScope,
    Stretch,
    before,
    found_delivery,
)
from eventstore.queries.events.listing import BELOW_OF_TYPE, COLUMNS, DOWNWARDS_OF_TYPE, WITH_TICK

# $1 the tenant, $2 the type, $3 and $4 the time and seq to begin below, $5 the lowest time, $6 events to look at
_EVENTS = WITH_TICK.format(
    events=f"""
    SELECT {COLUMNS}, row_number() OVER (ORDER BY {DOWNWARDS_OF_TYPE}) AS nth
      FROM hookledger.domain_event
     WHERE tenant = $1 AND {BELOW_OF_TYPE.format(name="$2", time="$3", seq="$4", since="$5")}
     ORDER BY {DOWNWARDS_OF_TYPE} LIMIT $6"""
)

# Each row names the last event too, if more may follow it, and the time before which events were dropped. A row without
# a delivery says only that.
_FROM_EVENTS = f"""
WITH events AS MATERIALIZED (
    SELECT e.*, least(e.claimed, e.closed_upto) AS event_time FROM ({_EVENTS}) e
)
SELECT d.*, l.claimed AS last_time, l.seq AS last_seq,
       (SELECT value::timestamptz FROM hookledger.meta WHERE key = 'events_kept_from') AS kept_from
  FROM (SELECT) one
  LEFT JOIN (SELECT claimed, seq FROM events WHERE nth = $6) l ON true
  LEFT JOIN ({{deliveries}}) d ON true
"""

# {owner} is the tenant, or the route in $7. OFFSET 0 keeps the planner from joining whole tables, and the order from
# taking another index of a day that was empty when it planned.
_ATTEMPTED = f"""
SELECT a.* FROM events e, LATERAL (
       SELECT {OUTCOME_COLUMNS} FROM hookledger.attempt
        WHERE {{owner}} AND {{which}} AND at >= e.event_time - interval '1 day'
          AND (event_time, seq) <= (e.event_time, e.seq) AND (event_time, seq) >= (e.event_time, e.seq)
        ORDER BY event_time, seq OFFSET 0) a
"""
# All outcomes of the few routes in $7: an index of deliveries has them together, not apart by outcome.
_ATTEMPTED_OF_ROUTES = f"""
SELECT a.* FROM events e, LATERAL (
       SELECT {OUTCOME_COLUMNS} FROM hookledger.attempt
        WHERE route_id = ANY ($7::uuid[]) AND seq = e.seq AND (number <= 1 OR outcome <> 'retrying')
          AND at >= e.event_time - interval '1 day' OFFSET 0) a
"""
OF_ROUTES = _FROM_EVENTS.format(deliveries=_ATTEMPTED_OF_ROUTES)
# A search by outcome looks into five indexes, one by route into one for each route.
FEW_ROUTES = 5

_RETRYING = """
SELECT r.event_time, e.seq, r.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test
  FROM events e, LATERAL (
       SELECT event_time, route_id FROM hookledger.retry
        WHERE {owner} AND event_time = e.event_time AND seq = e.seq OFFSET 0) r
"""
_PARKED = """
SELECT e.event_time, e.seq, p.route_id, e.id AS event_id, e.type AS event_type, e.test_route IS NOT NULL AS is_test
  FROM events e, LATERAL (
       SELECT route_id FROM hookledger.parked
        WHERE {owner} AND tstzrange(first_time, last_time, '[]') @> e.event_time AND e.seq = ANY (seqs) OFFSET 0) p
"""


async def attempted(
    database: Database, scope: ListScope, begin: ListPosition, rows: int, *, outcome: str | None, routes: Sequence[UUID]
) -> Stretch:
    """Deliveries with a row in `attempt`, or only those with this `outcome`. At most `rows` events are looked at.

    `routes` are all routes in the scope that may have deliveries of the type.
    """
    if outcome is None and len(routes) <= FEW_ROUTES:
        return await _stretch(database, OF_ROUTES, scope, begin, rows, routes)
    return await _stretch(database, attempted_statement(scope, outcome), scope, begin, rows, *_route(scope))


async def retrying(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    """Deliveries with a row in `retry`. At most `rows` events are looked at."""
    return await _stretch(database, retrying_statement(scope), scope, begin, rows, *_route(scope))


async def parked(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    """Deliveries in packed rows, some of which may have been sent meanwhile. At most `rows` events are looked at."""
    return await _stretch(database, parked_statement(scope), scope, begin, rows, *_route(scope))


def attempted_statement(scope: ListScope, outcome: str | None) -> str:
    """The statement of `attempted`."""
    conditions = [condition for each, condition in BY_OUTCOME.items() if outcome in (None, each)]
    parts = [_ATTEMPTED.format(owner=_owner(scope), which=condition) for condition in conditions]
    return _FROM_EVENTS.format(deliveries="UNION ALL".join(parts))


def retrying_statement(scope: ListScope) -> str:
    """The statement of `retrying`."""
    return _FROM_EVENTS.format(deliveries=_RETRYING.format(owner=_owner(scope)))


def parked_statement(scope: ListScope) -> str:
    """The statement of `parked`."""
    return _FROM_EVENTS.format(deliveries=_PARKED.format(owner=_owner(scope)))


async def _stretch(
    database: Database, statement: str, scope: ListScope, begin: ListPosition, rows: int, *owner: object
) -> Stretch:
    """All deliveries, in any order, of the first events at or below `begin`; none if no event of then is kept."""
    # Unless it is the least of all routes, deliveries of the event itself may still be below `begin`.
    below_seq = begin.seq + 1 if begin.route_id > UUID(int=0) else begin.seq
    bounds = scope.tenant, scope.event_type, begin.event_time, below_seq, scope.bottom.event_time, rows
    async with database.connection(seconds=READ_SECONDS) as connection:
        records = await connection.fetch(statement, *bounds, *owner)
    last_time, last_seq, kept_from = (records[0][name] for name in ("last_time", "last_seq", "kept_from"))
    found = [found_delivery(record) for record in records if record["route_id"] is not None]
    down_to = BOTTOM if last_time is None else ListPosition(last_time, last_seq, UUID(int=0))
    if kept_from is not None:
        down_to = min(begin, max(down_to, before(kept_from)))
    return Stretch(
        [each for each in found if each.position >= scope.bottom], None if down_to <= scope.bottom else down_to
    )


def _route(scope: ListScope) -> tuple[UUID, ...]:
    return () if scope.route_id is None else (scope.route_id,)


def _owner(scope: ListScope) -> str:
    return "tenant = $1" if scope.route_id is None else "route_id = $7"
