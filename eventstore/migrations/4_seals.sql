-- Version 4: seals, which cover events, attempts and ticks by their hashes; and signatures of the route log.


-- Rows that are covered -----------------------------------------------------------------------------------------------

ALTER TABLE hookledger.domain_event ADD COLUMN sealed_tick bigint;
COMMENT ON COLUMN hookledger.domain_event.sealed_tick IS 'null, unless the event was sealed before a dump was restored and is read again: then the tick under which it was sealed';
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX domain_event_sealed_tick_idx ON hookledger.domain_event (sealed_tick, seq) WHERE sealed_tick IS NOT NULL;

ALTER TABLE hookledger.tick ADD COLUMN sealed_snap text;
COMMENT ON COLUMN hookledger.tick.sealed_snap IS 'null, unless a dump was restored since: then the snapshot that the tick had';

-- No row is rewritten: the default is computed once, so that every outcome from before is of the transaction of this
-- migration, and is covered by the first seal.
ALTER TABLE hookledger.attempt ADD COLUMN txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE hookledger.attempt ADD COLUMN seal bigint, ADD COLUMN sealed_tick bigint;
COMMENT ON COLUMN hookledger.attempt.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';
COMMENT ON COLUMN hookledger.attempt.sealed_tick IS 'null, unless its event is read again after a restore: then the tick under which it was sealed';
-- Serves sealing: rows by the transaction that wrote them. Transaction ids rise along the heap; block ranges can have no
-- column of xid8, so it is a bigint.
CREATE INDEX attempt_txid_idx ON hookledger.attempt USING brin (txid) WITH (pages_per_range = 16, autosummarize = on);
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX attempt_seal_idx ON hookledger.attempt (seal, seq) WHERE seal IS NOT NULL;


-- Seals ---------------------------------------------------------------------------------------------------------------

-- One daemon at a time makes a seal.
CREATE TABLE hookledger.seal_lock ();

-- What the logs held when the seal was made, as hashes: see eventstore/README.md. A seal covers the events and ticks up to
-- `tick` and the attempts that `snap` shows, as far as the seal before does not. The nth elements of the arrays belong
-- together: a UTC day, the number of its rows that are covered, and the root of their tree.
CREATE TABLE hookledger.seal (
    n                  bigint      NOT NULL,
    at                 timestamptz NOT NULL,
    origin             text        NOT NULL,
    snap               pg_snapshot NOT NULL,
    tick               bigint      NOT NULL,
    tick_snap          pg_snapshot NOT NULL,
    route_pos          bigint      NOT NULL,
    route_hash         bytea       NOT NULL,
    event_days         date[]      NOT NULL,
    event_rows         bigint[]    NOT NULL,
    event_roots        bytea[]     NOT NULL,
    attempt_days       date[]      NOT NULL,
    attempt_rows       bigint[]    NOT NULL,
    attempt_roots      bytea[]     NOT NULL,
    ticks              bigint      NOT NULL,
    ticks_root         bytea       NOT NULL,
    keys               bigint      NOT NULL,
    keys_root          bytea       NOT NULL,
    signatures         bigint      NOT NULL,
    checkpoints        bigint[]    NOT NULL,
    events_kept_from   timestamptz,
    attempts_kept_from timestamptz,
    public_key         bytea       NOT NULL,
    prev_hash          bytea       NOT NULL,
    hash               bytea       NOT NULL,
    signature          bytea       NOT NULL,
    CONSTRAINT seal_pkey PRIMARY KEY (n)
);
COMMENT ON TABLE hookledger.seal IS 'append-only, gapless n; kept for ever';
COMMENT ON COLUMN hookledger.seal.origin IS 'the log and its lineage, by meta.log_id and meta.system_identifier';
COMMENT ON COLUMN hookledger.seal.keys IS 'secrets that the route log names since the seal before';
COMMENT ON COLUMN hookledger.seal.signatures IS 'rows of route_event_signature up to route_pos';
COMMENT ON COLUMN hookledger.seal.signature IS 'Ed25519, of the root of the tree of seals up to this one';
-- Serves proofs and a restore: the seal that covers an outcome.
CREATE INDEX seal_snap_xmax_idx ON hookledger.seal (pg_snapshot_xmax(snap), n);
-- Serves proofs: the seal that covers an event.
CREATE INDEX seal_tick_idx ON hookledger.seal (tick, n);

CREATE TRIGGER seal_append_only BEFORE UPDATE OR DELETE ON hookledger.seal
    FOR EACH ROW EXECUTE FUNCTION hookledger.refuse_change();
CREATE TRIGGER seal_no_truncate BEFORE TRUNCATE ON hookledger.seal
    FOR EACH STATEMENT EXECUTE FUNCTION hookledger.refuse_change();

-- The signature of the hash of a lifecycle event, by a key that the database does not have: it tells an event that a
-- command of ours appended from one that somebody appended by SQL. The first one vouches for the log up to there.
CREATE TABLE hookledger.route_event_signature (
    pos       bigint NOT NULL,
    signature bytea  NOT NULL,
    CONSTRAINT route_event_signature_pkey PRIMARY KEY (pos)
);
CREATE TRIGGER route_event_signature_append_only BEFORE UPDATE OR DELETE ON hookledger.route_event_signature
    FOR EACH ROW EXECUTE FUNCTION hookledger.refuse_change();
CREATE TRIGGER route_event_signature_no_truncate BEFORE TRUNCATE ON hookledger.route_event_signature
    FOR EACH STATEMENT EXECUTE FUNCTION hookledger.refuse_change();

-- A name for this log that no other has.
INSERT INTO hookledger.meta (key, value) VALUES ('log_id', gen_random_uuid()::text);

REVOKE UPDATE, DELETE, TRUNCATE ON hookledger.seal, hookledger.route_event_signature FROM PUBLIC, CURRENT_USER;
COMMENT ON TABLE hookledger.meta IS 'schema_version; system_identifier: the cluster this lineage of ticks belongs to; lineage: how often and when one began with a restored dump; '
    'events_kept_from, attempts_kept_from: what was recorded before retention has dropped; master_key_check; log_id: the name of the log in seals';
