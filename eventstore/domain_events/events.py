"""Publishes domain events, and finds single ones again.

The rows of one call become visible together, when its transaction commits. `publish` returns after the commit, so an
answer means that the events are durable. `hookledger.publish_many` in schema.sql recognises duplicates: the same
(tenant, id) within 24 hours is one event. Producers never NOTIFY; a tick finds their rows (domain_events/ticks.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from eventstore.postgres.connect import DEADLINE_SECONDS, Database, milliseconds
from eventstore.postgres.errors import Deadlocked, IdHeld

_T = TypeVar("_T")

# How often a statement is repeated that PostgreSQL has ended because of a deadlock.
DEADLOCK_REPEATS = 2

SHARDS = 16
# So much is read in one question, which has a deadline: events may be large.
READ_BYTES = 8 * 1024 * 1024


def shard_of(tenant: str) -> int:
    """The shard of a tenant, 0 to 15.

    The same function as `hookledger.shard_of` in schema.sql, without a round trip.
    """
    return int(hashlib.md5(tenant.encode(), usedforsecurity=False).hexdigest()[:4], 16) % SHARDS


@dataclass(slots=True, kw_only=True)
class NewEvent:
    """An event to publish. `data`, `context` and `snapshot` are JSON objects as bytes and are stored unchanged.

    `hops` is how many deliveries of ours in a row led to it, None for an event that the platform publishes.

    Not frozen: one is made for every event, and a frozen dataclass costs three times as much to make.
    """

    tenant: str
    id: str
    type: str
    data: bytes
    occurred_at: datetime | None = None
    context: bytes | None = None
    snapshot: bytes | None = None
    backfill: bool = False
    hops: int | None = None


@dataclass(slots=True, eq=False)
class StoredEvent:
    """A row of domain_event. `test_route` is the only route that a test event is for, None for an ordinary event.
    `hops` is that of NewEvent. `tick` and `closed_upto` belong to the tick that read the event, and are
    None before any tick has.

    Neither frozen nor keyword-only, because the tail makes one for every event, and a frozen dataclass costs five times
    as much to make. The fields have the order of EVENT_COLUMNS.
    """

    seq: int
    recorded_at: datetime
    shard: int
    tenant: str
    id: str
    type: str
    occurred_at: datetime | None
    data: bytes
    context: bytes | None
    snapshot: bytes | None
    backfill: bool
    test_route: UUID | None
    hops: int | None
    tick: int | None
    closed_upto: datetime | None

    @property
    def event_time(self) -> datetime:
        """least(occurred_at, recorded_at, closed_upto): routes are judged as of this moment (rule 1 of routing)."""
        at = self.recorded_at
        if self.occurred_at is not None and self.occurred_at < at:
            at = self.occurred_at
        if self.closed_upto is not None and self.closed_upto < at:
            at = self.closed_upto
        return at

    @property
    def size_bytes(self) -> int:
        """The memory that the event occupies, exact enough for a budget."""
        return len(self.data) + len(self.context or b"") + len(self.snapshot or b"") + 500


# The length of an event's payload, and `StoredEvent.size_bytes`, without reading the event.
PAYLOAD_SIZE = "octet_length(data) + coalesce(octet_length(context), 0) + coalesce(octet_length(snapshot), 0)"
EVENT_SIZE = f"{PAYLOAD_SIZE} + 500"

EVENT_COLUMNS = (
    "seq, recorded_at, shard, tenant, id, type, occurred_at, data, context, snapshot, backfill, test_route, hops"
)

_PUBLISH = "SELECT hookledger.publish_many($1, $2, $3, $4, $5, $6, $7, $8, $9)"
# The same, in a transaction of its own, waiting for each lock for $10 at most.
_PUBLISH_SOON = """
SELECT CASE WHEN patience IS NOT NULL THEN hookledger.publish_many($1, $2, $3, $4, $5, $6, $7, $8, $9) END
  FROM (SELECT set_config('lock_timeout', $10, true) AS patience OFFSET 0) soon
"""
_LOCK_SOON = "SELECT set_config('lock_timeout', $1, true)"
_PUBLISH_MESSAGES = "SELECT hookledger.publish_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"

# Where a publish waits for the end of a transaction that has published the same id: the first line of the context of an
# error has the place of its row, and the table, in whatever language.
_OF_AN_ID = re.compile(r"\([0-9]+,[0-9]+\).*domain_event_([0-9]{8}|midnight)\b")

# LATERAL looks up the tick of each event. With a plain join the planner reads all ticks.
_WITH_TICK = f"""
SELECT {EVENT_COLUMNS}, t.tick, t.closed_upto
  FROM (SELECT *, coalesce(tick, hookledger.tick_of(txid)) AS in_tick FROM hookledger.domain_event WHERE %s) e
  LEFT JOIN LATERAL (SELECT tick, closed_upto FROM hookledger.tick WHERE tick = e.in_tick LIMIT 1) t ON true
"""

# OFFSET 0 keeps the planner from walking seq backwards until it finds the id.
_BY_ID = _WITH_TICK % "tenant = $1 AND id = $2 OFFSET 0" + " ORDER BY seq DESC LIMIT 1"
_OF_MOMENT = _WITH_TICK % "tenant = $1 AND id = $2 AND recorded_at = $3" + " LIMIT 1"
_BY_ID_ANY_TENANT = _WITH_TICK % "id = $1 OFFSET 0" + " ORDER BY seq DESC LIMIT 2"
_AT = _WITH_TICK % "seq = $1 AND recorded_at >= $2"
_BY_SEQ = f"""
SELECT {EVENT_COLUMNS} FROM hookledger.domain_event
 WHERE seq = ANY ($1::bigint[]) AND recorded_at >= $2 AND recorded_at <= $3
"""
# The first ones of these, in the order of $1, that have $4 bytes together.
_FIRST_BY_SEQ = f"""
SELECT {EVENT_COLUMNS}
  FROM (SELECT *, sum({EVENT_SIZE}) OVER (ORDER BY array_position($1::bigint[], seq)) - ({EVENT_SIZE}) AS bytes_before
          FROM ({_BY_SEQ}) found) measured
 WHERE bytes_before < $4
"""


class Publish(Protocol):
    """`publish`, or what stores events in the same way and does more."""

    async def __call__(
        self, database: Database, events: Sequence[NewEvent], *, seconds: float, lock_seconds: float | None = None
    ) -> list[bool]: ...


async def publish(
    database: Database,
    events: Sequence[NewEvent],
    *,
    seconds: float = DEADLINE_SECONDS,
    lock_seconds: float | None = None,
) -> list[bool]:
    """Stores events durably. Returns for each, in order: True if it is new, False if it repeats an event of the last 24
    hours. It waits for each lock for `lock_seconds` at most, if they are given.

    Raises StoreUnavailable: IdHeld if another transaction holds an id, Locked for another lock; and ValueRefused for a
    value that a check constraint refuses.
    """
    if not events:
        return []

    async def once() -> list[bool]:
        async with database.connection(seconds=seconds) as connection:
            if lock_seconds is None:
                return await publish_within(connection, events)
            with telling_held_ids():
                fresh: list[bool] = await connection.fetchval(
                    _PUBLISH_SOON, *columns_of(events), milliseconds(lock_seconds)
                )
            return fresh

    return await despite_deadlocks(once)


async def despite_deadlocks(publish_once: Callable[[], Awaitable[_T]]) -> _T:
    """What a function returns that publishes by a single statement, which PostgreSQL may end for the sake of another
    transaction that publishes the same ids in parts. Raises what it raises.

    Single statements cannot deadlock with each other, because each takes its ids in the same order. The other one may
    need a moment to go on, and the repeated statement may be there before it: so it is repeated twice.
    """
    for _ in range(DEADLOCK_REPEATS):
        try:
            return await publish_once()
        except Deadlocked:
            pass
    return await publish_once()


@asynccontextmanager
async def publishing(
    database: Database, *, seconds: float, lock_seconds: float | None = None
) -> AsyncIterator[Callable[[Sequence[NewEvent]], Coroutine[object, None, list[bool]]]]:
    """One transaction for a batch that is published in parts. Yields the function that publishes a part, which waits
    for each lock for `lock_seconds` at most, if they are given.

    The parts become durable together or not at all. Raises Deadlocked if another transaction publishes the same ids in
    another order, and what `publish` raises.
    """
    async with database.transaction(seconds=seconds) as connection:
        if lock_seconds is not None:
            await connection.execute(_LOCK_SOON, milliseconds(lock_seconds))
        yield partial(publish_within, connection)


def columns_of(events: Sequence[NewEvent]) -> tuple[list[object], ...]:
    """The arguments of `hookledger.publish_many`."""
    return (
        [event.tenant for event in events],
        [event.id for event in events],
        [event.type for event in events],
        [event.occurred_at for event in events],
        [event.data for event in events],
        [event.context for event in events],
        [event.snapshot for event in events],
        [event.backfill for event in events],
        [event.hops for event in events],
    )


async def publish_within(
    connection: PoolConnectionProxy,
    events: Sequence[NewEvent],
    source_partition: int | None = None,
    source_offsets: Sequence[int] | None = None,
) -> list[bool]:
    """Stores events in the caller's transaction. Returns what `publish` does. Raises Deadlocked and IdHeld.

    With `source_partition` they were messages of a source: those at `source_offsets` of that partition.
    """
    with telling_held_ids():
        if source_partition is None:
            fresh: list[bool] = await connection.fetchval(_PUBLISH, *columns_of(events))
        else:
            fresh = await connection.fetchval(_PUBLISH_MESSAGES, *columns_of(events), source_partition, source_offsets)
    return fresh


@contextmanager
def telling_held_ids() -> Iterator[None]:
    """Raises IdHeld if the block, which publishes, has waited in vain for a transaction that holds one of its ids."""
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        place, _, _ = str(error.context or "").partition("\n")
        if _OF_AN_ID.search(place):
            raise IdHeld from error
        raise


async def find(
    database: Database, event_id: str, *, tenant: str | None = None, recorded_at: datetime | None = None
) -> list[StoredEvent]:
    """The newest event with that id, or the one that was recorded at that moment: after 24 hours an id may be used
    again. Without a tenant up to two, so that the caller sees an ambiguity; then `recorded_at` does not count.
    """
    async with database.connection() as connection:
        if tenant is None:
            rows = await connection.fetch(_BY_ID_ANY_TENANT, event_id)
        elif recorded_at is not None:
            rows = await connection.fetch(_OF_MOMENT, tenant, event_id, recorded_at)
        else:
            rows = await connection.fetch(_BY_ID, tenant, event_id)
    return [StoredEvent(**row) for row in rows]


async def find_at(database: Database, seq: int, *, event_time: datetime) -> StoredEvent | None:
    """The event with that seq, or None if retention dropped it. `event_time` excludes older partitions: an event is
    never recorded before its event time.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_AT, seq, event_time)
    return None if row is None else StoredEvent(**row)


async def by_seq(database: Database, recorded_ats: dict[int, datetime]) -> dict[int, StoredEvent]:
    """Events by seq. `recorded_ats` maps each seq to its `recorded_at`, which determines the partition.

    Events that retention dropped are absent.
    """
    if not recorded_ats:
        return {}
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(
            _BY_SEQ, list(recorded_ats), min(recorded_ats.values()), max(recorded_ats.values())
        )
    return {row["seq"]: StoredEvent(**row, tick=None, closed_upto=None) for row in rows}


async def first_by_seq(
    database: Database, recorded_ats: dict[int, datetime], *, most_bytes: int = READ_BYTES
) -> dict[int, StoredEvent | None]:
    """The first of these events, in the order given, until they have `most_bytes` together. None for one that retention
    dropped.
    """
    if not recorded_ats:
        return {}
    asked, bounds = list(recorded_ats), (min(recorded_ats.values()), max(recorded_ats.values()))
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_FIRST_BY_SEQ, asked, *bounds, most_bytes)
    found = {row["seq"]: StoredEvent(**row, tick=None, closed_upto=None) for row in rows}
    if sum(event.size_bytes for event in found.values()) >= most_bytes:
        asked = asked[: max(map(asked.index, found)) + 1]
    return {seq: found.get(seq) for seq in asked}
