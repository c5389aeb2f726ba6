-- Version 3: lists by status and by type meet no row of another one; producers may publish JSON as text.


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
