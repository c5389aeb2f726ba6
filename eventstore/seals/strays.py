"""Rows that no seal can ever cover, and that we never write: with a transaction id that is not of this cluster, with a
number beyond what there is, or, of a secret, without a lifecycle event that names it.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from eventstore.postgres.connect import Database
from eventstore.seals.stored import SealMark

_SECONDS = 300.0

# Scalar subqueries, so that the conditions use the indexes of the columns.
_NEXT = "(SELECT pg_snapshot_xmax(pg_current_snapshot()))"
# Seals from before it do not cover manual retries, replays, losses and tokens.
_FIRST_OF_FORM_2 = "(SELECT coalesce(min(s.n), 1) FROM hookledger.seal s WHERE s.resends IS NOT NULL)"


def _by_transaction(table: str, what: str, *, txid: str = "txid", seal: str = "seal") -> str:
    return f"""
SELECT '{table}', {what} || ' has a transaction or a seal that never was' FROM hookledger.{table}
 WHERE {txid} >= {_NEXT}::text::bigint OR {txid} < 1 AND {seal} IS NULL OR {txid} IS NULL AND {seal} IS NOT NULL
    OR {seal} > $1 OR {seal} < {_FIRST_OF_FORM_2}"""


# $1 the newest seal of earlier lineages, $2 its tick, 0 if there is none. An event that was sealed under another tick
# than the one that reads it was read again after a restore, by a later tick.
_STRAYS = f"""
SELECT 'domain_event' AS part, 'event ' || seq || ' has a transaction or a tick that never was' AS detail
  FROM hookledger.domain_event
 WHERE txid >= {_NEXT} OR txid = '0'::xid8 AND tick IS NULL
    OR tick > (SELECT coalesce(max(tick), 0) FROM hookledger.tick) OR tick < 1
    OR sealed_tick > $2 OR sealed_tick < 1 OR sealed_tick IS NOT NULL AND tick <= sealed_tick
 UNION ALL
SELECT 'attempt', 'attempt ' || number || ' of event ' || seq || ' to route ' || route_id
       || ' has a transaction or a seal that never was'
  FROM hookledger.attempt
 WHERE txid >= {_NEXT}::text::bigint OR txid < 1 AND seal IS NULL OR seal > $1 OR seal < 1
 UNION ALL {_by_transaction("resend", "'manual retry ' || id")}
 UNION ALL {_by_transaction("replay", "'replay ' || id")}
 UNION ALL {_by_transaction("replay", "'the end of replay ' || id", txid="ended_txid", seal="ended_seal")}
 UNION ALL
SELECT 'replay', 'replay ' || id || ' has ended in no transaction, or has a transaction and has not ended'
  FROM hookledger.replay WHERE (state = 'running') <> (ended_txid IS NULL)
 UNION ALL {_by_transaction("lost_log", "'the loss from tick ' || first_tick || ' on'")}
 UNION ALL {_by_transaction("api_token", "'token ' || id")}
 UNION ALL {_by_transaction("api_token", "'the end of token ' || id", txid="revoked_txid", seal="revoked_seal")}
 UNION ALL
SELECT 'api_token', 'token ' || id || ' was revoked in no transaction, or has a transaction and was not revoked'
  FROM hookledger.api_token WHERE (revoked_at IS NULL) <> (revoked_txid IS NULL)
 UNION ALL
SELECT 'tick', 'tick ' || t.tick || ' has a number that is not given' FROM hookledger.tick t WHERE t.tick < 1
 UNION ALL
SELECT 'route_event_signature', 'there is a signature for position ' || s.pos || ', which the route log does not have'
  FROM hookledger.route_event_signature s
 WHERE s.pos < 1 OR s.pos > (SELECT coalesce(max(pos), 0) FROM hookledger.route_event)
 UNION ALL
SELECT 'route_key', 'key ' || k.key_id || ' of route ' || k.route_id || ' is named by no lifecycle event'
  FROM hookledger.route_key k
 WHERE NOT EXISTS (SELECT FROM hookledger.route_event e
                    WHERE e.route_id = k.route_id AND e.body::json #>> '{{key,id}}' = k.key_id)
 UNION ALL
SELECT 'route_headers', 'headers ' || h.headers_id || ' of route ' || h.route_id || ' are named by no lifecycle event'
  FROM hookledger.route_headers h
 WHERE NOT EXISTS (SELECT FROM hookledger.route_event e
                    WHERE e.route_id = h.route_id AND e.body::json #>> '{{config,headers_id}}' = h.headers_id)
 LIMIT 100
"""

_PRESENT = """
SELECT coalesce(array_agg(tick ORDER BY shard), '{}') AS checkpoints, clock_timestamp() AS now
  FROM hookledger.checkpoint
"""

# $1 and $2 the tick and the position that the newest seal has come to, $3 the first transaction that it may not show.
_UNSEALED = """
SELECT min(since) AS since, max(until) AS until, count(DISTINCT minute) AS minutes
  FROM (SELECT min(at) AS since, max(at) AS until, date_trunc('minute', at) AS minute
          FROM (SELECT at FROM hookledger.tick WHERE tick > $1
                 UNION ALL SELECT effective_at FROM hookledger.route_event WHERE pos > $2
                 UNION ALL SELECT at FROM hookledger.attempt WHERE seal IS NULL AND txid >= $3
                 UNION ALL SELECT at FROM hookledger.resend WHERE seal IS NULL AND txid >= $3
                 UNION ALL SELECT created_at FROM hookledger.replay WHERE seal IS NULL AND txid >= $3
                 UNION ALL SELECT ended_at FROM hookledger.replay WHERE ended_seal IS NULL AND ended_txid >= $3
                 UNION ALL SELECT until FROM hookledger.lost_log WHERE seal IS NULL AND txid >= $3
                 UNION ALL SELECT created_at FROM hookledger.api_token WHERE seal IS NULL AND txid >= $3
                 UNION ALL SELECT revoked_at FROM hookledger.api_token
                            WHERE revoked_seal IS NULL AND revoked_txid >= $3) recorded
         GROUP BY minute) by_minute
HAVING min(since) IS NOT NULL
"""


class UnsealedTime(NamedTuple):
    """From when until when things were recorded that no seal covers, and in how many minutes: clocks may be set."""

    since: datetime
    until: datetime
    minutes: int


class Stray(NamedTuple):
    """A row that no seal can cover: its table, and what is wrong with it."""

    part: str
    detail: str


async def strays(database: Database, *, restored: int, restored_tick: int) -> list[Stray]:
    """A hundred such rows at most. `restored` is the newest seal from before a dump was restored, with its tick, both 0
    if none was.
    """
    async with database.connection(seconds=_SECONDS) as connection:
        rows = await connection.fetch(_STRAYS, restored, restored_tick)
    return [Stray(*row.values()) for row in rows]


async def present(database: Database) -> tuple[list[int], datetime]:
    """The checkpoints in the order of the shards, and the time."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(_PRESENT)
    return row["checkpoints"], row["now"]


async def unsealed(database: Database, newest: SealMark, *, origin: str) -> UnsealedTime | None:
    """When things were recorded that the newest seal does not cover; None if there are none."""
    first_txid = int(newest.snap.split(":")[1]) if newest.origin == origin else 1
    async with database.connection(seconds=_SECONDS) as connection:
        row = await connection.fetchrow(_UNSEALED, newest.tick, newest.route_pos, first_txid)
    return None if row is None else UnsealedTime(*row)
