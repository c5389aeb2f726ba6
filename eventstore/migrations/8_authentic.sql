-- Version 8: tokens, login links and sessions have a MAC by the master key. The program makes those of the rows that
-- there are, in the transaction of this step (eventstore/access/adoption.py).

ALTER TABLE hookledger.api_token ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.api_token.mac IS 'by the master key, of what never changes; no row is believed without it';

ALTER TABLE hookledger.login_link ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.login_link.mac IS 'by the master key; no row is believed without it';

ALTER TABLE hookledger.session ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.session.mac IS 'by the master key, of all but last_seen_at; no row is believed without it';
