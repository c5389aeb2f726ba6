"""The register of processes: a process is alive if it renewed recently, by the database's clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

from eventstore.leases import lease
from eventstore.leases.process import heartbeat, leave
from eventstore.postgres.connect import Database
from tests.support.values.builders import process


async def test_the_first_beat_is_announced_and_the_next_are_not(database: Database, sql: asyncpg.Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await sql.add_listener("hookledger_lease", lambda *arguments: heard.put_nowait(arguments[3]))
    for owner in ("a", "a", "a", "b"):
        await heartbeat(database, process(owner), {})
    async with asyncio.timeout(20):
        assert [await heard.get(), await heard.get()] == ["a", "b"]


async def test_a_beat_keeps_the_process_alive_and_its_start_as_it_was(
    database: Database, sql: asyncpg.Connection
) -> None:
    await heartbeat(database, process("a"), {})
    await sql.execute("UPDATE hookledger.process SET started_at = '2020-01-01Z', seen_at = '2020-01-01Z'")
    assert (await lease.survey(database)).live == frozenset()
    await heartbeat(database, process("a"), {})
    assert (await lease.survey(database)).live == {"a"}
    (row,) = await sql.fetch(
        "SELECT owner, host, pid, version, extract(year FROM started_at)::int FROM hookledger.process"
    )
    assert tuple(row) == ("a", "test", 1, "0", 2020)


async def test_alive_is_who_was_seen_within_the_ttl_of_a_lease(database: Database, sql: asyncpg.Connection) -> None:
    for owner in "ab":
        await heartbeat(database, process(owner), {})
    await sql.execute(
        "UPDATE hookledger.process SET seen_at = clock_timestamp() - $1::interval WHERE owner = 'a'", lease.TTL
    )
    assert (await lease.survey(database)).live == {"b"}


async def test_a_process_that_did_not_leave_is_forgotten_after_an_hour(
    database: Database, sql: asyncpg.Connection
) -> None:
    for owner in "abc":
        await heartbeat(database, process(owner), {})
    for owner, age in (("a", 61), ("b", 59)):
        await sql.execute(
            "UPDATE hookledger.process SET seen_at = clock_timestamp() - $1::interval WHERE owner = $2",
            timedelta(minutes=age),
            owner,
        )
    await heartbeat(database, process("c"), {})
    assert {row["owner"] for row in await sql.fetch("SELECT owner FROM hookledger.process")} == {"b", "c"}


async def test_leaving_frees_all_that_stands_under_the_name_and_is_announced(
    database: Database, sql: asyncpg.Connection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await heartbeat(database, process("a"), await lease.acquire(database, "a", [0, 1, 2]))
    await heartbeat(database, process("b"), await lease.acquire(database, "b", [3]))
    await sql.add_listener("hookledger_lease", lambda *arguments: heard.put_nowait(arguments[3]))
    await leave(database, "a")
    found = await lease.survey(database)
    assert found.live == {"b"}
    assert found.held == {3: ("b", 1)}
    async with asyncio.timeout(20):
        assert await heard.get() == "a"
    await leave(database, "a")
    assert await lease.acquire(database, "b", [0, 1, 2]) == {0: 2, 1: 2, 2: 2}
