"""Access to PostgreSQL: servers, connections, errors, schema and partitions, notifications, lineage."""
