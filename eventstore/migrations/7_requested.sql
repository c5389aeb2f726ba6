-- Version 7: seals cover who had deliveries sent again, by hand and by replays, what promoted standbys had lost, and API
-- tokens; results of audits are signed.


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
