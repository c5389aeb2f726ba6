"""The listeners over HTTP: they parse, call commands, audit or a query, and present. No rule is written here."""
