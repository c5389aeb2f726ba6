"""A step of the database's clock is noticed, told and corrected once, and no wait of a retry changes by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.maintenance import Maintenance
from daemon.pipeline.upkeep.watches.clock_watch import ClockWatch
from daemon.telemetry.metrics import Metrics
from eventstore import domain_events
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import backlog, recording, steady_time
from eventstore.progress.recording import Flush
from eventstore.progress.steady_time import ClockReading, TimedReading
from eventstore.retention.retention import Keep
from tests.support.postgres.server_clock import ServerClock, database_of_its_own, server_clock
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import new_event, retry

HOUR_SECONDS = 3600
SHARD = 0


class Watcher:
    """A process with a watch, which looks when the test says so."""

    def __init__(self, database: Database, owner: str) -> None:
        self.database = database
        self.owner = owner
        self.clock = SteadyClock()
        self.metrics = Metrics()
        self.watch = ClockWatch(
            database, self.clock, self.metrics, owner=owner, tunables=Tunables(clock_look_seconds=0.0)
        )

    async def look(self) -> None:
        await self.watch.run_once()

    async def take(self, shard: int) -> None:
        self.epochs = await lease.acquire(self.database, self.owner, [shard])
        assert shard in self.epochs

    async def flush(self, number: int, *, seq: int, after_seconds: float) -> None:
        row = retry(seq=seq, shard=SHARD, after=timedelta(seconds=after_seconds))
        held = await recording.flush(
            self.database,
            self.owner,
            self.epochs,
            Flush(retries=[row]),
            number=number,
            now=self.clock.now(),
            macs=LOG_MACS,
        )
        assert held == {SHARD}

    async def due(self) -> list[int]:
        found = await backlog.due(self.database, [SHARD], held=[], limit=10, latest=self.clock.latest())
        return [delivery.seq for delivery in found]


@pytest.fixture(scope="module")
def clock() -> Iterator[ServerClock]:
    with server_clock() as it:
        yield it


@pytest_asyncio.fixture
async def moved(clock: ServerClock) -> AsyncIterator[Database]:
    async with database_of_its_own(clock) as database:
        yield database


async def test_the_waits_of_retries_survive_steps_in_both_directions(clock: ServerClock, moved: Database) -> None:
    it = Watcher(moved, "me")
    await it.take(SHARD)
    await it.look()
    number = 0
    for step in (HOUR_SECONDS, -HOUR_SECONDS, 0):
        number += 10
        await it.flush(number, seq=number, after_seconds=600)
        clock.shift(step)
        assert await it.due() == [], "before it is noticed"
        await it.flush(number + 1, seq=number + 1, after_seconds=600)
        await it.flush(number + 2, seq=number + 2, after_seconds=-1.5)
        await it.look()
        assert await it.due() == [number + 2]
        waits = await _waits(moved)
        assert len(waits) == number // 10 * 2
        assert all(590 < seconds < 602 for seconds in waits), waits
        await _forget(moved, number + 2)


async def test_a_step_is_told_once_in_log_metric_and_status(clock: ServerClock, moved: Database) -> None:
    it = Watcher(moved, "me")
    await it.take(SHARD)
    await it.look()
    assert it.watch.step_seconds == 0
    assert abs(it.watch.skew_seconds) < 1
    clock.shift(-HOUR_SECONDS)
    with capture_logs() as lines:
        await it.look()
        await it.look()
    (stepped,) = [line for line in lines if line["event"] == "clock.stepped"]
    assert abs(stepped["seconds"] + HOUR_SECONDS) < 1
    assert stepped["corrected"]
    assert [line["log_level"] for line in lines if line["event"] == "clock.skewed"] == ["warning"]
    assert abs(it.watch.step_seconds + HOUR_SECONDS) < 1
    assert abs(it.watch.skew_seconds - HOUR_SECONDS) < 1
    assert it.metrics.clock_steps._value.get() == 1
    assert abs(it.metrics.clock_skew._value.get() - HOUR_SECONDS) < 1


async def test_after_a_step_of_weeks_there_is_a_partition_at_once(clock: ServerClock, moved: Database) -> None:
    """As on a machine that was suspended: nobody could publish until the next time partitions are made."""
    maintenance = Maintenance(moved, Keep(), LOG_MACS, Tunables(partition_seconds=3600.0))
    it = Watcher(moved, "me")
    it.watch.on_step = maintenance.hurry
    await it.take(SHARD)
    await it.look()
    running = asyncio.create_task(_forever(maintenance))
    try:
        async with asyncio.timeout(60):
            while not await _is_swept(moved):  # which comes after partitions
                await asyncio.sleep(0.01)
            clock.shift(30 * 24 * HOUR_SECONDS)
            assert not await _is_published(moved)
            await it.look()
            while not await _is_published(moved):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()


async def test_several_processes_that_notice_the_same_step_correct_it_once(clock: ServerClock, moved: Database) -> None:
    watchers = [Watcher(moved, name) for name in ("first", "second", "third")]
    for shard, it in enumerate(watchers):
        await it.take(shard)
        await it.look()
    clock.shift(-HOUR_SECONDS)
    await asyncio.gather(*(it.look() for it in watchers))
    await asyncio.gather(*(it.look() for it in watchers))
    for it in watchers:
        assert abs(await _ahead_seconds(moved) - HOUR_SECONDS) < 1
        now = it.clock.now()
        assert now is not None
        assert abs((now - datetime.now(UTC)).total_seconds()) < 2


async def test_a_process_that_was_stopped_for_long_takes_no_step_for_the_databases(
    clock: ServerClock, moved: Database
) -> None:
    stopped, successor = Watcher(moved, "stopped"), Watcher(moved, "successor")
    await stopped.take(SHARD)
    late = time.monotonic()
    stopped.watch._monotonic = stopped.clock._monotonic = lambda: time.monotonic() - (late and HOUR_SECONDS)
    late = 0.0
    await stopped.look()
    await lease.release(moved, "stopped", stopped.epochs)
    await successor.take(SHARD)
    late = 1.0
    with capture_logs() as lines:
        await stopped.look()
    assert [line["corrected"] for line in lines if line["event"] == "clock.stepped"] == [False]
    assert await _ahead_seconds(moved) == 0
    assert stopped.clock.now() is not None
    await stopped.look()
    assert stopped.metrics.clock_steps._value.get() == 1, "it goes on from the database's clock"


async def _forever(maintenance: Maintenance) -> None:
    while True:
        await maintenance.run_once()


async def _is_swept(database: Database) -> bool:
    async with database.connection() as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM hookledger.meta WHERE key = 'swept_at')"))


async def _is_published(database: Database) -> bool:
    try:
        return await domain_events.publish(database, [new_event()]) == [True]
    except StoreUnavailable:
        return False


async def _waits(database: Database) -> list[float]:
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT extract(epoch FROM due_at - {steady_time.CLOCK_TIME})::float8 AS seconds FROM hookledger.retry "
            f"WHERE due_at > {steady_time.CLOCK_TIME}"
        )
    return [row["seconds"] for row in rows]


async def _forget(database: Database, seq: int) -> None:
    async with database.connection() as connection:
        await connection.execute("DELETE FROM hookledger.retry WHERE seq = $1", seq)


async def _ahead_seconds(database: Database) -> float:
    return (await steady_time.read(database)).ahead_microseconds / 1e6


async def test_what_a_poll_has_read_is_not_asked_for_again(moved: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    read = steady_time.read

    async def counted(of: Database) -> ClockReading:
        asked.append(None)
        return await read(of)

    monkeypatch.setattr(steady_time, "read", counted)
    now, at = time.monotonic(), datetime.now(UTC)
    reading = ClockReading(at=at, ahead_microseconds=0)
    of_poll: list[TimedReading | None] = [None]
    watch = ClockWatch(
        moved,
        clock := SteadyClock(monotonic=lambda: now),
        Metrics(),
        owner="me",
        tunables=Tunables(clock_look_seconds=0.0),
        latest=lambda: of_poll[0],
        monotonic=lambda: now,
        wall_clock=lambda: at + timedelta(seconds=7.2),
    )
    of_poll[0] = TimedReading(reading=reading, asked_at=now - 0.21, answered_at=now - 0.2)
    await watch.run_once()
    assert asked == []
    assert clock.now() == at + timedelta(seconds=0.21)
    assert watch.skew_seconds == pytest.approx(7.2 - 0.2 - 0.005)
    for asked_before, answered_before in ((0.9, 0.8), (0.3, 0.1)):  # too long ago; too slow an answer
        of_poll[0] = TimedReading(reading=reading, asked_at=now - asked_before, answered_at=now - answered_before)
        await watch.run_once()
    assert len(asked) == 2
