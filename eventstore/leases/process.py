"""The daemon processes: each has a row in `process`, and renews it in one statement with its leases.

So a process that is alive has its leases, and a process that stops renewing loses both after the same time. Alive means
seen within the TTL of a lease, by the database's clock. A process that was found dead (eventstore/leases/lifeline.py)
loses both at once. An `owner` name belongs to one incarnation and is never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from eventstore.leases.lease import TTL
from eventstore.leases.lifeline import NO_LIFELINE, Lifeline
from eventstore.postgres.connect import Database

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The answer to a heartbeat: the shards that are still held, whether the row names the lifeline now, and in which
    transaction all this was written.
    """

    held: frozenset[int]
    is_watched: bool
    txid: int


# Lease rows are locked in the order of shards, as in a flush, so that two statements of one process do not deadlock,
# and after the row of the process, as in a burial (`lifeline.bury`): hence the join with `seen`. A lifeline that this
# server does not have is not noted. Neither is one with a lower number, of a heartbeat that was given up and ran late.
_HEARTBEAT = """
WITH lifeline AS MATERIALIZED (
    SELECT a.pid, a.backend_start FROM pg_stat_get_activity($11) a WHERE a.backend_start = $12
), seen AS (
    INSERT INTO hookledger.process AS p
           (owner, host, pid, version, master_key, lifeline, lifeline_pid, lifeline_started_at)
    VALUES ($1, $5, $6, $7, $9, $10, (SELECT pid FROM lifeline), (SELECT backend_start FROM lifeline))
    ON CONFLICT (owner) DO UPDATE
       SET seen_at = clock_timestamp(), lifeline = greatest(p.lifeline, excluded.lifeline),
           lifeline_pid = CASE WHEN p.lifeline > excluded.lifeline
                               THEN p.lifeline_pid ELSE excluded.lifeline_pid END,
           lifeline_started_at = CASE WHEN p.lifeline > excluded.lifeline
                                      THEN p.lifeline_started_at ELSE excluded.lifeline_started_at END
    RETURNING owner, lifeline = $10 AND lifeline_pid IS NOT NULL AS is_watched, xmax = 0 AS is_new
), pruned AS (
    DELETE FROM hookledger.process WHERE seen_at < clock_timestamp() - $8::interval AND owner <> $1
), held AS MATERIALIZED (
    SELECT l.shard FROM seen s JOIN hookledger.lease l ON l.owner = s.owner
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     ORDER BY l.shard FOR NO KEY UPDATE OF l
), renewed AS (
    UPDATE hookledger.lease l SET expires_at = clock_timestamp() + $4 FROM held WHERE l.shard = held.shard
    RETURNING l.shard
)
SELECT ARRAY(SELECT shard FROM renewed) AS held, (SELECT is_watched FROM seen) AS is_watched,
       pg_current_xact_id()::text::bigint AS txid,
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


_LOST = "SELECT owner, host, pid FROM hookledger.process WHERE seen_at < clock_timestamp() - $1::interval"

_WITH_OTHER_MASTER_KEY = """
SELECT host, pid FROM hookledger.process
 WHERE master_key <> $1 AND seen_at > clock_timestamp() - $2::interval ORDER BY host, pid
"""


class LostProcess(NamedTuple):
    """A process that ended without leaving, or that the database does not hear of."""

    owner: str
    host: str
    pid: int


async def lost(database: Database, *, ttl: timedelta = TTL) -> list[LostProcess]:
    """The processes of the last hour that were not seen any more, and did not leave."""
    async with database.connection() as connection:
        return [LostProcess(*row) for row in await connection.fetch(_LOST, ttl)]


async def heartbeat(
    database: Database,
    process: Process,
    epochs: Mapping[int, int],
    *,
    lifeline: Lifeline = NO_LIFELINE,
    ttl: timedelta = TTL,
) -> Renewal:
    """Records that a process is alive and by what that can be seen, and renews its leases.

    `epochs` maps each shard to the epoch under which it is held. A shard that is missing in the answer is lost. The
    first heartbeat of a process notifies the others.
    """
    async with database.connection() as connection:
        (row,) = await connection.fetch(
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
            lifeline.number,
            lifeline.pid,
            lifeline.started_at,
        )
    return Renewal(held=frozenset(row["held"]), is_watched=row["is_watched"], txid=row["txid"])


async def with_other_master_key(database: Database, master_key: str) -> list[tuple[str, int]]:
    """Host and process id of the live daemons that seal secrets with another master key."""
    async with database.connection() as connection:
        rows = await connection.fetch(_WITH_OTHER_MASTER_KEY, master_key, TTL)
    return [(row["host"], row["pid"]) for row in rows]


async def leave(database: Database, owner: str) -> None:
    """Ends a process: frees its leases, deletes its row and notifies the others."""
    async with database.connection() as connection:
        await connection.execute(_LEAVE, owner)
