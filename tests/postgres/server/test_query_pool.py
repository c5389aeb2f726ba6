"""Queries of many parties share connections, of which none can take all; and what is given up ends on the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest
import pytest_asyncio

from eventstore.postgres.connect import LIMIT_SECONDS, Database
from eventstore.postgres.errors import Saturated, StoreError, StoreUnavailable
from eventstore.postgres.query_pool import FairShare, QueryPool


def share(*, patience_seconds: float = 0.05) -> tuple[FairShare, list[bool]]:
    refused: list[bool] = []
    return FairShare(places=4, of_one=2, on_refused=refused.append, patience_seconds=patience_seconds), refused


async def test_one_party_has_half_of_the_places_at_most() -> None:
    places, refused = share()
    async with places.place("acme"), places.place("acme"):
        with pytest.raises(Saturated, match="of your queries"):
            async with places.place("acme"):
                pytest.fail("a third place")
        async with places.place("beta"), places.place("beta"):
            with pytest.raises(Saturated, match="of all"):
                async with places.place("gamma"):
                    pytest.fail("a fifth place")
    assert refused == [True, False]
    async with AsyncExitStack() as held:
        for party in ("gamma", "gamma", "acme", "beta"):
            await held.enter_async_context(places.place(party))


async def test_a_query_that_waits_gets_the_place_that_becomes_free() -> None:
    places, refused = share(patience_seconds=10)
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(places.place("acme"))
        third = asyncio.create_task(places.place("acme").__aenter__())
        await asyncio.sleep(0)
        assert not third.done()
        await held.aclose()
        await third
    assert refused == []


async def test_a_caller_who_leaves_while_waiting_leaves_nothing_behind() -> None:
    places, _ = share(patience_seconds=10)
    async with places.place("acme"), places.place("acme"):
        waiting = asyncio.create_task(places.place("acme").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert places._parties == {}
    async with places.place("acme"), places.place("acme"):
        assert places._parties["acme"].users == 2


@pytest_asyncio.fixture
async def limited(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=2, limits_statements=True)
    await database.open()
    yield database
    await database.close()


async def test_the_server_ends_a_query_that_its_caller_has_given_up(limited: Database, sql: asyncpg.Connection) -> None:
    queries = QueryPool(limited, FairShare(places=2, of_one=1)).of("acme")
    with pytest.raises(StoreUnavailable):
        async with queries.connection(seconds=0.5) as connection:
            await connection.fetchval("SELECT pg_sleep(60)")
    async with asyncio.timeout(10):
        while await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active' AND pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.05)


async def test_the_next_use_of_a_connection_has_the_usual_limit_again(limited: Database) -> None:
    usual = f"{LIMIT_SECONDS:g}s"
    pids = set()
    for statement in ("SHOW statement_timeout", "SELECT 1 / 0"):
        with suppress(StoreError):
            async with limited.connection(seconds=8) as connection:
                assert await connection.fetchval("SHOW statement_timeout") == "8s"
                pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.fetchval(statement)
        async with limited.connection() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == usual
            pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
    assert len(pids) == 1
