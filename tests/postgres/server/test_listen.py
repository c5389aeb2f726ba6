"""Notifications: received while connected, called once after connecting, and an error when the connection is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from eventstore import route_log
from eventstore.domain_events import ticks
from eventstore.domain_events.events import publish
from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.values.builders import draft, new_event


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[tuple["asyncio.Task[None]", Callable[[], "asyncio.Future[str]"]]]:
    notified: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(
        listen.listen(url, [listen.ROUTE, listen.TICK], lambda channel, _: notified.put_nowait(channel))
    )

    def heard() -> "asyncio.Future[str]":
        return asyncio.ensure_future(asyncio.wait_for(notified.get(), 10))

    try:
        assert {await heard(), await heard()} == {listen.ROUTE, listen.TICK}
        yield task, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_commit_notifies_its_channel(database: Database, database_url: str) -> None:
    async with listening(database_url) as (_, heard):
        async with database.transaction() as connection:
            await route_log.append(connection, draft())
        assert await heard() == listen.ROUTE
        await publish(database, [new_event()])
        await ticks.make(database)
        assert await heard() == listen.TICK


async def test_a_lost_connection_is_an_outage(database_url: str, sql: asyncpg.Connection) -> None:
    async with listening(database_url) as (task, _):
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(task, 10)


async def test_a_line_on_which_nothing_passes_is_an_outage(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_PROBE_SECONDS", 0.05)
    monkeypatch.setattr(listen, "DEADLINE_SECONDS", 0.5)
    async with fault_proxy(database_url) as proxy, listening(proxy.url) as (task, _):
        proxy.stall()
        with pytest.raises(StoreUnavailable, match="in time"):
            await asyncio.wait_for(task, 10)


async def test_a_quiet_line_is_probed_and_kept(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_PROBE_SECONDS", 0.01)
    async with listening(database_url) as (task, heard):
        async with database.connection() as connection, asyncio.timeout(10):
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT 1' AND pid <> pg_backend_pid() AND datname = current_database()"
            ):
                await asyncio.sleep(0)
        assert not task.done()
        await publish(database, [new_event()])
        await ticks.make(database)
        assert await heard() == listen.TICK


async def test_connecting_again_calls_for_what_was_missed(database: Database, database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        async with listening(proxy.url) as (task, _):
            proxy.cut()
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(task, 10)
            with pytest.raises(StoreUnavailable):
                await listen.listen(proxy.url, [listen.ROUTE], lambda _channel, _payload: None)
        proxy.restore()
        async with listening(proxy.url):
            pass  # notified: look at the state


async def test_its_session_is_told_apart_in_the_servers_list(database_url: str, sql: asyncpg.Connection) -> None:
    """Who ends it, or looks for who waits, must see whose it is."""
    async with listening(database_url):
        names = await sql.fetch(
            "SELECT application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    assert [name for (name,) in names] == ["hookledger listener"]


async def test_stopping_to_listen_leaves_no_connection(database_url: str, sql: asyncpg.Connection) -> None:
    async with listening(database_url):
        pass
    async with asyncio.timeout(10):
        while (
            await sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
            )
            > 1
        ):
            await asyncio.sleep(0)
