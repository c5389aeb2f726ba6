"""Describes a database schema as a set of lines: two databases with the same lines have the same schema.

Day partitions are left out, since they differ from day to day. Their indexes and triggers have the day replaced.
"""

from __future__ import annotations

import asyncpg

_QUERIES = (
    # Columns with type, default and generation.
    """
    SELECT format('column %s.%s %s %s not_null=%s default=%s generated=%s', c.relname, a.attname, a.attnum,
                  format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated)
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'hookledger'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND a.attnum > 0 AND NOT a.attisdropped
    """,
    """
    SELECT format('relation %s %s options=%s acl=%s comment=%s partitions=%s', relname, relkind, reloptions, relacl::text,
                  obj_description(oid, 'pg_class'), pg_get_partkeydef(oid))
      FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND NOT relispartition
    """,
    """
    SELECT format('constraint %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
      FROM pg_constraint WHERE connamespace = 'hookledger'::regnamespace AND conparentid = 0
       AND contype <> 'n' AND NOT (SELECT relispartition FROM pg_class WHERE oid = conrelid)
    """,
    """
    SELECT format('index %s', regexp_replace(pg_get_indexdef(i.indexrelid), '_[0-9]{8}', '_DAY', 'g'))
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'hookledger'::regnamespace
    """,
    """
    SELECT format('trigger %s %s', regexp_replace(pg_get_triggerdef(t.oid), '_[0-9]{8}', '_DAY', 'g'), t.tgenabled)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'hookledger'::regnamespace
    """,
    """
    SELECT format('function %s acl=%s', pg_get_functiondef(oid), proacl::text)
      FROM pg_proc WHERE pronamespace = 'hookledger'::regnamespace
    """,
    "SELECT format('schema acl=%s', nspacl::text) FROM pg_namespace WHERE nspname = 'hookledger'",
    "SELECT format('sequence %s cache=%s', seqrelid::regclass, seqcache) FROM pg_sequence WHERE seqrelid::regclass::text ~ '^hookledger'",
    "SELECT format('row of meta %s', key) FROM hookledger.meta",
)


async def describe(connection: asyncpg.Connection) -> set[str]:
    """The lines of the schema that the connection sees."""
    return {row[0] for query in _QUERIES for row in await connection.fetch(query)}
