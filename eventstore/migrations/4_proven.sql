-- Version 4: who had a delivery sent again is found without reading all manual retries.

-- Serves explanations and audits: who had a delivery sent again.
CREATE INDEX resend_delivery_idx ON hookledger.resend (route_id, seq);
