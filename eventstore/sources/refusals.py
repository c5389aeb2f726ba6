"""The messages that became no event: listed, and settled when they are taken again and become one after all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from asyncpg.pool import PoolConnectionProxy

from eventstore.domain_events import same_ids
from eventstore.domain_events.events import NewEvent, publish_within
from eventstore.postgres.connect import Database
from eventstore.sources.positions import JudgeRepeated, storable

READ_SECONDS = 10.0
_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRefusal:
    """A message that was refused. With `upto` it stands for all from its offset on and before that, which were deleted
    before they could be taken. `key` and `beginning` are the first bytes.
    """

    source: str
    topic: str
    partition: int
    partition_id: int
    offset: int
    upto: int | None
    at: datetime
    reason: str
    message_at: datetime | None
    key: bytes | None
    beginning: bytes | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalPlace:
    """Where a page of the list ends: the next one goes on with older ones."""

    at: datetime
    partition_id: int
    offset: int


_COLUMNS = """
SELECT p.source, p.topic, p.partition, p.id AS partition_id, r.source_offset AS offset, r.upto, r.at, r.reason,
       r.message_at, r.key, r.beginning, r.size_bytes
  FROM hookledger.source_refusal r JOIN hookledger.source_partition p ON p.id = r.source_partition
"""
_NEWEST = f"{_COLUMNS} ORDER BY r.at DESC, r.source_partition DESC, r.source_offset DESC LIMIT $1"
_OLDER = f"""
{_COLUMNS} WHERE (r.at, r.source_partition, r.source_offset) < ($2, $3, $4)
 ORDER BY r.at DESC, r.source_partition DESC, r.source_offset DESC LIMIT $1
"""
_OF_SOURCE = f"""
{_COLUMNS} WHERE p.source = $1 AND r.upto IS NULL AND (r.source_partition, r.source_offset) > ($2, $3)
 ORDER BY r.source_partition, r.source_offset LIMIT {_PAGE_ROWS}
"""
_LOCK = """
SELECT FROM hookledger.source_refusal WHERE source_partition = $1 AND source_offset = $2 AND upto IS NULL FOR UPDATE
"""
_SETTLE = "DELETE FROM hookledger.source_refusal WHERE source_partition = $1 AND source_offset = $2 AND upto IS NULL"
# Unless the partition has begun anew since.
_COUNT = """
UPDATE hookledger.source_partition
   SET refused = refused - 1, events = events + $3, repeated = repeated + $4, filtered = filtered + $5
 WHERE id = $1 AND $2 >= first_offset AND $2 < next_offset
"""
_RENEW = """
UPDATE hookledger.source_refusal SET reason = $3 WHERE source_partition = $1 AND source_offset = $2 AND upto IS NULL
"""
_FORGET_OLD = "DELETE FROM hookledger.source_refusal WHERE at < $1"


async def page(database: Database, *, after: RefusalPlace | None, limit: int) -> list[KeptRefusal]:
    """The newest refusals, or those older than a place."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        if after is None:
            rows = await connection.fetch(_NEWEST, limit)
        else:
            rows = await connection.fetch(_OLDER, limit, after.at, after.partition_id, after.offset)
    return [KeptRefusal(**row) for row in rows]


async def of_source(database: Database, source: str) -> AsyncIterator[KeptRefusal]:
    """All refused messages of a source, partition by partition in their order, without the gaps."""
    place = (0, -1)
    while True:
        async with database.connection(seconds=READ_SECONDS) as connection:
            rows = await connection.fetch(_OF_SOURCE, source, *place)
        for row in rows:
            yield KeptRefusal(**row)
        if len(rows) < _PAGE_ROWS:
            return
        place = rows[-1]["partition_id"], rows[-1]["offset"]


async def settle(
    database: Database, refusal: KeptRefusal, event: NewEvent | None, *, judge_repeated: JudgeRepeated | None = None
) -> bool | str | None:
    """Publishes a refused message as the event that it is after all, and takes it off the list; `event` None: the
    filter of its source passes over it. Returns whether the event is new; None if somebody else has settled it; the
    reason if it is refused still, for what stands there under its id.
    """
    place = (refusal.partition_id, refusal.offset)
    async with database.transaction() as connection:
        if await connection.fetchrow(_LOCK, *place) is None:
            return None
        is_new = False
        if event is not None:
            (is_new,) = await publish_within(connection, [event], refusal.partition_id, [refusal.offset])
            if not is_new and judge_repeated is not None:
                stored = await same_ids.contexts_within(connection, {(event.tenant, event.id)})
                judged = judge_repeated([0], stored)
                if judged:
                    await connection.execute(_RENEW, *place, storable(judged[0].reason))
                    return judged[0].reason
        await connection.execute(_SETTLE, *place)
        counts = (int(is_new), int(event is not None and not is_new), int(event is None))
        await connection.execute(_COUNT, *place, *counts)
    return is_new


async def renew(database: Database, refusal: KeptRefusal, reason: str) -> None:
    """Notes why a message is refused still."""
    async with database.connection() as connection:
        await connection.execute(_RENEW, refusal.partition_id, refusal.offset, storable(reason))


async def forget_old(connection: PoolConnectionProxy, before: datetime) -> None:
    """Drops the refusals of before a moment."""
    await connection.execute(_FORGET_OLD, before)
