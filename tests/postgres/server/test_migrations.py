"""Migrations of a store that is in use: step by step, beside nobody, and again after a kill."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from daemon.core.routing.route import RouteConfig, config_to_body
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.seals import stored
from tests.support.audit.seals import audited, seal
from tests.support.pipeline.process import pipeline_process
from tests.support.postgres.queries import until_waiting
from tests.support.postgres.schema_lines import describe
from tests.support.values.builders import ROUTE

OLDER_SCHEMAS = Path(__file__).parent / "older_schemas"
MIGRATIONS = Path(schema.__file__).parents[1] / "migrations"

# A migration that was released is never changed: what it did to some store is done. Add the new one here.
DIGESTS = {
    "2_failover.sql": "d05ab7cd7e2e0b17f2f9a33b770018b1f19cbdd45c2f0bf8d5f49bdfa0480c6e",
    "3_field.sql": "8b019a414bc6020ff6c34dcd49c584341911aa42a91c2dd1dfaafc3b0356be64",
    "4_proven.sql": "f012ff88a3e83fd8ef069904d1584911234783d6a0ca40b7a7a5b701243fcfad",
    "5_sources.sql": "4c5533db71506324d15212de1307cbfe2602da8e05465362a2aa4b3790517ede",
    "6_clear.sql": "0e278adfaaba3b14e631b1685a6a3cc40b7513bb55891ce55d811fedfeeea9ac",
    "7_requested.sql": "90a0f8fc3314a07b20d6cfdd460df9e6d3cf67e52dd64ca6be87be909d3c887a",
    "8_authentic.sql": "788a2581c31eb1dcaa394cef651fa29a14efd68fbe85cf1ea51762577aaf3ddd",
    "9_signed.sql": "8013bf5ae6e60c12ba6670000b99089a7da88378ff08e3dd55c7dc2207131a70",
}

CREATED = {
    "enabled": True,
    "config": config_to_body(RouteConfig(name="Orders", target_url="http://127.0.0.1:9/", event_types=("*",))),
    "key": {"id": "k1", "fingerprint": "f"},
}


@pytest.fixture
def days_ahead() -> int:
    """As many as with a daemon."""
    return schema.PARTITION_DAYS_AHEAD


@pytest_asyncio.fixture
async def old(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of version 1."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute((OLDER_SCHEMAS / "1.sql").read_text())
    yield connection
    connection.terminate()


@pytest_asyncio.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    opened = Database(empty_database_url, pool_size=2)
    await opened.open()
    yield opened
    await opened.close()


def test_a_migration_that_was_released_stays_as_it_is() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in MIGRATIONS.glob("*.sql")}
    assert found == DIGESTS


def test_each_version_has_one_migration() -> None:
    versions = sorted(int(path.name.split("_")[0]) for path in MIGRATIONS.glob("*.sql"))
    assert versions == list(range(2, schema.VERSION + 1))


async def test_events_and_waiting_deliveries_of_an_older_store_are_sent(
    old: asyncpg.Connection, database: Database, empty_database_url: str
) -> None:
    await old.execute("SELECT hookledger.publish('acme', 'order.create', '{}', 'e1')")
    await old.execute(
        "SELECT hookledger.append_route_event($1, 'acme', 1, 'created', 'a', 'api', NULL, NULL, NULL, NULL, $2)",
        ROUTE,
        json.dumps(CREATED),
    )
    await old.execute("SELECT hookledger.publish('acme', 'order.create', '{}', 'e2')")
    await old.execute("SELECT hookledger.make_tick()")
    await old.execute("SELECT hookledger.publish('acme', 'order.create', '{}', 'e3')")
    await schema.migrate(database)
    await schema.check(database)
    async with pipeline_process(empty_database_url) as it:
        await it.until_accounted()
        assert set(await it.outcomes()) == {"e2", "e3"}


OF_VERSION_6 = """
SET search_path = hookledger;
INSERT INTO resend (route_id, seq, actor, origin) VALUES (gen_random_uuid(), 1, 'anna', 'api'), (gen_random_uuid(), 2, 'ben', 'api');
INSERT INTO replay (id, route_id, tenant, wanted, since, until, sendable_from, actor, origin, state, ended_at, total)
SELECT gen_random_uuid(), gen_random_uuid(), 'acme', 'all', now(), now(), now(), 'anna', 'api', state,
       CASE state WHEN 'running' THEN NULL ELSE now() END, 1
  FROM unnest(ARRAY['running', 'done', 'cancelled']) state;
INSERT INTO lost_log (timeline, first_tick, last_tick, first_pos, last_pos, found_by) VALUES (2, 1, 3, 1, 0, 'daemon');
INSERT INTO api_token (id, kind, name, hash, created_by, revoked_at)
VALUES ('a', 'admin', '', sha256(''), 'cli', NULL), ('b', 'admin', '', sha256(''), 'cli', now())
"""


async def test_the_first_seal_covers_the_requests_of_a_store_of_version_6(
    empty_database_url: str, database: Database
) -> None:
    sql = await asyncpg.connect(empty_database_url)
    await sql.execute((OLDER_SCHEMAS / "6.sql").read_text())
    await sql.execute(OF_VERSION_6)
    await schema.migrate(database)
    assert not (await seal(database)).is_current
    row = await stored.newest(database)
    assert row is not None
    texts = (row.resends, row.replays, row.replay_ends, row.losses, row.tokens, row.token_ends)
    assert [int((text or "").split()[1]) for text in texts] == [2, 3, 2, 1, 2, 1]
    assert (await seal(database)).is_current
    assert (await audited(database)).findings == []
    for change in ("resend SET actor = 'carl'", "replay SET scheduled = 7", "api_token SET name = 'carl'"):
        await sql.execute(f"SET session_replication_role = replica; UPDATE hookledger.{change}")
    assert [str(each.part) for each in (await audited(database)).findings] == ["resend", "replay", "api_token"]
    await sql.close()


async def test_a_store_is_not_migrated_beside_daemons_of_the_older_version(
    old: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_PATIENCE_SECONDS", 0.0)
    await old.execute(
        "UPDATE hookledger.lease SET owner = 'node-1:7', expires_at = now() + interval '1 h' WHERE shard = 3"
    )
    with pytest.raises(SchemaMismatch, match="node-1:7") as refusal:
        await schema.migrate(database)
    assert "stop every daemon" in refusal.value.hint
    assert (await schema.plan(database)).current == 1


async def test_a_daemon_that_was_killed_is_waited_for(old: asyncpg.Connection, database: Database) -> None:
    await old.execute(
        "UPDATE hookledger.lease SET owner = 'node-1:7', epoch = 5, expires_at = now() + interval '2 s' WHERE shard = 3"
    )
    await schema.migrate(database)
    await schema.check(database)
    # Should it only have been frozen, it is fenced.
    assert await old.fetchval("SELECT (owner, epoch) = (NULL, 6) FROM hookledger.lease WHERE shard = 3") is None
    assert await old.fetchval("SELECT epoch FROM hookledger.lease WHERE shard = 3") == 6


async def test_producers_do_not_queue_behind_a_migration_that_waits_for_a_table(
    old: asyncpg.Connection, database: Database, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_STEP_LOCK_SECONDS", 1)
    await old.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'open')")
    migrating = asyncio.create_task(schema.migrate(database))
    other = await asyncpg.connect(empty_database_url)
    try:
        await until_waiting(other)
        await other.execute("SELECT hookledger.publish('acme', 'order.create', '{}', 'beside')", timeout=10)
        await old.execute("COMMIT")
        await migrating
        assert await other.fetchval("SELECT count(*) FROM hookledger.domain_event") == 2
    finally:
        other.terminate()


async def test_a_migration_that_is_killed_in_the_middle_goes_on_at_the_next_start(
    old: asyncpg.Connection, database: Database, empty_database_url: str, database_url: str
) -> None:
    # It stops at the table of events, when the locks were made already.
    await old.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'open')")
    program = (
        "import asyncio, sys\n"
        "from eventstore.postgres import schema\n"
        "from eventstore.postgres.connect import Database\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    await database.open()\n"
        "    await schema.migrate(database)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, empty_database_url])
    try:
        watcher = await asyncpg.connect(empty_database_url)
        await until_waiting(watcher, seconds=30)
    finally:
        process.kill()
        process.wait()
    assert (await schema.plan(database)).current == 1
    await old.execute("COMMIT")
    await schema.migrate(database)
    await schema.check(database)
    fresh = await asyncpg.connect(database_url)
    assert await describe(watcher) == await describe(fresh)
    watcher.terminate()
    fresh.terminate()
