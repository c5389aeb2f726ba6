-- Version 4: a tick tells which shards have events in it, a poll brings them, and what is published over HTTP gets its tick
-- in its own transaction.

ALTER TABLE hookledger.tick ADD COLUMN touched integer;
COMMENT ON COLUMN hookledger.tick.touched IS 'the shards of its events: the sum of 1 << shard; null if it has many events';

-- The parameters and the result of a function cannot be changed in place.
DROP FUNCTION hookledger.poll(bigint, bigint);

-- Publishes many events at once, and returns for each, in the order given, whether it is new. The same (tenant, id)
-- within 24 hours is one event. They become visible when the caller's transaction commits. It is one statement that
-- does not join the arrays with each other: a generic plan estimates an array at ten elements and would join ten
-- thousand in nested loops.
CREATE OR REPLACE FUNCTION hookledger.publish_many(
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
    IF cardinality(publish_many.ids) = 1 AND NOT near_midnight THEN -- the same for one event, which most calls have
        INSERT INTO hookledger.domain_event (recorded_at, tenant, id, type, occurred_at, data, context, snapshot, backfill, hops)
        SELECT logged_at, publish_many.tenants[1], publish_many.ids[1], publish_many.types[1], publish_many.occurred[1],
               publish_many.data[1], publish_many.context[1], publish_many.snapshot[1], publish_many.backfill[1],
               publish_many.hops[1]
         WHERE NOT EXISTS (
               SELECT FROM hookledger.domain_event e
                WHERE e.tenant = publish_many.tenants[1] AND e.id = publish_many.ids[1]
                  AND e.recorded_at > logged_at - interval '24 hours'
                  AND e.recorded_at < logged_at + interval '24 hours')
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
