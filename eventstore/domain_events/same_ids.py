"""What stands in the log under ids that were used again: CloudEvents of two sources may have the same id."""

from __future__ import annotations

from collections.abc import Collection

from asyncpg.pool import PoolConnectionProxy

from eventstore.postgres.connect import Database

READ_SECONDS = 1.0
# So many events at a time, each with a context that is no longer: the attributes of a CloudEvent are a few hundred
# bytes. A longer one is not looked at.
PAGE_EVENTS = 100
MAX_CONTEXT_BYTES = 16_384

# $1 the tenants, $2 the ids. OFFSET 0 keeps the planner from walking all events of the tenant.
_CONTEXTS = f"""
SELECT given.tenant, given.id, newest.context
  FROM unnest($1::text[], $2::text[]) AS given (tenant, id), LATERAL (
       SELECT found.context FROM (
              SELECT recorded_at, CASE WHEN octet_length(context) <= {MAX_CONTEXT_BYTES} THEN context END AS context
                FROM hookledger.domain_event e WHERE e.tenant = given.tenant AND e.id = given.id OFFSET 0) found
        ORDER BY recorded_at DESC LIMIT 1) newest
 WHERE newest.context IS NOT NULL
"""


async def contexts(database: Database, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """The `context` of the newest event of each tenant and id, if it has one. Raises StoreUnavailable."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        return await contexts_within(connection, keys)


async def contexts_within(
    connection: PoolConnectionProxy, keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], bytes]:
    """The same in the caller's transaction."""
    found: dict[tuple[str, str], bytes] = {}
    pending = list(keys)
    while pending:
        page, pending = pending[:PAGE_EVENTS], pending[PAGE_EVENTS:]
        tenants, ids = zip(*page, strict=True)
        for row in await connection.fetch(_CONTEXTS, tenants, ids):
            found[row["tenant"], row["id"]] = row["context"]
    return found
