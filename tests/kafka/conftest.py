"""A broker that all tests of sources share, topics of a test's own, and sources that run in the test's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from tests.support.kafka.broker import Broker, broker
from tests.support.kafka.sources import SourceRuns
from tests.support.kafka.topics import Kafka


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[Broker]:
    with broker() as it:
        yield it


@pytest_asyncio.fixture
async def kafka(shared_broker: Broker) -> AsyncIterator[Kafka]:
    """A producer and administrator of the broker."""
    async with Kafka(shared_broker.address) as it:
        yield it


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    yield connection
    connection.terminate()


@pytest_asyncio.fixture
async def sources(database_url: str, kafka: Kafka) -> AsyncIterator[SourceRuns]:
    """Runs sources; those that still run are ended after the test."""
    async with SourceRuns(database_url, kafka) as it:
        yield it
