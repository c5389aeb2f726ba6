-- The whole schema of Hookledger. A fresh database is created from this file alone. An older database is brought to the
-- same state by the files in eventstore/migrations, and a test compares the two. Needs PostgreSQL 15 to 18.
--
-- Two append-only logs hold the facts: route_event (the lifecycle events of routes) and domain_event (the events of the
-- platform). A tick is a numbered cut through domain_event. It is taken under the lock under which route_event is
-- appended, and this makes a routing decision a pure function of both logs. The tables after them record progress.

CREATE SCHEMA hookledger;

CREATE TABLE hookledger.meta (
    key   text NOT NULL,
    value text NOT NULL,
    CONSTRAINT meta_pkey PRIMARY KEY (key)
);
COMMENT ON TABLE hookledger.meta IS 'schema_version; system_identifier: the cluster this lineage of ticks belongs to; lineage: how often and when one began with a restored dump; '
    'events_kept_from, attempts_kept_from: what was recorded before retention has dropped; master_key_check; log_id: the name of the log in seals';

CREATE FUNCTION hookledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the log is append-only', tg_op, tg_table_name
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- The locks of the product are tables without columns, because a table has privileges: any role that may connect can take
-- any advisory lock, and so could a producer. They are locked in SHARE UPDATE EXCLUSIVE MODE, which excludes itself, and
-- excludes nothing that a role without privileges gets: PREPARE takes ROW SHARE and ROW EXCLUSIVE locks unasked.
-- Migrations and partitions lock `meta` in the same way.

-- The lock of both logs: lifecycle appends and ticks take it, so that each is wholly before or after the other.
CREATE TABLE hookledger.log_lock ();
-- One daemon at a time drops what is old, and one adds up the metrics.
CREATE TABLE hookledger.sweep_lock ();
CREATE TABLE hookledger.tally_lock ();


-- The route log ---------------------------------------------------------------------------------------------------

CREATE TABLE hookledger.route_event (
    pos            bigint      NOT NULL,
    route_id       uuid        NOT NULL,
    tenant         text        NOT NULL,
    version        integer     NOT NULL,
    type           text        NOT NULL,
    effective_at   timestamptz NOT NULL,
    actor          text        NOT NULL,
    origin         text        NOT NULL,
    reason         text,
    request_id     text,
    correlation_id text,
    causation_id   text,
    body           text        NOT NULL,
    prev_hash      bytea       NOT NULL,
    hash           bytea       NOT NULL,
    CONSTRAINT route_event_pkey PRIMARY KEY (pos),
    CONSTRAINT route_event_version_key UNIQUE (route_id, version),
    CONSTRAINT route_event_request_key UNIQUE (request_id),
    CONSTRAINT route_event_type_check CHECK (type IN
        ('created', 'edited', 'disabled', 'enabled', 'deleted', 'key_rotated', 'key_revoked')),
    CONSTRAINT route_event_version_check CHECK (version >= 1 AND (version = 1) = (type = 'created'))
);
COMMENT ON TABLE hookledger.route_event IS 'append-only, gapless pos; written by hookledger.append_route_event alone';

-- Serves explanations: the routes of one tenant, and their lifecycle events, newest first.
CREATE INDEX route_event_tenant_idx ON hookledger.route_event (tenant, pos);
-- Serves the same for one type: a search for the few deletions must not read all edits.
CREATE INDEX route_event_tenant_type_idx ON hookledger.route_event (tenant, type, pos);

CREATE TRIGGER route_event_append_only BEFORE UPDATE OR DELETE ON hookledger.route_event
    FOR EACH ROW EXECUTE FUNCTION hookledger.refuse_change();
CREATE TRIGGER route_event_no_truncate BEFORE TRUNCATE ON hookledger.route_event
    FOR EACH STATEMENT EXECUTE FUNCTION hookledger.refuse_change();

CREATE FUNCTION hookledger.microseconds(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (extract(epoch FROM at) * 1000000)::bigint $$;

-- The bytes that are hashed: each field as <length in bytes>:<text>, null as '~'. eventstore/route_log/chain.py has the
-- same function in Python and verifies what this one wrote.
CREATE FUNCTION hookledger.canonical(fields text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT string_agg(coalesce(octet_length(field) || ':' || field, '~'), '' ORDER BY at)
     FROM unnest(fields) WITH ORDINALITY AS f (field, at) $$;

CREATE FUNCTION hookledger.append_route_event(
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

-- Verification keys, sealed with AES-256-GCM by the daemon. The log contains only their ids and fingerprints.
CREATE TABLE hookledger.route_key (
    route_id    uuid        NOT NULL,
    key_id      text        NOT NULL,
    sealed      bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT route_key_pkey PRIMARY KEY (route_id, key_id)
);

-- Values of custom headers, sealed in the same way. The log contains the names and this id.
CREATE TABLE hookledger.route_headers (
    route_id    uuid        NOT NULL,
    headers_id  text        NOT NULL,
    sealed      bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT route_headers_pkey PRIMARY KEY (route_id, headers_id)
);


-- Domain events ---------------------------------------------------------------------------------------------------

-- CACHE 1, so that seq follows the order of insertion within and between sessions as closely as possible.
CREATE SEQUENCE hookledger.domain_event_seq CACHE 1;

-- The shard of a tenant, 0 to 15, which never changes. md5, because it is immutable, exists in every PostgreSQL, and
-- protects no secret here.
CREATE FUNCTION hookledger.shard_of(tenant text) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (('x' || left(md5(tenant), 4))::bit(16)::integer % 16)::smallint $$;

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

CREATE TABLE hookledger.domain_event (
    seq         bigint      NOT NULL DEFAULT nextval('hookledger.domain_event_seq'),
    recorded_at timestamptz NOT NULL DEFAULT hookledger.log_time(),
    txid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    shard       smallint    NOT NULL GENERATED ALWAYS AS (hookledger.shard_of(tenant)) STORED,
    backfill    boolean     NOT NULL DEFAULT false,
    tenant      text        NOT NULL,
    id          text        NOT NULL,
    type        text        NOT NULL,
    occurred_at timestamptz,
    data        bytea       NOT NULL,
    context     bytea,
    snapshot    bytea,
    test_route  uuid,
    tick        bigint,
    hops        smallint,
    sealed_tick bigint,
    source_partition integer,
    source_offset    bigint,
    CONSTRAINT domain_event_pkey PRIMARY KEY (seq, recorded_at),
    -- Lengths are checked apart from patterns: a counted repetition, {1,128}, takes 19 us for a row, these take 0.3.
    CONSTRAINT domain_event_tenant_check CHECK (octet_length(tenant) <= 128 AND tenant ~ '^[!-~]+$'),
    CONSTRAINT domain_event_id_check CHECK (octet_length(id) <= 128 AND id ~ '^[ -~]+$'),
    CONSTRAINT domain_event_type_check CHECK (length(type) <= 128 AND type ~ '^[a-z0-9_]+(\.[a-z0-9_]+)+$'),
    -- A time outside of this range (infinity, years before Christ) cannot be represented by the readers of the log.
    CONSTRAINT domain_event_occurred_at_check CHECK (occurred_at >= '1970-01-01 00:00:00+00' AND occurred_at < '9999-01-01 00:00:00+00')
) PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE hookledger.domain_event IS 'append-only, a partition for each UTC day; data, context and snapshot are JSON exactly as published';
COMMENT ON COLUMN hookledger.domain_event.test_route IS 'null, unless the event is a test: then the only route that it is for';
COMMENT ON COLUMN hookledger.domain_event.hops IS 'null, unless a delivery of ours published the event: then how many deliveries in a row led to it';
COMMENT ON COLUMN hookledger.domain_event.tick IS 'null, unless the event came here by restoring a dump: then the tick that had read it, which its txid no longer tells';
COMMENT ON COLUMN hookledger.domain_event.source_partition IS 'null, unless the event was a message of a source: then the id of its source_partition, in which it stands at source_offset';
COMMENT ON COLUMN hookledger.domain_event.sealed_tick IS 'null, unless the event was sealed before a dump was restored and is read again: then the tick under which it was sealed';

-- Serves the tail: rows by the transaction that wrote them.
CREATE INDEX domain_event_txid_idx ON hookledger.domain_event (txid);
-- Serves the tail for ticks from before a dump was restored. Empty if none was.
CREATE INDEX domain_event_tick_idx ON hookledger.domain_event (tick, seq) WHERE tick IS NOT NULL;
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX domain_event_sealed_tick_idx ON hookledger.domain_event (sealed_tick, seq) WHERE sealed_tick IS NOT NULL;
-- Serves a tenant's events, newest first by their claimed time, which differs from the event time only if a clock was
-- set back between the event and its tick (see closed_upto).
CREATE INDEX domain_event_tenant_idx ON hookledger.domain_event (tenant, least(occurred_at, recorded_at), seq);
-- Serves those of one type, and the list of its deliveries.
CREATE INDEX domain_event_type_idx ON hookledger.domain_event (tenant, type COLLATE "C", least(occurred_at, recorded_at), seq);

CREATE TRIGGER domain_event_append_only BEFORE UPDATE OR DELETE ON hookledger.domain_event
    FOR EACH ROW EXECUTE FUNCTION hookledger.refuse_change();
CREATE TRIGGER domain_event_no_truncate BEFORE TRUNCATE ON hookledger.domain_event
    FOR EACH STATEMENT EXECUTE FUNCTION hookledger.refuse_change();

-- Within a day the unique index of the partition makes (tenant, id) unique, for concurrent publishes too. Two
-- partitions share no index, so around midnight UTC ids are also inserted into this table, whose index spans both days.
CREATE TABLE hookledger.domain_event_midnight (
    tenant      text        NOT NULL,
    id          text        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT domain_event_midnight_pkey PRIMARY KEY (tenant, id)
);

CREATE FUNCTION hookledger.is_near_midnight(at timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (at AT TIME ZONE 'UTC')::time >= '23:50' OR (at AT TIME ZONE 'UTC')::time < '00:10' $$;

-- Publishes many events at once, and returns for each, in the order given, whether it is new. The same (tenant, id)
-- within 24 hours is one event. They become visible when the caller's transaction commits. It is one statement that
-- does not join the arrays with each other: a generic plan estimates an array at ten elements and would join ten
-- thousand in nested loops. Nor does it join them with the partition that it fills, where the unique index alone tells
-- what is known: a plan that was made while that was empty would read all of it once for each event. The events of one
-- call may be messages of one partition of a source.
CREATE FUNCTION hookledger.publish_many(
    tenants text[], ids text[], types text[], occurred timestamptz[], data bytea[], context bytea[], snapshot bytea[], backfill boolean[],
    hops smallint[] DEFAULT NULL, source_partition integer DEFAULT NULL, source_offsets bigint[] DEFAULT NULL
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
        INSERT INTO hookledger.domain_event (recorded_at, tenant, id, type, occurred_at, data, context, snapshot, backfill, hops,
                                             source_partition, source_offset)
        SELECT logged_at, publish_many.tenants[1], publish_many.ids[1], publish_many.types[1], publish_many.occurred[1],
               publish_many.data[1], publish_many.context[1], publish_many.snapshot[1], publish_many.backfill[1],
               publish_many.hops[1], publish_many.source_partition, publish_many.source_offsets[1]
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
                      publish_many.context, publish_many.snapshot, publish_many.backfill, publish_many.hops,
                      publish_many.source_offsets)
               WITH ORDINALITY AS i (tenant, id, type, occurred_at, data, context, snapshot, backfill, hops, source_offset, place)
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
        INSERT INTO hookledger.domain_event (seq, recorded_at, tenant, id, type, occurred_at, data, context, snapshot, backfill, hops,
                                             source_partition, source_offset)
        SELECT n.seq, n.recorded_at, n.tenant, n.id, n.type, n.occurred_at, n.data, n.context, n.snapshot, n.backfill, n.hops,
               publish_many.source_partition, n.source_offset
          FROM numbered n ORDER BY n.tenant, n.id
        ON CONFLICT DO NOTHING
        RETURNING tenant, id
    )
    SELECT array_agg(g.nth = 1 AND (g.tenant, g.id) IN (SELECT a.tenant, a.id FROM added a) ORDER BY g.place) INTO fresh
      FROM given g;
    RETURN fresh;
END $$;

-- Refuses what the checks of the table would refuse, and says why: their message shows the row, payload and all, to the
-- producer and in the server's log. The error is the same for programs.
CREATE FUNCTION hookledger.check_published(tenant text, type text, id text, occurred_at timestamptz) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    field   text;
    problem text;
BEGIN
    IF (octet_length(tenant) <= 128 AND tenant ~ '^[!-~]+$') IS NOT TRUE THEN
        field := 'tenant';
        problem := 'must be 1 to 128 printable ASCII characters without spaces';
    ELSIF (length(type) <= 128 AND type ~ '^[a-z0-9_]+(\.[a-z0-9_]+)+$') IS NOT TRUE THEN
        field := 'type';
        problem := 'must be object.action in lower case (a-z, 0-9, _), like order.create, of at most 128 characters';
    ELSIF (octet_length(id) <= 128 AND id ~ '^[ -~]+$') IS FALSE THEN
        field := 'id';
        problem := 'must be 1 to 128 printable ASCII characters, or left out';
    ELSIF (occurred_at >= '1970-01-01 00:00:00+00' AND occurred_at < '9999-01-01 00:00:00+00') IS FALSE THEN
        field := 'occurred_at';
        problem := 'must be a time from 1970 to 9998, or left out';
    ELSIF tenant IN ('.', '..') OR id IN ('.', '..') THEN
        field := CASE WHEN tenant IN ('.', '..') THEN 'tenant' ELSE 'id' END;
        problem := 'must not be . or .., which lead elsewhere in an address';
    ELSE
        RETURN;
    END IF;
    RAISE EXCEPTION '% %', field, problem
        USING ERRCODE = 'check_violation', SCHEMA = 'hookledger', TABLE = 'domain_event', COLUMN = field,
              CONSTRAINT = 'domain_event_' || field || '_check';
END $$;

-- Publishes one event in a producer's own transaction, and returns its id. Publishing the same id again is no error.
CREATE FUNCTION hookledger.publish(
    tenant text, type text, data jsonb, id text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL,
    context jsonb DEFAULT NULL, snapshot jsonb DEFAULT NULL, backfill boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    event_id text := coalesce(id, 'evt_' || replace(gen_random_uuid()::text, '-', ''));
BEGIN
    PERFORM hookledger.check_published(tenant, type, id, occurred_at);
    IF jsonb_typeof(data) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'data must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(context) <> 'object' OR jsonb_typeof(snapshot) <> 'object' THEN
        RAISE EXCEPTION 'context and snapshot must be JSON objects' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM hookledger.publish_many(
        ARRAY[tenant], ARRAY[event_id], ARRAY[type], ARRAY[occurred_at], ARRAY[convert_to(data::text, 'UTF8')],
        ARRAY[convert_to(context::text, 'UTF8')], ARRAY[convert_to(snapshot::text, 'UTF8')], ARRAY[coalesce(backfill, false)]);
    RETURN event_id;
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
    PERFORM hookledger.check_published(tenant, type, id, occurred_at);
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
        ARRAY[convert_to(context, 'UTF8')], ARRAY[convert_to(snapshot, 'UTF8')], ARRAY[coalesce(backfill, false)]);
    RETURN event_id;
END $$;


-- The catalogue ---------------------------------------------------------------------------------------------------

-- The event types of the platform, with a description and an example of each, {"data", "context", "snapshot"}.
CREATE TABLE hookledger.event_type (
    name        text        COLLATE "C" NOT NULL,
    description text        NOT NULL,
    example     text        NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT event_type_pkey PRIMARY KEY (name)
);

-- The first thousand types of events that were read, whether they are in the catalogue or not.
CREATE TABLE hookledger.event_type_seen (
    name    text        COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT event_type_seen_pkey PRIMARY KEY (name)
);


-- Ticks -----------------------------------------------------------------------------------------------------------

CREATE TABLE hookledger.tick (
    tick        bigint      NOT NULL,
    snap        pg_snapshot NOT NULL,
    snap_xmax   xid8        NOT NULL GENERATED ALWAYS AS (pg_snapshot_xmax(snap)) STORED,
    at          timestamptz NOT NULL,
    route_pos   bigint      NOT NULL,
    closed_upto timestamptz NOT NULL,
    touched     integer,
    sealed_snap text,
    CONSTRAINT tick_pkey PRIMARY KEY (tick)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- retention deletes a day of thirty at a time
COMMENT ON COLUMN hookledger.tick.touched IS 'the shards of its events: the sum of 1 << shard; null if it has many events';
COMMENT ON COLUMN hookledger.tick.sealed_snap IS 'null, unless a dump was restored since: then the snapshot that the tick had';
-- Serves tick_of: the first tick whose snapshot shows a transaction.
CREATE INDEX tick_snap_xmax_idx ON hookledger.tick (snap_xmax);

-- True if an event was committed that snapshot `past` does not show. In plpgsql, because it keeps its plans. Only index
-- scans: for EXISTS the planner expects to find a row soon, and would read whole partitions to find that there is none.
CREATE FUNCTION hookledger.has_news(past pg_snapshot) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF EXISTS (SELECT FROM hookledger.domain_event WHERE txid >= pg_snapshot_xmax(past)) THEN
        RETURN true;
    END IF;
    RETURN pg_snapshot_xmin(past) <> pg_snapshot_xmax(past)
       AND EXISTS (SELECT FROM hookledger.domain_event WHERE txid = ANY (ARRAY(SELECT pg_snapshot_xip(past))));
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
-- fewer than 32, none of which has more than 256 KiB; else null. An array of rows is made in memory: at 1 GiB the server
-- refuses it, and no tick would be made ever after. The size of a payload is asked without reading it.
-- Its commit is flushed like any other: a tick that a daemon has read must not be lost in a crash of the server and be
-- made again with another snapshot.
-- With `own`, the transaction of the caller, which has published, the tick shows what that has published too: both become
-- visible, durable or undone together. A publisher must not be held up by a tick: if somebody else keeps the lock
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

-- Makes the next tick if there is one to make, and returns its number, else null.
CREATE FUNCTION hookledger.make_tick() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT t.made FROM hookledger.next_tick(NULL) t);
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

-- What was lost when a standby that had not received everything was promoted, as the daemons knew it: a row for each
-- time and end that one of them knew, since no row is ever changed. `since` is the time of the newest tick that is left,
-- or null if none is, and `until` when the loss was noticed: what was acknowledged between them may be gone.
CREATE TABLE hookledger.lost_log (
    timeline   integer     NOT NULL,
    first_tick bigint      NOT NULL,
    last_tick  bigint      NOT NULL,
    first_pos  bigint      NOT NULL,
    last_pos   bigint      NOT NULL,
    since      timestamptz,
    until      timestamptz NOT NULL DEFAULT clock_timestamp(),
    found_by   text        NOT NULL,
    txid       bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    seal       bigint,
    CONSTRAINT lost_log_pkey PRIMARY KEY (timeline, first_tick, first_pos, last_tick, last_pos)
);
COMMENT ON COLUMN hookledger.lost_log.last_tick IS 'below first_tick: no tick is gone; likewise last_pos, of the route log';
COMMENT ON COLUMN hookledger.lost_log.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';

-- The tick that read a transaction's events, null if none has read them yet. The tick of an event is
-- coalesce(tick, hookledger.tick_of(txid)), because an event of a restored dump has the number of its tick.
CREATE FUNCTION hookledger.tick_of(txid xid8) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT tick FROM hookledger.tick
     WHERE snap_xmax > txid AND pg_visible_in_snapshot(txid, snap)
     ORDER BY snap_xmax, tick LIMIT 1
$$;


-- Progress --------------------------------------------------------------------------------------------------------

-- The daemon processes. Shards are shared out among those that were seen within the TTL of a lease.
CREATE TABLE hookledger.process (
    owner      text        NOT NULL,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    version    text        NOT NULL,
    master_key text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifeline   bigint      NOT NULL DEFAULT 0,
    lifeline_pid        integer,
    lifeline_started_at timestamptz,
    CONSTRAINT process_pkey PRIMARY KEY (owner)
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.process.master_key IS 'a hash of the key that it seals secrets with, to tell keys apart';
COMMENT ON COLUMN hookledger.process.lifeline IS 'number of the session whose end shows that the process died; lifeline_pid is null while it has none';

-- The right of a process to a shard. Every flush locks the row and checks owner and epoch, so a process that has lost
-- its lease without noticing writes nothing. `flush` is the number of the last flush under this epoch, so that
-- repeating a flush is harmless.
CREATE TABLE hookledger.lease (
    shard      smallint    NOT NULL,
    owner      text,
    epoch      bigint      NOT NULL DEFAULT 0,
    flush      bigint      NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT lease_pkey PRIMARY KEY (shard)
) WITH (fillfactor = 50);
INSERT INTO hookledger.lease (shard) SELECT generate_series(0, 15);

-- The last tick of a shard up to which every pair (event, route) to deliver is in attempt, retry, parked or
-- parked_range.
CREATE TABLE hookledger.checkpoint (
    shard smallint NOT NULL,
    tick  bigint   NOT NULL DEFAULT 0,
    CONSTRAINT checkpoint_pkey PRIMARY KEY (shard)
) WITH (fillfactor = 50);
INSERT INTO hookledger.checkpoint (shard) SELECT generate_series(0, 15);

-- The outcome log: a row for each request that was made, and for each delivery that ended without one.
CREATE TABLE hookledger.attempt (
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    seq            bigint      NOT NULL,
    tick           bigint      NOT NULL,
    route_id       uuid        NOT NULL,
    event_time     timestamptz NOT NULL,
    started_at     timestamptz NOT NULL,
    shard          smallint    NOT NULL,
    status_code    smallint,
    number         integer     NOT NULL,
    duration_ms    integer     NOT NULL,
    route_version  integer     NOT NULL,
    is_test        boolean     NOT NULL DEFAULT false,
    outcome        text        NOT NULL,
    error          text,
    tenant         text        NOT NULL,
    event_id       text        NOT NULL,
    event_type     text        NOT NULL,
    key_ids        text,
    response_head  text,
    response_body  bytea,
    delivery_key   integer,
    txid           bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    seal           bigint,
    sealed_tick    bigint,
    mac            bytea,
    CONSTRAINT attempt_outcome_check CHECK (outcome IN ('delivered', 'retrying', 'failed', 'suppressed', 'expired'))
) PARTITION BY RANGE (at);
COMMENT ON TABLE hookledger.attempt IS 'append-only, a partition for each UTC day; number 0: ended without a request';
COMMENT ON COLUMN hookledger.attempt.delivery_key IS 'the first four bytes of the delivery id; null if it ended while it waited, by a disabled route or by retention';
COMMENT ON COLUMN hookledger.attempt.mac IS 'of what a daemon says of the outcome, by a key that the master key seals; null before version 9';
COMMENT ON COLUMN hookledger.attempt.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';
COMMENT ON COLUMN hookledger.attempt.sealed_tick IS 'null, unless its event is read again after a restore: then the tick under which it was sealed';
-- Serves a delivery's attempts: explain, the detail page, and finding what a crashed process had sent of a packed row.
CREATE INDEX attempt_delivery_idx ON hookledger.attempt (route_id, seq);
-- Serves recovery: the pairs of ticks above a checkpoint that have an outcome. Ticks rise along the heap, so a block
-- range index is enough.
CREATE INDEX attempt_tick_idx ON hookledger.attempt USING brin (tick) WITH (pages_per_range = 16, autosummarize = on);
-- Serve the lists of a tenant's and of a route's deliveries, and serve replays: one or two rows of each delivery, however
-- often it was tried. Three partial indexes for each, so that a list of one status meets no row of another. A row is in
-- one of them at most.
CREATE INDEX attempt_tenant_delivered_idx ON hookledger.attempt (tenant, event_time, seq) WHERE outcome = 'delivered';
CREATE INDEX attempt_route_delivered_idx ON hookledger.attempt (route_id, event_time, seq) WHERE outcome = 'delivered';
CREATE INDEX attempt_tenant_first_idx ON hookledger.attempt (tenant, event_time, seq)
 WHERE outcome = 'retrying' AND number <= 1;
CREATE INDEX attempt_route_first_idx ON hookledger.attempt (route_id, event_time, seq)
 WHERE outcome = 'retrying' AND number <= 1;
CREATE INDEX attempt_tenant_end_idx ON hookledger.attempt (tenant, outcome, event_time, seq)
 WHERE outcome IN ('failed', 'suppressed', 'expired');
CREATE INDEX attempt_route_end_idx ON hookledger.attempt (route_id, outcome, event_time, seq)
 WHERE outcome IN ('failed', 'suppressed', 'expired');
-- Serves finding a delivery by its id.
CREATE INDEX attempt_key_idx ON hookledger.attempt (delivery_key) WHERE number <= 1;
-- Serves sealing: rows by the transaction that wrote them. Transaction ids rise along the heap; block ranges can have no
-- column of xid8, so it is a bigint.
CREATE INDEX attempt_txid_idx ON hookledger.attempt USING brin (txid) WITH (pages_per_range = 16, autosummarize = on);
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX attempt_seal_idx ON hookledger.attempt (seal, seq) WHERE seal IS NOT NULL;

-- Steady time is the clock without its steps: the clock and this. A process that notices a step corrects it, so that the
-- waits of retries take as long as promised.
CREATE TABLE hookledger.steady_clock (
    is_only            boolean NOT NULL DEFAULT true,
    ahead_microseconds bigint  NOT NULL DEFAULT 0,
    CONSTRAINT steady_clock_pkey PRIMARY KEY (is_only),
    CONSTRAINT steady_clock_is_only_check CHECK (is_only)
);
INSERT INTO hookledger.steady_clock DEFAULT VALUES;

-- Deliveries that will be sent when due: failed ones, those in flight at a transfer or for long, and those sent again
-- by hand.
CREATE TABLE hookledger.retry (
    route_id    uuid        NOT NULL,
    seq         bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_time  timestamptz NOT NULL,
    tick        bigint      NOT NULL,
    shard       smallint    NOT NULL,
    failures    integer     NOT NULL,
    due_at      timestamptz NOT NULL,
    holder      text,
    replay      uuid,
    tenant      text        NOT NULL,
    CONSTRAINT retry_pkey PRIMARY KEY (route_id, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- every row is deleted, and most are updated before; due_at is indexed
COMMENT ON COLUMN hookledger.retry.holder IS 'the process whose request for it is under way: until due_at it may record the outcome, even if the shard is another''s by then';
COMMENT ON COLUMN hookledger.retry.replay IS 'the replay that put it here, until its next request has an outcome';
COMMENT ON COLUMN hookledger.retry.due_at IS 'in steady time: see steady_clock';
-- Serves the retrier: due rows of the shards that a process owns.
CREATE INDEX retry_due_idx ON hookledger.retry (shard, due_at);
-- Serves the list of a tenant's waiting deliveries.
CREATE INDEX retry_tenant_idx ON hookledger.retry (tenant, event_time, seq);
-- Serves replays: the waiting deliveries of one.
CREATE INDEX retry_replay_idx ON hookledger.retry (replay) WHERE replay IS NOT NULL;

CREATE FUNCTION hookledger.earliest(times timestamptz[]) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT min(t) FROM unnest(times) t $$;

CREATE FUNCTION hookledger.latest(times timestamptz[]) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT max(t) FROM unnest(times) t $$;

-- Deliveries of a lane that is full, slow or broken, packed: the nth elements of the arrays belong together.
CREATE TABLE hookledger.parked (
    shard        smallint      NOT NULL,
    epoch        bigint        NOT NULL,
    flush        bigint        NOT NULL,
    route_id     uuid          NOT NULL,
    last_tick    bigint        NOT NULL,
    seqs         bigint[]      NOT NULL,
    ticks        bigint[]      NOT NULL,
    recorded_ats timestamptz[] NOT NULL,
    event_times  timestamptz[] NOT NULL,
    -- Stored, because the arrays are out of line, and reading them to count takes four times as long.
    pairs        integer       NOT NULL GENERATED ALWAYS AS (cardinality(seqs)) STORED,
    first_time   timestamptz   NOT NULL GENERATED ALWAYS AS (hookledger.earliest(event_times)) STORED,
    last_time    timestamptz   NOT NULL GENERATED ALWAYS AS (hookledger.latest(event_times)) STORED,
    tenant       text          NOT NULL,
    CONSTRAINT parked_pkey PRIMARY KEY (route_id, epoch, flush, shard)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- every row is deleted
-- Serves recovery and start-up: the routes of a shard with parked deliveries.
CREATE INDEX parked_shard_idx ON hookledger.parked (shard, last_tick);
-- Serve the lists of a tenant's and of a route's waiting deliveries: rows that end before a moment, and rows that span
-- it.
CREATE INDEX parked_tenant_idx ON hookledger.parked (tenant, last_time);
CREATE INDEX parked_route_idx ON hookledger.parked (route_id, last_time);
CREATE INDEX parked_span_idx ON hookledger.parked USING gist (tstzrange(first_time, last_time, '[]'));

-- A route with too many parked deliveries to list: all its deliveries of ticks from from_tick on are parked, and are
-- found by deciding these ticks again. In from_tick itself, which may be written out in parts, only those with a seq of
-- at least from_seq. `pairs` is their number.
CREATE TABLE hookledger.parked_range (
    route_id  uuid     NOT NULL,
    shard     smallint NOT NULL,
    from_tick bigint   NOT NULL,
    pairs     bigint   NOT NULL,
    from_seq  bigint   NOT NULL DEFAULT 0,
    CONSTRAINT parked_range_pkey PRIMARY KEY (route_id)
) WITH (fillfactor = 50);


-- Sent again ------------------------------------------------------------------------------------------------------

-- Manual retries: who requested them, and why. Kept as long as outcomes.
CREATE TABLE hookledger.resend (
    id           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    route_id     uuid        NOT NULL,
    seq          bigint      NOT NULL,
    actor        text        NOT NULL,
    origin       text        NOT NULL,
    reason       text,
    request_id   text,
    causation_id text,
    txid         bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    seal         bigint,
    mac          bytea,
    CONSTRAINT resend_pkey PRIMARY KEY (id),
    CONSTRAINT resend_request_key UNIQUE (request_id)
);
COMMENT ON COLUMN hookledger.resend.mac IS 'of all but txid and seal, by the same key as that of an outcome; null before version 9';
COMMENT ON COLUMN hookledger.resend.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells';
-- Serves retention.
CREATE INDEX resend_at_idx ON hookledger.resend (at);
-- Serves explanations and audits: who had a delivery sent again.
CREATE INDEX resend_delivery_idx ON hookledger.resend (route_id, seq);
-- Serves sealing: rows by the transaction that wrote them.
CREATE INDEX resend_txid_idx ON hookledger.resend (txid);
-- Serves audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX resend_seal_idx ON hookledger.resend (seal) WHERE seal IS NOT NULL;

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

-- Replays: all deliveries of a route and a period are sent again. `total` is their number when the replay began,
-- `scheduled` how many of them were put into retry, `withdrawn` how many a cancel removed from there. Who asked for it is
-- sealed when it has begun, by `txid`; how it ended, after which nothing changes any more, by `ended_txid`.
CREATE TABLE hookledger.replay (
    id            uuid        NOT NULL,
    route_id      uuid        NOT NULL,
    tenant        text        NOT NULL,
    shard         smallint    NOT NULL GENERATED ALWAYS AS (hookledger.shard_of(tenant)) STORED,
    wanted        text        NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    sendable_from timestamptz NOT NULL,
    actor         text        NOT NULL,
    origin        text        NOT NULL,
    reason        text,
    request_id    text,
    causation_id  text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz,
    state         text        NOT NULL,
    detail        text,
    total         bigint      NOT NULL,
    scheduled     bigint      NOT NULL DEFAULT 0,
    withdrawn     bigint      NOT NULL DEFAULT 0,
    txid          bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    seal          bigint,
    ended_txid    bigint,
    ended_seal    bigint,
    mac           bytea,
    CONSTRAINT replay_pkey PRIMARY KEY (id),
    CONSTRAINT replay_request_key UNIQUE (request_id),
    CONSTRAINT replay_wanted_check CHECK (wanted IN ('failed', 'all')),
    CONSTRAINT replay_state_check CHECK (state IN ('running', 'done', 'cancelled') AND (state = 'running') = (ended_at IS NULL)),
    CONSTRAINT replay_ended_check CHECK ((state = 'running') = (ended_txid IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.replay.since IS 'with until the period of event time, [since, until)';
COMMENT ON COLUMN hookledger.replay.sendable_from IS 'where the part of the period begins that can be sent: not before the present window, nor before what is kept';
COMMENT ON COLUMN hookledger.replay.mac IS 'of what was asked for, by the same key as that of an outcome; null before version 9';
COMMENT ON COLUMN hookledger.replay.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells; ended_seal likewise';
-- Serves the list of a route's replays.
CREATE INDEX replay_route_idx ON hookledger.replay (route_id, created_at);
-- Serves the replayer, and limits a route to one running replay.
CREATE UNIQUE INDEX replay_running_key ON hookledger.replay (route_id) WHERE state = 'running';
-- Serve sealing: rows by the transactions that began and ended them.
CREATE INDEX replay_txid_idx ON hookledger.replay (txid);
CREATE INDEX replay_ended_txid_idx ON hookledger.replay (ended_txid) WHERE ended_txid IS NOT NULL;
-- Serve audits of seals from before a dump was restored. Empty if none was.
CREATE INDEX replay_seal_idx ON hookledger.replay (seal) WHERE seal IS NOT NULL;
CREATE INDEX replay_ended_seal_idx ON hookledger.replay (ended_seal) WHERE ended_seal IS NOT NULL;

-- The deliveries of a replay that are not scheduled yet: seqs in ascending order, cut into parts.
CREATE TABLE hookledger.replay_part (
    replay    uuid     NOT NULL,
    first_seq bigint   NOT NULL,
    seqs      bigint[] NOT NULL,
    CONSTRAINT replay_part_pkey PRIMARY KEY (replay, first_seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- every row is deleted


-- Metrics of routes -----------------------------------------------------------------------------------------------

-- How a route's deliveries ended, by the UTC hour in which this was recorded. The rows in route_tally are not added
-- yet.
CREATE TABLE hookledger.route_metric (
    route_id           uuid        NOT NULL,
    hour               timestamptz NOT NULL,
    successful         bigint      NOT NULL,
    successful_retries bigint      NOT NULL,
    failed             bigint      NOT NULL,
    suppressed         bigint      NOT NULL,
    expired            bigint      NOT NULL,
    cells              smallint[]  NOT NULL DEFAULT '{}',
    requests           integer[]   NOT NULL DEFAULT '{}',
    CONSTRAINT route_metric_pkey PRIMARY KEY (route_id, hour)
) WITH (fillfactor = 80);
COMMENT ON COLUMN hookledger.route_metric.cells IS 'of request_cell; the nth element of requests is how many requests there were of the nth cell';
-- Serves retention: old hours lie together.
CREATE INDEX route_metric_hour_idx ON hookledger.route_metric USING brin (hour) WITH (pages_per_range = 16);

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

-- The numbers of outcomes that one statement has recorded in five minutes, packed: the nth elements of the arrays belong
-- together, to a route and a cell of requests, which is -1 for what ended without one. Added up every few seconds, and
-- then deleted. `failures` counts the failed requests, whether a retry follows or not.
CREATE TABLE hookledger.route_tally (
    id                 bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    hour               timestamptz NOT NULL,
    at                 timestamptz NOT NULL,
    route_ids          uuid[]      NOT NULL,
    successful         integer[]   NOT NULL,
    successful_retries integer[]   NOT NULL,
    failed             integer[]   NOT NULL,
    suppressed         integer[]   NOT NULL,
    expired            integer[]   NOT NULL,
    failures           integer[]   NOT NULL,
    cells              smallint[]  NOT NULL DEFAULT '{}',
    requests           integer[]   NOT NULL DEFAULT '{}',
    CONSTRAINT route_tally_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000); -- every row is deleted

-- Routes with only failures since a time. The first success deletes the row.
CREATE TABLE hookledger.route_failing (
    route_id uuid        NOT NULL,
    since    timestamptz NOT NULL,
    last_at  timestamptz NOT NULL,
    CONSTRAINT route_failing_pkey PRIMARY KEY (route_id)
) WITH (fillfactor = 50);

-- What is counted of a request besides its outcome, in one number: 64 times the class of its answer (2 for 2xx, 0 for
-- none), and the place of its duration in milliseconds among these bounds, each about 1.4 times the one before.
-- daemon/core/delivery/request_cells.py has the same bounds.
CREATE FUNCTION hookledger.request_cell(status_code smallint, duration_ms integer) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (coalesce(status_code / 100, 0) * 64
           + width_bucket(duration_ms, '{1,2,3,4,6,8,11,16,23,32,45,64,91,128,181,256,362,512,724,1024,1448,2048,2896,4096,5793,8192,11585,16384,23170,32768,46341,65536}'::integer[]))::smallint $$;

-- A trigger, so that an outcome is counted in the transaction that records it: no clock, crash or late commit can make
-- the counts differ from the log.
CREATE FUNCTION hookledger.tally_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER attempt_tally AFTER INSERT ON hookledger.attempt REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION hookledger.tally_attempts();

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


-- Seals -----------------------------------------------------------------------------------------------------------

-- One daemon at a time makes a seal.
CREATE TABLE hookledger.seal_lock ();

-- What the logs held when the seal was made, as hashes: see eventstore/README.md. A seal covers the events and ticks up to
-- `tick`, and what `snap` shows of the attempts and of the rest, as far as the seal before does not. The nth elements of
-- the arrays belong together: a UTC day, the number of its rows that are covered, and the root of their tree. The last
-- texts say the same of rows that are few: `<day> <rows> <root in hex>` for each day, with commas. They are null in seals
-- that were made before version 7, which do not cover these rows, and no other seal is appended without them.
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
    resends            text,
    replays            text,
    replay_ends        text,
    losses             text,
    tokens             text,
    token_ends         text,
    CONSTRAINT seal_pkey PRIMARY KEY (n)
);
ALTER TABLE hookledger.seal ADD CONSTRAINT seal_form_check
    CHECK (num_nulls(resends, replays, replay_ends, losses, tokens, token_ends) = 0) NOT VALID;
COMMENT ON TABLE hookledger.seal IS 'append-only, gapless n; kept for ever';
COMMENT ON COLUMN hookledger.seal.origin IS 'the log and its lineage, by meta.log_id and meta.system_identifier';
COMMENT ON COLUMN hookledger.seal.keys IS 'secrets that the route log names since the seal before';
COMMENT ON COLUMN hookledger.seal.signatures IS 'rows of route_event_signature up to route_pos';
COMMENT ON COLUMN hookledger.seal.signature IS 'Ed25519, of the root of the tree of seals up to this one';
COMMENT ON COLUMN hookledger.seal.replay_ends IS 'how replays ended, by the days on which they began';
COMMENT ON COLUMN hookledger.seal.losses IS 'rows of lost_log';
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


-- Sources ---------------------------------------------------------------------------------------------------------

-- How far each partition of each source was taken. `next_offset` moves in the transaction that stores the events of the
-- messages before it, and only from where the writer believes it to be. So each message is taken once, whatever the
-- group of Kafka believes. Each offset from `first_offset` on is counted once: as an event, as one that was there under
-- its id already, as refused, as passed over by the filter of the source, or as absent, since Kafka has no message there.
CREATE TABLE hookledger.source_partition (
    id           integer     NOT NULL GENERATED ALWAYS AS IDENTITY,
    source       text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_offset bigint      NOT NULL,
    next_offset  bigint      NOT NULL,
    moved_at     timestamptz,
    events       bigint      NOT NULL DEFAULT 0,
    repeated     bigint      NOT NULL DEFAULT 0,
    refused      bigint      NOT NULL DEFAULT 0,
    filtered     bigint      NOT NULL DEFAULT 0,
    absent       bigint      NOT NULL DEFAULT 0,
    log_end      bigint,
    owner        text,
    fault        text,
    CONSTRAINT source_partition_pkey PRIMARY KEY (id),
    CONSTRAINT source_partition_place_key UNIQUE (source, topic, partition),
    CONSTRAINT source_partition_count_check CHECK
        (events + repeated + refused + filtered + absent = next_offset - first_offset AND least(events, repeated, refused, filtered, absent) >= 0)
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.source_partition.log_end IS 'the end of the partition in Kafka, as its owner saw it last';
COMMENT ON COLUMN hookledger.source_partition.owner IS 'the process that takes it; null: none does';
COMMENT ON COLUMN hookledger.source_partition.fault IS 'null, unless it is not taken further until an operator moves it: then why';

-- Messages that became no event, with the reason: they are taken again by `hookledger sources retry`. A row with `upto` is
-- for those from source_offset on and before it, which Kafka had deleted before they were taken.
CREATE TABLE hookledger.source_refusal (
    source_partition integer     NOT NULL,
    source_offset    bigint      NOT NULL,
    upto             bigint,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason           text        NOT NULL,
    message_at       timestamptz,
    key              bytea,
    beginning        bytea,
    size_bytes       integer,
    CONSTRAINT source_refusal_pkey PRIMARY KEY (source_partition, source_offset)
);
COMMENT ON COLUMN hookledger.source_refusal.beginning IS 'the first bytes of the value, null if the message has none; key is cut in the same way';
-- Serves the list, newest first, and the deletion of old ones.
CREATE INDEX source_refusal_at_idx ON hookledger.source_refusal (at, source_partition, source_offset);

-- The processes that take a source, and what keeps one from it.
CREATE TABLE hookledger.source_member (
    source text        NOT NULL,
    owner  text        NOT NULL,
    since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    fault  text,
    CONSTRAINT source_member_pkey PRIMARY KEY (source, owner)
);


-- Audits ----------------------------------------------------------------------------------------------------------

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
    signature  bytea,
    CONSTRAINT audit_job_pkey PRIMARY KEY (id),
    CONSTRAINT audit_job_state_check CHECK (state IN ('running', 'done', 'failed') AND (state = 'running') = (ended_at IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN hookledger.audit_job.tenant IS 'null: all of them, and the seals';
COMMENT ON COLUMN hookledger.audit_job.since IS 'with until the period, [since, until); null: no bound';
COMMENT ON COLUMN hookledger.audit_job.beat_at IS 'when the process that runs it last said so';
COMMENT ON COLUMN hookledger.audit_job.reached IS 'when the last event that was judged was recorded';
COMMENT ON COLUMN hookledger.audit_job.findings IS 'the first of them, as JSON; found is how many there are';
COMMENT ON COLUMN hookledger.audit_job.gaps IS 'sentences, as JSON: why it proves less than was asked for';
COMMENT ON COLUMN hookledger.audit_job.signature IS 'of the result, by the key that signs seals; null while it runs';


-- Access ----------------------------------------------------------------------------------------------------------

-- API tokens, by the id that is part of their text. A row stays when its token is no longer valid: the route log names
-- it.
CREATE TABLE hookledger.api_token (
    id           text        NOT NULL,
    kind         text        NOT NULL,
    tenant       text,
    name         text        NOT NULL,
    hash         bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by   text        NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    txid         bigint      NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    seal         bigint,
    revoked_txid bigint,
    revoked_seal bigint,
    mac          bytea,
    CONSTRAINT api_token_pkey PRIMARY KEY (id),
    CONSTRAINT api_token_kind_check CHECK (kind IN ('admin', 'producer', 'tenant', 'auditor', 'metrics')),
    CONSTRAINT api_token_tenant_check CHECK (CASE kind WHEN 'tenant' THEN tenant IS NOT NULL
                                                       WHEN 'producer' THEN true WHEN 'auditor' THEN true
                                                       ELSE tenant IS NULL END),
    CONSTRAINT api_token_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT api_token_revoked_check CHECK ((revoked_at IS NULL) = (revoked_txid IS NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN hookledger.api_token.hash IS 'SHA-256 of the whole token, which has 256 random bits';
COMMENT ON COLUMN hookledger.api_token.last_used_at IS 'to the minute';
COMMENT ON COLUMN hookledger.api_token.mac IS 'by the master key, of what never changes; no row is believed without it';
COMMENT ON COLUMN hookledger.api_token.seal IS 'null, unless a dump was restored since it was sealed: then the seal that covers it, which its txid no longer tells; revoked_seal likewise';
-- Serves the list of tokens, newest first.
CREATE INDEX api_token_created_idx ON hookledger.api_token (created_at, id);
-- Serve sealing: rows by the transactions that made and revoked them.
CREATE INDEX api_token_txid_idx ON hookledger.api_token (txid);
CREATE INDEX api_token_revoked_txid_idx ON hookledger.api_token (revoked_txid) WHERE revoked_txid IS NOT NULL;

-- One-time login links to the dashboard. Using one deletes it.
CREATE TABLE hookledger.login_link (
    hash       bytea       NOT NULL,
    tenant     text,
    created_by text        NOT NULL,
    expires_at timestamptz NOT NULL,
    actor      text        NOT NULL DEFAULT 'dashboard',
    role       text        NOT NULL DEFAULT 'manage',
    return_url text,
    path       text,
    mac        bytea,
    CONSTRAINT login_link_pkey PRIMARY KEY (hash),
    CONSTRAINT login_link_role_check CHECK (role IN ('manage', 'view'))
);
COMMENT ON COLUMN hookledger.login_link.tenant IS 'null: all of them, as the administrator';
COMMENT ON COLUMN hookledger.login_link.actor IS 'who stands in the route log for what the session does';
COMMENT ON COLUMN hookledger.login_link.return_url IS 'where the session leads back to; null: as configured';
COMMENT ON COLUMN hookledger.login_link.path IS 'the page that it leads to; null: the first one';
COMMENT ON COLUMN hookledger.login_link.mac IS 'by the master key; no row is believed without it';

-- Sessions of the dashboard, by the hash of the cookie's value.
CREATE TABLE hookledger.session (
    hash         bytea       NOT NULL,
    tenant       text,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor        text        NOT NULL DEFAULT 'dashboard',
    role         text        NOT NULL DEFAULT 'manage',
    mac          bytea,
    CONSTRAINT session_pkey PRIMARY KEY (hash),
    CONSTRAINT session_role_check CHECK (role IN ('manage', 'view'))
) WITH (fillfactor = 80);
COMMENT ON COLUMN hookledger.session.tenant IS 'null: all of them, as the administrator';
COMMENT ON COLUMN hookledger.session.last_seen_at IS 'to the minute';
COMMENT ON COLUMN hookledger.session.mac IS 'by the master key, of all but last_seen_at; no row is believed without it';


-- Partitions and roles --------------------------------------------------------------------------------------------

-- Creates the missing day partitions from `first` to `last` (UTC days), and returns how many were missing. It uses LIKE
-- and ATTACH: PARTITION OF would lock producers out, and queue them behind the longest transaction. The lock is that of
-- migrations, because several daemons may create partitions at the same time.
CREATE FUNCTION hookledger.ensure_partitions(first date, last date) RETURNS integer LANGUAGE plpgsql AS $$
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

-- Roles belong to the whole cluster: another database may have created it already, or may be creating it now.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hookledger_producer') THEN
        CREATE ROLE hookledger_producer NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE insufficient_privilege USING MESSAGE = 'the role hookledger_producer does not exist, and may not be made',
            HINT = 'have an administrator run: CREATE ROLE hookledger_producer NOLOGIN';
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA hookledger FROM PUBLIC;
REVOKE ALL ON SCHEMA hookledger FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON hookledger.route_event, hookledger.domain_event, hookledger.seal,
                                   hookledger.route_event_signature FROM PUBLIC, CURRENT_USER;
GRANT USAGE ON SCHEMA hookledger TO hookledger_producer;
GRANT EXECUTE ON FUNCTION hookledger.publish(text, text, jsonb, text, timestamptz, jsonb, jsonb, boolean),
                          hookledger.publish(text, text, text, text, timestamptz, text, text, boolean) TO hookledger_producer;
