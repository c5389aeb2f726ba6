"""Lifelines: how a process that was killed is told from one that is slow, long before its leases expire.

A process keeps one session of PostgreSQL open for as long as it lives, its *lifeline* (the one that listens), and its
row in `process` names it: the backend's pid and start, which together never come again. When the process dies, the
kernel closes its sockets and PostgreSQL ends the session within milliseconds. A process that sees such a
session gone may `bury` the process that the row belongs to: its leases are freed at once, as if it had left.

A living process can lose its lifeline too: somebody terminates the session, a connection breaks, PostgreSQL restarts.
It must not be buried while it may send. So it sends by a *permit*, which each answer on its lifeline renews for
PERMIT_SECONDS from the moment **before** it asked. Two facts make this safe, and neither compares two clocks:

1. A session that is gone answers nothing, so the last renewed permit was asked for before any look that misses the
   session. A process that waits for PERMIT_SECONDS and a margin *after* it has the answer of that look, by its own
   monotonic clock, waits until the permit has ended.
2. A process that has a new lifeline writes it into its row and checks its leases in one statement, the heartbeat, and
   has no new permit before that is answered. `bury` locks the same row, and does nothing if it names another session
   than the one that was missed. So either the new lifeline is noted first, and nobody is buried; or the burial is
   first, and the heartbeat finds the leases lost.

    killed               the session ends at once; the leases are free after PERMIT_SECONDS and a margin
    session terminated   a new one is noted within milliseconds, long before the permit ends; nothing happens
    no session to be had the row names none, so nobody buries the process; its leases expire after the TTL, and until
                         then count as certain without a permit. This is the state of each process before its first
                         lifeline, and of processes of versions that have none
    frozen (SIGSTOP)     its kernel keeps the session open, so the TTL applies. Thawed, it has no permit
    host cut off         PostgreSQL is not told, so the TTL applies. Keepalives are not set: they would have to end the
                         session within less than the TTL to be of use, and would end that of a living process for an
                         interruption of seconds, which now costs nothing
    PostgreSQL restarted every session is gone at once. A process that lost its own lifeline waits longer before it
                         buries anybody, so that the others can come back first (daemon.pipeline.shards.lifelines)
    failed over          the same, since the new primary has none of the sessions that its rows name

Why not a lock: every role that may connect can take any advisory lock, shared and exclusive ones, and could keep it
from a living process; a lock of a row or table ends with its transaction, and one that stays open holds back vacuum.
Nobody can make a living session invisible. A role without the right to see when a session began takes it for alive, so
that the TTL applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from eventstore.domain_events import glances
from eventstore.domain_events.glances import Glance
from eventstore.leases.lease import TTL
from eventstore.postgres.connect import Database
from eventstore.postgres.servers.dialing import Connection

# For so long after it was asked for an answer on the lifeline permits to send.
PERMIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """A session of PostgreSQL: its backend's pid and start. `pid` and `started_at` are None if there is none.

    `number` rises with each change, so that a heartbeat that runs late does not bring an old lifeline back.
    """

    number: int
    pid: int | None = None
    started_at: datetime | None = None


NO_LIFELINE = Lifeline(number=0)


class Missed(NamedTuple):
    """A process, and the session that its row names and that PostgreSQL does not have."""

    owner: str
    pid: int
    started_at: datetime


_IDENTIFY = "SELECT pid, backend_start FROM pg_stat_get_activity(pg_backend_pid())"


class Probed(NamedTuple):
    """The processes whose lifeline is gone, and a glance at the logs."""

    missed: frozenset[Missed]
    glance: Glance


# A row that names another session of the same pid is missed too: the pid was given out again.
_PROBE = f"""
SELECT {glances.COLUMNS}, p.owner, p.lifeline_pid, p.lifeline_started_at
  FROM (SELECT) here LEFT JOIN hookledger.process p
    ON p.lifeline_pid IS NOT NULL AND p.owner <> $1 AND NOT EXISTS (
       SELECT FROM pg_stat_get_activity(p.lifeline_pid) a
        WHERE a.backend_start = p.lifeline_started_at OR a.backend_start IS NULL)
"""

# The row stays for the status page, and counts as last seen a TTL ago at the latest.
_BURY = """
WITH dead AS (
    UPDATE hookledger.process SET lifeline_pid = NULL, seen_at = least(seen_at, clock_timestamp() - $4::interval)
     WHERE owner = $1 AND lifeline_pid = $2 AND lifeline_started_at = $3
    RETURNING owner
), held AS MATERIALIZED (
    SELECT l.shard FROM dead d JOIN hookledger.lease l ON l.owner = d.owner
     ORDER BY l.shard FOR NO KEY UPDATE OF l
), freed AS (
    UPDATE hookledger.lease l SET owner = NULL, expires_at = '-infinity' FROM held WHERE l.shard = held.shard
    RETURNING l.shard
)
SELECT ARRAY(SELECT shard FROM freed ORDER BY shard) AS freed, pg_notify('hookledger_lease', owner)::text FROM dead
"""


async def identify(connection: Connection, *, number: int) -> Lifeline:
    """The session of this connection, as a lifeline."""
    (row,) = await connection.fetch(_IDENTIFY)
    return Lifeline(number=number, pid=row["pid"], started_at=row["backend_start"])


async def probe(connection: Connection, owner: str) -> Probed:
    """Looks for processes whose lifeline is gone, without `owner`'s. That it answers shows that this session is not."""
    rows = [tuple(row) for row in await connection.fetch(_PROBE, owner)]
    parts = len(Glance._fields)
    return Probed(
        missed=frozenset(Missed(*row[parts:]) for row in rows if row[parts] is not None),
        glance=Glance(*rows[0][:parts]),
    )


async def bury(database: Database, dead: Missed) -> list[int] | None:
    """Frees the leases of a dead process and notifies the others. Returns the shards.

    None if it has another lifeline by now, or was buried or left. To be called only when its permit must have ended.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(_BURY, *dead, TTL)
    return next((list(row["freed"]) for row in rows), None)
