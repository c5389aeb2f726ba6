"""How the deliveries of a list are found: which tables are read, in which order, and merged into one list."""
