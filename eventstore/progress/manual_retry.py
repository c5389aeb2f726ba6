"""Manual retries: a delivery is put back into `retry` at a user's request, by a process that may hold no lease.

Every other write of progress is made by the owner of the shard. A manual retry must not cause a second request for a
delivery that the owner has in memory, nor a request that the owner does not know of. There are three cases:

    no final outcome       No outcome, or `retrying` at most, and no row in `retry`: it is in a lane, or parked, or soon
    and no retry row       will be. It is left alone.
    a row in `retry`       Its outcome will replace the row. A due row may be in memory already, and a row with a holder
                           has its request in flight: both are left alone. No process has any other row in memory, so
                           `due_at` may be brought forward. If a flush rewrites the row first, `failures` differs and
                           nothing happens.
    a final outcome        The flush that wrote the outcome deleted the row in the same statement. The owner keeps the
    and no retry row       delivery in memory only for a moment longer, and the retrier skips it meanwhile. So a new row
                           is the only claim on the delivery, and (route_id, seq) is its primary key.

Two concurrent manual retries, or a replay, remain: the second could read the final outcome before the first one's row
is inserted and settled. Therefore each takes the lock of the route, in a statement before the one that reads. The send
gate judges the delivery as always: if its window closes meanwhile, it is suppressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from eventstore.postgres import listen
from eventstore.postgres.connect import UNPRUNED, Database
from eventstore.postgres.errors import RequestReused
from eventstore.progress.log_macs import LogMacs, RequestTable
from eventstore.progress.steady_time import STATEMENT_TIME

# If a flush rewrites the row between the read and the write, the statement is repeated.
_TRIES = 3

# $1 route, $2 seq. An event is never recorded before its event time, so older partitions are excluded.
_REQUEUE = f"""
WITH tried AS MATERIALIZED (
    SELECT max(shard) AS shard, max(tick) AS tick, max(event_time) AS event_time, max(number) AS requests,
           max(tenant) AS tenant,
           coalesce(bool_or(outcome <> 'retrying'), false) AS has_ended
      FROM hookledger.attempt WHERE route_id = $1 AND seq = $2
), waiting AS MATERIALIZED (
    SELECT failures, due_at, due_at > {STATEMENT_TIME} AND holder IS NULL AS is_free
      FROM hookledger.retry WHERE route_id = $1 AND seq = $2
), hurried AS (
    UPDATE hookledger.retry r SET due_at = {STATEMENT_TIME} FROM waiting w
     WHERE r.route_id = $1 AND r.seq = $2 AND w.is_free AND r.holder IS NULL AND r.failures = w.failures
    RETURNING 1
), queued AS (
    INSERT INTO hookledger.retry (shard, route_id, seq, recorded_at, event_time, tick, failures, due_at, tenant)
    SELECT t.shard, $1, $2, e.recorded_at, t.event_time, t.tick, t.requests, {STATEMENT_TIME}, t.tenant
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
    ON CONFLICT (request_id) DO NOTHING RETURNING id, at
"""
_SIGN = "UPDATE hookledger.resend SET mac = $2 WHERE id = $1"

_REPEATED = """
SELECT route_id = $2 AND seq = $3 AND causation_id IS NOT DISTINCT FROM $4 FROM hookledger.resend WHERE request_id = $1
"""


_OF_DELIVERY = """
SELECT at, actor, reason FROM hookledger.resend WHERE route_id = $1 AND seq = $2 ORDER BY at DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualRetry:
    """Who had a delivery sent again, when, and why, if they said so."""

    at: datetime
    actor: str
    reason: str | None


class RetryResult(StrEnum):
    """The result of a manual retry."""

    DUE = "due"  # it is due now
    UNDER_WAY = "under_way"  # its request is in flight, or about to start
    IN_LINE = "in_line"  # it waits for its first attempt
    GONE = "gone"  # its event is no longer kept


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequest:
    """Actor, origin and reason of a manual retry or a replay. `request_id` makes repeating it harmless, if
    `causation_id` is repeated too.
    """

    actor: str
    origin: str
    reason: str | None = None
    request_id: str | None = None
    causation_id: str | None = None

    @property
    def values(self) -> tuple[str | None, ...]:
        """In the order of the columns."""
        return self.actor, self.origin, self.reason, self.request_id, self.causation_id


async def retry(database: Database, *, route_id: UUID, seq: int, request: RetryRequest, macs: LogMacs) -> RetryResult:
    """Makes a delivery due that has ended or waits for its next attempt, and records who requested it.

    Raises RequestReused if the request id was used for something else.
    """
    async with database.transaction() as connection:
        await lock(connection, route_id)
        await connection.execute(UNPRUNED)
        if await _is_repeated(connection, route_id, seq, request):
            return RetryResult.DUE
        requeued = await _requeue(connection, route_id, seq)
        if requeued is RetryResult.DUE:
            values = (route_id, seq, *request.values)
            noted = await connection.fetchrow(_NOTE, *values)
            if noted is None:  # the same id at the same moment, for another route
                raise RequestReused(f"request {request.request_id} was carried out before")
            mac = macs.of_request(RequestTable.RESEND, (noted["id"], noted["at"], *values))
            await connection.execute(_SIGN, noted["id"], mac)
            await notify_owners(connection)
    return requeued


async def is_repeated(database: Database, *, route_id: UUID, seq: int, request: RetryRequest) -> bool:
    """True if this retry was carried out before. Raises RequestReused if the request id was used for something else."""
    if request.request_id is None:
        return False
    async with database.connection() as connection:
        return await _is_repeated(connection, route_id, seq, request)


async def lock(connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID) -> None:
    """Locks out other manual retries and replays of a route until the end of the transaction."""
    await connection.execute("SELECT hookledger.lock_resends($1)", route_id)


async def notify_owners(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Notifies the owners of shards once the transaction is committed."""
    await connection.execute("SELECT pg_notify($1, '')", listen.RETRY)


async def of_delivery(database: Database, *, route_id: UUID, seq: int, limit: int) -> list[ManualRetry]:
    """The manual retries of a delivery, the newest first. They are kept as long as outcomes."""
    async with database.connection() as connection:
        return [ManualRetry(**row) for row in await connection.fetch(_OF_DELIVERY, route_id, seq, limit)]


async def forget(connection: asyncpg.pool.PoolConnectionProxy, *, before: datetime) -> None:
    """Deletes the records of manual retries from before a moment."""
    await connection.execute("DELETE FROM hookledger.resend WHERE at < $1", before)


async def _is_repeated(
    connection: asyncpg.pool.PoolConnectionProxy, route_id: UUID, seq: int, request: RetryRequest
) -> bool:
    if request.request_id is None:
        return False
    is_same = await connection.fetchval(_REPEATED, request.request_id, route_id, seq, request.causation_id)
    if is_same is False:
        raise RequestReused(f"request {request.request_id} was carried out before")
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
