-- Version 4: a login link names who comes in, what they may do, and where they are led and led back to.

ALTER TABLE hookledger.login_link
    ADD COLUMN actor      text NOT NULL DEFAULT 'dashboard',
    ADD COLUMN role       text NOT NULL DEFAULT 'manage',
    ADD COLUMN return_url text,
    ADD COLUMN path       text,
    ADD CONSTRAINT login_link_role_check CHECK (role IN ('manage', 'view'));
COMMENT ON COLUMN hookledger.login_link.actor IS 'who stands in the route log for what the session does';
COMMENT ON COLUMN hookledger.login_link.return_url IS 'where the session leads back to; null: as configured';
COMMENT ON COLUMN hookledger.login_link.path IS 'the page that it leads to; null: the first one';

ALTER TABLE hookledger.session
    ADD COLUMN actor text NOT NULL DEFAULT 'dashboard',
    ADD COLUMN role  text NOT NULL DEFAULT 'manage',
    ADD CONSTRAINT session_role_check CHECK (role IN ('manage', 'view'));
