"""Taking what was fetched: batches of each partition, stored in their order, each while the next one is read.

The one thing to know: a batch and the position that it moves are one transaction. If that fails, or the position was
another one, the partition is displaced, and placed anew at the position that the database has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from daemon.core.messages import message
from daemon.core.messages.message import SourceMessage
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.runtime.tasks import TaskGroup
from daemon.sources.batches.making import EventMaker, MadeBatch
from daemon.sources.kafka.client import MessageConsumer, PartitionPlace
from daemon.sources.partitions import SourcePartitions
from daemon.sources.reporting import SourceReport
from daemon.sources.rules import VALUE_REFUSED
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import IdHeld, StoreUnavailable, ValueRefused
from eventstore.sources import positions
from eventstore.sources.positions import MessageBatch, Taken

log = structlog.get_logger()

STORE_SECONDS = 30.0
# So many partitions of all sources are stored at once: while one waits for the disk, another is parsed.
STORING = 2


class BatchTaker:
    """Takes the messages of one source."""

    def __init__(
        self,
        name: str,
        database: Database,
        maker: EventMaker,
        report: SourceReport,
        *,
        storing: asyncio.Semaphore,
        on_events: Callable[[], None],
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._name = name
        self._database = database
        self._maker = maker
        self._report = report
        self._on_events = on_events
        self._tunables = tunables
        self._storing = storing

    async def take(
        self, partitions: SourcePartitions, fetched: Mapping[PartitionPlace, Sequence[SourceMessage]]
    ) -> None:
        """Takes what was fetched. Raises StoreUnavailable."""
        if len(fetched) == 1:
            ((place, messages),) = fetched.items()
            await self._take_of(partitions, place, messages)
        elif fetched:
            try:
                async with TaskGroup() as group:
                    for place, messages in fetched.items():
                        group.create_task(self._take_of(partitions, place, messages))
            except ExceptionGroup as failed:
                raise _cause(failed) from failed

    async def pass_absent(self, consumer: MessageConsumer, partitions: SourcePartitions) -> None:
        """Moves positions over offsets at the end that have no message: marks of transactions, what was compacted.
        Raises StoreUnavailable.
        """
        for place, position in list(partitions.placed.items()):
            if partitions.placed.get(place) is not position:  # given away meanwhile
                continue
            reached = await consumer.position(place)
            if reached > position.next_offset:
                batch = MessageBatch(partition_id=position.id, begin=position.next_offset, end=reached)
                if await positions.take(self._database, batch) is None:
                    partitions.displace([place])
                else:
                    partitions.advance(place, reached)
                    self._report.took(place, Taken(events=0, repeated=0, refused=0), filtered=0, absent=batch.absent)

    async def _take_of(
        self, partitions: SourcePartitions, place: PartitionPlace, messages: Sequence[SourceMessage]
    ) -> None:
        """Takes messages of one partition, each part while the next one is read."""
        storing: asyncio.Task[bool] | None = None
        begin = partitions.placed[place].next_offset if place in partitions.placed else None
        rest, ends_at = messages, time.monotonic() + self._tunables.source_take_seconds
        try:
            while rest:
                is_late = time.monotonic() > ends_at
                if begin is None or rest[0].offset < begin or place not in partitions.placed or is_late:
                    if storing is not None:
                        await storing
                    partitions.displace([place])
                    return
                made = await self._maker.batch(
                    self._part(rest),
                    partition_id=partitions.placed[place].id,
                    begin=begin,
                    seconds=self._tunables.source_batch_seconds,
                )
                part, rest, begin = rest[: made.count], rest[made.count :], made.batch.end
                if storing is not None and not await storing:
                    return
                storing = asyncio.create_task(self._store(partitions, place, part, made))
            if storing is not None:
                await storing
        finally:
            if storing is not None and not storing.done():
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)

    async def _store(
        self, partitions: SourcePartitions, place: PartitionPlace, part: Sequence[SourceMessage], made: MadeBatch
    ) -> bool:
        """Stores a batch. False if the position was another one, for somebody else has moved it, or if another
        transaction holds an id: then the partition is put aside, and the others go on.
        """
        try:
            async with self._storing:
                taken = await self._stored(part, made)
        except IdHeld as error:
            fault = f"{place.topic} {place.partition} waits from offset {made.batch.begin} on: {error}; {error.hint}"
            partitions.put_aside(place, fault, seconds=self._tunables.source_reconnect_seconds)
            return False
        if taken is None:
            log.info("source.overtaken", source=self._name, topic=place.topic, partition=place.partition)
            partitions.displace([place])
            return False
        partitions.advance(place, made.batch.end)
        self._report.took(place, taken, filtered=made.batch.filtered, absent=made.batch.absent)
        if taken.events:
            self._on_events()
        return True

    async def _stored(self, part: Sequence[SourceMessage], made: MadeBatch) -> Taken | None:
        """Stores a batch; if PostgreSQL refuses a value, each half by itself, until the message is found."""
        batch = made.batch
        try:
            return await positions.take(
                self._database, batch, judge_repeated=made.judge_repeated, seconds=STORE_SECONDS
            )
        except ValueRefused:
            if len(part) == 1:
                refusal = self._maker.refusal(part[0], VALUE_REFUSED)
                alone = MessageBatch(
                    partition_id=batch.partition_id, begin=batch.begin, end=batch.end, refusals=[refusal]
                )
                return await positions.take(self._database, alone, seconds=STORE_SECONDS)
        sum_of = Taken(events=0, repeated=0, refused=0)
        begin = batch.begin
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            again = await self._maker.batch(half, partition_id=batch.partition_id, begin=begin)
            taken = await self._stored(half, again)
            if taken is None:
                return None
            sum_of, begin = sum_of.plus(taken), again.batch.end
        return sum_of

    def _part(self, messages: Sequence[SourceMessage]) -> Sequence[SourceMessage]:
        """The first messages, within the limits of a batch, but for one that is larger itself."""
        part = messages[: self._tunables.source_batch_messages]
        left = self._tunables.source_batch_bytes
        for place, each in enumerate(part):
            left -= message.size_bytes(each)
            if left < 0 and place > 0:
                return part[:place]
        return part


def _cause(failed: ExceptionGroup[Exception]) -> Exception:
    """StoreUnavailable if all failed for that, else the group. What `except*` raises would be in a group again."""
    is_away = all(isinstance(each, StoreUnavailable) for each in failed.exceptions)
    return failed.exceptions[0] if is_away else failed
