"""The way to PostgreSQL: connections, errors, schema, notifications, lineage."""
