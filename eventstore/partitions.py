"""Day partitions: created ahead of need by whichever daemon wakes up first (design.md §3, retention)."""

from __future__ import annotations

from eventstore import schema
from eventstore.connect import Database

_MIDNIGHT_TIDY = (
    "DELETE FROM hookledger.domain_event_midnight WHERE recorded_at < clock_timestamp() - interval '1 hour'"
)


async def maintain(database: Database) -> int:
    """Creates missing partitions and forgets the ids of last midnight; returns how many partitions were made."""
    async with database.transaction(seconds=30) as connection:
        made = await schema.create_partitions(connection)
        await connection.execute(_MIDNIGHT_TIDY)
    return made
