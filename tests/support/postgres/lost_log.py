"""Makes a database one that went back: what a standby would be that was promoted before it had received everything."""

from __future__ import annotations

import asyncpg

# What a standby would have that had not received anything after tick $1 and position $2: a prefix of all that was written.
GO_BACK = """
BEGIN;
CREATE OR REPLACE FUNCTION hookledger.timeline() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 2';
SET LOCAL session_replication_role = replica;
LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
DELETE FROM hookledger.domain_event e
 WHERE NOT pg_visible_in_snapshot(e.txid, (SELECT snap FROM hookledger.tick WHERE tick = {tick}));
DELETE FROM hookledger.tick WHERE tick > {tick};
DELETE FROM hookledger.attempt WHERE tick > {tick};
DELETE FROM hookledger.retry WHERE tick > {tick};
DELETE FROM hookledger.parked WHERE last_tick > {tick};
DELETE FROM hookledger.route_event WHERE pos > {position};
DELETE FROM hookledger.route_event_signature WHERE pos > {position};
UPDATE hookledger.checkpoint SET tick = least(tick, {tick});
COMMIT
"""


async def go_back(sql: asyncpg.Connection, *, tick: int, position: int) -> None:
    await sql.execute(GO_BACK.format(tick=tick, position=position))
