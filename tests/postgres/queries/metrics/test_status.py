"""The status of the installation, computed from the tables."""

from __future__ import annotations

import json
from datetime import timedelta

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import SHARDS, NewEvent
from eventstore.leases import lease
from eventstore.postgres.connect import SERVER_SETTINGS, Database
from eventstore.queries.metrics import status
from tests.support.postgres.queries import Connect

ROUTE = "00000000-0000-0000-0000-000000000001"


async def publish(database: Database, event_id: str) -> None:
    await domain_events.publish(database, [NewEvent(tenant="acme", id=event_id, type="order.create", data=b"{}")])


async def test_a_new_installation_waits_for_nothing(database: Database) -> None:
    found = await status.read(database)
    assert [shard.shard for shard in found.shards] == list(range(SHARDS))
    assert {(s.owner, s.expires_at, s.checkpoint, s.lag_seconds, s.retrying, s.parked) for s in found.shards} == {
        (None, None, 0, 0.0, 0, 0)
    }
    assert (found.processes, found.retrying, found.parked, found.lag_seconds, found.oldest_seconds) == ((), 0, 0, 0, 0)
    assert (found.log.tick, found.log.tick_at, found.log.route_pos, found.log.is_unread) == (0, None, 0, False)


async def test_dead_rows_that_a_snapshot_keeps_are_counted(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    async def change() -> None:
        for _ in range(20):
            await sql.execute("UPDATE hookledger.checkpoint SET tick = tick")

    await change()
    await sql.execute("SELECT pg_stat_force_next_flush()")
    before = (await status.read(database)).server.dead_rows
    reader = await connect()
    await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT")
    await change()
    await sql.execute("SELECT pg_stat_force_next_flush()")
    assert (await status.read(database)).server.dead_rows >= before + 19 * SHARDS
    await reader.execute("COMMIT")
    await sql.execute("VACUUM hookledger.checkpoint")
    await sql.execute("SELECT pg_stat_force_next_flush()")
    assert (await status.read(database)).server.dead_rows <= before


async def test_what_a_healthy_server_says_of_itself(database: Database, sql: asyncpg.Connection) -> None:
    age = "SELECT max(age(datfrozenxid)) FROM pg_database"
    before = await sql.fetchval(age)
    found = (await status.read(database)).server
    assert before <= 2**31 - 3_000_000 - found.transactions_left <= await sql.fetchval(age)  # others write meanwhile
    assert not found.sorts_otherwise


@pytest.mark.parametrize(("version", "expected"), [("0", True), ("1", False), (None, False)])
async def test_another_version_of_the_order_of_text_is_noticed(
    database: Database, sql: asyncpg.Connection, version: str | None, expected: bool
) -> None:
    if sql.get_server_version().major < 17:
        pytest.skip("this PostgreSQL has no order of its own with a version")
    await sql.execute(
        "UPDATE pg_database SET datlocprovider = 'b', datlocale = 'C.UTF-8', datcollversion = $1 "
        "WHERE datname = current_database()",
        version,
    )
    assert (await status.read(database)).server.sorts_otherwise is expected


async def test_a_lease_has_an_owner_as_long_as_it_is_good(database: Database, sql: asyncpg.Connection) -> None:
    await lease.acquire(database, "me", [3, 4], ttl=timedelta(hours=1))
    await sql.execute("UPDATE hookledger.lease SET expires_at = clock_timestamp() - interval '1 s' WHERE shard = 4")
    shards = (await status.read(database)).shards
    assert [(s.shard, s.owner, s.epoch) for s in shards if s.epoch] == [(3, "me", 1), (4, None, 1)]
    assert all(s.expires_at is not None for s in shards[3:5])


async def test_a_process_is_alive_while_it_is_seen(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO hookledger.process (owner, host, pid, version, master_key, started_at, seen_at) VALUES "
        "('here', 'a', 1, '1', '', now() - interval '1 h', now() + interval '1 h'),"
        "('gone', 'b', 2, '2', '', now() - interval '2 h', now() - interval '11 s')"
    )
    found = (await status.read(database)).processes
    assert [(p.owner, p.host, p.pid, p.version, p.is_alive) for p in found] == [
        ("gone", "b", 2, "2", False),
        ("here", "a", 1, "1", True),
    ]


async def test_what_no_tick_shows_is_unread_and_what_no_checkpoint_covers_is_lag(
    database: Database, sql: asyncpg.Connection
) -> None:
    await publish(database, "evt_1")
    assert (await status.read(database)).log.is_unread
    await ticks.make(database)
    found = await status.read(database)
    assert (found.log.tick, found.log.is_unread) == (1, False)
    assert all(0 < shard.lag_seconds < 60 for shard in found.shards)
    await sql.execute("UPDATE hookledger.checkpoint SET tick = 1 WHERE shard <> 5")
    found = await status.read(database)
    assert [shard.shard for shard in found.shards if shard.lag_seconds] == [5]
    assert found.lag_seconds == found.shards[5].lag_seconds


async def test_retries_packed_rows_and_ranges_are_counted_by_shard(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        f"""
        INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)
        SELECT '{ROUTE}', n, now() - n * interval '1 minute', now(), 1, n % 2, 1, now(), 'acme' FROM generate_series(1, 3) n;
        INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times, tenant)
        SELECT n % 2, 1, n, '{ROUTE}', n, ARRAY[n, n], ARRAY[n, n], ARRAY[now() - interval '1 h', now()], ARRAY[now(), now()], 'acme'
          FROM generate_series(1, 3) n;
        INSERT INTO hookledger.parked_range VALUES ('{ROUTE}', 1, 7, 1000);
        """
    )
    found = await status.read(database)
    assert [(s.retrying, s.parked) for s in found.shards[:3]] == [(1, 2), (2, 1004), (0, 0)]
    assert (found.retrying, found.parked) == (3, 1006)
    assert 3600 <= found.oldest_seconds < 3900


async def test_a_range_waits_since_its_first_tick(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        f"""
        INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)
        SELECT n, '1:1:', now() - (10 - n) * interval '1 h', 0, now() FROM generate_series(1, 10) n;
        INSERT INTO hookledger.parked_range VALUES ('{ROUTE}', 1, 4, 1000);
        """
    )
    assert 6 * 3600 <= (await status.read(database)).oldest_seconds < 6.1 * 3600


async def test_of_twenty_thousand_packed_rows_each_is_read_once(database_url: str, database: Database) -> None:
    """This test measures no time: the time follows from the rows that are touched."""
    connection = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await connection.execute(
        """
        INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times, tenant)
        SELECT n % 16, 1, n, gen_random_uuid(), n, ARRAY[n], ARRAY[n], ARRAY[now()], ARRAY[now()], 'acme'
          FROM generate_series(1, 20000) n;
        """
    )
    touched = 0
    for statement in (status._SHARDS, status._LOG):
        plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"))
        pending = [plan[0]["Plan"]]
        while pending:
            node = pending.pop()
            pending += node.get("Plans", [])
            if "Relation Name" in node:
                touched += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    await connection.close()
    assert touched <= 20_000 + 200
    assert (await status.read(database)).parked == 20_000
