"""Replays: deliveries of a route and a period that are all sent again, a part at a time.

What belongs to a replay is settled when it begins, and written down as seqs in parts. Scheduling takes the oldest part,
looks once more at each of its deliveries, and puts it into `retry`, in one transaction: what is gone from the parts is
in `retry`, whatever crashes, and nothing is scheduled twice. Why that needs no lease is said in
eventstore/progress/manual_retry.py; only the owner of the shard does it, because only it knows how the receiver is.

    running   --nothing left in parts nor in retry--> done
    running   --cancelled, or the window closed-----> cancelled

A row in `retry` carries the replay's id until its next outcome is written. So at most WAITING_ROWS of them are there to
be taken back, and the rest of the table stays what it is for others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ReplayRunning, RequestReused
from eventstore.progress import manual_retry
from eventstore.progress.manual_retry import RetryRequest

PART_SEQS = 500
# Of a replay, in `retry` at once.
WAITING_ROWS = 1000

# For counting a million outcomes, and for writing down as many seqs.
_COUNT_SECONDS = 15.0
_BEGIN_SECONDS = 30.0
_PART_SECONDS = 10.0

# A delivery's last word is `failed` if nothing else was ever said at its end: after `suppressed` and `expired` nothing
# is sent any more, and what succeeded once is delivered for good.
_FAILED = "bool_and(a.outcome = 'failed') FILTER (WHERE a.outcome <> 'retrying')"
_RULES = {"failed": _FAILED, "all": f"{_FAILED} OR bool_or(a.outcome = 'delivered')"}

# $1 route, $2 sendable from, $3 until. An outcome is recorded after its event; the day is for clocks that are set back.
_FOUND = """
found AS (
    SELECT a.seq FROM hookledger.attempt a
     WHERE a.route_id = $1 AND a.event_time >= $2 AND a.event_time < $3 AND a.at >= $2 - interval '1 day'
       AND a.outcome <> 'retrying' AND NOT a.is_test
     GROUP BY a.seq HAVING {rule}
), ended AS (
    SELECT f.seq FROM found f
     WHERE NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $1 AND r.seq = f.seq)
)
"""

_COUNT = "WITH {found} SELECT count(*) FROM ended"

_COLUMNS = (
    "id, route_id, tenant, shard, wanted, since, until, sendable_from, actor, reason, request_id, causation_id, "
    "created_at, ended_at, state, detail, total, scheduled, withdrawn"
)

_BEGIN = f"""
WITH {{found}}, parts AS (
    INSERT INTO hookledger.replay_part (replay, first_seq, seqs)
    SELECT $4, min(seq), array_agg(seq ORDER BY seq)
      FROM (SELECT seq, (row_number() OVER (ORDER BY seq) - 1) / {PART_SEQS} AS part FROM ended) numbered
     GROUP BY part
    RETURNING cardinality(seqs) AS size
), counted AS (
    SELECT coalesce(sum(size), 0) AS total FROM parts
)
INSERT INTO hookledger.replay (id, route_id, sendable_from, until, since, tenant, wanted, actor, origin, reason,
       request_id, causation_id, created_at, total, state, ended_at)
SELECT $4, $1, $2, $3, $5, $6, $7, $8, $9, $10, $11, $12, statement_timestamp(), total,
       CASE total WHEN 0 THEN 'done' ELSE 'running' END, CASE total WHEN 0 THEN clock_timestamp() END
  FROM counted
"""

_SHOWN = f"""
SELECT {_COLUMNS}, (SELECT count(*) FROM hookledger.retry r WHERE r.replay = p.id) AS waiting,
       EXISTS (SELECT FROM hookledger.replay_part s WHERE s.replay = p.id) AS is_unscheduled
  FROM hookledger.replay p
"""
_BY_ID = f"{_SHOWN} WHERE id = $1"
_BY_REQUEST = f"{_SHOWN} WHERE request_id = $1"
_OF_ROUTE = f"{_SHOWN} WHERE route_id = $1 AND created_at < $2 ORDER BY created_at DESC LIMIT $3"
_RUNNING = f"{_SHOWN} WHERE state = 'running' AND shard = ANY ($1::smallint[]) ORDER BY created_at"

_IS_RUNNING = "SELECT EXISTS (SELECT FROM hookledger.replay WHERE route_id = $1 AND state = 'running')"

# $1 replay, $2 how many at most, $3 route, $4 sendable from. Each has a due time of its own, so that they are taken up
# in the order of events.
_SCHEDULE = """
WITH part AS MATERIALIZED (
    SELECT p.first_seq, p.seqs[:$2::integer] AS taken, p.seqs[$2::integer + 1:] AS rest FROM hookledger.replay_part p
     WHERE p.replay = $1 ORDER BY p.first_seq LIMIT 1
), gone AS (
    DELETE FROM hookledger.replay_part p USING part
     WHERE p.replay = $1 AND p.first_seq = part.first_seq AND cardinality(part.rest) = 0
), kept AS (
    UPDATE hookledger.replay_part p SET seqs = part.rest FROM part
     WHERE p.replay = $1 AND p.first_seq = part.first_seq AND cardinality(part.rest) > 0
), wanted AS MATERIALIZED (
    SELECT a.seq, max(a.shard) AS shard, max(a.tick) AS tick, max(a.event_time) AS event_time,
           max(a.number) AS requests, max(a.tenant) AS tenant
      FROM hookledger.attempt a
     WHERE a.route_id = $3 AND a.seq = ANY ((SELECT taken FROM part)::bigint[])
       AND a.at >= $4::timestamptz - interval '1 day'
     GROUP BY a.seq HAVING {rule}
), queued AS (
    INSERT INTO hookledger.retry (shard, route_id, seq, recorded_at, event_time, tick, failures, due_at, replay, tenant)
    SELECT w.shard, $3, w.seq, e.recorded_at, w.event_time, w.tick, w.requests,
           statement_timestamp() - ($2::integer + 1 - row_number() OVER (ORDER BY w.seq)) * interval '1 microsecond',
           $1, w.tenant
      FROM wanted w JOIN hookledger.domain_event e ON e.seq = w.seq
     WHERE e.seq = ANY ((SELECT taken FROM part)::bigint[]) AND e.recorded_at >= $4
    ON CONFLICT (route_id, seq) DO NOTHING
    RETURNING 1
)
UPDATE hookledger.replay p SET scheduled = p.scheduled + (SELECT count(*) FROM queued)
 WHERE p.id = $1
RETURNING (SELECT count(*) FROM queued) AS scheduled, EXISTS (SELECT FROM part) AS is_more
"""

# $1 replay, $2 state, $3 why.
_END = """
UPDATE hookledger.replay SET state = $2, detail = $3, ended_at = clock_timestamp() WHERE id = $1 AND state = 'running'
"""

# What a flush has locked is being settled, and needs no taking back.
_WITHDRAW = """
WITH taken AS MATERIALIZED (
    SELECT route_id, seq FROM hookledger.retry WHERE replay = $1 AND holder IS NULL FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM hookledger.retry r USING taken t WHERE r.route_id = t.route_id AND r.seq = t.seq RETURNING 1
)
UPDATE hookledger.replay SET withdrawn = (SELECT count(*) FROM gone) WHERE id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScope:
    """What is to be sent again: of a route, by the time of the event in [since, until), as far as that can be sent;
    `wanted` is failed or all.
    """

    route_id: UUID
    tenant: str
    since: datetime
    until: datetime
    sendable_from: datetime
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay as it stands. `waiting` counts what of it is in `retry`, `is_unscheduled` says whether more will come
    there; `detail` says why it was cancelled.
    """

    id: UUID
    route_id: UUID
    tenant: str
    shard: int
    wanted: str
    since: datetime
    until: datetime
    sendable_from: datetime
    actor: str
    reason: str | None
    request_id: str | None
    causation_id: str | None
    created_at: datetime
    ended_at: datetime | None
    state: str
    detail: str | None
    total: int
    scheduled: int
    withdrawn: int
    waiting: int
    is_unscheduled: bool


class Scheduled(NamedTuple):
    """How many deliveries were put into `retry`, and whether there was a part to take them from."""

    deliveries: int
    is_more: bool


async def count(database: Database, scope: ReplayScope) -> int:
    """How many deliveries a replay would send."""
    statement = _COUNT.format(found=_FOUND.format(rule=_RULES[scope.wanted]))
    async with database.transaction(seconds=_COUNT_SECONDS) as connection:
        await _bound(connection, _COUNT_SECONDS)
        number: int = await connection.fetchval(statement, scope.route_id, scope.sendable_from, scope.until)
    return number


async def begin(database: Database, replay_id: UUID, scope: ReplayScope, asked: RetryRequest) -> Replay:
    """Settles what belongs to a replay. One of nothing is done at once.

    Without the lock of the route, which others wait for: it may take seconds, and scheduling looks at each once more.

    Raises ReplayRunning if the route has one already, RequestReused if the request id was used before.
    """
    statement = _BEGIN.format(found=_FOUND.format(rule=_RULES[scope.wanted]))
    async with database.transaction(seconds=_BEGIN_SECONDS) as connection:
        if await connection.fetchval(_IS_RUNNING, scope.route_id):
            raise ReplayRunning(f"a replay of route {scope.route_id} is running")
        await _bound(connection, _BEGIN_SECONDS)
        try:
            await connection.execute(
                statement,
                scope.route_id,
                scope.sendable_from,
                scope.until,
                replay_id,
                scope.since,
                scope.tenant,
                scope.wanted,
                asked.actor,
                asked.origin,
                asked.reason,
                asked.request_id,
                asked.causation_id,
            )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "replay_running_key":
                raise ReplayRunning(f"a replay of route {scope.route_id} is running") from error
            raise RequestReused(f"request {asked.request_id} was carried out before") from error
        await manual_retry.hurry(connection)
        (row,) = await connection.fetch(_BY_ID, replay_id)
    return Replay(**row)


async def find(database: Database, replay_id: UUID) -> Replay | None:
    """A replay, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_BY_ID, replay_id)
    return None if row is None else Replay(**row)


async def by_request(database: Database, request_id: str) -> Replay | None:
    """The replay that a request id brought about, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_BY_REQUEST, request_id)
    return None if row is None else Replay(**row)


async def of_route(database: Database, route_id: UUID, *, before: datetime, limit: int) -> list[Replay]:
    """The replays of a route that began before a moment, newest first."""
    async with database.connection() as connection:
        rows = await connection.fetch(_OF_ROUTE, route_id, before, limit)
    return [Replay(**row) for row in rows]


async def running(database: Database, shards: Sequence[int]) -> list[Replay]:
    """The replays that are to be gone on with in these shards."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RUNNING, shards)
    return [Replay(**row) for row in rows]


async def ended(database: Database, replay_ids: Collection[UUID]) -> set[UUID]:
    """Those of some replays that run no more."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT id FROM hookledger.replay WHERE id = ANY ($1::uuid[]) AND state <> 'running'", list(replay_ids)
        )
    return {row["id"] for row in rows}


async def schedule(database: Database, replay: Replay, *, most: int) -> Scheduled:
    """Puts the next deliveries of a running replay into `retry`, of one part and `most` at most."""
    statement = _SCHEDULE.format(rule=_RULES[replay.wanted])
    async with database.transaction(seconds=_PART_SECONDS) as connection:
        await manual_retry.lock(connection, replay.route_id)
        if not await connection.fetchval(
            "SELECT state = 'running' FROM hookledger.replay WHERE id = $1 FOR NO KEY UPDATE", replay.id
        ):
            return Scheduled(0, is_more=False)
        (row,) = await connection.fetch(statement, replay.id, most, replay.route_id, replay.sendable_from)
    return Scheduled(row["scheduled"], row["is_more"])


async def finish(database: Database, replay_id: UUID) -> None:
    """Notes that a replay is done."""
    async with database.connection() as connection:
        await connection.execute(_END, replay_id, "done", None)


async def cancel(database: Database, replay: Replay, *, detail: str) -> Replay:
    """Cancels a replay that runs, and takes back what of it nobody is sending; the replay as it is then."""
    async with database.transaction() as connection:
        await manual_retry.lock(connection, replay.route_id)
        if await connection.execute(_END, replay.id, "cancelled", detail) == "UPDATE 1":
            await connection.execute("DELETE FROM hookledger.replay_part WHERE replay = $1", replay.id)
            await connection.execute(_WITHDRAW, replay.id)
            await manual_retry.hurry(connection)
        (row,) = await connection.fetch(_BY_ID, replay.id)
    return Replay(**row)


async def _bound(connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> None:
    """Has the server itself give up then: it does not notice that nobody waits for the statement any more."""
    await connection.execute(f"SET LOCAL statement_timeout = '{seconds:g}s'")
