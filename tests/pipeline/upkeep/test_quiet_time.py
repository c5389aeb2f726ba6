"""When nothing happens any more, sessions of PostgreSQL begin anew: once, until something happens."""

from __future__ import annotations

import pytest

from daemon.pipeline.upkeep import quiet_time
from daemon.pipeline.upkeep.quiet_time import QuietTime
from eventstore.postgres.connect import Database
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until


async def test_a_quiet_minute_ends_the_sessions_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet_time, "LOOK_SECONDS", 0.0)
    database = Database(database_url, pool_size=1)
    await database.open()
    quiet = QuietTime(database)

    async def session_after_a_look() -> int:
        await quiet.run_once()
        async with database.connection() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    first = await session_after_a_look()
    assert not quiet.is_quiet
    assert await session_after_a_look() == first
    quiet._heard_at -= quiet_time.QUIET_SECONDS
    second = await session_after_a_look()
    assert second != first
    assert await session_after_a_look() == second
    quiet.heard()
    assert await session_after_a_look() == second
    quiet._heard_at -= quiet_time.QUIET_SECONDS
    assert await session_after_a_look() != second
    await database.close()


async def test_an_event_ends_the_quiet(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        quiet = it.pipeline._upkeep.quiet_time
        quiet._heard_at -= quiet_time.QUIET_SECONDS
        await until(lambda: quiet.is_quiet)
        await it.publish()
        await there.count(1)
        await until(lambda: not quiet.is_quiet)
