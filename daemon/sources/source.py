"""The loop of one source: takes what its partitions have, batch by batch, into the log.

The one thing to know: each batch is one transaction with the position that it moves (eventstore/sources/positions). If
that fails, or the position was another one, the partition is placed anew, at the position that the database has. So it
does not matter who else takes the partition, or whether the commit of a lost connection took place.

While PostgreSQL is away the partitions are paused: nothing is fetched, and the process stays in its group. What the
group is told to have been taken is for tools that watch it; we never read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

import structlog

from daemon.config.event_sources import SourceSection
from daemon.pipeline.loops import BACKOFF_SECONDS
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from daemon.sources.batches.fetching import MessageFetcher
from daemon.sources.batches.making import EventMaker
from daemon.sources.batches.taking import BatchTaker
from daemon.sources.kafka.client import KafkaClient, MessageConsumer, PartitionPlace, SourceFault
from daemon.sources.partitions import SourcePartitions
from daemon.sources.reporting import SourceReport
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

# What was fetched already is stored before the partitions are given away; if that takes longer, it is taken again.
REVOKE_SECONDS = 3.0
COMMIT_SECONDS = 3.0
TOPICS_SECONDS = 10.0


class Source:
    """`run` takes the source until `stop`, and connects again whenever that is lost. `storing` bounds how many
    partitions of all sources are stored at once.
    """

    def __init__(
        self,
        name: str,
        section: SourceSection,
        database: Database,
        maker: EventMaker,
        report: SourceReport,
        *,
        storing: asyncio.Semaphore,
        on_events: Callable[[], None],
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.name = name
        self._section = section
        self._database = database
        self._tunables = tunables
        self._client = KafkaClient(name, section, max_bytes=maker.max_bytes)
        self._interruptions: tuple[type[Exception], ...] = (SourceFault, *self._client.failures)
        self._report = report
        self._taker = BatchTaker(
            name, database, maker, self._report, storing=storing, on_events=on_events, tunables=tunables
        )
        self._taking = asyncio.Lock()
        self._stopping = Wakeup()
        self._failures = 0
        self._missing: set[str] = set()
        self._is_stale = self._is_incomplete = False
        self._committed: dict[PartitionPlace, int] = {}

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set:
            try:
                await self._session()
            except self._interruptions as error:
                fault = error if isinstance(error, SourceFault) else self._client.fault(error)
                await self._report.failed(str(fault))
                await self._stopping.wait(self._tunables.source_reconnect_seconds)
        await self._report.left()

    async def _session(self) -> None:
        """From connecting to the end of the connection, or a stop."""
        async with self._client.consumer(in_group=True) as consumer:
            topics = await self._known_topics(consumer)
            partitions = SourcePartitions(
                self.name,
                self._client,
                consumer,
                self._database,
                self._report,
                topics=topics,
                begin=self._section.begin,
            )
            consumer.subscribe(topics, listener=self._listener(partitions))
            fetcher = MessageFetcher(self._client, consumer, partitions, self._stopping, tunables=self._tunables)
            reported_at = time.monotonic()
            self._is_stale = self._is_incomplete = False
            self._committed = {}
            while not self._stopping.is_set and not self._is_stale:
                await self._turn(partitions, fetcher)
                if time.monotonic() - reported_at >= self._tunables.source_report_seconds:
                    await self._look_around(consumer, partitions)
                    reported_at = time.monotonic()
            await self._commit(consumer, partitions)

    async def _known_topics(self, consumer: MessageConsumer) -> tuple[str, ...]:
        """The topics that are there; a missing one is told, and holds up no other. Raises SourceFault for none."""
        topics = self._section.topics
        self._missing = set(topics).difference(await self._topics_there(consumer))
        if len(self._missing) == len(set(topics)):
            raise SourceFault(self._client.unknown(self._missing))
        await self._report.connected(self._client.unknown(self._missing) if self._missing else None)
        return tuple(topic for topic in topics if topic not in self._missing)

    async def _topics_there(self, consumer: MessageConsumer) -> Collection[str]:
        async with asyncio.timeout(TOPICS_SECONDS):
            return await consumer.topics()

    async def _turn(self, partitions: SourcePartitions, fetcher: MessageFetcher) -> None:
        try:
            await partitions.place()
            fetched = await fetcher.fetched()
            async with self._taking:
                await self._taker.take(partitions, fetched)
            self._failures = 0
        except StoreUnavailable as error:
            if self._failures == 0:
                log.warning("database.unavailable", loop=f"source {self.name}", cause=str(error))
            partitions.displace(partitions.assigned)
            await fetcher.give_sign_of_life()
            await self._stopping.wait(BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)])
            self._failures += 1
        except self._client.failures as error:
            await self._recover(partitions, error)

    async def _recover(self, partitions: SourcePartitions, error: Exception) -> None:
        """Goes on after what the library raised for single partitions. Raises SourceFault for anything else."""
        places = self._client.places_out_of_range(error)
        if places is not None:
            with suppress(StoreUnavailable):  # they are placed anew, and found again
                await partitions.out_of_range(places)
        elif not self._client.is_of_no_position(error):
            raise self._client.fault(error) from error

    async def _look_around(self, consumer: MessageConsumer, partitions: SourcePartitions) -> None:
        """What is not in the way of messages: what is absent at the end, what others are told, and what has changed."""
        try:
            async with self._taking:
                await self._taker.pass_absent(consumer, partitions)
            await partitions.compare()
        except StoreUnavailable:
            partitions.displace(partitions.assigned)
            return
        placed = partitions.placed
        ends = {position.id: consumer.highwater(place) for place, position in placed.items()}
        next_offsets = {position.id: position.next_offset for position in placed.values()}
        await self._report.standing(ends, next_offsets)
        await self._commit(consumer, partitions)
        is_silent = bool(placed) and all(self._is_silent(consumer.last_poll_timestamp(place)) for place in placed)
        if is_silent:
            await self._report.failed(self._client.unreachable())
        elif partitions.aside:
            await self._report.failed(next(each.fault for each in partitions.aside.values()))
        else:
            await self._compare_topics(consumer)

    async def _compare_topics(self, consumer: MessageConsumer) -> None:
        """Begins a new session if a topic has come that was missing, or one has gone, even if it is there again: the
        library says nothing of that, and looks for it every five minutes.
        """
        topics, was_incomplete = set(self._section.topics) - self._missing, self._is_incomplete
        self._is_incomplete = not all(map(consumer.partitions_for_topic, topics))
        if self._is_incomplete:
            self._is_stale = was_incomplete  # it may not know yet what it has just been told to take
        elif self._missing:
            self._is_stale = not self._missing.isdisjoint(await self._topics_there(consumer))
        else:
            await self._report.connected(None)

    async def _commit(self, consumer: MessageConsumer, partitions: SourcePartitions) -> None:
        """Tells the group how far its partitions were taken, for the tools that watch it."""
        offsets = {place: position.next_offset for place, position in partitions.placed.items()}
        if not offsets or offsets == self._committed:
            return
        with suppress(*self._client.failures):  # it is told again
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer.commit(offsets)
            self._committed = offsets

    def _is_silent(self, polled_at_ms: int | None) -> bool:
        """Whether the broker of a partition has answered nothing for long."""
        return polled_at_ms is not None and time.time() - polled_at_ms / 1000 > self._tunables.source_silent_seconds

    def _listener(self, partitions: SourcePartitions) -> object:
        """What the library calls when the partitions of the group are shared out anew."""

        async def revoked(_places: Collection[PartitionPlace]) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(REVOKE_SECONDS), self._taking:
                    pass
            await self._report.released(position.id for position in partitions.revoke())

        async def assigned(places: Collection[PartitionPlace]) -> None:
            partitions.assign(places)
            with suppress(StoreUnavailable, *self._client.failures):  # the loop tries again
                await partitions.place()
            log.info("source.assigned", source=self.name, partitions=len(places))

        return self._client.listener(revoked, assigned)
