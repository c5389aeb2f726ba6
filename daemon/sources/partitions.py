"""The partitions of a source that this process has, and from where on it takes each.

The one thing to know: what Kafka's group gives us is a proposal. A partition is *placed* once its position was read
from the database and the consumer was set to it; before that nothing of it is taken. Whenever anything fails or
surprises, it is placed anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from daemon.config.event_sources import SourceBegin
from daemon.sources.kafka.client import KafkaClient, MessageConsumer, PartitionPlace
from daemon.sources.reporting import SourceReport
from eventstore.postgres.connect import Database
from eventstore.sources import positions
from eventstore.sources.positions import SourcePosition

OFFSETS_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAside:
    """Why a partition is not read from a position on, and until when, in monotonic seconds."""

    position: SourcePosition
    fault: str
    until: float


class SourcePartitions:
    """`placed` has the positions of those that are taken, `stopped` of those that wait for an operator. Those `aside`
    have something that cannot be read, and are tried again from time to time.
    """

    def __init__(
        self,
        name: str,
        client: KafkaClient,
        consumer: MessageConsumer,
        database: Database,
        report: SourceReport,
        *,
        topics: tuple[str, ...],
        begin: SourceBegin,
    ) -> None:
        self.placed: dict[PartitionPlace, SourcePosition] = {}
        self.stopped: dict[PartitionPlace, SourcePosition] = {}
        self.aside: dict[PartitionPlace, PutAside] = {}
        self._assigned: set[PartitionPlace] = set()
        self._name = name
        self._client = client
        self._consumer = consumer
        self._database = database
        self._report = report
        self._topics = topics
        self._begin = begin
        self._lock = asyncio.Lock()

    @property
    def assigned(self) -> Collection[PartitionPlace]:
        return self._assigned

    @property
    def unplaced(self) -> list[PartitionPlace]:
        """What is ours, not taken yet, and to be taken now."""
        now = time.monotonic()
        return [
            place
            for place in self._assigned
            if place not in self.placed
            and place not in self.stopped
            and (place not in self.aside or self.aside[place].until <= now)
        ]

    def assign(self, places: Collection[PartitionPlace]) -> None:
        """These are ours from now on, and no others."""
        self._forget(self._assigned)
        self._assigned, self.aside = set(places), {}
        self._consumer.pause(*places)

    def revoke(self) -> list[SourcePosition]:
        """None is ours any more. Returns what was."""
        aside = [each.position for place, each in self.aside.items() if place not in self.placed]
        left = [*self.placed.values(), *self.stopped.values(), *aside]
        self._forget(self._assigned)
        self._assigned, self.aside = set(), {}
        return left

    def displace(self, places: Iterable[PartitionPlace]) -> None:
        """Nothing more is taken of these until they are placed anew."""
        ours = [place for place in places if place in self._assigned]
        self._forget(ours)
        self._consumer.pause(*ours)

    def put_aside(self, place: PartitionPlace, fault: str, *, seconds: float) -> None:
        """Nothing is taken of this one for so long."""
        position = self.placed.get(place)
        if position is not None:
            self.aside[place] = PutAside(position=position, fault=fault, until=time.monotonic() + seconds)
            self.displace([place])

    def advance(self, place: PartitionPlace, offset: int) -> None:
        """What is before an offset was taken."""
        known = self.placed.get(place)
        if known is not None:
            self.aside.pop(place, None)
            self.placed[place] = SourcePosition(
                id=known.id, topic=known.topic, partition=known.partition, next_offset=offset
            )

    async def place(self) -> None:
        """Places what is unplaced. Raises StoreUnavailable, and what the library raises."""
        async with self._lock:
            wanted = self.unplaced
            if not wanted:
                return
            known = await positions.read(self._database, self._name, self._topics)
            if any((place.topic, place.partition) not in known for place in wanted):
                await self._begin_new(known)
                known = await positions.read(self._database, self._name, self._topics)
            for place in wanted:
                position = known.get((place.topic, place.partition))
                if position is None or place not in self._assigned:  # revoked meanwhile
                    continue
                if position.fault is not None:
                    self.stopped[place] = position
                    continue
                if place in self.aside and self.aside[place].position != position:
                    del self.aside[place]
                self._consumer.seek(place, position.next_offset)
                self.placed[place] = position
                self._consumer.resume(place)

    async def out_of_range(self, places: Iterable[PartitionPlace]) -> None:
        """Kafka has nothing at the positions of these: either it has deleted messages that were not taken, or it has
        fewer than were taken already. The first is told and passed over, the second stops the partition.
        """
        for place in places:
            position = self.placed.get(place)
            self.displace([place])
            if position is None:
                continue
            async with asyncio.timeout(OFFSETS_SECONDS):
                first = (await self._consumer.beginning_offsets([place]))[place]
                end = (await self._consumer.end_offsets([place]))[place]
            if position.next_offset < first:
                await self._pass_gap(position, first)
            elif position.next_offset > end:
                await self._stop(position, end)

    async def compare(self) -> None:
        """Has those placed anew whose positions others have moved, as an operator may. Raises StoreUnavailable."""
        known = await positions.read(self._database, self._name, self._topics)
        ours = {**self.placed, **self.stopped}
        self.displace([place for place, it in ours.items() if known.get((place.topic, place.partition)) != it])

    async def _begin_new(self, known: Collection[tuple[str, int]]) -> None:
        """Gives positions to partitions that have none. All of a topic begin together, where the configuration says;
        one that is added later begins with its first message.
        """
        begins: dict[tuple[str, int], int] = {}
        for topic in self._topics:
            is_new = not any(each == topic for each, _ in known)
            numbers = self._consumer.partitions_for_topic(topic) or ()
            places = [self._client.place(topic, number) for number in numbers if (topic, number) not in known]
            ask = self._consumer.beginning_offsets
            if is_new and self._begin is SourceBegin.LATEST:
                ask = self._consumer.end_offsets
            async with asyncio.timeout(OFFSETS_SECONDS):
                offsets = await ask(places) if places else {}
            begins |= {(place.topic, place.partition): offset for place, offset in offsets.items()}
        await positions.begin(self._database, self._name, begins)

    async def _pass_gap(self, position: SourcePosition, first: int) -> None:
        count = first - position.next_offset
        reason = (
            f"Kafka deleted {count} messages before they were taken, offsets {position.next_offset} to {first - 1}: "
            "raise the topic's retention above the longest time that this source may be down"
        )
        if await positions.pass_gap(self._database, position, end=first, reason=reason):
            self._report.lost(position, upto=first, reason=reason)

    async def _stop(self, position: SourcePosition, end: int) -> None:
        where = f"--topic {position.topic} --partition {position.partition}"
        fault = (
            f"the partition ends at {end}, and was taken up to {position.next_offset}: it was made anew, or has lost "
            f"messages. Say from where to go on: hookledger sources move {self._name} {where} --to earliest"
        )
        if await positions.stop(self._database, position, fault):
            self._report.stopped(position, fault, end=end)

    def _forget(self, places: Iterable[PartitionPlace]) -> None:
        for place in list(places):
            self.placed.pop(place, None)
            self.stopped.pop(place, None)
