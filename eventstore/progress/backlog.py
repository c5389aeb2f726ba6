"""Reads the backlog of a shard: due retries, parked deliveries, and the pairs that a crashed owner had accounted for.

Only the owner of a shard reads this. The owner writes it too, by progress/recording.py; manual_retry.py and replays.py
may also put rows into `retry`, and late_outcomes.py may settle them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.domain_events.events import EVENT_SIZE
from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.progress.rows import ParkedKey
from eventstore.progress.steady_time import STATEMENT_TIME

Pair = tuple[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingDelivery:
    """A delivery that waits, with what is needed to find its event and to judge it at the send gate.

    `replay` is the replay that put it into `retry`, if any. `size_bytes` is what its event takes in memory, 0 if that
    was not asked.
    """

    route_id: UUID
    seq: int
    tick: int
    shard: int
    recorded_at: datetime
    event_time: datetime
    failures: int
    replay: UUID | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedDeliveries:
    """A packed row of parked deliveries, in order of tick and seq."""

    key: ParkedKey
    deliveries: tuple[WaitingDelivery, ...]


class WaitingRetries(NamedTuple):
    """Seconds until the next retry becomes due, None if there is none that is not due already; and whether there is
    none at all.
    """

    next_due_seconds: float | None
    is_empty: bool


class ParkedRoute(NamedTuple):
    """The parked deliveries of a route: `listed` is their number in packed rows, `range_from` the position from which
    on all of them are parked, None if the route has no range.
    """

    shard: int
    listed: int
    range_from: LogPosition | None


_PARKED_ROUTES = """
SELECT route_id, max(shard) AS shard, sum(listed)::bigint AS listed, max(from_tick) AS from_tick,
       max(from_seq) AS from_seq
  FROM (SELECT route_id, shard, pairs AS listed, NULL::bigint AS from_tick, NULL::bigint AS from_seq
          FROM hookledger.parked WHERE shard = ANY ($1::smallint[])
         UNION ALL
        SELECT route_id, shard, 0, from_tick, from_seq FROM hookledger.parked_range
         WHERE shard = ANY ($1::smallint[])) waiting
 GROUP BY route_id
"""

# What the event of a row takes in memory. An event is found by both, and in one partition.
_SIZE = f"""
coalesce((SELECT {EVENT_SIZE} FROM hookledger.domain_event e
           WHERE e.seq = found.seq AND e.recorded_at = found.recorded_at), 0) AS size_bytes
"""

# By LATERAL for each shard, so that each reads no more of the index than it must. With statement_timestamp, because an
# index cannot be searched for clock_timestamp, which changes from row to row. NOT IN a subquery is hashed: for NOT
# EXISTS a generic plan compares each row with each element, and so does <> ALL of a parameter. $6 is the
# latest due time.
_DUE = f"""
SELECT route_id, seq, tick, shard, recorded_at, event_time, failures, replay, {_SIZE}
  FROM (
    SELECT due.* FROM unnest($1::smallint[]) AS mine (shard), LATERAL (
        SELECT r.route_id, r.seq, r.tick, r.shard, r.recorded_at, r.event_time, r.failures, r.replay, r.due_at
          FROM hookledger.retry r
         WHERE r.shard = mine.shard AND r.due_at <= least({STATEMENT_TIME}, $6)
           AND (r.route_id, r.seq) NOT IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))
           AND r.route_id NOT IN (SELECT * FROM unnest($5::uuid[]))
           AND r.tenant NOT IN (SELECT * FROM unnest($7::text[]))
         ORDER BY r.due_at LIMIT $4) due
     ORDER BY due.due_at LIMIT $4) found
 ORDER BY due_at
"""

# A test event, for which nothing waits. A scalar subquery, since the planner may turn EXISTS into a join that reads all
# events.
_IS_TEST = """
(SELECT e.test_route FROM hookledger.domain_event e WHERE e.seq = r.seq AND e.recorded_at = r.recorded_at) IS NOT NULL
"""

# Behind one that is not due all others wait, but for what was not tried yet: among that may be test events, which wait
# for no other. First of all routes the first one, then the second one, and so on.
_FIRST_OF_ROUTES = f"""
SELECT route_id, seq, tick, shard, recorded_at, event_time, failures, replay, {_SIZE}
  FROM (
    SELECT due.* FROM unnest($1::uuid[]) AS asked (route_id), LATERAL (
        SELECT *, row_number() OVER (ORDER BY tick, seq) AS place
          FROM (SELECT *, due_at <= least({STATEMENT_TIME}, $3) AS is_due,
                       bool_and(due_at <= least({STATEMENT_TIME}, $3) OR is_test) OVER (ORDER BY tick, seq) AS is_next
                  FROM (SELECT r.*, {_IS_TEST} AS is_test FROM hookledger.retry r WHERE r.route_id = asked.route_id
                         ORDER BY tick, seq LIMIT $2) first) judged
         WHERE is_due AND (is_next OR failures = 0)) due
     ORDER BY place, tick, seq LIMIT $4) found
 ORDER BY place, tick, seq
"""

_WAITING = f"""
SELECT (SELECT extract(epoch FROM min(next.due_at) - {STATEMENT_TIME})::float8
          FROM unnest($1::smallint[]) AS mine (shard), LATERAL (
            SELECT r.due_at FROM hookledger.retry r
             WHERE r.shard = mine.shard AND r.due_at > {STATEMENT_TIME} ORDER BY r.due_at LIMIT 1) next),
       NOT EXISTS (SELECT FROM hookledger.retry WHERE shard = ANY ($1::smallint[]))
"""

# The first $2 of each route. Which are tests is looked up in their order, until there are so many others.
_FAILING = f"""
SELECT asked.route_id, first.tick, first.seq
  FROM unnest($1::uuid[]) AS asked (route_id), LATERAL (
    SELECT r.tick, r.seq
      FROM (SELECT * FROM hookledger.retry WHERE route_id = asked.route_id ORDER BY tick, seq OFFSET 0) r
     WHERE NOT {_IS_TEST} LIMIT $2) first
"""

_OLDEST_PACKED = """
SELECT shard, epoch, flush, route_id, seqs, ticks, recorded_ats, event_times FROM hookledger.parked
 WHERE route_id = $1 AND (epoch, flush) > ($2, $3) ORDER BY epoch, flush LIMIT 1
"""

# A delivery with a row in retry was taken from the packed row before; it is in flight or will be sent from there. $3 is
# when its first event was recorded: an outcome comes later, and the day allows for clocks that are set back. Else each
# event would be looked for in every day that is kept.
_DONE_OF = """
SELECT seq FROM hookledger.attempt
 WHERE route_id = $1 AND seq = ANY ($2::bigint[]) AND at >= $3::timestamptz - interval '1 day'
 UNION ALL SELECT seq FROM hookledger.retry WHERE route_id = $1 AND seq = ANY ($2::bigint[])
"""

# $2 are the checkpoints of the shards in $1, and $3 the lowest of them: by that the index over ticks, which knows no
# shards, is searched once for all.
_ACCOUNTED = """
WITH mine AS MATERIALIZED (SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS each (shard, checkpoint))
SELECT shard, route_id, seq FROM hookledger.attempt JOIN mine USING (shard) WHERE tick > $3 AND tick > checkpoint
 UNION SELECT shard, route_id, seq FROM hookledger.retry JOIN mine USING (shard) WHERE tick > checkpoint
 UNION SELECT shard, route_id, unnest(seqs) FROM hookledger.parked JOIN mine USING (shard) WHERE last_tick > checkpoint
"""


async def due(
    database: Database,
    shards: Sequence[int],
    *,
    held: Collection[Pair],
    limit: int,
    without: Collection[UUID] = (),
    without_tenants: Collection[str] = (),
    latest: datetime | None = None,
) -> list[WaitingDelivery]:
    """At most `limit` deliveries that are due now, oldest first, except those in `held`, those of routes in `without`
    and those of `without_tenants`. What is due after `latest`, in steady time, is not due, whatever the database's
    clock says.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(
            _DUE,
            shards,
            [route_id for route_id, _ in held],
            [seq for _, seq in held],
            limit,
            list(without),
            latest,
            list(without_tenants),
        )
    return [WaitingDelivery(**row) for row in rows]


async def first_of_routes(
    database: Database, route_ids: Collection[UUID], *, each: int, limit: int, latest: datetime | None = None
) -> list[WaitingDelivery]:
    """Deliveries of ordered routes that are due now and wait for no other, among the first `each` retries of each. At
    most `limit`: the first of every route, then the second of every route, and so on, of a route in the order of its
    events. `latest` is that of `due`.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(_FIRST_OF_ROUTES, list(route_ids), each, latest, limit)
    return [WaitingDelivery(**row) for row in rows]


async def waiting(database: Database, shards: Sequence[int]) -> WaitingRetries:
    """What there is to wait for in these shards."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(_WAITING, shards)
    return WaitingRetries(*row)


async def parked_routes(database: Database, shards: Sequence[int]) -> dict[UUID, ParkedRoute]:
    """The routes with parked deliveries in these shards."""
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_PARKED_ROUTES, shards)
    return {row["route_id"]: ParkedRoute(row["shard"], row["listed"], _range_from(row)) for row in rows}


async def failing(database: Database, route_ids: Collection[UUID], *, each: int) -> dict[UUID, set[LogPosition]]:
    """For each of these routes the first positions, at most `each`, of its deliveries that have a row in `retry`, but
    for test events.
    """
    found: dict[UUID, set[LogPosition]] = {route_id: set() for route_id in route_ids}
    async with database.connection() as connection:
        rows = await connection.fetch(_FAILING, list(route_ids), each)
    for route_id, tick, seq in rows:
        found[route_id].add((tick, seq))
    return found


async def oldest_packed(database: Database, route_id: UUID, *, after: ParkedKey | None) -> PackedDeliveries | None:
    """The next packed row of a route after `after`, without deliveries that were sent before a crash; None if there is
    none.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(
            _OLDEST_PACKED, route_id, after.epoch if after else -1, after.flush if after else -1
        )
        if row is None:
            return None
        done = {r["seq"] for r in await connection.fetch(_DONE_OF, route_id, row["seqs"], min(row["recorded_ats"]))}
    key = ParkedKey(shard=row["shard"], epoch=row["epoch"], flush=row["flush"], route_id=row["route_id"])
    columns = zip(row["seqs"], row["ticks"], row["recorded_ats"], row["event_times"], strict=True)
    return PackedDeliveries(
        key=key,
        deliveries=tuple(
            WaitingDelivery(
                route_id=route_id,
                seq=seq,
                tick=tick,
                shard=key.shard,
                recorded_at=recorded_at,
                event_time=event_time,
                failures=0,
            )
            for seq, tick, recorded_at, event_time in columns
            if seq not in done
        ),
    )


async def accounted(database: Database, above: Mapping[int, int]) -> dict[int, set[Pair]]:
    """Shard → its pairs of ticks above its checkpoint that have an outcome, a retry or a parked row; without the shards
    that have none. `above` maps each shard to its checkpoint. Read when a shard is taken.
    """
    async with database.connection(seconds=60) as connection:
        rows = await connection.fetch(_ACCOUNTED, list(above), list(above.values()), min(above.values()))
    pairs: dict[int, set[Pair]] = {}
    for shard, route_id, seq in rows:
        pairs.setdefault(shard, set()).add((route_id, seq))
    return pairs


async def checkpoints(database: Database, shards: Sequence[int]) -> dict[int, int]:
    """Shard → the last tick that is completely accounted for."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT shard, tick FROM hookledger.checkpoint WHERE shard = ANY ($1::smallint[])", shards
        )
    return {row["shard"]: row["tick"] for row in rows}


async def retrying_routes(database: Database, shards: Sequence[int]) -> set[UUID]:
    """The routes with rows in `retry` in these shards."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT route_id FROM hookledger.retry WHERE shard = ANY ($1::smallint[])", shards
        )
    return {row["route_id"] for row in rows}


def _range_from(row: asyncpg.Record) -> LogPosition | None:
    return None if row["from_tick"] is None else (row["from_tick"], row["from_seq"])
