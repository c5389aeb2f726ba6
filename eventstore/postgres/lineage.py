"""A new lineage: what a dump that was restored into another cluster needs before a daemon may work on it.

Ticks are cuts by transaction ids, and those belong to one cluster. In another one, or after pg_upgrade, the ids of the
events and the snapshots of the ticks mean nothing. So, once and in one transaction, with every shard free:

    an event that its shard had done    keeps its tick as a number; its txid becomes 0, which every snapshot shows, and
                                        which for that very reason lies in no difference of two
    any other event                     gets the txid of this transaction: the next tick shows it
    the ticks                           keep their number, route position and time; their snapshots become blank
    the checkpoints                     all stand at the newest tick, whose successor shows what is left

An outcome, a retry or a parked row of an event that will be read again is moved to the tick that will read it; so what
is known to be done is not done twice. What the old cluster did after the dump was taken, nobody here can know.

The next tick is the first with a snapshot: the difference from a blank one is all that is not 0. A second restore finds
the numbers of the first and leaves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.postgres.schema import MIGRATION_LOCK, identifiers

# Rewrites each event and each tick: minutes for millions.
_SECONDS = 6 * 3600.0
# A producer's transaction that is open holds the table for longer only if somebody forgot it.
_LOCK_TIMEOUT = "10s"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSurvey:
    """What a new lineage finds. `settled` are deliveries of unread events that have an attempt: none is made anew."""

    old_cluster: str
    new_cluster: str
    newest_tick: int
    read: int
    unread: int
    settled: int
    retrying: int
    parked: int


# The tick in which the shard of event `e` was done with it, null if it was not. By its time too: an event that was
# published here since has a small txid, which an old tick seems to show; but it is younger than all of them.
_DONE_IN = """
(SELECT t.tick FROM hookledger.tick t JOIN hookledger.checkpoint c ON t.tick <= c.tick
  WHERE c.shard = e.shard AND t.tick = hookledger.tick_of(e.txid) AND e.recorded_at <= t.closed_upto)
"""

_SURVEY = f"""
WITH unread AS MATERIALIZED (
    SELECT e.seq, e.recorded_at FROM hookledger.domain_event e WHERE e.tick IS NULL AND {_DONE_IN} IS NULL
)
SELECT (SELECT coalesce(max(tick), 0) FROM hookledger.tick) AS newest_tick,
       (SELECT count(*) FROM hookledger.domain_event) - (SELECT count(*) FROM unread) AS read,
       (SELECT count(*) FROM unread) AS unread,
       (SELECT count(DISTINCT (a.route_id, a.seq)) FROM hookledger.attempt a JOIN unread u ON u.seq = a.seq
         WHERE a.at >= (SELECT min(recorded_at) FROM unread)) AS settled,
       (SELECT count(*) FROM hookledger.retry) AS retrying,
       (SELECT coalesce(sum(pairs), 0) FROM hookledger.parked)::bigint
           + (SELECT coalesce(sum(pairs), 0) FROM hookledger.parked_range)::bigint AS parked
"""

# Each is allowed for this transaction alone: its end puts the log under protection again.
_UNPROTECT = """
ALTER TABLE hookledger.domain_event DISABLE TRIGGER domain_event_append_only;
GRANT UPDATE ON hookledger.domain_event TO CURRENT_USER
"""
_PROTECT = """
ALTER TABLE hookledger.domain_event ENABLE TRIGGER domain_event_append_only;
REVOKE UPDATE ON hookledger.domain_event FROM CURRENT_USER
"""

_EVENTS = f"""
UPDATE hookledger.domain_event e
   SET (tick, txid) = (SELECT done.tick, CASE WHEN done.tick IS NULL THEN pg_current_xact_id() ELSE '0'::xid8 END
                         FROM (SELECT {_DONE_IN} AS tick OFFSET 0) done)
 WHERE e.tick IS NULL
"""

# What is known of unread events; $1 is the tick that will read them.
_UNREAD = "SELECT seq FROM hookledger.domain_event WHERE txid = pg_current_xact_id()"
_MOVED = (
    f"""
    UPDATE hookledger.attempt a SET tick = $1
     WHERE a.at >= (SELECT min(recorded_at) FROM hookledger.domain_event WHERE txid = pg_current_xact_id())
       AND a.seq IN ({_UNREAD})
    """,
    f"UPDATE hookledger.retry SET tick = $1 WHERE seq IN ({_UNREAD})",
    f"""
    UPDATE hookledger.parked p
       SET last_tick = $1,
           ticks = (SELECT array_agg(CASE WHEN u.seq IN ({_UNREAD}) THEN $1 ELSE u.tick END ORDER BY u.place)
                      FROM unnest(p.seqs, p.ticks) WITH ORDINALITY AS u (seq, tick, place))
     WHERE EXISTS (SELECT FROM unnest(p.seqs) AS s (seq) WHERE s.seq IN ({_UNREAD}))
    """,
)

_PROGRESS = """
UPDATE hookledger.tick SET snap = '1:1:' WHERE snap_xmax <> '1'::xid8;
UPDATE hookledger.checkpoint SET tick = (SELECT coalesce(max(tick), 0) FROM hookledger.tick);
UPDATE hookledger.lease SET owner = NULL, epoch = epoch + 1, flush = 0, expires_at = '-infinity';
UPDATE hookledger.retry SET holder = NULL WHERE holder IS NOT NULL;
DELETE FROM hookledger.process;
UPDATE hookledger.meta SET value = (SELECT system_identifier::text FROM pg_control_system())
 WHERE key = 'system_identifier';
INSERT INTO hookledger.meta AS m (key, value)
VALUES ('lineage', '1 since ' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    ON CONFLICT (key) DO UPDATE
   SET value = (split_part(m.value, ' ', 1)::integer + 1)::text || ' since ' || split_part(excluded.value, ' ', 3)
"""


async def survey(database: Database) -> RestoreSurvey | None:
    """What `begin` would find; None if the cluster is the one this lineage belongs to."""
    async with database.transaction(seconds=_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        return await _survey(connection)


async def begin(database: Database) -> RestoreSurvey | None:
    """Begins a new lineage, if the cluster has changed; what it found, or None.

    Raises SchemaMismatch while a shard is leased, or while somebody writes events.
    """
    async with database.transaction(seconds=_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        await connection.execute("SELECT pg_advisory_xact_lock(hookledger.log_lock())")
        await _require_free_leases(connection)
        try:
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'; {_UNPROTECT}")
        except asyncpg.LockNotAvailableError as error:
            raise SchemaMismatch(
                "somebody has written events and not yet committed them", hint="stop the producers, and repeat it"
            ) from error
        found = await _survey(connection)
        if found is not None:
            await connection.execute(_EVENTS)
            for statement in _MOVED:
                await connection.execute(statement, found.newest_tick + 1)
            await connection.execute(_PROGRESS)
        await connection.execute(_PROTECT)
    return found


async def _survey(connection: asyncpg.pool.PoolConnectionProxy) -> RestoreSurvey | None:
    old, new = await identifiers(connection)
    if old == new:
        return None
    (row,) = await connection.fetch(_SURVEY)
    return RestoreSurvey(old_cluster=old, new_cluster=new, **row)


async def _require_free_leases(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    live = await connection.fetch(
        "SELECT owner FROM (SELECT owner, expires_at FROM hookledger.lease ORDER BY shard FOR UPDATE) l "
        "WHERE expires_at > clock_timestamp()"
    )
    if live:
        owners = ", ".join(sorted({str(row["owner"]) for row in live}))
        raise SchemaMismatch(
            f"{len(live)} shards are leased to {owners}",
            hint="stop every daemon, and repeat it ten seconds later",
        )
