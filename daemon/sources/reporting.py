"""What others learn of a source from this process: rows for the status, metrics, the log, and operational events.

Nothing here is in the way of messages: what PostgreSQL does not take now is written with the next report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import structlog

from daemon.sources.kafka.client import PartitionPlace
from daemon.sources.news import SourceNews
from daemon.telemetry.metrics import RESULTS, SOURCE_RESULTS, Metrics
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.sources import standing
from eventstore.sources.positions import SourcePosition, Taken

log = structlog.get_logger()


class SourceReport:
    """How one source stands in this process."""

    def __init__(self, name: str, database: Database, metrics: Metrics, news: SourceNews, *, owner: str) -> None:
        self._name = name
        self._database = database
        self._owner = owner
        self._news = news
        self._fault: str | None = None
        # What the database was told last.
        self._told_fault: str | None = ""
        self._told_ends: dict[int, int | None] = {}
        self._metrics = metrics
        metrics.has_source(name)
        self._lag, self._faulty = metrics.source_lag.labels(name), metrics.source_faulty.labels(name)
        self._counts = {result: metrics.source_messages.labels(name, result) for result in SOURCE_RESULTS}

    async def failed(self, fault: str) -> None:
        """Something keeps this process from the source."""
        if fault != self._fault:
            log.warning("source.failed", source=self._name, cause=fault)
        await self._set(fault)

    async def connected(self, fault: str | None) -> None:
        """It is taken; with a `fault`, all but what that says."""
        if fault is not None:
            return await self.failed(fault)
        if self._fault is not None or self._told_fault == "":
            log.info("source.connected", source=self._name)
        return await self._set(None)

    def took(self, place: PartitionPlace, taken: Taken, *, filtered: int, absent: int) -> None:
        """A batch of a partition was stored."""
        numbers = (taken.events, taken.repeated, taken.refused, filtered, absent)
        for result, count in zip(SOURCE_RESULTS, numbers, strict=True):
            if count:
                self._counts[result].inc(count)
        for published, count in zip(RESULTS, numbers[:3], strict=True):
            if count:
                self._metrics.published(published, count)
        if taken.refused:
            log.warning("source.messages_refused", source=self._name, count=taken.refused)
        if (last := taken.last_refusal) is not None:
            self._news.refused(
                taken.refused, topic=place.topic, partition=place.partition, offset=last.offset, reason=last.reason
            )

    def lost(self, position: SourcePosition, *, upto: int, reason: str) -> None:
        """Messages from a position on and before another were deleted before they could be taken."""
        log.error(
            "source.messages_lost",
            source=self._name,
            topic=position.topic,
            partition=position.partition,
            offset=position.next_offset,
            upto=upto,
        )
        self._news.refused(
            upto - position.next_offset,
            topic=position.topic,
            partition=position.partition,
            offset=position.next_offset,
            reason=reason,
        )

    def stopped(self, position: SourcePosition, fault: str, *, end: int) -> None:
        """A partition ends before its position."""
        log.error(
            "source.partition_went_back",
            source=self._name,
            topic=position.topic,
            partition=position.partition,
            offset=position.next_offset,
            end=end,
        )
        self._news.stopped(position, fault)

    async def standing(self, ends: Mapping[int, int | None], next_offsets: Mapping[int, int]) -> None:
        """The partitions that are taken here by their ids, where each ends in Kafka, and how far it was taken."""
        self._news.tell_due()
        known = {id: end for id, end in ends.items() if end is not None}
        self._lag.set(sum(max(end - next_offsets[id], 0) for id, end in known.items()))
        if ends != self._told_ends:
            with suppress(StoreUnavailable):
                await standing.own(self._database, self._owner, ends)
                self._told_ends = dict(ends)

    async def released(self, partition_ids: Iterable[int]) -> None:
        """These are no longer ours."""
        self._told_ends = {}
        self._lag.set(0)
        if ids := list(partition_ids):
            with suppress(StoreUnavailable):
                await standing.release(self._database, self._owner, ids)

    async def left(self) -> None:
        """The source is not taken here any longer."""
        self._lag.set(0)
        self._faulty.set(0)
        with suppress(StoreUnavailable):
            await standing.leave(self._database, self._name, self._owner)

    async def _set(self, fault: str | None) -> None:
        self._fault = fault
        self._faulty.set(0 if fault is None else 1)
        if fault != self._told_fault:
            with suppress(StoreUnavailable):
                await standing.report(self._database, self._name, self._owner, fault)
                self._told_fault = fault
