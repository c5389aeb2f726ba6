"""Batches that PostgreSQL does not take: the task of the source hears it, and goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest

from daemon.catalogue import Catalogue
from daemon.config.event_sources import SourceBegin
from daemon.expressions.evaluator import Evaluator
from daemon.operations import NOBODY
from daemon.sources.batches.making import EventMaker
from daemon.sources.batches.taking import BatchTaker
from daemon.sources.kafka.client import KafkaClient
from daemon.sources.news import SourceNews
from daemon.sources.partitions import SourcePartitions
from daemon.sources.reporting import SourceReport
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.sources.positions import SourcePosition
from tests.support.kafka.messages import MadeMessage
from tests.support.kafka.sources import config_of

EVENT = b'{"tenant": "acme", "type": "order.create", "data": {}}'


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_database_that_is_away_ends_a_batch_and_not_the_task(count: int) -> None:
    database = Database("postgresql:///nowhere", pool_size=1)  # never opened
    section = config_of("k:9092", "orders").sources["shop"]
    metrics = Metrics()
    maker = EventMaker(
        "shop",
        section,
        max_bytes=100_000,
        catalogue=Catalogue(database, is_strict=False),
        evaluator=Evaluator(metrics),
        now=lambda: datetime.now(UTC),
    )
    client = KafkaClient("shop", section, max_bytes=100_000)
    consumer: Any = Mock()  # only paused here
    report = SourceReport("shop", database, metrics, SourceNews("shop", NOBODY, print), owner="test")
    partitions = SourcePartitions(
        "shop", client, consumer, database, report, topics=("orders",), begin=SourceBegin.EARLIEST
    )
    places = [client.place("orders", number) for number in range(count)]
    partitions.assign(places)
    for number, place in enumerate(places):
        partitions.placed[place] = SourcePosition(id=number, topic="orders", partition=number, next_offset=0)
    taker = BatchTaker("shop", database, maker, report, storing=asyncio.Semaphore(2), on_events=lambda: None)
    message = MadeMessage(value=EVENT, offset=0)
    with pytest.raises(StoreUnavailable):
        await taker.take(partitions, {place: [replace(message, partition=place.partition)] for place in places})
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
