"""A new lineage: converts a dump that was restored into another cluster, so that a daemon can work on it.

Ticks are cuts by transaction ids, and transaction ids belong to one cluster. In another cluster, or after pg_upgrade,
the transaction ids of the events and the snapshots of the ticks mean nothing. `begin` therefore converts them once, in
one transaction, while no shard is leased:

    an event that its shard had done    keeps the number of its tick; its txid becomes 0, which is visible in every
                                        snapshot and so in no difference of two snapshots
    any other event                     gets the txid of this transaction, so the next tick reads it; if it is sealed,
                                        it keeps the tick under which it was in sealed_tick
    an outcome that is sealed           keeps the number of its seal, and its tick in sealed_tick if that changes; its
                                        txid becomes 0
    any other outcome                   gets the txid of this transaction, so the next seal covers it
    manual retries, replays and their   likewise, by the seals that cover them
    ends, losses, tokens and their ends
    the ticks                           keep their number, route position and time; their snapshots become blank, and
                                        are kept in sealed_snap
    the checkpoints                     move to the newest tick; the tick after it reads the remaining events

An outcome, a retry or a parked row of an event that will be read again gets the number of the tick that will read it,
so that deliveries which are known to be done are not repeated. The restored database does not know what the old cluster
did after the dump was taken.

Sequences go on behind the numbers that are there, for logical replication does not copy them: an event with the number
of another one would be taken for it. A restore that is not whole is refused. Its unique keys come last, and without
them events would be stored twice, and other statements fail.

The next tick is the first one with a snapshot. Its difference from a blank snapshot is every event whose txid is not 0.
A second restore keeps the tick numbers that the first one set.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from eventstore.postgres import schema_lines
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.postgres.schema import LOCK_SCHEMA, identifiers

# Rewrites each event and each tick: minutes for millions.
_SECONDS = 6 * 3600.0
# A producer's transaction holds the table for longer only if it was forgotten.
_LOCK_TIMEOUT = "10s"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSurvey:
    """What a new lineage finds: numbers of events and deliveries. `settled` counts deliveries of unread events that
    have an attempt; they are not sent again.
    """

    old_cluster: str
    new_cluster: str
    newest_tick: int
    read: int
    unread: int
    settled: int
    retrying: int
    parked: int


# The tick of event `e` if its shard's checkpoint has reached it, else null. recorded_at is compared too: an event that
# was published here since the restore has a small txid, which an old snapshot seems to show, but it is newer than
# every old tick.
_DONE_IN = """
(SELECT t.tick FROM hookledger.tick t JOIN hookledger.checkpoint c ON t.tick <= c.tick
  WHERE c.shard = e.shard AND t.tick = hookledger.tick_of(e.txid) AND e.recorded_at <= t.closed_upto)
"""

# The tick of event `e` if the newest seal has reached it, else null.
_SEALED_IN = """
(SELECT t.tick FROM hookledger.tick t
  WHERE t.tick = hookledger.tick_of(e.txid) AND e.recorded_at <= t.closed_upto
    AND t.tick <= (SELECT max(s.tick) FROM hookledger.seal s))
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

# The protection of the log is lifted for this transaction only.
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
   SET (tick, txid, sealed_tick) = (
       SELECT done.tick, CASE WHEN done.tick IS NULL THEN pg_current_xact_id() ELSE '0'::xid8 END,
              coalesce(e.sealed_tick, CASE WHEN done.tick IS NULL THEN {_SEALED_IN} END)
         FROM (SELECT {_DONE_IN} AS tick OFFSET 0) done)
 WHERE e.tick IS NULL
"""

# The name of the lineage that ends. Seals of an earlier one have snapshots of another cluster.
_ORIGIN = """
(SELECT 'hookledger/' || (SELECT value FROM hookledger.meta WHERE key = 'log_id') || '/'
     || (SELECT value FROM hookledger.meta WHERE key = 'system_identifier'))
"""


def _by_transaction(table: str, *, txid: str = "txid", seal: str = "seal", covered: str = "true") -> str:
    """Rows by the seal that covers them: the first whose snapshot shows them, of those made since the last restore for
    which `covered` is true.
    """
    return f"""
UPDATE hookledger.{table} a
   SET ({seal}, {txid}) = (
       SELECT found.n, CASE WHEN found.n IS NULL THEN pg_current_xact_id()::text::bigint ELSE 0 END
         FROM (SELECT) nothing LEFT JOIN LATERAL (
              SELECT s.n FROM hookledger.seal s
               WHERE pg_snapshot_xmax(s.snap) > a.{txid}::text::xid8
                 AND pg_visible_in_snapshot(a.{txid}::text::xid8, s.snap)
                 AND s.origin = {_ORIGIN} AND {covered}
               ORDER BY pg_snapshot_xmax(s.snap), s.n LIMIT 1) found ON true)
 WHERE a.{seal} IS NULL AND a.{txid} IS NOT NULL
"""


_IS_OF_FORM_2 = "s.resends IS NOT NULL"
_RECORDED = (
    _by_transaction("attempt"),
    _by_transaction("resend", covered=_IS_OF_FORM_2),
    _by_transaction("replay", covered=_IS_OF_FORM_2),
    _by_transaction("replay", txid="ended_txid", seal="ended_seal", covered=_IS_OF_FORM_2),
    _by_transaction("lost_log", covered=_IS_OF_FORM_2),
    _by_transaction("api_token", covered=_IS_OF_FORM_2),
    _by_transaction("api_token", txid="revoked_txid", seal="revoked_seal", covered=_IS_OF_FORM_2),
)

# Moves the progress of unread events; $1 is the tick that will read them.
_UNREAD = "SELECT seq FROM hookledger.domain_event WHERE txid = pg_current_xact_id()"
_MOVED = (
    f"""
    UPDATE hookledger.attempt a
       SET tick = $1, sealed_tick = coalesce(a.sealed_tick, CASE WHEN a.seal IS NOT NULL THEN a.tick END)
     WHERE a.at >= (SELECT min(recorded_at) FROM hookledger.domain_event WHERE txid = pg_current_xact_id())
       AND a.seq IN ({_UNREAD})
    """,
    f"UPDATE hookledger.retry SET tick = $1 WHERE seq IN ({_UNREAD})",
    f"""
    UPDATE hookledger.parked p
       SET last_tick = $1,
           ticks = (SELECT array_agg(CASE WHEN u.seq IN ({_UNREAD}) THEN $1 ELSE u.tick END ORDER BY u.ordinal)
                      FROM unnest(p.seqs, p.ticks) WITH ORDINALITY AS u (seq, tick, ordinal))
     WHERE EXISTS (SELECT FROM unnest(p.seqs) AS s (seq) WHERE s.seq IN ({_UNREAD}))
    """,
)

_PROGRESS = """
UPDATE hookledger.tick SET snap = '1:1:', sealed_snap = snap::text WHERE snap_xmax <> '1'::xid8;
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


_SEQUENCES = """
DO $$
DECLARE
    each record;
    last bigint;
    used bigint;
BEGIN
    FOR each IN
        SELECT 'hookledger.domain_event_seq' AS name, 'seq' AS part, t.name AS whole
          FROM unnest('{hookledger.domain_event,hookledger.attempt}'::text[]) AS t (name)
         UNION ALL
        SELECT pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), a.attname, a.attrelid::regclass::text
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'hookledger'::regnamespace AND c.relkind = 'r' AND a.attidentity <> ''
    LOOP
        EXECUTE format('SELECT max(%I) FROM %s', each.part, each.whole) INTO used;
        EXECUTE format('SELECT last_value FROM %s', each.name) INTO last;
        IF used >= last THEN
            PERFORM setval(each.name, used);
        END IF;
    END LOOP;
END $$
"""


async def survey(database: Database) -> RestoreSurvey | None:
    """What `begin` would find; None if the ticks belong to this cluster. Raises SchemaMismatch."""
    await _require_whole(database)
    async with database.transaction(seconds=_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        return await _survey(connection)


async def begin(database: Database) -> RestoreSurvey | None:
    """Begins a new lineage if the cluster has changed. Returns what it found, or None if there was nothing to do.

    Raises SchemaMismatch while a shard is leased, while a transaction writes events, and if a part of the schema is
    missing.
    """
    await _require_whole(database)
    async with database.transaction(seconds=_SECONDS) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(f"SET LOCAL lock_timeout = 0; {LOCK_SCHEMA}")
        await connection.execute("LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE")
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
            for statement in _RECORDED:
                await connection.execute(statement)
            for statement in _MOVED:
                await connection.execute(statement, found.newest_tick + 1)
            await connection.execute(_PROGRESS)
            await connection.execute(_SEQUENCES)
        await connection.execute(_PROTECT)
    return found


async def _require_whole(database: Database) -> None:
    async with database.connection() as connection:
        old, new = await identifiers(connection)
    if old != new:
        await schema_lines.require_whole(database, on_each_day=True)


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
