-- Version 6: events that are published in SQL and refused get a message that says why, and does not show their payload.


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

REVOKE ALL ON FUNCTION hookledger.check_published(text, text, text, timestamptz) FROM PUBLIC;

-- Publishes one event in a producer's own transaction, and returns its id. Publishing the same id again is no error.
CREATE OR REPLACE FUNCTION hookledger.publish(
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
CREATE OR REPLACE FUNCTION hookledger.publish(
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
