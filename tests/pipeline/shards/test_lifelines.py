"""Lifelines of running processes: who is found dead, who is not, and that nobody sends for a shard that was taken."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from daemon.core.rendezvous import preferred
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.shards.lifelines import Lifelines
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events.events import SHARDS
from eventstore.domain_events.glances import Glance
from eventstore.leases import lifeline
from eventstore.leases.lease import TTL
from eventstore.leases.lifeline import PERMIT_SECONDS, Lifeline, Missed, Probed
from eventstore.postgres.servers.dialing import Connection
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.receivers.receiver import receiver
from tests.support.until import until
from tests.support.values.builders import TENANTS

_EPOCHS = "SELECT shard, owner, epoch FROM hookledger.lease ORDER BY shard"
_TERMINATE = """
SELECT pg_terminate_backend(lifeline_pid) FROM hookledger.process WHERE lifeline_pid IS NOT NULL AND owner LIKE $1
"""


def lifelines(it: PipelineProcess) -> Lifelines:
    return it.pipeline._lifelines


def owner(it: PipelineProcess) -> str:
    return it.pipeline._leases._this.owner


def is_watched(it: PipelineProcess) -> bool:
    return lifelines(it)._is_noted


def is_settled(*processes: PipelineProcess) -> bool:
    """True if each shard is where it belongs, and each process's row names its lifeline."""
    owners = {owner(it): it for it in processes}
    return all(map(is_watched, processes)) and all(
        (shard in it.pipeline.shards.held) is (it is owners[preferred(shard, owners)])
        for shard in range(SHARDS)
        for it in processes
    )


async def until_looked(it: PipelineProcess, *, since: float) -> None:
    """Waits for a look at the others' lifelines that began after `since`, and that missed nobody."""
    await until(lambda: lifelines(it)._answered_at > since and not lifelines(it)._missed_at, seconds=30)


@asynccontextmanager
async def server(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_session_that_is_terminated_is_replaced_and_no_shard_moves(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url) as first,
        pipeline_process(database_url) as second,
    ):
        await until(lambda: is_settled(first, second), seconds=30)
        before, number = await first.rows(_EPOCHS), lifelines(first).current.number
        (done,) = await second.rows(_TERMINATE, owner(first))
        assert done["pg_terminate_backend"]
        await until(lambda: lifelines(first).current.number > number and is_watched(first), seconds=30)
        await until_looked(second, since=time.monotonic())
        assert await first.rows(_EPOCHS) == before
        for tenant in TENANTS:
            await first.route(there.url, tenant=tenant)
            await first.publish(tenant=tenant)
        await there.count(SHARDS, seconds=30)


async def test_when_all_sessions_end_at_once_everybody_waits_for_the_others_to_come_back(database_url: str) -> None:
    """As after a restart of PostgreSQL. The first process comes back late: after its permit has ended."""
    patient = Tunables(lifeline_return_seconds=30.0)
    async with pipeline_process(database_url) as first, pipeline_process(database_url, tunables=patient) as second:
        await until(lambda: is_settled(first, second), seconds=30)
        before, number = await first.rows(_EPOCHS), lifelines(second).current.number
        began, goes_on = asyncio.Event(), asyncio.Event()
        begin = lifelines(first).begin

        async def late(connection: Connection) -> None:
            began.set()
            await goes_on.wait()
            await begin(connection)

        lifelines(first).begin = late  # type: ignore[method-assign] # a session that begins when we say
        async with first.pipeline._leases._beating:  # nor does it note that it has none
            await first.rows(_TERMINATE, "%")
            await began.wait()
            await until(lambda: lifelines(second).current.number > number and is_watched(second), seconds=30)
            await until(lambda: lifelines(second)._missed_at, seconds=30)
            ended_at = max(*lifelines(second)._missed_at.values(), first.pipeline.shards.permitted_until)
            await until(lambda: lifelines(second)._answered_at > ended_at + PERMIT_SECONDS + 0.2, seconds=30)
            assert lifelines(second)._missed_at
            assert lifelines(second).dead() == []
            goes_on.set()
            await until(lambda: lifelines(first).current.pid is not None)
        await until(lambda: is_settled(first, second), seconds=30)
        await until_looked(second, since=time.monotonic())
        assert await first.rows(_EPOCHS) == before


async def test_a_process_that_was_cut_off_has_no_permit_when_its_shards_are_taken(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL sees its sessions end, as if it were dead. It lives, and may send until its permit has ended."""
    async with (
        fault_proxy(database_url) as proxy,
        pipeline_process(proxy.url) as first,
        pipeline_process(database_url) as second,
    ):
        await until(lambda: is_settled(first, second), seconds=30)
        theirs = list(first.pipeline.shards.held)
        allowed: list[bool] = []
        bury = lifeline.bury

        async def noticing(*arguments: object) -> list[int] | None:
            allowed.extend(first.pipeline.shards.is_certain(shard, time.monotonic()) for shard in theirs)
            return await bury(*arguments)  # type: ignore[arg-type] # the original's arguments

        monkeypatch.setattr(lifeline, "bury", noticing)
        proxy.cut()
        cut_at = time.monotonic()
        assert all(first.pipeline.shards.is_certain(shard, cut_at) for shard in theirs)
        await until(lambda: len(second.pipeline.shards.held) == SHARDS, seconds=30)
        assert time.monotonic() - cut_at < TTL.total_seconds() - 2.0
        assert set(allowed) == {False}
        # Its leases would have lasted on, and it does not know yet that they are gone.
        assert sorted(first.pipeline.shards.held) == sorted(theirs)
        assert not any(first.pipeline.shards.is_certain(shard, time.monotonic()) for shard in theirs)
        proxy.restore()
        await until(lambda: is_settled(first, second), seconds=30)
        assert all(first.pipeline.shards.is_certain(shard, time.monotonic()) for shard in theirs)


async def test_a_process_that_is_stalled_is_not_found_dead(database_url: str) -> None:
    """As a frozen process or a host that is cut off: its sessions stay open."""
    quick = Tunables(probe_seconds=0.05)
    async with (
        fault_proxy(database_url) as proxy,
        pipeline_process(proxy.url) as first,
        pipeline_process(database_url, tunables=quick) as second,
    ):
        await until(lambda: is_settled(first, second), seconds=30)
        before = await second.rows(_EPOCHS)
        proxy.stall()
        stalled_at = time.monotonic()
        await until(lambda: time.monotonic() > first.pipeline.shards.permitted_until, seconds=10)
        await until_looked(second, since=stalled_at + PERMIT_SECONDS + 0.2)
        assert await second.rows(_EPOCHS) == before
        proxy.restore()


async def test_without_a_session_to_be_had_a_process_sends_on_and_is_not_found_dead(database_url: str) -> None:
    """All connections that PostgreSQL has left are in use: a process keeps those that it has."""
    async with (
        receiver() as there,
        pipeline_process(database_url) as first,
        pipeline_process(database_url) as second,
    ):
        await until(lambda: is_settled(first, second), seconds=30)
        before = await first.rows(_EPOCHS)

        async def refused(_connection: Connection) -> None:
            raise ConnectionRefusedError

        lifelines(first).begin = refused  # type: ignore[assignment, method-assign] # a session that is not to be had
        await second.rows(_TERMINATE, owner(first))
        await until(lambda: first.pipeline.shards.permitted_until == math.inf, seconds=30)
        await until_looked(second, since=time.monotonic())
        for tenant in TENANTS:
            await first.route(there.url, tenant=tenant)
            await first.publish(tenant=tenant)
        await there.count(SHARDS, seconds=30)
        assert await first.rows(_EPOCHS) == before


async def test_a_new_session_permits_nothing_before_a_heartbeat_has_noted_it(database_url: str) -> None:
    shards = HeldShards()
    it = Lifelines("me", shards)
    async with server(database_url) as connection:
        await it.begin(connection)
        first_permit = shards.permitted_until
        assert first_permit < math.inf
        await it.probe(connection)
        assert shards.permitted_until == first_permit
        it.noted(it.current, is_watched=True)
        assert shards.permitted_until > first_permit
        it.ended()
        noted = shards.permitted_until
        it.noted(Lifeline(number=it.current.number - 1), is_watched=False)
        assert shards.permitted_until == noted
        await it.begin(connection)
        await it.probe(connection)
        assert shards.permitted_until == noted


async def test_a_session_on_another_server_than_the_leases_is_given_up(database_url: str) -> None:
    shards = HeldShards()
    it = Lifelines("me", shards)
    async with server(database_url) as connection:
        await it.begin(connection)
        it.noted(it.current, is_watched=False)
        assert it.current.pid is None
        it.noted(it.current, is_watched=False)
        assert shards.permitted_until == math.inf
        with pytest.raises(ConnectionAbortedError):
            await it.probe(connection)


async def test_who_is_missed_is_dead_only_after_the_longest_permit_and_if_missed_all_the_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    other = Missed("other", 1, datetime.now(UTC))
    missing: set[Missed] = {other}

    async def probe(_connection: object, _owner: str) -> Probed:
        nonlocal clock
        clock += 0.1  # a look takes time, and counts from its end
        return Probed(frozenset(missing), Glance("1:1:", 1, datetime.now(UTC), 0))

    monkeypatch.setattr(lifeline, "probe", probe)
    it = Lifelines("me", HeldShards())
    async with server(database_url) as connection:
        await it.begin(connection)
        assert await it.probe(connection) == 0.5
        clock = 101.1
        assert it.dead() == []
        clock = 101.21
        assert it.dead() == [other]
        missing.clear()
        await it.probe(connection)
        missing.add(other)
        assert await it.probe(connection) == 0.5
        assert it.dead() == []
        clock += 0.9
        assert await it.probe(connection) == pytest.approx(0.1)
        # After a session of its own is lost, it waits longer.
        it.ended()
        await it.begin(connection)
        await it.probe(connection)
        clock += 2.8
        assert it.dead() == []
        clock += 0.2
        assert it.dead() == [other]
        it.buried(other)
        assert it.dead() == []


async def test_the_next_probe_comes_later_while_nothing_happens(database_url: str) -> None:
    is_quiet = False
    it = Lifelines("me", HeldShards(), on_glance=lambda _glance, _asked_at: is_quiet)
    async with server(database_url) as connection:
        await it.begin(connection)
        is_quiet = True
        assert await it.probe(connection) == 0.5, "no heartbeat has noted it: the leases may be elsewhere"
        it.noted(it.current, is_watched=True)
        assert await it.probe(connection) == 0.75
        is_quiet = False
        assert await it.probe(connection) == 0.5
