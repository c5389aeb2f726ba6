-- Version 3: lists by status and by type meet no row of another one; producers may publish JSON as text; a poll and a
-- notification bring the newest tick.


-- Lists ---------------------------------------------------------------------------------------------------------------

-- Serves those of one type, and the list of its deliveries.
CREATE INDEX domain_event_type_idx ON hookledger.domain_event (tenant, type COLLATE "C", least(occurred_at, recorded_at), seq);

-- Serve the lists of a tenant's and of a route's deliveries, and serve replays: one or two rows of each delivery, however
-- often it was tried. Three partial indexes for each, so that a list of one status meets no row of another. A row is in
-- one of them at most.
DROP INDEX hookledger.attempt_tenant_idx;
DROP INDEX hookledger.attempt_route_idx;
CREATE INDEX attempt_tenant_delivered_idx ON hookledger.attempt (tenant, event_time, seq) WHERE outcome = 'delivered';
CREATE INDEX attempt_route_delivered_idx ON hookledger.attempt (route_id, event_time, seq) WHERE outcome = 'delivered';
CREATE INDEX attempt_tenant_first_idx ON hookledger.attempt (tenant, event_time, seq)
 WHERE outcome = 'retrying' AND number <= 1;
CREATE INDEX attempt_route_first_idx ON hookledger.attempt (route_id, event_time, seq)
 WHERE outcome = 'retrying' AND number <= 1;


-- Publishing ----------------------------------------------------------------------------------------------------------

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

-- Publishes the same with its JSON as text, which is kept byte for byte; what is JSON and no jsonb for PostgreSQL, like
-- \u0000, half a surrogate pair or 1e999999, is delivered then as it is over HTTP. A literal without a type is a text.
CREATE FUNCTION hookledger.publish(
    tenant text, type text, data text, id text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL,
    context text DEFAULT NULL, snapshot text DEFAULT NULL, backfill boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    event_id text := coalesce(id, 'evt_' || replace(gen_random_uuid()::text, '-', ''));
    part     text;
BEGIN
    IF data IS NULL THEN
        RAISE EXCEPTION 'data must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH part IN ARRAY ARRAY[data, context, snapshot] LOOP
        IF json_typeof(part::json) <> 'object' THEN
            RAISE EXCEPTION 'data, context and snapshot must be JSON objects' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    PERFORM hookledger.publish_many(
        ARRAY[tenant], ARRAY[event_id], ARRAY[type], ARRAY[occurred_at], ARRAY[convert_to(data, 'UTF8')],
        ARRAY[convert_to(context, 'UTF8')], ARRAY[convert_to(snapshot, 'UTF8')], ARRAY[backfill]);
    RETURN event_id;
END $$;
REVOKE ALL ON FUNCTION hookledger.publish(text, text, text, text, timestamptz, text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hookledger.publish(text, text, text, text, timestamptz, text, text, boolean) TO hookledger_producer;


-- Ticks ---------------------------------------------------------------------------------------------------------------

-- Makes the next tick if an event was committed since the last one, and returns its number, else null. Its commit is
-- flushed like any other: a tick that a daemon has read must not be lost in a crash of the server and be made again
-- with another snapshot.
CREATE OR REPLACE FUNCTION hookledger.make_tick() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last   hookledger.tick;
    next   hookledger.tick;
    notice text;
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
    -- The tick itself, so that nobody has to ask for it; its number alone if the snapshot is too long for a notification.
    notice := concat_ws(' ', next.tick, next.route_pos, hookledger.microseconds(next.at),
                        hookledger.microseconds(next.closed_upto), next.snap);
    PERFORM pg_notify('hookledger_tick', CASE WHEN octet_length(notice) < 8000 THEN notice ELSE next.tick::text END);
    RETURN next.tick;
END $$;

-- A function's result cannot be changed in place.
DROP FUNCTION hookledger.poll(bigint, bigint);

-- Called by every daemon several times a second, in one round trip: makes the next tick if there is one to make, and
-- returns the newest tick and the last position of the route log, from which a process knows that it has missed
-- nothing. What stands at the tick and the position that it knows tells it whether the log is still the same.
CREATE FUNCTION hookledger.poll(
    known_tick bigint, known_pos bigint,
    OUT made bigint, OUT newest bigint, OUT newest_snap pg_snapshot, OUT route_pos bigint,
    OUT timeline integer, OUT known_snap pg_snapshot, OUT known_hash bytea,
    OUT newest_at timestamptz, OUT newest_route_pos bigint, OUT newest_closed_upto timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    made := hookledger.make_tick();
    SELECT t.tick, t.snap, t.at, t.route_pos, t.closed_upto
      INTO newest, newest_snap, newest_at, newest_route_pos, newest_closed_upto
      FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1;
    newest := coalesce(newest, 0);
    newest_snap := coalesce(newest_snap, '1:1:'::pg_snapshot);
    route_pos := coalesce((SELECT e.pos FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1), 0);
    timeline := hookledger.timeline();
    known_snap := (SELECT t.snap FROM hookledger.tick t WHERE t.tick = known_tick);
    known_hash := (SELECT e.hash FROM hookledger.route_event e WHERE e.pos = known_pos);
END $$;
REVOKE ALL ON FUNCTION hookledger.poll(bigint, bigint) FROM PUBLIC;
