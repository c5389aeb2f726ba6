"""The daemon processes: each has a row in `process`, and renews it in one statement with its leases.

So a process that is alive has its leases, and a process that stops renewing loses both after the same time. Alive means
seen within the TTL of a lease, by the database's clock. An `owner` name belongs to one incarnation and is never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from eventstore.postgres.connect import Database
from eventstore.progress.lease import TTL

# How long the row of a process that did not leave properly is kept, for the status page.
KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One incarnation of a daemon. `master_key` is the id of the key with which it seals secrets."""

    owner: str
    host: str
    pid: int
    version: str
    master_key: str


# Lease rows are locked in the order of shards, as in a flush, so that two statements of one process do not deadlock.
_HEARTBEAT = """
WITH seen AS (
    INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ($1, $5, $6, $7, $9)
    ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp()
    RETURNING xmax = 0 AS is_new
), pruned AS (
    DELETE FROM hookledger.process WHERE seen_at < clock_timestamp() - $8::interval AND owner <> $1
), held AS MATERIALIZED (
    SELECT l.shard FROM hookledger.lease l
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = $1 ORDER BY l.shard FOR NO KEY UPDATE OF l
), renewed AS (
    UPDATE hookledger.lease l SET expires_at = clock_timestamp() + $4 FROM held WHERE l.shard = held.shard
    RETURNING l.shard
)
SELECT ARRAY(SELECT shard FROM renewed) AS held,
       (SELECT pg_notify('hookledger_lease', $1) FROM seen WHERE is_new)::text AS announced
"""

_LEAVE = """
WITH gone AS (
    DELETE FROM hookledger.process WHERE owner = $1
), held AS MATERIALIZED (
    SELECT shard FROM hookledger.lease WHERE owner = $1 ORDER BY shard FOR NO KEY UPDATE
), freed AS (
    UPDATE hookledger.lease l SET owner = NULL, expires_at = '-infinity' FROM held WHERE l.shard = held.shard
)
SELECT pg_notify('hookledger_lease', $1)
"""


_WITH_OTHER_MASTER_KEY = """
SELECT host, pid FROM hookledger.process
 WHERE master_key <> $1 AND seen_at > clock_timestamp() - $2::interval ORDER BY host, pid
"""


async def heartbeat(
    database: Database, process: Process, epochs: Mapping[int, int], *, ttl: timedelta = TTL
) -> set[int]:
    """Records that a process is alive, and renews its leases. Returns the shards that it still holds.

    `epochs` maps each shard to the epoch under which it is held. A shard that is missing in the answer is lost. The
    first heartbeat of a process notifies the others.
    """
    async with database.connection() as connection:
        held = await connection.fetchval(
            _HEARTBEAT,
            process.owner,
            list(epochs),
            list(epochs.values()),
            ttl,
            process.host,
            process.pid,
            process.version,
            KEPT,
            process.master_key,
        )
    return set(held)


async def with_other_master_key(database: Database, master_key: str) -> list[tuple[str, int]]:
    """Host and process id of the live daemons that seal secrets with another master key."""
    async with database.connection() as connection:
        rows = await connection.fetch(_WITH_OTHER_MASTER_KEY, master_key, TTL)
    return [(row["host"], row["pid"]) for row in rows]


async def leave(database: Database, owner: str) -> None:
    """Ends a process: frees its leases, deletes its row and notifies the others."""
    async with database.connection() as connection:
        await connection.execute(_LEAVE, owner)
