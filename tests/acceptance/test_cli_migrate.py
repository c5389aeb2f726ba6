"""`hookledger migrate`: the schema, and a database that came from another cluster."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.processes.cli import CommandLine

EVENT = '{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {}}'


@pytest.fixture
async def elsewhere(hookledger: CommandLine, database_url: str) -> CommandLine:
    """A command line on a database that claims to come from another cluster, with one event."""
    hookledger("publish", stdin=EVENT)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
    await connection.close()
    return hookledger


def test_a_restored_database_is_refused_and_the_way_out_named(elsewhere: CommandLine) -> None:
    for command in (("run", "--listen", "127.0.0.1:0"), ("routes", "list"), ("explain", "evt_1")):
        ended = elsewhere(*command, code=1)
        assert "another PostgreSQL cluster" in ended.err
        assert "hookledger migrate --accept-restore" in ended.err
    migrated = elsewhere("migrate")
    assert "nothing to do" in migrated.out
    assert "another PostgreSQL cluster" in migrated.err
    assert "hookledger migrate --accept-restore" in migrated.err
    elsewhere("routes", "list", code=1)


async def test_a_database_whose_restore_has_not_ended_is_not_worked_on(
    hookledger: CommandLine, database_url: str
) -> None:
    """In its own cluster nothing has to be accepted. Unique keys and triggers come last in a restore."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP TRIGGER attempt_tally ON hookledger.attempt")
    await connection.close()
    ended = hookledger("run", "--listen", "127.0.0.1:0", code=1)
    assert "not whole: trigger attempt.attempt_tally is missing" in ended.err
    assert "wait for the restore to end" in ended.err


def test_the_plan_of_a_new_lineage_says_what_would_be_and_does_nothing(elsewhere: CommandLine) -> None:
    planned = elsewhere("migrate", "--plan", "--accept-restore", "--json").json
    assert (planned["done"], planned["steps"], planned["lineage"]["old_cluster"]) == (False, [], "42")
    assert "would begin a new lineage" in elsewhere("migrate", "--plan", "--accept-restore").out
    elsewhere("routes", "list", code=1)
    done = elsewhere("migrate", "--accept-restore", "--json").json
    assert (done["done"], done["lineage"]) == (True, planned["lineage"])
    elsewhere("routes", "list")


def test_a_new_lineage_says_what_will_be_read_and_what_cannot_be_known(elsewhere: CommandLine) -> None:
    out = elsewhere("migrate", "--accept-restore").out
    assert "began a new lineage" in out
    assert "from cluster" in out
    assert "42" in out
    assert "events that will be read" in out
    assert "after the dump was taken" in out
    assert elsewhere("migrate").err == ""
    again = elsewhere("migrate", "--accept-restore")
    assert "nothing to do" in again.out
    assert "in the cluster that it belongs to" in again.out
    assert elsewhere("migrate", "--accept-restore", "--json").json["lineage"] is None
    # A change of a route reads what was published before it.
    assert "before the route was created" in (elsewhere.create_route() and elsewhere("explain", "evt_1").out)


async def test_while_a_daemon_holds_shards_no_lineage_begins(elsewhere: CommandLine, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE hookledger.lease SET owner = 'host:1:a', expires_at = now() + interval '1 hour'")
    ended = elsewhere("migrate", "--accept-restore", code=1)
    assert ended.err.startswith("error: 16 shards are leased to host:1:a")
    assert "try: stop every daemon" in ended.err
    await connection.execute("UPDATE hookledger.lease SET expires_at = now()")
    await connection.close()
    elsewhere("migrate", "--accept-restore")


def test_an_empty_database_gets_its_schema_and_no_lineage(
    without_database: CommandLine, empty_database_url: str
) -> None:
    without_database.environment["HOOKLEDGER_DATABASE__URL"] = empty_database_url
    assert without_database("migrate", "--plan", "--accept-restore", "--json").json["lineage"] is None
    done = without_database("migrate", "--accept-restore", "--json").json
    assert (done["steps"], done["lineage"]) == (["schema.sql"], None)
    without_database("routes", "list")
