"""Leases: a process's right to a shard.

The row in `lease` is authoritative. A shard is free (`expires_at` is past, by the database's clock), or `owner` holds
it under `epoch`, which rises every time the shard is taken. `acquire` takes a lease. `process.heartbeat` renews it
(eventstore/leases/process.py). A holder that cannot renew must stop sending before the lease can have expired, by its
own monotonic clock (`daemon.pipeline.sending.send_gate`).

    killed          PostgreSQL ends its sessions; after a second another process frees the lease and it is taken under
                    a higher epoch (eventstore/leases/lifeline.py, which says why nobody sends any more by then)
    frozen, cut off nobody renews; after the TTL another process takes the shard under a higher epoch
    frozen, thawed  the process's next write locks the lease row, finds another epoch and writes nothing
                    (eventstore/progress/recording.py)
    cut off, back   a lease that expired and was not taken is renewed under the same epoch, without consequences
    handed over     `release` frees shards at once and notifies the others; a delivery whose request is in flight has a
                    row in `retry` (eventstore/progress/late_outcomes.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from eventstore.postgres.connect import Database

TTL = timedelta(seconds=10)

# Also takes shards that the owner holds already: it does not know of them if the answer to an earlier call was lost.
# No other process has this name, so the owner need not wait for its own lease to expire.
_ACQUIRE = """
UPDATE hookledger.lease SET owner = $1, epoch = epoch + 1, flush = 0, expires_at = clock_timestamp() + $3
 WHERE shard IN (SELECT shard FROM hookledger.lease
                  WHERE shard = ANY ($2::smallint[]) AND (expires_at < clock_timestamp() OR owner = $1)
                  ORDER BY shard FOR UPDATE SKIP LOCKED)
RETURNING shard, epoch
"""

_RELEASE = """
WITH held AS MATERIALIZED (
    SELECT l.shard FROM hookledger.lease l
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = $1 ORDER BY l.shard FOR NO KEY UPDATE OF l
), freed AS (
    UPDATE hookledger.lease l SET owner = NULL, expires_at = '-infinity' FROM held WHERE l.shard = held.shard
)
SELECT pg_notify('hookledger_lease', $1)
"""

# The leases, and the live processes as rows without a shard.
_SURVEY = """
SELECT shard, CASE WHEN expires_at >= clock_timestamp() THEN owner END AS owner, epoch,
       CASE WHEN expires_at >= clock_timestamp() AND owner IS NOT NULL
            THEN extract(epoch FROM expires_at - clock_timestamp()) END::float8 AS left_seconds
  FROM hookledger.lease
 UNION ALL
SELECT NULL, owner, NULL, NULL FROM hookledger.process WHERE seen_at > clock_timestamp() - $1::interval
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSurvey:
    """The live processes. For each held shard its owner and epoch, and the seconds until its lease expires."""

    live: frozenset[str]
    held: dict[int, tuple[str, int]]
    left_seconds: dict[int, float]


async def acquire(database: Database, owner: str, shards: Sequence[int], *, ttl: timedelta = TTL) -> dict[int, int]:
    """Takes those of `shards` that are free or held by `owner` already. Returns shard → epoch for those it took."""
    async with database.connection() as connection:
        rows = await connection.fetch(_ACQUIRE, owner, shards, ttl)
    return {row["shard"]: row["epoch"] for row in rows}


async def release(database: Database, owner: str, epochs: Mapping[int, int]) -> None:
    """Frees shards at once, so that a successor need not wait for the TTL, and notifies the other processes.

    `epochs` maps each shard to the epoch under which it was held. A shard that has another owner or epoch is left
    alone.
    """
    async with database.connection() as connection:
        await connection.execute(_RELEASE, owner, list(epochs), list(epochs.values()))


async def survey(database: Database) -> LeaseSurvey:
    """The live processes and the leases that have not expired."""
    async with database.connection() as connection:
        found = [row for row in await connection.fetch(_SURVEY, TTL) if row["owner"] is not None]
    rows = [row for row in found if row["shard"] is not None]
    return LeaseSurvey(
        live=frozenset(row["owner"] for row in found if row["shard"] is None),
        held={row["shard"]: (row["owner"], row["epoch"]) for row in rows},
        left_seconds={row["shard"]: row["left_seconds"] for row in rows},
    )
