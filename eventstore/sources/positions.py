"""How far each partition of a source was taken, and taking what comes next.

The one thing to know: the position moves in the transaction that stores the events, and only from where the caller
believes it to be. So each message is taken once, by whichever process, whatever else believes to own the partition.
A process that finds another position there reads it and goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncpg.pool import PoolConnectionProxy

from eventstore.domain_events import same_ids
from eventstore.domain_events.events import NewEvent, despite_deadlocks, publish_within
from eventstore.postgres.connect import DEADLINE_SECONDS, Database

# So much of the key and the value of a refused message is kept.
BEGINNING_BYTES = 256
MAX_REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePosition:
    """A partition of a source, and the offset from which on nothing was taken. With a `fault` it is not to be taken."""

    id: int
    topic: str
    partition: int
    next_offset: int
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that is no event, and why."""

    offset: int
    reason: str
    message_at: datetime | None
    key: bytes | None
    value: bytes | None


@dataclass(slots=True, kw_only=True)
class MessageBatch:
    """The messages of a partition from `begin` on and before `end`, and what each became. `offsets` are those of
    `events`. Whatever is neither an event nor refused nor filtered is absent: there is no such message.
    """

    partition_id: int
    begin: int
    end: int
    events: list[NewEvent] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    filtered: int = 0

    @property
    def absent(self) -> int:
        return self.end - self.begin - len(self.events) - len(self.refusals) - self.filtered


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch: new events, events that were there under their ids, and messages that were refused, with
    the last of these.
    """

    events: int
    repeated: int
    refused: int
    last_refusal: Refusal | None = None

    def plus(self, other: Taken) -> Taken:
        return Taken(
            events=self.events + other.events,
            repeated=self.repeated + other.repeated,
            refused=self.refused + other.refused,
            last_refusal=other.last_refusal or self.last_refusal,
        )


# Given the places of events that were there under their ids, and the contexts that stand there, by tenant and id: which
# of them are refused for it.
JudgeRepeated = Callable[[Sequence[int], Mapping[tuple[str, str], bytes]], Mapping[int, Refusal]]

_POSITIONS = """
SELECT id, topic, partition, next_offset, fault FROM hookledger.source_partition
 WHERE source = $1 AND topic = ANY ($2::text[])
"""
_BEGIN = """
INSERT INTO hookledger.source_partition (source, topic, partition, first_offset, next_offset)
VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING
"""
_MOVE = """
UPDATE hookledger.source_partition
   SET next_offset = $3, moved_at = clock_timestamp(), events = events + $4, refused = refused + $5,
       filtered = filtered + $6, absent = absent + $7
 WHERE id = $1 AND next_offset = $2
"""
# Not counted as events after all: $2 that were there, and $3 that are refused for it.
_CORRECT = """
UPDATE hookledger.source_partition
   SET events = events - $2::bigint - $3::bigint, repeated = repeated + $2, refused = refused + $3 WHERE id = $1
"""
_REFUSE = """
INSERT INTO hookledger.source_refusal (source_partition, source_offset, reason, message_at, key, beginning, size_bytes)
SELECT $1, r.* FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::bytea[], $6::bytea[], $7::integer[]) AS r
    ON CONFLICT (source_partition, source_offset) DO UPDATE SET upto = NULL, at = excluded.at, reason = excluded.reason,
       message_at = excluded.message_at, key = excluded.key, beginning = excluded.beginning,
       size_bytes = excluded.size_bytes
"""
_GAP = """
INSERT INTO hookledger.source_refusal (source_partition, source_offset, upto, reason) VALUES ($1, $2, $3, $4)
    ON CONFLICT (source_partition, source_offset) DO UPDATE SET upto = excluded.upto, at = excluded.at,
       reason = excluded.reason, message_at = NULL, key = NULL, beginning = NULL, size_bytes = NULL
"""
_SET_FAULT = "UPDATE hookledger.source_partition SET fault = $3 WHERE id = $1 AND next_offset = $2"
_MOVED_BY_HAND = """
UPDATE hookledger.source_partition
   SET first_offset = $2, next_offset = $2, began_at = clock_timestamp(), moved_at = NULL, fault = NULL,
       events = 0, repeated = 0, refused = 0, filtered = 0, absent = 0
 WHERE id = $1
"""
# They will be taken again.
_FORGET = "DELETE FROM hookledger.source_refusal WHERE source_partition = $1 AND source_offset >= $2"


async def read(database: Database, source: str, topics: Sequence[str]) -> dict[tuple[str, int], SourcePosition]:
    """The positions of the partitions of some topics, by topic and number. Those that were never begun are absent."""
    async with database.connection() as connection:
        rows = await connection.fetch(_POSITIONS, source, topics)
    return {(row["topic"], row["partition"]): SourcePosition(**row) for row in rows}


async def begin(database: Database, source: str, begins: Mapping[tuple[str, int], int]) -> None:
    """Gives partitions a position; one that has one keeps it."""
    async with database.transaction() as connection:
        for (topic, partition), offset in begins.items():
            await connection.execute(_BEGIN, source, topic, partition, offset)


async def take(
    database: Database,
    batch: MessageBatch,
    *,
    judge_repeated: JudgeRepeated | None = None,
    seconds: float = DEADLINE_SECONDS,
) -> Taken | None:
    """Stores the events and refusals of a batch and moves the position, all or nothing. None, and nothing is stored, if
    the position is not where the batch begins.

    Raises StoreUnavailable; ValueRefused for a value that a check constraint refuses.
    """

    async def once() -> Taken | None:
        async with database.transaction(seconds=seconds) as connection:
            return await _take(connection, batch, judge_repeated)

    return await despite_deadlocks(once)


async def _take(
    connection: PoolConnectionProxy, batch: MessageBatch, judge_repeated: JudgeRepeated | None
) -> Taken | None:
    counts = (len(batch.events), len(batch.refusals), batch.filtered, batch.absent)
    moved = await connection.execute(_MOVE, batch.partition_id, batch.begin, batch.end, *counts)
    if moved != "UPDATE 1":
        return None
    fresh: list[bool] = []
    if batch.events:
        fresh = await publish_within(connection, batch.events, batch.partition_id, batch.offsets)
    known = [place for place, is_new in enumerate(fresh) if not is_new]
    judged: Mapping[int, Refusal] = {}
    if known and judge_repeated is not None:
        keys = {(batch.events[place].tenant, batch.events[place].id) for place in known}
        judged = judge_repeated(known, await same_ids.contexts_within(connection, keys))
    if known:
        await connection.execute(_CORRECT, batch.partition_id, len(known) - len(judged), len(judged))
    if refusals := [*batch.refusals, *judged.values()]:
        await connection.execute(_REFUSE, batch.partition_id, *_columns(refusals))
    return Taken(
        events=sum(fresh),
        repeated=len(known) - len(judged),
        refused=len(refusals),
        last_refusal=refusals[-1] if refusals else None,
    )


async def pass_gap(database: Database, position: SourcePosition, *, end: int, reason: str) -> bool:
    """Moves a position over messages that the other log has deleted, and keeps the gap in the list of refusals. False
    if the position was another one.
    """
    async with database.transaction() as connection:
        moved = await connection.execute(
            _MOVE, position.id, position.next_offset, end, 0, 0, 0, end - position.next_offset
        )
        if moved != "UPDATE 1":
            return False
        await connection.execute(_GAP, position.id, position.next_offset, end, reason)
    return True


async def stop(database: Database, position: SourcePosition, fault: str) -> bool:
    """Notes why a partition is not taken further. False if its position is another one by now."""
    async with database.connection() as connection:
        stopped = await connection.execute(_SET_FAULT, position.id, position.next_offset, fault)
    return str(stopped) == "UPDATE 1"


async def move(database: Database, position: SourcePosition, *, offset: int) -> None:
    """Has a partition begin anew at an offset, and its counts too."""
    async with database.transaction() as connection:
        await connection.execute(_MOVED_BY_HAND, position.id, offset)
        await connection.execute(_FORGET, position.id, offset)


def _columns(refusals: Sequence[Refusal]) -> tuple[list[object], ...]:
    return (
        [each.offset for each in refusals],
        [storable(each.reason) for each in refusals],
        [each.message_at for each in refusals],
        [None if each.key is None else each.key[:BEGINNING_BYTES] for each in refusals],
        [None if each.value is None else each.value[:BEGINNING_BYTES] for each in refusals],
        [len(each.value or b"") for each in refusals],
    )


def storable(text: str) -> str:
    """A reason as PostgreSQL takes it: bounded, without half characters and the character 0."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_REASON_CHARACTERS]
