"""Deliveries put back into `retry` by hand. Whoever asks holds no lease, so this says why no harm comes of it.

Every other write of progress is the shard's owner's. What it holds in memory it holds by one of three rights, and a
row put in between it and the table must not become a second request, nor a request nobody knows of:

    never recorded         no outcome, or `retrying` at most: the pair is in a lane, parked, or about to be. Left alone.
    a row in `retry`       its outcome will replace the row. If the row is due it may be in memory already, and if it
                           has a holder its request is under way: left alone. Otherwise nobody has it, and `due_at` may
                           come nearer. Should a flush rewrite the row first, `failures` is another and nothing happens.
    an outcome that is     the flush that wrote it deleted the row in the same statement, and what is written is held no
    final, and no row      more but for a moment, in which the retrier passes the pair over. So a new row is the only
                           claim on it, and (route_id, seq) is its primary key.

That leaves two who ask at once, or a replay: the second might have read of an end before the first one's row came and
went. Therefore each takes the lock of the route, in a statement before the one that looks. The gate stands before the
request as ever: what is put here for a window that closes meanwhile is suppressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import RequestReused

# 'hklq', and beside it the route.
_LOCK = 1751870577

# A flush that rewrites the row between the look and the write has it looked at again.
_TRIES = 3

# $1 route, $2 seq. recorded_at is never before event_time, which spares the older partitions.
_REQUEUE = """
WITH tried AS MATERIALIZED (
    SELECT max(shard) AS shard, max(tick) AS tick, max(event_time) AS event_time, max(number) AS requests,
           max(tenant) AS tenant,
           coalesce(bool_or(outcome <> 'retrying'), false) AS has_ended
      FROM hookledger.attempt WHERE route_id = $1 AND seq = $2
), waiting AS MATERIALIZED (
    SELECT failures, due_at, due_at > statement_timestamp() AND holder IS NULL AS is_free
      FROM hookledger.retry WHERE route_id = $1 AND seq = $2
), hurried AS (
    UPDATE hookledger.retry r SET due_at = statement_timestamp() FROM waiting w
     WHERE r.route_id = $1 AND r.seq = $2 AND w.is_free AND r.holder IS NULL AND r.failures = w.failures
    RETURNING 1
), queued AS (
    INSERT INTO hookledger.retry (shard, route_id, seq, recorded_at, event_time, tick, failures, due_at, tenant)
    SELECT t.shard, $1, $2, e.recorded_at, t.event_time, t.tick, t.requests, statement_timestamp(), t.tenant
      FROM tried t JOIN hookledger.domain_event e ON e.seq = $2 AND e.recorded_at >= t.event_time
     WHERE t.has_ended AND NOT EXISTS (SELECT FROM waiting)
    ON CONFLICT (route_id, seq) DO NOTHING
    RETURNING 1
)
SELECT t.has_ended, w.failures IS NOT NULL AS is_waiting, coalesce(w.is_free, false) AS is_free,
       EXISTS (SELECT FROM hurried) OR EXISTS (SELECT FROM queued) AS is_due
  FROM tried t LEFT JOIN waiting w ON true
"""

_NOTE = """
INSERT INTO hookledger.resend (route_id, seq, actor, origin, reason, request_id, causation_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (request_id) DO NOTHING
"""

_REPEATED = """
SELECT route_id = $2 AND seq = $3 AND causation_id IS NOT DISTINCT FROM $4 FROM hookledger.resend WHERE request_id = $1
"""


class RetryResult(StrEnum):
    """What came of a delivery that was to be tried again now."""

    DUE = "due"  # it is due now
    UNDER_WAY = "under_way"  # its request is under way, or about to be
    IN_LINE = "in_line"  # it waits for its first attempt
    GONE = "gone"  # its event is no longer kept


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequest:
    """Who asks, whence and why. `request_id` makes a repetition harmless, if `causation_id` is repeated with it."""

    actor: str
    origin: str
    reason: str | None = None
    request_id: str | None = None
    causation_id: str | None = None


async def retry(database: Database, *, route_id: UUID, seq: int, asked: RetryRequest) -> RetryResult:
    """Has a delivery that ended, or that waits for its next attempt, tried at once, and notes who wanted it.

    Raises RequestReused if the request id stands for something else.
    """
    async with database.transaction() as connection:
        await lock(connection, route_id)
        if await _is_repeated(connection, route_id, seq, asked):
            return RetryResult.DUE
        requeued = await _requeue(connection, route_id, seq)
        if requeued is RetryResult.DUE:
            noted = await connection.execute(
                _NOTE, route_id, seq, asked.actor, asked.origin, asked.reason, asked.request_id, asked.causation_id
            )
            if noted == "INSERT 0 0":  # the same id at the same moment, for another route
                raise RequestReused(f"request {asked.request_id} was carried out before")
            await hurry(connection)
    return requeued


async def lock(connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID) -> None:
    """Keeps others from putting deliveries of a route back, until the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1::integer, $2::integer)", _LOCK, route_id.int & 0x7FFFFFFF)


async def hurry(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Has the owners of shards look, once the transaction is committed."""
    await connection.execute("SELECT pg_notify($1, '')", listen.RETRY)


async def forget(connection: asyncpg.pool.PoolConnectionProxy, *, before: datetime) -> None:
    """Drops the notes of who asked for what before a moment."""
    await connection.execute("DELETE FROM hookledger.resend WHERE at < $1", before)


async def _is_repeated(
    connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID, seq: int, asked: RetryRequest
) -> bool:
    if asked.request_id is None:
        return False
    is_same = await connection.fetchval(_REPEATED, asked.request_id, route_id, seq, asked.causation_id)
    if is_same is False:
        raise RequestReused(f"request {asked.request_id} was carried out before")
    return is_same is True


async def _requeue(connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID, seq: int) -> RetryResult:
    (row,) = await connection.fetch(_REQUEUE, route_id, seq)
    for _ in range(_TRIES):
        if row["is_due"] or not row["is_free"]:
            break
        (row,) = await connection.fetch(_REQUEUE, route_id, seq)
    if row["is_due"]:
        return RetryResult.DUE
    if row["is_waiting"]:
        return RetryResult.UNDER_WAY
    return RetryResult.GONE if row["has_ended"] else RetryResult.IN_LINE
