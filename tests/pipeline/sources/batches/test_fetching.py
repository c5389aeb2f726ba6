"""What is got of a client that holds much, fails for single partitions, or has partitions placed anew meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from daemon.config.event_sources import SourceBegin
from daemon.core.messages.message import SourceMessage
from daemon.pipeline.wakeup import Wakeup
from daemon.sources.batches.fetching import AT_ONCE, FETCHED_BYTES, MessageFetcher
from daemon.sources.kafka.client import KafkaClient, PartitionPlace
from daemon.sources.partitions import SourcePartitions
from eventstore.sources.positions import SourcePosition
from tests.support.kafka.messages import MadeMessage
from tests.support.kafka.sources import config_of

MIB = 1 << 20


class Script:
    """A consumer whose `getmany` gives one step of a script after the other, and nothing in the end."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.pause = Mock()
        self.asked = 0

    async def getmany(
        self, *_: PartitionPlace, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[PartitionPlace, Sequence[SourceMessage]]:
        assert max_records is not None
        self.asked += 1
        step = self.steps.pop(0) if self.steps else {}
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step


class Session:
    """Two partitions of a source, placed at their beginnings."""

    def __init__(self) -> None:
        section = config_of("k:9092", "orders").sources["shop"]
        self.client = KafkaClient("shop", section, max_bytes=1)
        self.one, self.two = (self.client.place("orders", number) for number in range(2))

    def runs(self, *steps: Any) -> MessageFetcher:
        consumer: Any = Script(*steps)
        self.consumer = consumer
        self.partitions = SourcePartitions(
            "shop", self.client, consumer, Mock(), Mock(), topics=("orders",), begin=SourceBegin.EARLIEST
        )
        self.partitions.assign([self.one, self.two])
        for place in (self.one, self.two):
            self.put(place, 0)
        return MessageFetcher(self.client, consumer, self.partitions, Wakeup())

    def put(self, place: PartitionPlace, offset: int) -> None:
        self.partitions.placed[place] = SourcePosition(
            id=place.partition, topic="orders", partition=place.partition, next_offset=offset
        )


def messages(first: int, count: int = 1, *, size_bytes: int = 2) -> list[MadeMessage]:
    made = MadeMessage(value=bytes(size_bytes))
    return [replace(made, offset=first + number) for number in range(count)]


@pytest.fixture
def session() -> Session:
    return Session()


async def test_no_more_is_got_than_a_turn_may_hold(session: Session) -> None:
    steps = [{session.one: messages(AT_ONCE * n, AT_ONCE, size_bytes=MIB)} for n in range(100)]
    found = await session.runs(*steps).fetched()
    assert FETCHED_BYTES <= sum(len(each.value or b"") for each in found[session.one]) <= FETCHED_BYTES + AT_ONCE * MIB


async def test_what_was_got_is_taken_before_what_is_wrong_with_another_partition_is_told(session: Session) -> None:
    fetcher = session.runs({session.one: messages(0)}, OffsetOutOfRangeError({session.two: 0}))
    assert list(await fetcher.fetched()) == [session.one]
    with pytest.raises(OffsetOutOfRangeError):
        await fetcher.fetched()
    assert await fetcher.fetched() == {}


async def test_what_is_wrong_with_all_is_told_at_once(session: Session) -> None:
    with pytest.raises(KafkaConnectionError):
        await session.runs({session.one: messages(0)}, KafkaConnectionError()).fetched()


async def test_nothing_is_taken_of_a_partition_that_was_placed_anew_meanwhile(session: Session) -> None:
    """As an operator may move it back while the partitions are shared out anew."""

    def moved() -> Mapping[PartitionPlace, Sequence[SourceMessage]]:
        session.put(session.one, 0)
        return {session.one: messages(0), session.two: messages(0)}

    found = await session.runs({session.one: messages(100)}, moved).fetched()
    assert list(found) == [session.two]
    assert session.partitions.unplaced == [session.one]


async def test_a_sign_of_life_loses_nothing_of_a_partition_that_was_placed_meanwhile(session: Session) -> None:
    """As when PostgreSQL answers again, and the partitions were shared out anew."""

    def placed() -> Mapping[PartitionPlace, Sequence[SourceMessage]]:
        session.put(session.one, 0)
        return {session.one: messages(0)}

    fetcher = session.runs(placed)
    session.partitions.displace(session.partitions.assigned)
    await fetcher.give_sign_of_life()
    assert session.partitions.placed == {}


async def test_a_sign_of_life_is_given_also_while_nothing_is_taken(session: Session) -> None:
    broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    fetcher = session.runs(broken)
    assert await fetcher.fetched() == {}
    asked = session.consumer.asked
    assert await fetcher.fetched() == {}
    assert session.consumer.asked == asked + 1


async def test_the_partition_is_put_aside_in_which_something_cannot_be_read(session: Session) -> None:
    broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    fetcher = session.runs(broken, {session.one: messages(0)}, broken, broken)
    assert await fetcher.fetched() == {}
    assert set(session.partitions.unplaced) == {session.one, session.two}
    for place in (session.one, session.two):
        session.put(place, 0)
    assert list(await fetcher.fetched()) == [session.one]
    assert list(session.partitions.aside) == [session.two]
    assert session.partitions.unplaced == []
