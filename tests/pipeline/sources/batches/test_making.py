"""Batches of messages: what they become, and that expressions that take long hold up neither a batch nor a stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from daemon.catalogue import Catalogue
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.loops import run_forever
from daemon.sources.batches.making import EventMaker, made_id
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database
from tests.support.kafka.messages import MadeMessage
from tests.support.kafka.sources import config_of

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
EVENT = b'{"tenant": "acme", "type": "order.create", "data": {}}'
MAPPED = {"format": "mapped", "tenant": "key", "type": "'a.b'", "data": "{n: length(value.lines[?n > `1`])}"}


def maker(
    database: Database, evaluator: Evaluator, keys: Mapping[str, str] | None = None, *, is_strict: bool = False
) -> EventMaker:
    return EventMaker(
        "shop",
        config_of("k:9092", "orders", **(keys or {})).sources["shop"],
        max_bytes=100_000,
        catalogue=Catalogue(database, is_strict=is_strict),
        evaluator=evaluator,
        now=lambda: NOW,
    )


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, pool_size=2)
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def evaluator() -> AsyncIterator[Evaluator]:
    it = Evaluator(Metrics())
    running = asyncio.create_task(run_forever("evaluator", it.run_once))
    yield it
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_batch_ends_with_its_last_message_and_knows_what_is_absent(
    database: Database, evaluator: Evaluator
) -> None:
    messages = [
        MadeMessage(value=EVENT, offset=5),
        MadeMessage(value=b"{", offset=7),
        MadeMessage(value=EVENT, offset=9),
    ]
    made = await maker(database, evaluator).batch(messages, partition_id=1, begin=4)
    batch = made.batch
    assert (made.count, batch.begin, batch.end, batch.offsets, batch.absent) == (3, 4, 10, [5, 9], 3)
    assert [refusal.offset for refusal in batch.refusals] == [7]


async def test_a_batch_that_takes_long_has_the_first_messages_only(database: Database, evaluator: Evaluator) -> None:
    lines = b",".join(b'{"n": %d}' % n for n in range(4000))
    heavy = [MadeMessage(value=b'{"lines": [%s]}' % lines, key=b"acme", offset=offset) for offset in range(10)]
    made = await maker(database, evaluator, MAPPED).batch(heavy, partition_id=1, begin=0, seconds=0)
    assert (made.count, made.batch.end, made.batch.events[0].data) == (1, 1, b'{"n":3998}')


async def test_an_event_without_a_time_has_that_of_its_message_unless_that_is_a_mistake(
    database: Database, evaluator: Evaluator
) -> None:
    ahead = NOW + timedelta(days=2)
    messages = [
        MadeMessage(value=EVENT, offset=offset, timestamp=timestamp)
        for offset, timestamp in enumerate((0, -1, int(ahead.timestamp() * 1000), int(NOW.timestamp() * 1000)))
    ]
    made = await maker(database, evaluator).batch(messages, partition_id=1, begin=0)
    assert [event.occurred_at for event in made.batch.events] == [datetime(1970, 1, 1, tzinfo=UTC), None, None, NOW]


async def test_with_strict_types_other_types_are_refused(database: Database, evaluator: Evaluator) -> None:
    made = await maker(database, evaluator, is_strict=True).batch([MadeMessage(value=EVENT)], partition_id=1, begin=42)
    (refusal,) = made.batch.refusals
    assert refusal.reason.startswith("type: ")


def test_the_id_of_an_event_without_one_is_that_of_its_place() -> None:
    first = made_id("shop", MadeMessage())
    assert first == made_id("shop", MadeMessage())
    others = [MadeMessage(offset=43), MadeMessage(partition=1), MadeMessage(topic="x"), MadeMessage(timestamp=1)]
    assert len({first, made_id("other", MadeMessage()), *(made_id("shop", other) for other in others)}) == 6
