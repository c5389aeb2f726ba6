-- Version 2: locks of the product are tables, so that a producer's role cannot take them; an event says how many
-- deliveries led to it; a range of parked deliveries may begin within a tick; a daemon knows the log again after a
-- failover, and which other one was killed; a clock that steps neither reorders events nor stalls retries.


-- Locks ---------------------------------------------------------------------------------------------------------------

DROP FUNCTION hookledger.log_lock();
CREATE TABLE hookledger.log_lock ();
CREATE TABLE hookledger.sweep_lock ();
CREATE TABLE hookledger.tally_lock ();

-- Manual retries and replays of one route exclude each other. A row that is inserted and deleted in one transaction is
-- seen by nobody, and makes the next one who inserts the same key wait for the end of that transaction.
CREATE TABLE hookledger.resend_lock (
    route_id uuid NOT NULL,
    CONSTRAINT resend_lock_pkey PRIMARY KEY (route_id)
);

CREATE FUNCTION hookledger.lock_resends(route_id uuid) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO hookledger.resend_lock (route_id) VALUES (lock_resends.route_id);
    DELETE FROM hookledger.resend_lock WHERE route_id = lock_resends.route_id;
END $$;

-- Creates the missing day partitions from `first` to `last` (UTC days), and returns how many were missing. It uses LIKE
-- and ATTACH: PARTITION OF would lock producers out, and queue them behind the longest transaction. The lock is that of
-- migrations, because several daemons may create partitions at the same time.
CREATE OR REPLACE FUNCTION hookledger.ensure_partitions(first date, last date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    part   text;
    day    date;
    made   integer := 0;
BEGIN
    LOCK TABLE hookledger.meta IN SHARE UPDATE EXCLUSIVE MODE;
    FOREACH parent IN ARRAY ARRAY['domain_event', 'attempt'] LOOP
        FOR day IN SELECT generate_series(first, last, interval '1 day')::date LOOP
            part := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('hookledger.' || part) IS NOT NULL;
            EXECUTE format('CREATE TABLE hookledger.%I (LIKE hookledger.%I INCLUDING ALL)', part, parent);
            IF parent = 'domain_event' THEN
                -- Serves idempotence within the day, and finding an event by its id, with or without its tenant.
                EXECUTE format('CREATE UNIQUE INDEX %I ON hookledger.%I (id, tenant)', part || '_id_key', part);
                EXECUTE format('CREATE TRIGGER domain_event_no_truncate BEFORE TRUNCATE ON hookledger.%I '
                               'FOR EACH STATEMENT EXECUTE FUNCTION hookledger.refuse_change()', part);
            END IF;
            EXECUTE format('ALTER TABLE hookledger.%I ATTACH PARTITION hookledger.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, part, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;


-- The logs ------------------------------------------------------------------------------------------------------------

-- The time at which an event is recorded: the clock's, but never earlier than what the logs have decided already. Without
-- this floor a clock that went back would put an event before the creation of a route that it came after. It applies at
-- the insert, not at the commit: an event written early in a long transaction keeps its early time, so that it is not
-- sent to a route that was disabled then and enabled before the commit. In plpgsql, because it keeps its plan.
CREATE FUNCTION hookledger.log_time() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    RETURN greatest(clock_timestamp(),
                    (SELECT t.closed_upto FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1),
                    (SELECT e.effective_at FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1));
END $$;

CREATE OR REPLACE FUNCTION hookledger.append_route_event(
    route_id uuid, tenant text, version integer, type text, actor text, origin text,
    reason text, request_id text, correlation_id text, causation_id text, body text
) RETURNS hookledger.route_event LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    last  record;
    added hookledger.route_event;
BEGIN
    LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
    -- Before the version: a command repeated with its request id names a version that is taken by its first run.
    IF EXISTS (SELECT FROM hookledger.route_event e WHERE e.request_id = append_route_event.request_id) THEN
        RAISE unique_violation USING MESSAGE = 'request id used before', CONSTRAINT = 'route_event_request_key';
    END IF;
    -- What is committed by now happened before this event, even if the clock went back since: a tick takes it in, and
    -- this event takes effect after the tick.
    PERFORM hookledger.make_tick();
    SELECT e.pos, e.effective_at, e.hash INTO last
      FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1;
    added := ROW(
        coalesce(last.pos, 0) + 1,
        append_route_event.route_id, append_route_event.tenant, append_route_event.version, append_route_event.type,
        greatest(clock_timestamp(),
                 last.effective_at + interval '1 microsecond',
                 (SELECT t.closed_upto + interval '1 microsecond' FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1)),
        append_route_event.actor, append_route_event.origin, append_route_event.reason, append_route_event.request_id,
        append_route_event.correlation_id, append_route_event.causation_id, append_route_event.body,
        coalesce(last.hash, '\x'::bytea), '\x'::bytea);
    added.hash := sha256(added.prev_hash || convert_to(hookledger.canonical(ARRAY[
        added.pos::text, added.route_id::text, added.tenant, added.version::text, added.type,
        hookledger.microseconds(added.effective_at)::text, added.actor, added.origin, added.reason, added.request_id,
        added.correlation_id, added.causation_id, added.body]), 'UTF8'));
    INSERT INTO hookledger.route_event SELECT added.*;
    PERFORM pg_notify('hookledger_route', added.pos::text);
    RETURN added;
END $$;

ALTER TABLE hookledger.domain_event
    ADD COLUMN hops smallint,
    ALTER COLUMN recorded_at SET DEFAULT hookledger.log_time();
COMMENT ON COLUMN hookledger.domain_event.hops IS 'null, unless a delivery of ours published the event: then how many deliveries in a row led to it';

DROP FUNCTION hookledger.publish_many(text[], text[], text[], timestamptz[], bytea[], bytea[], bytea[], boolean[]);
-- Publishes many events at once, and returns for each, in the order given, whether it is new. The same (tenant, id)
-- within 24 hours is one event. They become visible when the caller's transaction commits. It is one statement that
-- does not join the arrays with each other: a generic plan estimates an array at ten elements and would join ten
-- thousand in nested loops.
CREATE FUNCTION hookledger.publish_many(
    tenants text[], ids text[], types text[], occurred timestamptz[], data bytea[], context bytea[], snapshot bytea[], backfill boolean[],
    hops smallint[] DEFAULT NULL
) RETURNS boolean[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- One time for all, which also tells the partition, midnight and the 24 hours; seq has their order.
    logged_at     timestamptz := hookledger.log_time();
    near_midnight boolean := hookledger.is_near_midnight(logged_at);
    fresh         boolean[];
BEGIN
    WITH given AS MATERIALIZED (
        SELECT i.*, row_number() OVER (PARTITION BY i.tenant, i.id ORDER BY i.place) AS nth
          FROM unnest(publish_many.tenants, publish_many.ids, publish_many.types, publish_many.occurred, publish_many.data,
                      publish_many.context, publish_many.snapshot, publish_many.backfill, publish_many.hops)
               WITH ORDINALITY AS i (tenant, id, type, occurred_at, data, context, snapshot, backfill, hops, place)
    ), unknown AS MATERIALIZED (
        SELECT g.* FROM given g
         WHERE g.nth = 1 AND NOT EXISTS (
               SELECT FROM hookledger.domain_event e
                WHERE e.tenant = g.tenant AND e.id = g.id
                  AND e.recorded_at > logged_at - interval '24 hours'
                  AND e.recorded_at < logged_at + interval '24 hours')
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

-- Makes the next tick if an event was committed since the last one, and returns its number, else null. Its commit is
-- flushed like any other: a tick that a daemon has read must not be lost in a crash of the server and be made again
-- with another snapshot.
CREATE OR REPLACE FUNCTION hookledger.make_tick() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last hookledger.tick;
    next hookledger.tick;
BEGIN
    SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
    IF NOT hookledger.has_news(coalesce(last.snap, '1:1:'::pg_snapshot)) THEN
        RETURN NULL;
    END IF;
    LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
    IF NOT hookledger.has_news(coalesce(last.snap, '1:1:'::pg_snapshot)) THEN
        RETURN NULL;
    END IF;
    next.tick := coalesce(last.tick, 0) + 1;
    next.snap := pg_current_snapshot();
    next.at := clock_timestamp();
    SELECT coalesce(max(pos), 0), greatest(next.at, max(effective_at), last.closed_upto)
      INTO next.route_pos, next.closed_upto
      FROM (SELECT pos, effective_at FROM hookledger.route_event ORDER BY pos DESC LIMIT 1) newest;
    INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)
    VALUES (next.tick, next.snap, next.at, next.route_pos, next.closed_upto);
    PERFORM pg_notify('hookledger_tick', next.tick::text);
    RETURN next.tick;
END $$;

-- The timeline of the write-ahead log, which is another one once a standby was promoted. 0 where storage of its own kind
-- takes the place of that log; then a promotion loses nothing.
CREATE FUNCTION hookledger.timeline() RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'this server is a standby';
    END IF;
    RETURN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
EXCEPTION
    WHEN feature_not_supported THEN RETURN 0;
END $$;

-- True if this is the log of which somebody has read that tick: after the promotion of a standby that was behind, ticks
-- may be gone, and their numbers be those of others. Null for somebody who has read nothing yet.
CREATE FUNCTION hookledger.is_same_log(timeline integer, tick bigint, snap text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT is_same_log.timeline IS NULL
        OR is_same_log.timeline = hookledger.timeline()
           AND (is_same_log.tick = 0 OR EXISTS (SELECT FROM hookledger.tick t
                                                 WHERE t.tick = is_same_log.tick AND t.snap::text = is_same_log.snap))
$$;

DROP FUNCTION hookledger.poll();
-- Called by every daemon several times a second, in one round trip: makes the next tick if there is one to make, and
-- returns the newest tick and the last position of the route log, from which a process knows that it has missed
-- nothing. What stands at the tick and the position that it knows tells it whether the log is still the same.
CREATE FUNCTION hookledger.poll(
    known_tick bigint, known_pos bigint,
    OUT made bigint, OUT newest bigint, OUT newest_snap pg_snapshot, OUT route_pos bigint,
    OUT timeline integer, OUT known_snap pg_snapshot, OUT known_hash bytea
) LANGUAGE plpgsql AS $$
BEGIN
    made := hookledger.make_tick();
    SELECT t.tick, t.snap INTO newest, newest_snap FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1;
    newest := coalesce(newest, 0);
    newest_snap := coalesce(newest_snap, '1:1:'::pg_snapshot);
    route_pos := coalesce((SELECT e.pos FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1), 0);
    timeline := hookledger.timeline();
    known_snap := (SELECT t.snap FROM hookledger.tick t WHERE t.tick = known_tick);
    known_hash := (SELECT e.hash FROM hookledger.route_event e WHERE e.pos = known_pos);
END $$;

-- What was lost when a standby that had not received everything was promoted, as the daemons knew it: one row for each
-- time. `since` is the time of the newest tick that is left, or null if none is, and `until` when the loss was noticed:
-- what was acknowledged between them may be gone.
CREATE TABLE hookledger.lost_log (
    timeline   integer     NOT NULL,
    first_tick bigint      NOT NULL,
    last_tick  bigint      NOT NULL,
    first_pos  bigint      NOT NULL,
    last_pos   bigint      NOT NULL,
    since      timestamptz,
    until      timestamptz NOT NULL DEFAULT clock_timestamp(),
    found_by   text        NOT NULL,
    CONSTRAINT lost_log_pkey PRIMARY KEY (timeline, first_tick, first_pos)
);
COMMENT ON COLUMN hookledger.lost_log.last_tick IS 'below first_tick: no tick is gone; likewise last_pos, of the route log';


-- Progress ------------------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.process
    ADD COLUMN lifeline bigint NOT NULL DEFAULT 0,
    ADD COLUMN lifeline_pid integer,
    ADD COLUMN lifeline_started_at timestamptz;
COMMENT ON COLUMN hookledger.process.lifeline IS 'number of the session whose end shows that the process died; lifeline_pid is null while it has none';

ALTER TABLE hookledger.parked_range ADD COLUMN from_seq bigint NOT NULL DEFAULT 0;

-- Steady time is the clock without its steps: the clock and this. A process that notices a step corrects it, so that the
-- waits of retries take as long as promised.
CREATE TABLE hookledger.steady_clock (
    is_only            boolean NOT NULL DEFAULT true,
    ahead_microseconds bigint  NOT NULL DEFAULT 0,
    CONSTRAINT steady_clock_pkey PRIMARY KEY (is_only),
    CONSTRAINT steady_clock_is_only_check CHECK (is_only)
);
INSERT INTO hookledger.steady_clock DEFAULT VALUES;
COMMENT ON COLUMN hookledger.retry.due_at IS 'in steady time: see steady_clock';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA hookledger FROM PUBLIC;
-- A daemon of version 1 that was frozen finds itself fenced.
UPDATE hookledger.lease SET owner = NULL, epoch = epoch + 1, flush = 0, expires_at = '-infinity';
