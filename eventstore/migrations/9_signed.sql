-- Version 9: outcomes, manual retries and replays have a MAC, by a key that stands in the check value of the master key. The
-- program makes that key in the transaction of this step (eventstore/access/adoption.py). Rows from before have none;
-- seals cover them.

ALTER TABLE hookledger.attempt ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.attempt.mac IS 'of what a daemon says of the outcome, by a key that the master key seals; null before version 9';
COMMENT ON COLUMN hookledger.attempt.delivery_key IS 'the first four bytes of the delivery id; null if it ended while it waited, by a disabled route or by retention';

ALTER TABLE hookledger.resend ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.resend.mac IS 'of all but txid and seal, by the same key as that of an outcome; null before version 9';

ALTER TABLE hookledger.replay ADD COLUMN mac bytea;
COMMENT ON COLUMN hookledger.replay.mac IS 'of what was asked for, by the same key as that of an outcome; null before version 9';
