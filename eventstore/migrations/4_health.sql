-- Version 4: requests are counted by answer and duration, also by five minutes; the health of each receiver.


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
