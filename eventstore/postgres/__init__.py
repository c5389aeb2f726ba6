"""Access to PostgreSQL: connections, errors, schema and partitions, notifications, lineage."""
