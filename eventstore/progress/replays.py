"""Replays: all deliveries of a route and a period are sent again, a part at a time.

The deliveries of a replay are determined when it begins, and stored as seqs in parts. Scheduling takes the oldest part,
checks each of its deliveries again and puts it into `retry`, in one transaction. So a seq that was removed from the
parts is in `retry`, whatever crashes, and nothing is scheduled twice. eventstore/progress/manual_retry.py explains why
this needs no lease. Only the owner of the shard schedules, because only it knows the state of the receiver.

    running   --nothing left in parts nor in retry--> done
    running   --cancelled, or the window closed-----> cancelled

A row in `retry` has the replay's id until its next outcome is written. At most WAITING_ROWS rows of a replay are there
at a time, so a cancel has few rows to withdraw, and `retry` stays small for the other routes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ReplayRunning, RequestReused
from eventstore.progress import manual_retry
from eventstore.progress.log_macs import LogMacs, RequestTable
from eventstore.progress.manual_retry import RetryRequest
from eventstore.progress.steady_time import STATEMENT_TIME

PART_SEQS = 500
# The most rows that a replay may have in `retry` at a time.
WAITING_ROWS = 1000
# So many failed deliveries are looked at one by one, in half a second. If there are more, all outcomes of their period
# are read, which takes a second for a million.
MANY_FAILED = 20_000

# Later than the creation of any replay.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

# Deadlines that suffice to count a million outcomes, and to store as many seqs.
_COUNT_SECONDS = 15.0
_BEGIN_SECONDS = 30.0
_PART_SECONDS = 10.0

# A delivery counts as failed if `failed` is its only final outcome. After `suppressed` or `expired` nothing is sent any
# more, and a delivery that succeeded once stays delivered.
_FAILED = "bool_and(a.outcome = 'failed') FILTER (WHERE a.outcome <> 'retrying')"
_RULES = {"failed": _FAILED, "all": f"{_FAILED} OR bool_or(a.outcome = 'delivered')"}

_ENDED = """
SELECT seq, outcome, event_time FROM hookledger.attempt
 WHERE route_id = $1 AND event_time >= $2 AND event_time < $3 AND at >= $2 - interval '1 day' AND NOT is_test"""

# $1 route, $2 sendable from, $3 until. An outcome is recorded after its event; the day allows for clocks that are set
# back. In two parts, as each has an index of its own.
_FOUND = f"""
found AS (
    SELECT a.seq FROM (
           {_ENDED} AND outcome = 'delivered'
           UNION ALL
           {_ENDED} AND outcome IN ('failed', 'suppressed', 'expired')) a
     GROUP BY a.seq HAVING {{rule}}
), ended AS (
    SELECT f.seq FROM found f
     WHERE NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $1 AND r.seq = f.seq)
)
"""

# The same for what failed, if that is few among very many that were delivered: each of them is looked at alone. A
# scalar subquery, since the planner may turn NOT EXISTS into a join that reads all outcomes of the route.
_FAILED_ROWS = f"{_ENDED} AND outcome = 'failed' AND outcome IN ('failed', 'suppressed', 'expired')"
_FEW_FOUND = f"""
found AS (
    SELECT f.seq FROM (SELECT DISTINCT seq, event_time FROM ({_FAILED_ROWS}) failed) f
     WHERE (SELECT a.seq FROM hookledger.attempt a
             WHERE a.route_id = $1 AND a.seq = f.seq AND a.at >= f.event_time - interval '1 day'
               AND a.outcome IN ('delivered', 'suppressed', 'expired') LIMIT 1) IS NULL
), ended AS (
    SELECT f.seq FROM found f
     WHERE NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $1 AND r.seq = f.seq)
)
"""
# $4 so many are not few.
_ARE_FEW = f"SELECT count(*) < $4 FROM ({_FAILED_ROWS} LIMIT $4) failed"

# The same for deliveries that somebody chose: $13 their seqs.
_CHOSEN = """
ended AS (
    SELECT c.seq FROM unnest($13::bigint[]) AS c (seq)
     WHERE NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $1 AND r.seq = c.seq)
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
       request_id, causation_id, created_at, total, state, ended_at, ended_txid)
SELECT $4, $1, $2, $3, $5, $6, $7, $8, $9, $10, $11, $12, statement_timestamp(), total,
       CASE total WHEN 0 THEN 'done' ELSE 'running' END, CASE total WHEN 0 THEN clock_timestamp() END,
       CASE total WHEN 0 THEN pg_current_xact_id()::text::bigint END
  FROM counted
RETURNING created_at, total
"""
_SIGN = "UPDATE hookledger.replay SET mac = $2 WHERE id = $1"

_SHOWN = f"""
SELECT {_COLUMNS}, (SELECT count(*) FROM hookledger.retry r WHERE r.replay = p.id) AS waiting,
       EXISTS (SELECT FROM hookledger.replay_part s WHERE s.replay = p.id) AS is_unscheduled
  FROM hookledger.replay p
"""
_BY_ID = f"{_SHOWN} WHERE id = $1"
_BY_REQUEST = f"{_SHOWN} WHERE request_id = $1"
_BY_REQUESTS = f"{_SHOWN} WHERE request_id = ANY ($1::text[]) ORDER BY created_at"
_OF_ROUTE = f"{_SHOWN} WHERE route_id = $1 AND created_at < $2 ORDER BY created_at DESC LIMIT $3"
_RUNNING = f"{_SHOWN} WHERE state = 'running' AND shard = ANY ($1::smallint[]) ORDER BY created_at"

_IS_RUNNING = "SELECT EXISTS (SELECT FROM hookledger.replay WHERE route_id = $1 AND state = 'running')"

# $1 replay, $2 the most deliveries, $3 route, $4 sendable from. Each delivery gets a different due time, so that they
# are taken in the order of events.
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
           {steady_time} - ($2::integer + 1 - row_number() OVER (ORDER BY w.seq)) * interval '1 microsecond',
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

# $1 replay, $2 the new state, $3 the reason.
_END = """
UPDATE hookledger.replay
   SET state = $2, detail = $3, ended_at = clock_timestamp(), ended_txid = pg_current_xact_id()::text::bigint
 WHERE id = $1 AND state = 'running'
"""

# $1 the moment.
_FORGET = """
DELETE FROM hookledger.replay
 WHERE created_at < least(date_trunc('day', $1::timestamptz, 'UTC'), (
       SELECT date_trunc('day', min(created_at), 'UTC') FROM hookledger.replay
        WHERE created_at < $1 AND (ended_at IS NULL OR ended_at >= $1)))
"""

# A row that a flush has locked is being settled, and is not withdrawn.
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
    """The deliveries to send again: of a route, with event time in [since, until), and not before `sendable_from`.
    `wanted` is "failed" or "all".
    """

    route_id: UUID
    tenant: str
    since: datetime
    until: datetime
    sendable_from: datetime
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A row of `replay`. `waiting` counts its rows in `retry`, `is_unscheduled` is True if it has parts left, `detail`
    is the reason if it was cancelled.
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
    async with database.transaction(seconds=_COUNT_SECONDS) as connection:
        await _limit_statement(connection, _COUNT_SECONDS)
        statement = _COUNT.format(found=await _found(connection, scope))
        number: int = await connection.fetchval(statement, scope.route_id, scope.sendable_from, scope.until)
    return number


async def begin(
    database: Database,
    replay_id: UUID,
    scope: ReplayScope,
    request: RetryRequest,
    *,
    macs: LogMacs,
    chosen: Sequence[int] | None = None,
) -> Replay:
    """Determines and stores the deliveries of a replay: all in the scope, or those of the events with these seqs
    (`chosen`). A replay without deliveries is done at once.

    This may take seconds, so it does not take the lock of the route, which others wait for. Scheduling checks each
    delivery again.

    Raises ReplayRunning if the route has a running replay, and RequestReused if the request id was used before.
    """
    async with database.transaction(seconds=_BEGIN_SECONDS) as connection:
        if await connection.fetchval(_IS_RUNNING, scope.route_id):
            raise ReplayRunning(f"a replay of route {scope.route_id} is running")
        await _limit_statement(connection, _BEGIN_SECONDS)
        statement = _BEGIN.format(found=_CHOSEN if chosen is not None else await _found(connection, scope))
        try:
            (begun,) = await connection.fetch(
                statement,
                scope.route_id,
                scope.sendable_from,
                scope.until,
                replay_id,
                scope.since,
                scope.tenant,
                scope.wanted,
                *request.values,
                *([] if chosen is None else [chosen]),
            )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "replay_running_key":
                raise ReplayRunning(f"a replay of route {scope.route_id} is running") from error
            raise RequestReused(f"request {request.request_id} was carried out before") from error
        values = (scope.route_id, scope.tenant, scope.wanted, scope.since, scope.until, scope.sendable_from)
        signed = (replay_id, begun["created_at"], *values, *request.values, begun["total"])
        await connection.execute(_SIGN, replay_id, macs.of_request(RequestTable.REPLAY, signed))
        await manual_retry.notify_owners(connection)
        (row,) = await connection.fetch(_BY_ID, replay_id)
    return Replay(**row)


async def find(database: Database, replay_id: UUID) -> Replay | None:
    """A replay, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_BY_ID, replay_id)
    return None if row is None else Replay(**row)


async def by_request(database: Database, request_id: str) -> Replay | None:
    """The replay that was begun with this request id, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_BY_REQUEST, request_id)
    return None if row is None else Replay(**row)


async def by_requests(database: Database, request_ids: Sequence[str]) -> list[Replay]:
    """The replays that were begun with one of these request ids."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BY_REQUESTS, request_ids)
    return [Replay(**row) for row in rows]


async def of_route(database: Database, route_id: UUID, *, before: datetime | None = None, limit: int) -> list[Replay]:
    """The replays of a route, newest first; with `before` those that began before that moment."""
    async with database.connection() as connection:
        rows = await connection.fetch(_OF_ROUTE, route_id, before or _END_OF_TIME, limit)
    return [Replay(**row) for row in rows]


async def running(database: Database, shards: Sequence[int]) -> list[Replay]:
    """The running replays of these shards, oldest first."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RUNNING, shards)
    return [Replay(**row) for row in rows]


async def ended(database: Database, replay_ids: Collection[UUID]) -> set[UUID]:
    """Those of these replays that are no longer running."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT id FROM hookledger.replay WHERE id = ANY ($1::uuid[]) AND state <> 'running'", list(replay_ids)
        )
    return {row["id"] for row in rows}


async def schedule(database: Database, replay: Replay, *, limit: int) -> Scheduled:
    """Puts the next deliveries of a running replay into `retry`: from one part, and `limit` at most."""
    statement = _SCHEDULE.format(rule=_RULES[replay.wanted], steady_time=STATEMENT_TIME)
    async with database.transaction(seconds=_PART_SECONDS) as connection:
        await manual_retry.lock(connection, replay.route_id)
        if not await connection.fetchval(
            "SELECT state = 'running' FROM hookledger.replay WHERE id = $1 FOR NO KEY UPDATE", replay.id
        ):
            return Scheduled(0, is_more=False)
        (row,) = await connection.fetch(statement, replay.id, limit, replay.route_id, replay.sendable_from)
    return Scheduled(row["scheduled"], row["is_more"])


async def finish(database: Database, replay_id: UUID) -> None:
    """Ends a replay as done."""
    async with database.connection() as connection:
        await connection.execute(_END, replay_id, "done", None)


async def cancel(database: Database, replay: Replay, *, detail: str) -> Replay:
    """Cancels a running replay and withdraws its deliveries that are not in flight. Returns the replay afterwards."""
    async with database.transaction() as connection:
        await manual_retry.lock(connection, replay.route_id)
        if await connection.execute(_END, replay.id, "cancelled", detail) == "UPDATE 1":
            await connection.execute("DELETE FROM hookledger.replay_part WHERE replay = $1", replay.id)
            await connection.execute(_WITHDRAW, replay.id)
            await manual_retry.notify_owners(connection)
        (row,) = await connection.fetch(_BY_ID, replay.id)
    return Replay(**row)


async def forget(connection: asyncpg.pool.PoolConnectionProxy, *, before: datetime) -> None:
    """Deletes the replays that ended before a moment: those of the days on which only such ones began, and of the days
    before them, so that what is left of a seal can be compared.
    """
    await connection.execute(_FORGET, before)


async def _found(connection: asyncpg.pool.PoolConnectionProxy, scope: ReplayScope) -> str:
    """How the deliveries of a scope are found, whichever way is the quicker one."""
    if scope.wanted == "failed":
        bounds = scope.route_id, scope.sendable_from, scope.until
        if await connection.fetchval(_ARE_FEW, *bounds, MANY_FAILED):
            return _FEW_FOUND
    return _FOUND.format(rule=_RULES[scope.wanted])


async def _limit_statement(connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> None:
    """Sets the server's own timeout: it does not notice when the client stops waiting for the statement."""
    await connection.execute(f"SET LOCAL statement_timeout = '{seconds:g}s'")
