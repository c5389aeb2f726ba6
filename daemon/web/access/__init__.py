"""Who may ask for what: tokens, sessions, limits, and a line in the log for what was refused."""
