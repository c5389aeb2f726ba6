-- Version 7: seals cover who had deliveries sent again, by hand and by replays, what promoted standbys had lost, and API
-- tokens; results of audits are signed. Ticks of very large events are made.


-- Rows that are covered -----------------------------------------------------------------------------------------------

-- No row is rewritten: the default is computed once, so that every row from before is of the transaction of this
-- migration, and is covered by the next seal.
ALTER TABLE hookledger.resend ADD COLUMN txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE hookledger.resend ADD COLUMN seal bigint;
COMMENT ON COLUMN hookledger.resend.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';
-- Serves sealing: rows by the transaction that wrote them.
CREATE INDEX resend_txid_idx ON hookledger.resend (txid);
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX resend_seal_idx ON hookledger.resend (seal) WHERE seal IS NOT NULL;

ALTER TABLE hookledger.replay ADD COLUMN txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE hookledger.replay ADD COLUMN seal bigint, ADD COLUMN ended_txid bigint, ADD COLUMN ended_seal bigint;
COMMENT ON COLUMN hookledger.replay.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells; ended_seal likewise';
UPDATE hookledger.replay SET ended_txid = pg_current_xact_id()::text::bigint WHERE state <> 'running';
ALTER TABLE hookledger.replay ADD CONSTRAINT replay_ended_check CHECK ((state = 'running') = (ended_txid IS NULL));
-- Serve sealing: rows by the transactions that began and ended them.
CREATE INDEX replay_txid_idx ON hookledger.replay (txid);
CREATE INDEX replay_ended_txid_idx ON hookledger.replay (ended_txid) WHERE ended_txid IS NOT NULL;
-- Serve audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX replay_seal_idx ON hookledger.replay (seal) WHERE seal IS NOT NULL;
CREATE INDEX replay_ended_seal_idx ON hookledger.replay (ended_seal) WHERE ended_seal IS NOT NULL;

ALTER TABLE hookledger.lost_log ADD COLUMN txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE hookledger.lost_log ADD COLUMN seal bigint;
COMMENT ON COLUMN hookledger.lost_log.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';
ALTER TABLE hookledger.lost_log DROP CONSTRAINT lost_log_pkey;
ALTER TABLE hookledger.lost_log ADD CONSTRAINT lost_log_pkey PRIMARY KEY (timeline, first_tick, first_pos, last_tick, last_pos);

ALTER TABLE hookledger.api_token ADD COLUMN txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE hookledger.api_token ADD COLUMN seal bigint, ADD COLUMN revoked_txid bigint, ADD COLUMN revoked_seal bigint;
COMMENT ON COLUMN hookledger.api_token.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells; revoked_seal likewise';
UPDATE hookledger.api_token SET revoked_txid = pg_current_xact_id()::text::bigint WHERE revoked_at IS NOT NULL;
ALTER TABLE hookledger.api_token ADD CONSTRAINT api_token_revoked_check CHECK ((revoked_at IS NULL) = (revoked_txid IS NULL));
-- Serve sealing: rows by the transactions that made and revoked them.
CREATE INDEX api_token_txid_idx ON hookledger.api_token (txid);
CREATE INDEX api_token_revoked_txid_idx ON hookledger.api_token (revoked_txid) WHERE revoked_txid IS NOT NULL;


-- Seals ---------------------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.seal ADD COLUMN resends text, ADD COLUMN replays text, ADD COLUMN replay_ends text, ADD COLUMN losses text,
                            ADD COLUMN tokens text, ADD COLUMN token_ends text;
ALTER TABLE hookledger.seal ADD CONSTRAINT seal_form_check
    CHECK (num_nulls(resends, replays, replay_ends, losses, tokens, token_ends) = 0) NOT VALID;
COMMENT ON COLUMN hookledger.seal.replay_ends IS 'how replays ended, by the days on which they began';
COMMENT ON COLUMN hookledger.seal.losses IS 'rows of lost_log';


-- Audits --------------------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.audit_job ADD COLUMN signature bytea;
COMMENT ON COLUMN hookledger.audit_job.signature IS 'of the result, by the key that signs seals; null while it runs';


-- Ticks ---------------------------------------------------------------------------------------------------------------

-- Makes the next tick if an event was committed since the last one, and returns its number, and its events if they are
-- fewer than 32, none of which has more than 256 KiB; else null. An array of rows is made in memory: at 1 GiB the server
-- refuses it, and no tick would be made ever after. The size of a payload is asked without reading it.
-- Its commit is flushed like any other: a tick that a daemon has read must not be lost in a crash of the server and be
-- made again with another snapshot.
-- With `own`, the transaction of the caller, which has published, the tick shows what that has published too: both become
-- visible, durable or undone together. A publisher must not be held up by a tick: if somebody else keeps the lock
-- for longer than the commit of a tick takes, there is none.
CREATE OR REPLACE FUNCTION hookledger.next_tick(own xid8, OUT made bigint, OUT events hookledger.domain_event[]) LANGUAGE plpgsql AS $$
DECLARE
    last   hookledger.tick;
    next   hookledger.tick;
    notice text;
    waits  text := current_setting('lock_timeout');
BEGIN
    IF own IS NULL THEN
        SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
        IF NOT hookledger.has_news(coalesce(last.snap, '1:1:'::pg_snapshot)) THEN
            RETURN;
        END IF;
        LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
    ELSE
        BEGIN
            PERFORM set_config('lock_timeout', '20ms', true);
            LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
            -- For the rest as before: the commit waits for that of others who notify, which may take longer.
            PERFORM set_config('lock_timeout', waits, true);
        EXCEPTION
            WHEN lock_not_available THEN RETURN;
        END;
    END IF;
    SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
    last.snap := coalesce(last.snap, '1:1:'::pg_snapshot);
    next.tick := coalesce(last.tick, 0) + 1;
    next.snap := hookledger.snapshot_with(own);
    next.at := clock_timestamp();
    IF last.snap::text LIKE '%:' THEN -- nothing was under way at the last tick: half of the work, and nearly always
        SELECT array_agg(few.e) INTO events
          FROM (SELECT CASE WHEN octet_length(e.data) + coalesce(octet_length(e.context), 0)
                                 + coalesce(octet_length(e.snapshot), 0) <= 262144 THEN e END AS e
                  FROM hookledger.domain_event e
                 WHERE e.txid >= pg_snapshot_xmax(last.snap) AND e.txid < pg_snapshot_xmax(next.snap)
                   AND e.txid <> ALL (ARRAY(SELECT pg_snapshot_xip(next.snap))) LIMIT 32) few;
    ELSE
        SELECT array_agg(few.e) INTO events
          FROM (SELECT CASE WHEN octet_length(e.data) + coalesce(octet_length(e.context), 0)
                                 + coalesce(octet_length(e.snapshot), 0) <= 262144 THEN e END AS e
                  FROM hookledger.cut(last.snap, next.snap) e LIMIT 32) few;
    END IF;
    IF events IS NULL THEN
        RETURN;
    ELSIF cardinality(events) = 32 OR array_position(events, NULL) IS NOT NULL THEN
        events := NULL;
    END IF;
    next.touched := (SELECT bit_or(1 << e.shard) FROM unnest(events) e);
    SELECT coalesce(max(pos), 0), greatest(next.at, max(effective_at), last.closed_upto)
      INTO next.route_pos, next.closed_upto
      FROM (SELECT pos, effective_at FROM hookledger.route_event ORDER BY pos DESC LIMIT 1) newest;
    INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto, touched)
    VALUES (next.tick, next.snap, next.at, next.route_pos, next.closed_upto, next.touched);
    made := next.tick;
    IF own IS NOT NULL AND (SELECT count(*) FROM hookledger.process) = 1 THEN
        RETURN; -- a daemon that is alone gets the tick as the answer
    END IF;
    -- The tick itself, so that nobody has to ask for it; its number alone if the snapshot is too long for a notification.
    notice := concat_ws(' ', next.tick, next.route_pos, hookledger.microseconds(next.at),
                        hookledger.microseconds(next.closed_upto), next.snap, next.touched);
    PERFORM pg_notify('hookledger_tick', CASE WHEN octet_length(notice) < 8000 THEN notice ELSE next.tick::text END);
END $$;
