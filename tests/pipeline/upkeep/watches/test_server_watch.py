"""What is wrong with the server and no statement tells makes the daemon unready, until it is put right."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.watches.server_watch import ServerWatch
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from tests.support.pipeline.process import pipeline_process
from tests.support.until import until

OFTEN = Tunables(server_look_seconds=0.05)


async def test_a_partition_that_somebody_detached_makes_the_daemon_unready_until_it_is_back(database_url: str) -> None:
    async with pipeline_process(database_url, tunables=OFTEN) as it:
        sql = await asyncpg.connect(database_url)
        today = await sql.fetchval("SELECT 'hookledger.domain_event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
        assert it.pipeline.stage_faults == []
        await sql.execute(f"ALTER TABLE hookledger.domain_event DETACH PARTITION {today}")
        await until(lambda: it.pipeline.stage_faults != [])
        with pytest.raises(StoreUnavailable, match="no partition"):
            await it.publish()
        found = await schema.detached_partition(it.database)
        assert found is not None
        await sql.execute(found.hint.removeprefix("run "))
        await until(lambda: it.pipeline.stage_faults == [])
        assert await it.publish()
        await sql.close()


@pytest.mark.parametrize("needs_durability", [True, False])
async def test_a_server_that_begins_to_lose_what_it_acknowledged_is_told_once(
    database_url: str, needs_durability: bool
) -> None:
    database = Database(database_url, pool_size=1)
    await database.open()
    watch = ServerWatch(database, Tunables(server_look_seconds=0.0), needs_durability=needs_durability)

    async def turn(setting: str) -> None:
        async with database.connection() as connection:
            own = await connection.fetchval("SELECT quote_ident(current_database())")
            await connection.execute(f"ALTER DATABASE {own} {setting}")
        await database.rest()  # its sessions begin anew
        database.wake()

    with capture_logs() as logged:
        await watch.run_once()
        assert watch.faults == []
        await turn("SET synchronous_commit = off")
        for _ in range(2):
            await watch.run_once()
            assert any("synchronous_commit=off" in fault for fault in watch.faults) is needs_durability
        await turn("RESET synchronous_commit")
        await watch.run_once()
        assert watch.faults == []
    await database.close()
    assert [line["event"] for line in logged] == ["database.unsafe"] * needs_durability
