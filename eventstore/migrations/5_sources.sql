-- Version 5: sources, whose messages become events: how far each partition was taken, what was refused, and which message
-- an event was.


-- Events ----------------------------------------------------------------------------------------------------------------

ALTER TABLE hookledger.domain_event ADD COLUMN source_partition integer, ADD COLUMN source_offset bigint;
COMMENT ON COLUMN hookledger.domain_event.source_partition IS 'null, unless the event was a message of a source: then the id of its source_partition, in which it stands at source_offset';

DROP FUNCTION hookledger.publish_many(text[], text[], text[], timestamptz[], bytea[], bytea[], bytea[], boolean[], smallint[]);

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
REVOKE ALL ON FUNCTION hookledger.publish_many(text[], text[], text[], timestamptz[], bytea[], bytea[], bytea[], boolean[], smallint[], integer, bigint[]) FROM PUBLIC;


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
