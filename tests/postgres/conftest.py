"""A pool on a database of the test's own, and a separate connection, such as an operator or an attacker has."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from eventstore.postgres.connect import Database
from tests.support.postgres.databases import FEW_DAYS_AHEAD
from tests.support.postgres.queries import Connect


@pytest.fixture
def days_ahead() -> int:
    """No daemon makes the partitions of more days."""
    return FEW_DAYS_AHEAD


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    pool = Database(database_url, pool_size=8)
    await pool.open()
    yield pool
    await pool.close()


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    yield connection
    connection.terminate()


@pytest_asyncio.fixture
async def connect(database_url: str) -> AsyncIterator[Connect]:
    """A function that opens any number of connections, which are closed after the test."""
    made: list[asyncpg.Connection] = []

    async def another() -> asyncpg.Connection:
        made.append(await asyncpg.connect(database_url, server_settings={"timezone": "UTC"}))
        return made[-1]

    yield another
    for connection in made:
        connection.terminate()
