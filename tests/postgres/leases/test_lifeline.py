"""Lifelines in the table of processes: who is missed, who may be buried, and what a heartbeat makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg

from eventstore.leases import lease, lifeline
from eventstore.leases.lifeline import Lifeline, Missed
from eventstore.leases.process import Renewal, heartbeat, leave
from eventstore.postgres.connect import Database
from tests.support.postgres.queries import Connect
from tests.support.values.builders import process


async def watched(database: Database, connection: asyncpg.Connection, owner: str, *, number: int = 1) -> Missed:
    """A process whose row names the session of `connection`. Returns what it is when it is missed."""
    session = await lifeline.identify(connection, number=number)
    assert (await heartbeat(database, process(owner), {}, lifeline=session)).is_watched
    assert session.pid is not None
    assert session.started_at is not None
    return Missed(owner, session.pid, session.started_at)


async def test_a_process_is_missed_once_its_session_is_gone(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    session, others = await connect(), await connect()
    dead = await watched(database, session, "a")
    await watched(database, others, "b")
    await heartbeat(database, process("c"), {})
    assert (await lifeline.probe(sql, "me")).missed == frozenset()
    session.terminate()
    async with asyncio.timeout(20):
        while not (await lifeline.probe(sql, "me")).missed:
            pass
    assert (await lifeline.probe(sql, "me")).missed == {dead}
    assert (await lifeline.probe(sql, "a")).missed == frozenset()


async def test_another_session_of_the_same_pid_is_not_the_lifeline(database: Database, sql: asyncpg.Connection) -> None:
    own = await watched(database, sql, "a")
    earlier = own.started_at - timedelta(seconds=1)
    await sql.execute("UPDATE hookledger.process SET lifeline_started_at = $1", earlier)
    assert (await lifeline.probe(sql, "me")).missed == {Missed("a", own.pid, earlier)}


async def test_who_may_not_see_when_a_session_began_takes_it_for_alive(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    own = await watched(database, sql, "a")
    await sql.execute("UPDATE hookledger.process SET lifeline_started_at = $1", own.started_at - timedelta(seconds=1))
    other = await connect()
    await other.execute(
        "GRANT USAGE ON SCHEMA hookledger TO hookledger_producer;"
        " GRANT SELECT ON hookledger.process, hookledger.steady_clock TO hookledger_producer;"
        " GRANT EXECUTE ON FUNCTION hookledger.timeline() TO hookledger_producer; SET ROLE hookledger_producer"
    )
    assert (await lifeline.probe(other, "me")).missed == frozenset()


async def test_a_burial_frees_the_leases_and_is_announced_and_the_row_stays(
    database: Database, sql: asyncpg.Connection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    dead = await watched(database, sql, "a")
    epochs = await lease.acquire(database, "a", [1, 2])
    await lease.acquire(database, "b", [3])
    await sql.add_listener("hookledger_lease", lambda *arguments: heard.put_nowait(arguments[3]))
    assert await lifeline.bury(database, dead) == [1, 2]
    found = await lease.survey(database)
    assert (found.live, found.held) == (frozenset(), {3: ("b", 1)})
    assert await sql.fetchval("SELECT count(*) FROM hookledger.process") == 1
    async with asyncio.timeout(20):
        assert await heard.get() == "a"
    assert await lifeline.bury(database, dead) is None
    assert (await heartbeat(database, process("a"), epochs)).held == frozenset()
    assert await lease.acquire(database, "b", [1, 2]) == {1: 2, 2: 2}


async def test_nobody_is_buried_who_has_another_lifeline_or_has_left(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    dead = await watched(database, sql, "a", number=1)
    epochs = await lease.acquire(database, "a", [1, 2])
    await watched(database, await connect(), "a", number=2)
    assert await lifeline.bury(database, dead) is None
    assert (await heartbeat(database, process("a"), epochs)).held == {1, 2}
    await leave(database, "a")
    assert await lifeline.bury(database, dead) is None


async def test_a_heartbeat_that_runs_late_does_not_bring_an_old_lifeline_back(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    late = await lifeline.identify(sql, number=1)
    present = await watched(database, await connect(), "a", number=2)
    assert not (await heartbeat(database, process("a"), {}, lifeline=late)).is_watched
    (row,) = await sql.fetch("SELECT owner, lifeline_pid, lifeline_started_at FROM hookledger.process")
    assert Missed(*row) == present
    none = Lifeline(number=3)
    assert not (await heartbeat(database, process("a"), {}, lifeline=none)).is_watched
    assert not (await heartbeat(database, process("a"), {}, lifeline=late)).is_watched
    assert await sql.fetchval("SELECT lifeline_pid FROM hookledger.process") is None


async def test_a_session_that_this_server_does_not_have_is_not_noted(
    database: Database, sql: asyncpg.Connection
) -> None:
    here = await lifeline.identify(sql, number=1)
    assert here.started_at is not None
    elsewhere = replace(here, started_at=here.started_at - timedelta(seconds=1))
    renewal = await heartbeat(database, process("a"), {}, lifeline=elsewhere)
    assert renewal == Renewal(held=frozenset(), is_watched=False, txid=renewal.txid)
    assert (await lifeline.probe(sql, "me")).missed == frozenset()


async def test_a_new_lifeline_and_a_burial_at_once_have_one_winner_and_no_deadlock(
    database: Database, connect: Connect
) -> None:
    """Either nobody is buried, or the heartbeat with the new lifeline finds the leases lost."""
    connections = [await connect(), await connect()]
    for turn in range(60):
        owner, (old, new) = f"owner-{turn}", connections
        dead = await watched(database, old, owner, number=1)
        epochs = await lease.acquire(database, owner, range(16))
        session = await lifeline.identify(new, number=2)
        beat = heartbeat(database, process(owner), epochs, lifeline=session)
        burial = lifeline.bury(database, dead)
        renewal: Renewal
        if turn % 2:
            renewal, freed = await asyncio.gather(beat, burial)
        else:
            freed, renewal = await asyncio.gather(burial, beat)
        assert renewal.is_watched
        assert (freed, renewal.held) in (
            (None, frozenset(range(16))),
            (list(range(16)), frozenset()),
        )
        await leave(database, owner)
