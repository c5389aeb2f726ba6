"""Leases: a process's right to a shard.

The row in `lease` is authoritative. A shard is free (`expires_at` is past, by the database's clock) or held by `owner`
under `epoch`, which rises with every change of hands. Holding is kept up by renewing in time; a holder that cannot
renew must stop sending before the lease could have expired, by its own monotonic clock (`daemon.pipeline.supervisor`).

    crash           nobody renews; after the TTL another process takes the shard under a higher epoch
    frozen, thawed  its next write locks the lease row, finds another epoch and writes nothing (eventstore/progress.py)
    clean stop      `release` frees the shards at once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from eventstore.connect import Database

TTL = timedelta(seconds=10)

# Of an owner's own shards it has lost sight: the answer was lost, or it was in doubt and let go of them. No other
# process has that name, so it need not wait for itself.
_ACQUIRE = """
UPDATE hookledger.lease SET owner = $1, epoch = epoch + 1, flush = 0, expires_at = clock_timestamp() + $3
 WHERE shard IN (SELECT shard FROM hookledger.lease
                  WHERE shard = ANY ($2::smallint[]) AND (expires_at < clock_timestamp() OR owner = $1)
                  ORDER BY shard FOR UPDATE SKIP LOCKED)
RETURNING shard, epoch
"""

# Rows are locked in the order of shards here, as a flush does: two statements of one process must not wait crosswise.
_RENEW = """
WITH held AS MATERIALIZED (
    SELECT l.shard FROM hookledger.lease l
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = $1 ORDER BY l.shard FOR NO KEY UPDATE OF l)
UPDATE hookledger.lease l SET expires_at = clock_timestamp() + $4
  FROM held WHERE l.shard = held.shard
RETURNING l.shard
"""

_RELEASE = """
WITH held AS MATERIALIZED (
    SELECT l.shard FROM hookledger.lease l
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = $1 ORDER BY l.shard FOR NO KEY UPDATE OF l)
UPDATE hookledger.lease l SET owner = NULL, expires_at = '-infinity'
  FROM held WHERE l.shard = held.shard
"""


async def acquire(database: Database, owner: str, shards: Sequence[int], *, ttl: timedelta = TTL) -> dict[int, int]:
    """Takes those of `shards` that are free or stand under `owner` already; shard → epoch of what was taken."""
    async with database.connection() as connection:
        rows = await connection.fetch(_ACQUIRE, owner, shards, ttl)
    return {row["shard"]: row["epoch"] for row in rows}


async def renew(database: Database, owner: str, epochs: Mapping[int, int], *, ttl: timedelta = TTL) -> set[int]:
    """Extends what is still held; the shards of `epochs` that are missing in the answer are lost."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RENEW, owner, list(epochs), list(epochs.values()), ttl)
    return {row["shard"] for row in rows}


async def release(database: Database, owner: str, epochs: Mapping[int, int]) -> None:
    """Frees shards at once, so that a successor need not wait for the TTL."""
    async with database.connection() as connection:
        await connection.execute(_RELEASE, owner, list(epochs), list(epochs.values()))
