"""Reading messages without taking them: the last ones of each topic, and single ones once more.

A consumer of no group does it: nobody's partitions are shared out anew for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from daemon.config.event_sources import SourceSection
from daemon.core.messages.message import SourceMessage
from daemon.sources.kafka.client import KafkaClient, MessageConsumer, PartitionPlace, SourceFault

METADATA_SECONDS = 10.0
# A broker that has more answers sooner.
READ_SECONDS = 5.0
_STEP_MS = 500


class Peek:
    """Reads messages of one source. Each function raises SourceFault."""

    def __init__(self, client: KafkaClient, consumer: MessageConsumer, topics: Sequence[str]) -> None:
        self._client = client
        self._consumer = consumer
        self._topics = topics

    async def last(self, count: int) -> list[SourceMessage]:
        """The last messages of all topics together, by their time."""
        places = await self._places()
        ends = await self._consumer.end_offsets(places)
        begins = await self._consumer.beginning_offsets(places)
        found: list[SourceMessage] = []
        for place, end in ends.items():
            found += await self._read(place, max(begins[place], end - count), end)
        found.sort(key=lambda each: (each.timestamp or 0, each.topic, each.partition, each.offset))
        return found[-count:]

    async def at(self, topic: str, partition: int, offset: int) -> SourceMessage | None:
        """The message at an offset; None if it is not there any more."""
        place = self._client.place(topic, partition)
        self._consumer.assign([place])
        (begin,) = (await self._consumer.beginning_offsets([place])).values()
        (end,) = (await self._consumer.end_offsets([place])).values()
        if not begin <= offset < end:
            return None
        found = await self._read(place, offset, offset + 1)
        return found[0] if found and found[0].offset == offset else None

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Partition → its first offset, and that of the message to come."""
        places = [place for place in await self._places() if place.topic == topic]
        begins, ends = await self._consumer.beginning_offsets(places), await self._consumer.end_offsets(places)
        return {place.partition: (begins[place], ends[place]) for place in places}

    async def _places(self) -> list[PartitionPlace]:
        """All partitions of the topics."""
        missing = set(self._topics).difference(await self._consumer.topics())
        if missing:
            raise SourceFault(self._client.unknown(missing))
        self._consumer.subscribe(self._topics)
        async with asyncio.timeout(METADATA_SECONDS):
            while {place.topic for place in self._consumer.assignment()} != set(self._topics):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        places = sorted(self._consumer.assignment(), key=lambda place: (place.topic, place.partition))
        self._consumer.unsubscribe()
        return places

    async def _read(self, place: PartitionPlace, begin: int, end: int) -> list[SourceMessage]:
        self._consumer.assign([place])
        self._consumer.seek(place, begin)
        found: list[SourceMessage] = []
        async with asyncio.timeout(READ_SECONDS):
            while await self._consumer.position(place) < end:
                for part in (await self._fetched(place)).values():
                    found += part
        return [each for each in found if each.offset < end]

    async def _fetched(self, place: PartitionPlace) -> Mapping[PartitionPlace, Sequence[SourceMessage]]:
        try:
            return await self._consumer.getmany(place, timeout_ms=_STEP_MS, max_records=1)
        except self._client.failures:
            raise
        except Exception as error:
            raise self._client.unreadable(error, place, await self._consumer.position(place)) from error


@asynccontextmanager
async def peeking(name: str, section: SourceSection, *, max_bytes: int) -> AsyncIterator[Peek]:
    """Connects for the block. Raises SourceFault, also for what the library raises in it."""
    client = KafkaClient(name, section, max_bytes=max_bytes)
    try:
        async with client.consumer(in_group=False) as consumer:
            yield Peek(client, consumer, section.topics)
    except client.failures as error:
        raise client.fault(error) from error
