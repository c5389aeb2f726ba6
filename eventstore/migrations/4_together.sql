-- Version 4: a tick tells which shards have events in it, a poll brings them, and what is published over HTTP gets its tick
-- in its own transaction.

ALTER TABLE hookledger.tick ADD COLUMN touched integer;
COMMENT ON COLUMN hookledger.tick.touched IS 'the shards of its events: the sum of 1 << shard; null if it has many events';

-- Parameters and results of a function cannot be changed in place.
DROP FUNCTION hookledger.make_tick();
DROP FUNCTION hookledger.poll(bigint, bigint);

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

-- Makes the next tick if an event was committed since the last one, and returns its number, else null. Its commit is
-- flushed like any other: a tick that a daemon has read must not be lost in a crash of the server and be made again
-- with another snapshot.
-- With `own`, the transaction of the caller, which has published, the tick shows what that has published too: both become
-- visible, durable or undone together. It waits for nobody then, since whoever publishes does not wait for a tick: there
-- is none if somebody else holds the lock.
CREATE FUNCTION hookledger.make_tick(own xid8 DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last   hookledger.tick;
    next   hookledger.tick;
    events integer;
    notice text;
BEGIN
    IF own IS NULL THEN
        SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
        IF NOT hookledger.has_news(coalesce(last.snap, '1:1:'::pg_snapshot)) THEN
            RETURN NULL;
        END IF;
        LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE;
    ELSE
        BEGIN
            LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
        EXCEPTION
            WHEN lock_not_available THEN RETURN NULL;
        END;
    END IF;
    SELECT * INTO last FROM hookledger.tick ORDER BY tick DESC LIMIT 1;
    next.tick := coalesce(last.tick, 0) + 1;
    next.snap := hookledger.snapshot_with(own);
    next.at := clock_timestamp();
    -- So few that a poll brings them; of more than that nobody needs to know the shards.
    SELECT count(*), bit_or(1 << few.shard) INTO events, next.touched
      FROM (SELECT c.shard FROM hookledger.cut(coalesce(last.snap, '1:1:'::pg_snapshot), next.snap) c LIMIT 32) few;
    IF events = 0 THEN
        RETURN NULL;
    ELSIF events = 32 THEN
        next.touched := NULL;
    END IF;
    SELECT coalesce(max(pos), 0), greatest(next.at, max(effective_at), last.closed_upto)
      INTO next.route_pos, next.closed_upto
      FROM (SELECT pos, effective_at FROM hookledger.route_event ORDER BY pos DESC LIMIT 1) newest;
    INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto, touched)
    VALUES (next.tick, next.snap, next.at, next.route_pos, next.closed_upto, next.touched);
    -- The tick itself, so that nobody has to ask for it; its number alone if the snapshot is too long for a notification.
    notice := concat_ws(' ', next.tick, next.route_pos, hookledger.microseconds(next.at),
                        hookledger.microseconds(next.closed_upto), next.snap, next.touched);
    PERFORM pg_notify('hookledger_tick', CASE WHEN octet_length(notice) < 8000 THEN notice ELSE next.tick::text END);
    RETURN next.tick;
END $$;

-- Called by every daemon several times a second, in one round trip: makes the next tick if there is one to make, and
-- returns the newest tick and the last position of the route log, from which a process knows that it has missed
-- nothing. What stands at the tick and the position that it knows tells it whether the log is still the same.
-- To a caller that has read all up to `read_tick` of the shards `read_shards` (the sum of 1 << shard) it brings the events
-- of the newest tick too, in the order of seq, if that is the next one and they are few; else the arrays are null.
-- With `own`, the transaction of the caller, it is the poll of somebody who has published (see make_tick).
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
BEGIN
    made := hookledger.make_tick(own);
    SELECT t.tick, t.snap, t.at, t.route_pos, t.closed_upto, t.touched
      INTO newest, newest_snap, newest_at, newest_route_pos, newest_closed_upto, newest_touched
      FROM hookledger.tick t ORDER BY t.tick DESC LIMIT 1;
    newest := coalesce(newest, 0);
    newest_snap := coalesce(newest_snap, '1:1:'::pg_snapshot);
    route_pos := coalesce((SELECT e.pos FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1), 0);
    timeline := hookledger.timeline();
    known_snap := (SELECT t.snap FROM hookledger.tick t WHERE t.tick = known_tick);
    known_hash := (SELECT e.hash FROM hookledger.route_event e WHERE e.pos = known_pos);
    -- The events of a tick from before a dump was restored cannot be found by its snapshot, which is blank.
    IF newest = read_tick + 1 AND newest_touched & read_shards <> 0 AND pg_snapshot_xmax(newest_snap) > '1'::xid8 THEN
        before := CASE WHEN read_tick = 0 THEN '1:1:'::pg_snapshot
                       ELSE (SELECT t.snap FROM hookledger.tick t WHERE t.tick = read_tick) END;
        SELECT array_agg(c.seq), array_agg(c.recorded_at), array_agg(c.shard), array_agg(c.tenant), array_agg(c.id),
               array_agg(c.type), array_agg(c.occurred_at), array_agg(c.data), array_agg(c.context), array_agg(c.snapshot),
               array_agg(c.backfill), array_agg(c.test_route), array_agg(c.hops)
          INTO seqs, recorded_ats, shards, tenants, ids, types, occurred_ats, datas, contexts, snapshots, backfills,
               test_routes, all_hops
          FROM (SELECT * FROM hookledger.cut(before, newest_snap) WHERE 1 << shard & read_shards <> 0 ORDER BY seq) c;
    END IF;
END $$;

REVOKE ALL ON FUNCTION hookledger.cut(pg_snapshot, pg_snapshot), hookledger.snapshot_with(xid8), hookledger.make_tick(xid8),
    hookledger.poll(bigint, bigint, bigint, integer, xid8) FROM PUBLIC;
