-- Version 3: lists by status and by type meet no row of another one.


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
