-- Version 4: seals, which cover events, attempts and ticks by their hashes, and signatures of the route log; ticks that
-- tell which shards have events in them, polls that bring them, and events that get their tick in their own transaction.


-- Events and ticks ----------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.tick ADD COLUMN touched integer;
COMMENT ON COLUMN hookledger.tick.touched IS 'the shards of its events: the sum of 1 << shard; null if it has many events';

-- Publishes many events at once, and returns for each, in the order given, whether it is new. The same (tenant, id)
-- within 24 hours is one event. They become visible when the caller's transaction commits. It is one statement that
-- does not join the arrays with each other: a generic plan estimates an array at ten elements and would join ten
-- thousand in nested loops. Nor does it join them with the partition that it fills, where the unique index alone tells
-- what is known: a plan that was made while that was empty would read all of it once for each event.
CREATE OR REPLACE FUNCTION hookledger.publish_many(
    tenants text[], ids text[], types text[], occurred timestamptz[], data bytea[], context bytea[], snapshot bytea[], backfill boolean[],
    hops smallint[] DEFAULT NULL
) RETURNS boolean[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- One time for all, which also tells the partition, midnight and the 24 hours; seq has their order.
    logged_at     timestamptz := hookledger.log_time();
    near_midnight boolean := hookledger.is_near_midnight(logged_at);
    today         timestamptz := date_trunc('day', logged_at, 'UTC');
    tomorrow      timestamptz := today + interval '24 hours';
    fresh         boolean[];
BEGIN
    IF cardinality(publish_many.ids) = 1 AND NOT near_midnight THEN -- the same for one event, which most calls have
        INSERT INTO hookledger.domain_event (recorded_at, tenant, id, type, occurred_at, data, context, snapshot, backfill, hops)
        SELECT logged_at, publish_many.tenants[1], publish_many.ids[1], publish_many.types[1], publish_many.occurred[1],
               publish_many.data[1], publish_many.context[1], publish_many.snapshot[1], publish_many.backfill[1],
               publish_many.hops[1]
         WHERE NOT EXISTS (
               SELECT FROM hookledger.domain_event e
                WHERE e.tenant = publish_many.tenants[1] AND e.id = publish_many.ids[1]
                  AND e.recorded_at > logged_at - interval '24 hours' AND e.recorded_at < today)
           AND NOT EXISTS (
               SELECT FROM hookledger.domain_event e
                WHERE e.tenant = publish_many.tenants[1] AND e.id = publish_many.ids[1]
                  AND e.recorded_at >= tomorrow AND e.recorded_at < logged_at + interval '24 hours')
        ON CONFLICT DO NOTHING;
        RETURN ARRAY[FOUND];
    END IF;
    WITH given AS MATERIALIZED (
        SELECT i.*, row_number() OVER (PARTITION BY i.tenant, i.id ORDER BY i.place) AS nth
          FROM unnest(publish_many.tenants, publish_many.ids, publish_many.types, publish_many.occurred, publish_many.data,
                      publish_many.context, publish_many.snapshot, publish_many.backfill, publish_many.hops)
               WITH ORDINALITY AS i (tenant, id, type, occurred_at, data, context, snapshot, backfill, hops, place)
    ), unknown AS MATERIALIZED (
        SELECT g.* FROM given g
         WHERE g.nth = 1
           AND NOT EXISTS (SELECT FROM hookledger.domain_event e
                            WHERE e.tenant = g.tenant AND e.id = g.id
                              AND e.recorded_at > logged_at - interval '24 hours' AND e.recorded_at < today)
           -- A clock that was an hour ahead at midnight.
           AND NOT EXISTS (SELECT FROM hookledger.domain_event e
                            WHERE e.tenant = g.tenant AND e.id = g.id
                              AND e.recorded_at >= tomorrow AND e.recorded_at < logged_at + interval '24 hours')
    ), passed AS (
        -- What stands there from another midnight, since nobody tidied up, does not count.
        INSERT INTO hookledger.domain_event_midnight AS m (tenant, id, recorded_at)
        SELECT u.tenant, u.id, logged_at FROM unknown u WHERE near_midnight ORDER BY u.tenant, u.id
        ON CONFLICT (tenant, id) DO UPDATE SET recorded_at = excluded.recorded_at
         WHERE m.recorded_at < excluded.recorded_at - interval '12 hours'
        RETURNING tenant, id
    ), numbered AS MATERIALIZED (
        SELECT nextval('hookledger.domain_event_seq') AS seq, logged_at AS recorded_at, u.*
          FROM (SELECT * FROM unknown ORDER BY place) u
         WHERE NOT near_midnight OR (u.tenant, u.id) IN (SELECT p.tenant, p.id FROM passed p)
    ), added AS (
        -- seq follows the order given, the insertion that of the ids: two batches of the same ids in another order
        -- wait for each other's unique keys, and must not do so crosswise.
        INSERT INTO hookledger.domain_event (seq, recorded_at, tenant, id, type, occurred_at, data, context, snapshot, backfill, hops)
        SELECT n.seq, n.recorded_at, n.tenant, n.id, n.type, n.occurred_at, n.data, n.context, n.snapshot, n.backfill, n.hops
          FROM numbered n ORDER BY n.tenant, n.id
        ON CONFLICT DO NOTHING
        RETURNING tenant, id
    )
    SELECT array_agg(g.nth = 1 AND (g.tenant, g.id) IN (SELECT a.tenant, a.id FROM added a) ORDER BY g.place) INTO fresh
      FROM given g;
    RETURN fresh;
END $$;

-- The events that snapshot `snap` shows and snapshot `before`, which was taken earlier, does not.
CREATE FUNCTION hookledger.cut(before pg_snapshot, snap pg_snapshot) RETURNS SETOF hookledger.domain_event LANGUAGE sql STABLE AS $$
    SELECT e.* FROM hookledger.domain_event e
     WHERE e.txid >= pg_snapshot_xmax(before) AND e.txid < pg_snapshot_xmax(snap)
       AND e.txid <> ALL (ARRAY(SELECT pg_snapshot_xip(snap)))
     UNION ALL
    SELECT e.* FROM hookledger.domain_event e
     WHERE e.txid = ANY (ARRAY(SELECT x FROM pg_snapshot_xip(before) x WHERE pg_visible_in_snapshot(x, snap)))
$$;

-- What is committed, and transaction `own`, which is the caller's: the snapshot that will be true when it has committed.
-- What began between the last transaction that ended and `own` is under way. Null if that may be much, so that nobody
-- gets a snapshot of many thousands of numbers.
CREATE FUNCTION hookledger.snapshot_with(own xid8) RETURNS pg_snapshot LANGUAGE plpgsql AS $$
DECLARE
    now  pg_snapshot := pg_current_snapshot(); -- its list of what is under way never has the caller's own transaction
    upto bigint      := pg_snapshot_xmax(now)::text::bigint;
    mine bigint      := own::text::bigint;
BEGIN
    IF mine IS NULL OR mine < upto THEN
        RETURN now;
    ELSIF mine - upto > 100 THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT concat_ws(':', pg_snapshot_xmin(now), mine + 1, coalesce(string_agg(x::text, ',' ORDER BY x), ''))
              FROM (SELECT pg_snapshot_xip(now)::text::bigint UNION ALL SELECT generate_series(upto, mine - 1)) AS open (x));
END $$;

-- Makes the next tick if an event was committed since the last one, and returns its number, and its events if they are
-- fewer than 32; else null. Its commit is flushed like any other: a tick that a daemon has read must not be lost in a
-- crash of the server and be made again with another snapshot.
-- With `own`, the transaction of the caller, which has published, the tick shows what that has published too: both become
-- visible, durable or undone together. Whoever publishes must not be held up by a tick: if somebody else keeps the lock
-- for longer than the commit of a tick takes, there is none.
CREATE FUNCTION hookledger.next_tick(own xid8, OUT made bigint, OUT events hookledger.domain_event[]) LANGUAGE plpgsql AS $$
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
          FROM (SELECT e FROM hookledger.domain_event e
                 WHERE e.txid >= pg_snapshot_xmax(last.snap) AND e.txid < pg_snapshot_xmax(next.snap)
                   AND e.txid <> ALL (ARRAY(SELECT pg_snapshot_xip(next.snap))) LIMIT 32) few;
    ELSE
        SELECT array_agg(few.c) INTO events FROM (SELECT c FROM hookledger.cut(last.snap, next.snap) c LIMIT 32) few;
    END IF;
    IF events IS NULL THEN
        RETURN;
    ELSIF cardinality(events) = 32 THEN
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

-- Makes the next tick if there is one to make, and returns its number, else null.
CREATE OR REPLACE FUNCTION hookledger.make_tick() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT t.made FROM hookledger.next_tick(NULL) t);
END $$;

-- The parameters and the result of a function cannot be changed in place.
DROP FUNCTION hookledger.poll(bigint, bigint);

-- Called by every daemon several times a second, in one round trip: makes the next tick if there is one to make, and
-- returns the newest tick and the last position of the route log, from which a process knows that it has missed
-- nothing. What stands at the tick and the position that it knows tells it whether the log is still the same.
-- To a caller that has read all up to `read_tick` of the shards `read_shards` (the sum of 1 << shard) it brings the events
-- of the newest tick too, in the order of seq, if that is the next one and they are few; else the arrays are null.
-- With `own`, the transaction of the caller, it is the poll of somebody who has published (see next_tick).
CREATE FUNCTION hookledger.poll(
    known_tick bigint, known_pos bigint, read_tick bigint, read_shards integer, own xid8 DEFAULT NULL,
    OUT made bigint, OUT newest bigint, OUT newest_snap pg_snapshot, OUT route_pos bigint,
    OUT timeline integer, OUT known_snap pg_snapshot, OUT known_hash bytea,
    OUT newest_at timestamptz, OUT newest_route_pos bigint, OUT newest_closed_upto timestamptz, OUT newest_touched integer,
    OUT seqs bigint[], OUT recorded_ats timestamptz[], OUT shards smallint[], OUT tenants text[], OUT ids text[],
    OUT types text[], OUT occurred_ats timestamptz[], OUT datas bytea[], OUT contexts bytea[], OUT snapshots bytea[],
    OUT backfills boolean[], OUT test_routes uuid[], OUT all_hops smallint[]
) LANGUAGE plpgsql AS $$
DECLARE
    before pg_snapshot;
    events hookledger.domain_event[];
BEGIN
    SELECT n.made, n.events INTO made, events FROM hookledger.next_tick(own) n;
    SELECT t.tick, t.snap, t.at, t.route_pos, t.closed_upto, t.touched
      INTO newest, newest_snap, newest_at, newest_route_pos, newest_closed_upto, newest_touched
      FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1;
    newest := coalesce(newest, 0);
    newest_snap := coalesce(newest_snap, '1:1:'::pg_snapshot);
    route_pos := coalesce((SELECT e.pos FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1), 0);
    timeline := hookledger.timeline();
    known_snap := (SELECT t.snap FROM hookledger.tick t WHERE t.tick = known_tick);
    known_hash := (SELECT e.hash FROM hookledger.route_event e WHERE e.pos = known_pos);
    IF newest IS DISTINCT FROM read_tick + 1 OR coalesce(newest_touched & read_shards, 0) = 0 THEN
        RETURN;
    ELSIF made IS NULL AND pg_snapshot_xmax(newest_snap) > '1'::xid8 THEN -- blank: from before a dump was restored
        before := CASE WHEN read_tick = 0 THEN '1:1:'::pg_snapshot
                       ELSE (SELECT t.snap FROM hookledger.tick t WHERE t.tick = read_tick) END;
        events := (SELECT array_agg(c) FROM hookledger.cut(before, newest_snap) c);
    END IF;
    SELECT array_agg(c.seq), array_agg(c.recorded_at), array_agg(c.shard), array_agg(c.tenant), array_agg(c.id),
           array_agg(c.type), array_agg(c.occurred_at), array_agg(c.data), array_agg(c.context), array_agg(c.snapshot),
           array_agg(c.backfill), array_agg(c.test_route), array_agg(c.hops)
      INTO seqs, recorded_ats, shards, tenants, ids, types, occurred_ats, datas, contexts, snapshots, backfills,
           test_routes, all_hops
      FROM (SELECT * FROM unnest(events) WHERE 1 << shard & read_shards <> 0 ORDER BY seq) c;
END $$;

REVOKE ALL ON FUNCTION hookledger.cut(pg_snapshot, pg_snapshot),
                       hookledger.snapshot_with(xid8),
                       hookledger.next_tick(xid8),
                       hookledger.poll(bigint, bigint, bigint, integer, xid8) FROM PUBLIC;


-- Audits --------------------------------------------------------------------------------------------------------------

-- Serves explanations and audits: who had a delivery sent again.
CREATE INDEX resend_delivery_idx ON hookledger.resend (route_id, seq);


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


-- Metrics of routes ---------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.route_metric ADD COLUMN cells smallint[] NOT NULL DEFAULT '{}',
                                    ADD COLUMN requests integer[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN hookledger.route_metric.cells IS 'of request_cell; the nth element of requests is how many requests there were of the nth cell';

ALTER TABLE hookledger.route_tally ADD COLUMN cells smallint[] NOT NULL DEFAULT '{}',
                                   ADD COLUMN requests integer[] NOT NULL DEFAULT '{}';

-- The same by five minutes, of the last hours.
CREATE TABLE hookledger.route_recent (
    route_id           uuid        NOT NULL,
    period             timestamptz NOT NULL,
    successful         bigint      NOT NULL,
    successful_retries bigint      NOT NULL,
    failed             bigint      NOT NULL,
    suppressed         bigint      NOT NULL,
    expired            bigint      NOT NULL,
    cells              smallint[]  NOT NULL DEFAULT '{}',
    requests           integer[]   NOT NULL DEFAULT '{}',
    CONSTRAINT route_recent_pkey PRIMARY KEY (route_id, period)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02); -- every row is deleted
-- Serves the deletion of old periods.
CREATE INDEX route_recent_period_idx ON hookledger.route_recent USING brin (period) WITH (pages_per_range = 16);

-- What is counted of a request besides its outcome, in one number: 64 times the class of its answer (2 for 2xx, 0 for
-- none), and the place of its duration in milliseconds among these bounds, each about 1.4 times the one before.
-- daemon/core/delivery/request_cells.py has the same bounds.
CREATE FUNCTION hookledger.request_cell(status_code smallint, duration_ms integer) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (coalesce(status_code / 100, 0) * 64
           + width_bucket(duration_ms, '{1,2,3,4,6,8,11,16,23,32,45,64,91,128,181,256,362,512,724,1024,1448,2048,2896,4096,5793,8192,11585,16384,23170,32768,46341,65536}'::integer[]))::smallint $$;

REVOKE ALL ON FUNCTION hookledger.request_cell(smallint, integer) FROM PUBLIC;

-- A trigger, so that an outcome is counted in the transaction that records it: no clock, crash or late commit can make
-- the counts differ from the log.
CREATE OR REPLACE FUNCTION hookledger.tally_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hookledger.route_tally (hour, at, route_ids, successful, successful_retries, failed, suppressed, expired, failures,
                                        cells, requests)
    SELECT date_trunc('hour', t.period, 'UTC'), min(t.at), array_agg(t.route_id), array_agg(t.successful),
           array_agg(t.successful_retries), array_agg(t.failed), array_agg(t.suppressed), array_agg(t.expired),
           array_agg(t.failures), array_agg(t.cell), array_agg(t.requests)
      FROM (SELECT a.route_id, date_bin('5 minutes', a.at, 'epoch') AS period,
                   CASE WHEN a.number > 0 THEN hookledger.request_cell(a.status_code, a.duration_ms) ELSE -1 END AS cell,
                   min(a.at) AS at,
                   count(*) FILTER (WHERE a.outcome = 'delivered') AS successful,
                   count(*) FILTER (WHERE a.outcome = 'delivered' AND a.number > 1) AS successful_retries,
                   count(*) FILTER (WHERE a.outcome = 'failed') AS failed,
                   count(*) FILTER (WHERE a.outcome = 'suppressed') AS suppressed,
                   count(*) FILTER (WHERE a.outcome = 'expired') AS expired,
                   count(*) FILTER (WHERE a.outcome IN ('retrying', 'failed')) AS failures,
                   count(*) FILTER (WHERE a.number > 0) AS requests
              FROM added a WHERE NOT a.is_test GROUP BY 1, 2, 3) t
     GROUP BY t.period;
    RETURN NULL;
END $$;


-- Health -------------------------------------------------------------------------------------------------------------

-- How the receiver of each route answers, as the process saw that sends for it. A route without a row had no request
-- since it was enabled. `since` is when the present state began, `run_since` when the present run of failures or of
-- successes did, `ill_since` when the last bad time did, which may be over. Test events do not count.
CREATE TABLE hookledger.route_health (
    route_id          uuid        NOT NULL,
    tenant            text        NOT NULL,
    shard             smallint    NOT NULL,
    epoch             bigint      NOT NULL,
    state             text        NOT NULL,
    since             timestamptz NOT NULL,
    run_since         timestamptz NOT NULL,
    ill_since         timestamptz,
    failures          integer     NOT NULL,
    successes         integer     NOT NULL,
    failed_at         timestamptz,
    failed_status     smallint,
    failed_error      text,
    failed_event      text,
    failed_event_time timestamptz,
    delivered_at      timestamptz,
    delivered_status  smallint,
    delivered_event   text,
    delivered_event_time timestamptz,
    probe_at          timestamptz,
    CONSTRAINT route_health_pkey PRIMARY KEY (route_id),
    CONSTRAINT route_health_state_check CHECK (state IN ('ok', 'failing', 'down'))
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.route_health.probe_at IS 'when the breaker lets the next waiting delivery go; null if it holds back nothing';
-- Serves the list of routes that fail: down before failing, and the longest first.
CREATE INDEX route_health_ill_idx ON hookledger.route_health (state, since, route_id) WHERE state <> 'ok';


-- Login links and sessions --------------------------------------------------------------------------------------------

ALTER TABLE hookledger.login_link
    ADD COLUMN actor      text NOT NULL DEFAULT 'dashboard',
    ADD COLUMN role       text NOT NULL DEFAULT 'manage',
    ADD COLUMN return_url text,
    ADD COLUMN path       text,
    ADD CONSTRAINT login_link_role_check CHECK (role IN ('manage', 'view'));
COMMENT ON COLUMN hookledger.login_link.actor IS 'who stands in the route log for what the session does';
COMMENT ON COLUMN hookledger.login_link.return_url IS 'where the session leads back to; null: as configured';
COMMENT ON COLUMN hookledger.login_link.path IS 'the page that it leads to; null: the first one';

ALTER TABLE hookledger.session
    ADD COLUMN actor text NOT NULL DEFAULT 'dashboard',
    ADD COLUMN role  text NOT NULL DEFAULT 'manage',
    ADD CONSTRAINT session_role_check CHECK (role IN ('manage', 'view'));


-- Audits that the API was asked for. The process that took the request runs the audit, and any may tell how it goes.
CREATE TABLE hookledger.audit_job (
    id         uuid        NOT NULL,
    tenant     text,
    since      timestamptz,
    until      timestamptz,
    actor      text        NOT NULL,
    state      text        NOT NULL DEFAULT 'running',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    events     bigint      NOT NULL DEFAULT 0,
    reached    timestamptz,
    found      bigint      NOT NULL DEFAULT 0,
    findings   text        NOT NULL DEFAULT '[]',
    gaps       text        NOT NULL DEFAULT '[]',
    detail     text,
    CONSTRAINT audit_job_pkey PRIMARY KEY (id),
    CONSTRAINT audit_job_state_check CHECK (state IN ('running', 'done', 'failed') AND (state = 'running') = (ended_at IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.audit_job.tenant IS 'null: all of them, and the seals';
COMMENT ON COLUMN hookledger.audit_job.since IS 'with until the period, [since, until); null: no bound';
COMMENT ON COLUMN hookledger.audit_job.beat_at IS 'when the process that runs it last said so';
COMMENT ON COLUMN hookledger.audit_job.reached IS 'when the last event that was judged was recorded';
COMMENT ON COLUMN hookledger.audit_job.findings IS 'the first of them, as JSON; found is how many there are';
COMMENT ON COLUMN hookledger.audit_job.gaps IS 'sentences, as JSON: why it proves less than was asked for';
