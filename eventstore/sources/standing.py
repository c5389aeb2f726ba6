"""How the sources stand: which process takes which partition, how far, and what keeps it from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from eventstore.postgres.connect import Database

READ_SECONDS = 10.0
# What is longer says no more.
MAX_FAULT_CHARACTERS = 1000
# The status is read every few seconds: it counts no more of them.
REFUSALS_COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStanding:
    """A partition of a source with its counts. `owner` is None if no process takes it. `lag` is the number of offsets
    that are not taken yet, None if nobody has looked; what is absent in Kafka counts.
    """

    source: str
    topic: str
    partition: int
    owner: str | None
    first_offset: int
    next_offset: int
    began_at: datetime
    moved_at: datetime | None
    events: int
    repeated: int
    refused: int
    filtered: int
    absent: int
    lag: int | None
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMember:
    """A process that takes a source, and what keeps it from that."""

    source: str
    owner: str
    since: datetime
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesStatus:
    """The sources of the installation, by name; `refusals` is how long the list of refused messages is, up to
    REFUSALS_COUNTED.
    """

    partitions: tuple[PartitionStanding, ...]
    members: tuple[SourceMember, ...]
    refusals: int

    @property
    def faults(self) -> list[str]:
        """A sentence for each thing that keeps messages from being taken."""
        of_members = {f"source {each.source}: {each.fault}" for each in self.members if each.fault is not None}
        of_partitions = [
            f"source {each.source}, {each.topic} {each.partition}: {each.fault}"
            for each in self.partitions
            if each.fault is not None
        ]
        return [*sorted(of_members), *of_partitions]


NO_SOURCES = SourcesStatus(partitions=(), members=(), refusals=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePlace:
    """Which message an event was."""

    source: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPartition:
    """What a partition says that was taken of it, and how many events of it are `there`."""

    source: str
    topic: str
    partition: int
    began_at: datetime
    events: int
    others: int
    offsets: int
    there: int


# One walk of the events, whatever the number of partitions; none without sources. `move` begins the counts anew, and
# events from before are still there.
_COUNTED = """
SELECT p.source, p.topic, p.partition, p.began_at, p.events, p.repeated + p.refused + p.filtered + p.absent AS others,
       p.next_offset - p.first_offset AS offsets, coalesce(t.there, 0) AS there
  FROM hookledger.source_partition p
  LEFT JOIN (SELECT q.id, count(*) AS there FROM hookledger.domain_event e
               JOIN hookledger.source_partition q ON q.id = e.source_partition
              WHERE e.source_offset >= q.first_offset AND e.source_offset < q.next_offset
              GROUP BY q.id) t ON t.id = p.id
 ORDER BY p.source, p.topic, p.partition
"""
COUNT_SECONDS = 600.0

# A process that was killed keeps its name in a row until another one takes over; then it owns nothing. A
# source that was forgotten is not shown until somebody takes it again.
_PARTITIONS = """
SELECT p.source, p.topic, p.partition, a.owner, p.first_offset, p.next_offset, p.began_at, p.moved_at, p.events,
       p.repeated, p.refused, p.filtered, p.absent, greatest(p.log_end - p.next_offset, 0) AS lag, p.fault
  FROM hookledger.source_partition p
       LEFT JOIN hookledger.process a ON a.owner = p.owner AND a.seen_at > clock_timestamp() - interval '10 seconds'
 WHERE p.owner IS NOT NULL OR p.log_end IS NOT NULL OR p.moved_at IS NOT NULL
 ORDER BY p.source, p.topic, p.partition
"""
_MEMBERS = """
SELECT m.source, m.owner, m.since, m.fault FROM hookledger.source_member m
 WHERE m.owner IN (SELECT owner FROM hookledger.process) ORDER BY m.source, m.since, m.owner
"""
_REFUSALS = f"SELECT count(*) FROM (SELECT FROM hookledger.source_refusal LIMIT {REFUSALS_COUNTED}) counted"
_JOIN = """
WITH gone AS (DELETE FROM hookledger.source_member m WHERE m.owner NOT IN (SELECT owner FROM hookledger.process)
                 AND m.owner <> $2)
INSERT INTO hookledger.source_member (source, owner, fault) VALUES ($1, $2, $3)
    ON CONFLICT (source, owner) DO UPDATE SET fault = excluded.fault, since = clock_timestamp()
"""
_LEAVE = "DELETE FROM hookledger.source_member WHERE source = $1 AND owner = $2"
_RELEASE = "UPDATE hookledger.source_partition SET owner = NULL WHERE source = $1 AND owner = $2"
_FORGET = """
UPDATE hookledger.source_partition SET owner = NULL, log_end = NULL, moved_at = NULL, fault = NULL WHERE source = $1
"""
_FORGET_MEMBERS = "DELETE FROM hookledger.source_member WHERE source = $1"
_RELEASE_SOME = "UPDATE hookledger.source_partition SET owner = NULL WHERE id = ANY ($1::integer[]) AND owner = $2"
_OWN = """
UPDATE hookledger.source_partition p SET owner = $1, log_end = coalesce(s.log_end, p.log_end)
  FROM unnest($2::integer[], $3::bigint[]) AS s (id, log_end)
 WHERE p.id = s.id AND (p.owner IS DISTINCT FROM $1 OR p.log_end IS DISTINCT FROM coalesce(s.log_end, p.log_end))
"""
_PLACE = """
SELECT p.source, p.topic, p.partition, e.source_offset AS offset
  FROM hookledger.domain_event e JOIN hookledger.source_partition p ON p.id = e.source_partition
 WHERE e.seq = $1 AND e.recorded_at = $2
"""


async def read(database: Database) -> SourcesStatus:
    """The sources now."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        partitions = await connection.fetch(_PARTITIONS)
        members = await connection.fetch(_MEMBERS)
        refusals = await connection.fetchval(_REFUSALS) if partitions else 0
    return SourcesStatus(
        partitions=tuple(PartitionStanding(**row) for row in partitions),
        members=tuple(SourceMember(**row) for row in members),
        refusals=refusals,
    )


async def counted(database: Database) -> list[CountedPartition]:
    """All partitions with their events, as of one moment. It reads all events, and may take minutes."""
    async with database.connection(seconds=COUNT_SECONDS) as connection:
        return [CountedPartition(**row) for row in await connection.fetch(_COUNTED)]


async def report(database: Database, source: str, owner: str, fault: str | None) -> None:
    """Notes that a process takes a source, and what keeps it from that."""
    async with database.connection() as connection:
        await connection.execute(_JOIN, source, owner, None if fault is None else fault[:MAX_FAULT_CHARACTERS])


async def leave(database: Database, source: str, owner: str) -> None:
    """Notes that a process takes a source no longer."""
    async with database.transaction() as connection:
        await connection.execute(_RELEASE, source, owner)
        await connection.execute(_LEAVE, source, owner)


async def forget(database: Database, source: str) -> int:
    """Takes a source that no process takes any more out of the status. Returns how many partitions it has; they keep
    their positions.
    """
    async with database.transaction() as connection:
        forgotten = await connection.execute(_FORGET, source)
        await connection.execute(_FORGET_MEMBERS, source)
    return int(str(forgotten).rpartition(" ")[2])


async def release(database: Database, owner: str, partition_ids: Sequence[int]) -> None:
    """Notes that a process takes some partitions no longer."""
    async with database.connection() as connection:
        await connection.execute(_RELEASE_SOME, partition_ids, owner)


async def own(database: Database, owner: str, log_ends: Mapping[int, int | None]) -> None:
    """Notes that a process takes partitions, by their ids, and where they end as it saw. Writes only what is new."""
    async with database.connection() as connection:
        await connection.execute(_OWN, owner, list(log_ends), list(log_ends.values()))


async def place_of(database: Database, seq: int, *, recorded_at: datetime) -> MessagePlace | None:
    """Which message an event was; None if it was none."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_PLACE, seq, recorded_at)
    return None if row is None else MessagePlace(**row)
