"""Expiry: a delivery that still waits when retention drops its event ends with the outcome `expired`.

A row that a flush has locked is skipped, and the next sweep finds it. A delivery that is in flight while it expires has
two outcomes, `expired` and its real one; the later one counts.

Each batch is a transaction that begins with UNPRUNED (eventstore/postgres/connect.py says why).
"""

from __future__ import annotations

from datetime import datetime

import asyncpg

from eventstore.postgres.connect import UNPRUNED
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.rows import INSERT_OUTCOMES, outcome_without_request
from eventstore.progress.steady_time import STATEMENT_TIME

# A batch locks its rows for some milliseconds. A flush that settles one of them waits for that time.
_RETRY_BATCH = 1000
_PACKED_BATCH = 20

_WAITS = """
SELECT EXISTS (SELECT FROM hookledger.retry WHERE recorded_at < $1)
    OR EXISTS (SELECT FROM hookledger.parked WHERE $1 > ANY (recorded_ats))
"""

_ENDED = (
    "shard", "seq", "tick", "route_id", "event_time", "ended_at", "route_version", "tenant", "id", "type", "is_test",
)  # fmt: skip
# What an outcome needs of each pair in `ended`. Tenant, id and type come from the event, or from an earlier attempt if
# the event is gone already.
_NOTED = """
    SELECT p.shard, p.seq, p.tick, p.route_id, p.event_time, clock_timestamp() AS ended_at, r.version AS route_version,
           e.tenant, e.id, e.type, e.is_test
      FROM ended p
     CROSS JOIN LATERAL (SELECT l.version FROM hookledger.route_event l WHERE l.route_id = p.route_id
                          ORDER BY l.version DESC LIMIT 1) r
     CROSS JOIN LATERAL (SELECT d.tenant, d.id, d.type, d.test_route IS NOT NULL AS is_test
                           FROM hookledger.domain_event d
                          WHERE d.seq = p.seq AND d.recorded_at = p.recorded_at
                          UNION ALL
                         SELECT a.tenant, a.event_id, a.event_type, a.is_test FROM hookledger.attempt a
                          WHERE a.route_id = p.route_id AND a.seq = p.seq
                          LIMIT 1) e
"""

# $1 recorded before, $2 the most rows. A locked row is being settled at this moment. A row with a holder is in flight.
_EXPIRE_RETRIES = f"""
WITH batch AS MATERIALIZED (
    SELECT route_id, seq FROM hookledger.retry
     WHERE recorded_at < $1 AND (holder IS NULL OR due_at < {STATEMENT_TIME})
     LIMIT $2 FOR UPDATE SKIP LOCKED
), old AS (
    DELETE FROM hookledger.retry r USING batch b WHERE r.route_id = b.route_id AND r.seq = b.seq
    RETURNING r.shard, r.seq, r.tick, r.route_id, r.recorded_at, r.event_time
), ended AS (
    SELECT o.* FROM old o
     WHERE NOT EXISTS (SELECT FROM hookledger.attempt a
                        WHERE a.route_id = o.route_id AND a.seq = o.seq AND a.outcome <> 'retrying')
), noted AS ({_NOTED})
SELECT taken.rows, n.* FROM (SELECT count(*) AS rows FROM old) taken LEFT JOIN noted n ON true
"""

# Removes the old part of each packed row. A delivery with an attempt is done or waits in `retry`; neither that nor one
# with a row in `retry` is ended here.
_EXPIRE_PARKED = f"""
WITH old AS MATERIALIZED (
    SELECT p.* FROM hookledger.parked p WHERE $1 > ANY (p.recorded_ats) LIMIT $2 FOR UPDATE SKIP LOCKED
), pairs AS MATERIALIZED (
    SELECT o.shard, o.epoch, o.flush, o.route_id, u.seq, u.tick, u.recorded_at, u.event_time, u.ordinal
      FROM old o, unnest(o.seqs, o.ticks, o.recorded_ats, o.event_times)
                  WITH ORDINALITY AS u (seq, tick, recorded_at, event_time, ordinal)
), rest AS MATERIALIZED (
    SELECT shard, epoch, flush, route_id, max(tick) AS last_tick, array_agg(seq ORDER BY ordinal) AS seqs,
           array_agg(tick ORDER BY ordinal) AS ticks, array_agg(recorded_at ORDER BY ordinal) AS recorded_ats,
           array_agg(event_time ORDER BY ordinal) AS event_times
      FROM pairs WHERE recorded_at >= $1 GROUP BY shard, epoch, flush, route_id
), kept AS (
    UPDATE hookledger.parked p
       SET last_tick = r.last_tick, seqs = r.seqs, ticks = r.ticks, recorded_ats = r.recorded_ats,
           event_times = r.event_times
      FROM rest r
     WHERE p.route_id = r.route_id AND p.epoch = r.epoch AND p.flush = r.flush AND p.shard = r.shard
), gone AS (
    DELETE FROM hookledger.parked p USING old o
     WHERE p.route_id = o.route_id AND p.epoch = o.epoch AND p.flush = o.flush AND p.shard = o.shard
       AND $1 > ALL (o.recorded_ats)
), ended AS (
    SELECT p.* FROM pairs p
     WHERE p.recorded_at < $1
       AND NOT EXISTS (SELECT FROM hookledger.attempt a WHERE a.route_id = p.route_id AND a.seq = p.seq)
       AND NOT EXISTS (SELECT FROM hookledger.retry t WHERE t.route_id = p.route_id AND t.seq = p.seq)
), noted AS ({_NOTED})
SELECT taken.rows, n.* FROM (SELECT count(*) AS rows FROM old) taken LEFT JOIN noted n ON true
"""


async def expire(connection: asyncpg.pool.PoolConnectionProxy, before: datetime, macs: LogMacs) -> int:
    """Ends the deliveries that wait for events recorded before a moment, in batches. Returns the number of outcomes."""
    expired = 0
    for statement, batch in ((_EXPIRE_PARKED, _PACKED_BATCH), (_EXPIRE_RETRIES, _RETRY_BATCH)):
        rows = batch
        while rows == batch:
            async with connection.transaction():
                await connection.execute(UNPRUNED)
                found = await connection.fetch(statement, before, batch)
                rows = found[0]["rows"]
                ended = [
                    outcome_without_request("expired", **{name: row[name] for name in _ENDED})
                    for row in found
                    if row["seq"] is not None
                ]
                await connection.execute(INSERT_OUTCOMES, macs.records(ended))
            expired += len(ended)
    return expired


async def is_waiting(connection: asyncpg.pool.PoolConnectionProxy, before: datetime) -> bool:
    """True if a delivery waits for an event recorded before a moment."""
    return bool(await connection.fetchval(_WAITS, before))
