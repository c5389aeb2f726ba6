"""Leases: one owner at a time, by the database's clock."""

import asyncio
from datetime import timedelta

import asyncpg

from eventstore.leases import lease
from eventstore.leases.process import heartbeat
from eventstore.postgres.connect import Database
from tests.support.values.builders import process

GONE = timedelta(seconds=-1)


async def test_free_shards_are_taken_and_held_ones_are_not(database: Database) -> None:
    assert await lease.acquire(database, "a", [0, 1, 2]) == {0: 1, 1: 1, 2: 1}
    assert await lease.acquire(database, "b", [1, 2, 3]) == {3: 1}
    assert await lease.acquire(database, "c", range(5)) == {4: 1}
    assert await lease.acquire(database, "a", []) == {}
    assert await lease.acquire(database, "a", [99]) == {}


async def test_an_owner_that_lost_sight_of_its_shards_takes_them_again_under_a_new_epoch(database: Database) -> None:
    lost = await lease.acquire(database, "a", [0, 1])
    assert await lease.acquire(database, "a", [0, 1, 2]) == {0: 2, 1: 2, 2: 1}
    assert (await heartbeat(database, process("a"), lost)).held == set()
    assert await lease.acquire(database, "b", [0, 1, 2]) == {}


async def test_an_expired_lease_changes_hands_under_a_higher_epoch(database: Database) -> None:
    assert await lease.acquire(database, "a", [5], ttl=GONE) == {5: 1}
    assert await lease.acquire(database, "b", [5], ttl=GONE) == {5: 2}
    assert await lease.acquire(database, "a", [5]) == {5: 3}
    assert await lease.acquire(database, "b", [5]) == {}


async def test_renewing_tells_what_is_still_held(database: Database) -> None:
    epochs = await lease.acquire(database, "a", [0, 1, 2], ttl=GONE)
    assert await lease.acquire(database, "b", [1]) == {1: 2}
    assert (await heartbeat(database, process("a"), epochs)).held == {0, 2}
    assert await lease.acquire(database, "c", [0, 1, 2]) == {}
    assert (await heartbeat(database, process("b"), {0: 1, 2: 1})).held == set()
    assert (await heartbeat(database, process("a"), {0: 99})).held == set()
    assert (await heartbeat(database, process("a"), {})).held == set()


async def test_an_expired_lease_that_nobody_took_can_be_renewed(database: Database) -> None:
    epochs = await lease.acquire(database, "a", [7], ttl=GONE)
    assert (await heartbeat(database, process("a"), epochs)).held == {7}
    assert await lease.acquire(database, "b", [7]) == {}


async def test_released_shards_are_free_at_once(database: Database) -> None:
    epochs = await lease.acquire(database, "a", [0, 1])
    await lease.release(database, "a", {0: epochs[0]})
    assert await lease.acquire(database, "b", [0, 1]) == {0: 2}
    await lease.release(database, "a", epochs)
    assert (await heartbeat(database, process("b"), {0: 2})).held == {0}
    assert (await heartbeat(database, process("a"), epochs)).held == set()


async def test_two_owners_who_race_share_without_overlap(database: Database) -> None:
    taken: list[dict[int, int]] = []
    for turn in range(1, 11):
        taken = await asyncio.gather(
            *(lease.acquire(database, owner, range(16), ttl=GONE if turn < 10 else lease.TTL) for owner in "abcd")
        )
        epochs = [(shard, epoch) for part in taken for shard, epoch in part.items()]
        assert len(epochs) == len(set(epochs)), "the same shard under the same epoch for two"
    shards = sorted(shard for part in taken for shard in part)
    assert shards == list(range(16))


async def test_racing_for_an_expired_lease_makes_one_owner(database: Database, sql: asyncpg.Connection) -> None:
    for _ in range(10):
        await sql.execute("UPDATE hookledger.lease SET expires_at = '-infinity'")
        taken = await asyncio.gather(*(lease.acquire(database, f"{number}", range(16)) for number in range(8)))
        assert sorted(shard for part in taken for shard in part) == list(range(16))


async def test_renewals_and_flushes_of_one_process_do_not_deadlock(database: Database, sql: asyncpg.Connection) -> None:
    """They lock the same rows, which are passed in opposite orders here."""
    epochs = await lease.acquire(database, "a", range(16))
    backwards = dict(sorted(epochs.items(), reverse=True))
    for _ in range(30):
        held = await asyncio.gather(
            heartbeat(database, process("a"), epochs),
            heartbeat(database, process("a"), backwards),
            heartbeat(database, process("a"), epochs),
        )
        assert [each.held for each in held] == [set(range(16))] * 3


async def test_time_is_that_of_the_database(database: Database, sql: asyncpg.Connection) -> None:
    await lease.acquire(database, "a", [0], ttl=timedelta(seconds=10))
    left = await sql.fetchval("SELECT expires_at - clock_timestamp() FROM hookledger.lease WHERE shard = 0")
    assert timedelta(seconds=5) < left <= timedelta(seconds=10)


async def test_a_survey_tells_who_lives_and_who_holds_what_for_how_long(database: Database) -> None:
    assert await lease.survey(database) == lease.LeaseSurvey(live=frozenset(), held={}, left_seconds={})
    epochs = await lease.acquire(database, "a", [0, 1])
    await lease.acquire(database, "b", [2], ttl=GONE)
    await heartbeat(database, process("a"), epochs)
    await heartbeat(database, process("c"), {})
    found = await lease.survey(database)
    assert found.live == {"a", "c"}
    assert found.held == {0: ("a", 1), 1: ("a", 1)}
    assert found.left_seconds.keys() == {0, 1}
    assert all(5 < left <= 10 for left in found.left_seconds.values())


async def test_what_is_released_is_announced(database: Database, sql: asyncpg.Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await sql.add_listener("hookledger_lease", lambda *arguments: heard.put_nowait(arguments[3]))
    await lease.release(database, "a", await lease.acquire(database, "a", [0]))
    async with asyncio.timeout(20):
        assert await heard.get() == "a"
