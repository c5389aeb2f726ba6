"""The recorder on a real database: what it records, in which order it writes, and what it drops with a lost lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.core.delivery.states.phases import DeliveryStep
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.telemetry.metrics import Metrics
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import recording
from eventstore.progress.rows import AttemptRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.deliveries import delivery, outcome


@dataclass
class RecorderSetup:
    database: Database
    ledger: Ledger = field(default_factory=Ledger)
    working_set: WorkingSet = field(default_factory=WorkingSet)
    lost: list[int] = field(default_factory=list)
    shards: HeldShards = field(default_factory=HeldShards)
    written: list[AttemptRow] = field(default_factory=list)

    async def open(self) -> None:
        self.recorder = Recorder(
            self.database,
            self.ledger,
            self.shards,
            self.working_set,
            Metrics(),
            owner="me",
            known=KnownLog(),
            timeout_seconds=3600,
            macs=LOG_MACS,
        )
        self.shards.members = (self,)
        self.recorder.on_recorded.append(lambda rows, _deliveries: self.written.extend(rows))
        await self.take()

    async def take(self, *shards: int) -> None:
        epochs = await lease.acquire(self.database, "me", shards or (0, 1))
        self.shards.take(epochs, valid_until=1e12)
        self.shards.hold(Takeover(checkpoints=dict.fromkeys(epochs, 0)), epochs)

    def attempted(self, of: Delivery) -> None:
        """Records that its request was answered."""
        if of.is_waiting:
            of.advance(DeliveryStep.START)
        self.recorder.attempted(of, outcome(of))

    def adopt(self, takeover: Takeover) -> None:
        self.ledger.adopt(takeover)
        self.recorder.adopt(takeover)

    async def part(self, shards: Collection[int]) -> None:
        raise AssertionError("nothing is handed over here")

    def drop(self, shard: int) -> None:
        self.lost.append(shard)

    def lose_all(self) -> None:
        """Loses the leases, as if another process had taken them for a moment."""
        for shard in (0, 1):
            self.shards.lose(shard)
            self.recorder.drop(shard)
            self.ledger.drop(shard)
        self.lost.clear()

    def read(self, *deliveries: Delivery) -> None:
        for each in deliveries:
            self.ledger.add(each)
            self.working_set.add(each)
        for shard in {d.shard for d in deliveries}:
            self.ledger.read(shard, max(d.tick for d in deliveries if d.shard == shard))

    async def count(self, table: str) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM hookledger.{table}"))

    async def checkpoint(self, shard: int = 0) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval("SELECT tick FROM hookledger.checkpoint WHERE shard = $1", shard))


@pytest_asyncio.fixture
async def setup(database_url: str) -> AsyncIterator[RecorderSetup]:
    it = RecorderSetup(Database(database_url))
    await it.database.open()
    try:
        await it.open()
        yield it
    finally:
        await it.database.close()


async def test_the_checkpoint_goes_along_with_the_rows_that_justify_it(setup: RecorderSetup) -> None:
    first, second = delivery(1, tick=1), delivery(2, tick=2)
    setup.read(first, second)
    await setup.recorder.flush()
    assert await setup.checkpoint() == 0
    setup.attempted(first)
    await setup.recorder.flush()
    assert await setup.checkpoint() == 1
    setup.recorder.park(second)
    await setup.recorder.flush()
    assert await setup.checkpoint() == 2
    assert (await setup.count("attempt"), await setup.count("parked")) == (1, 1)


@dataclass
class CountedFlushes:
    """The flushes that were written, each with its number of outcomes and its checkpoints."""

    found: list[tuple[int, dict[int, int]]] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        flush = recording.flush

        async def watched(
            database: Database, owner: str, epochs: dict[int, int], batch: recording.Flush, **options: Any
        ) -> set[int]:
            self.found.append((len(batch.attempts), batch.checkpoints))
            return await flush(database, owner, epochs, batch, **options)

        monkeypatch.setattr(recording, "flush", watched)


async def test_a_checkpoint_alone_waits_for_an_outcome(setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = CountedFlushes()
    flushes.watch(monkeypatch)
    setup.recorder._flush_seconds, setup.recorder._checkpoint_seconds = 0.0, 3600.0
    setup.ledger.read(1, 7)
    one = delivery(1, tick=1)
    setup.read(one)
    writing = asyncio.ensure_future(setup.recorder.run_once())
    await asyncio.sleep(0)
    assert flushes.found == []
    setup.attempted(one)
    await writing
    assert flushes.found == [(1, {0: 1, 1: 7})]


async def test_a_checkpoint_is_written_if_no_outcome_comes(
    setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = CountedFlushes()
    flushes.watch(monkeypatch)
    setup.recorder._checkpoint_seconds = 0.0
    writing = asyncio.ensure_future(setup.recorder.run_once())
    await asyncio.sleep(0.01)
    assert not writing.done(), "it sleeps while nothing is read"
    setup.ledger.read(1, 7)
    await writing
    setup.ledger.read(1, 7)
    await setup.recorder.run_once()
    assert flushes.found == [(0, {1: 7})]


async def test_checkpoints_of_shards_without_rows_are_written_in_time_and_not_each_time(
    setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = CountedFlushes()
    flushes.watch(monkeypatch)
    setup.recorder._flush_seconds, setup.recorder._checkpoint_seconds = 0.0, 3600.0
    for tick in (1, 2, 3):
        one = delivery(tick, tick=tick)
        setup.read(one)
        setup.ledger.read(1, tick)
        setup.attempted(one)
        await setup.recorder.run_once()
    assert flushes.found == [(1, {0: 1, 1: 1}), (1, {0: 2}), (1, {0: 3})]
    setup.recorder._checkpoint_seconds = 0.0
    await setup.recorder.run_once()  # nothing else wakes it
    assert flushes.found[3:] == [(0, {1: 3})]
    assert await setup.checkpoint(1) == 3


@pytest.mark.parametrize("ended", ["flush", "settle"])
async def test_what_ends_writes_every_checkpoint(setup: RecorderSetup, ended: str) -> None:
    setup.recorder._flush_seconds, setup.recorder._checkpoint_seconds = 0.0, 3600.0
    for tick in (1, 2):
        one = delivery(tick, tick=tick)
        setup.read(one)
        setup.ledger.read(1, tick)
        setup.attempted(one)
        await setup.recorder.run_once()
    assert await setup.checkpoint(1) == 1
    await getattr(setup.recorder, ended)()
    assert await setup.checkpoint(1) == 2


@pytest.mark.parametrize("is_flushed_between", [False, True])
async def test_a_spilled_request_that_ends_leaves_no_retry_behind(
    setup: RecorderSetup, is_flushed_between: bool
) -> None:
    one = delivery()
    setup.read(one)
    setup.recorder.persist_in_flight(one)
    if is_flushed_between:
        await setup.recorder.flush()
        assert await setup.count("retry") == 1
    setup.attempted(one)
    await setup.recorder.flush()
    assert (await setup.count("attempt"), await setup.count("retry")) == (1, 0)


async def test_a_flush_does_not_overtake_another(setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, numbers = recording.flush, list[int]()

    async def slow_first(*arguments: object, number: int, **options: object) -> object:
        if not numbers:
            numbers.append(0)
            await asyncio.sleep(0.1)
        numbers.append(number)
        return await flush(*arguments, number=number, **options)  # type: ignore[arg-type] # the original's arguments

    monkeypatch.setattr(recording, "flush", slow_first)
    first, second = delivery(1, tick=1), delivery(2, tick=2)
    setup.read(first, second)
    setup.attempted(first)
    flushing = asyncio.ensure_future(setup.recorder.flush())
    await asyncio.sleep(0)
    setup.attempted(second)
    await setup.recorder.settle()
    await flushing
    assert numbers == [0, 1, 2]
    assert await setup.count("attempt") == 2
    assert await setup.checkpoint() == 2


async def test_it_says_what_keeps_it_from_writing(setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may notice: e.g. if somebody holds a lock on this table alone."""
    flush, refused = recording.flush, list[int]()

    async def locked(*arguments: object, number: int, **options: object) -> object:
        if len(refused) < 2:
            refused.append(number)
            raise StoreUnavailable("another transaction holds a lock")
        return await flush(*arguments, number=number, **options)  # type: ignore[arg-type] # the original's arguments

    monkeypatch.setattr(recording, "flush", locked)
    first = delivery(1, tick=1)
    setup.read(first)
    setup.attempted(first)
    with capture_logs() as lines:
        await setup.recorder.flush()
    assert [(line["event"], line["loop"]) for line in lines] == [
        ("database.unavailable", "recorder"),
        ("database.recovered", "recorder"),
    ]
    assert lines[0]["cause"] == "another transaction holds a lock"
    assert await setup.count("attempt") == 1


async def test_settling_waits_for_a_flush_under_way(setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = recording.flush

    async def slow(*arguments: object, **options: object) -> object:
        await asyncio.sleep(0.1)
        return await flush(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

    monkeypatch.setattr(recording, "flush", slow)
    one = delivery()
    setup.ledger.add(one)
    setup.attempted(one)
    flushing = asyncio.ensure_future(setup.recorder.flush())
    await asyncio.sleep(0)
    await setup.recorder.settle()
    assert await setup.count("attempt") == 1
    await flushing


async def test_what_was_noted_under_an_old_epoch_is_not_written_under_the_new_one(setup: RecorderSetup) -> None:
    gone, other = delivery(1, shard=0), delivery(2, shard=1)
    setup.read(gone, other)
    setup.attempted(gone)
    setup.recorder.park(other)
    setup.shards.lose(0)
    setup.recorder.drop(0)
    setup.ledger.drop(0)
    await setup.take(0)
    await setup.recorder.flush()
    assert (await setup.count("attempt"), await setup.count("parked")) == (0, 1)
    assert setup.written == []


async def test_a_shard_that_somebody_else_has_is_left_out_and_reported_lost(setup: RecorderSetup) -> None:
    ours, theirs = delivery(1, shard=0), delivery(2, shard=1)
    setup.read(ours, theirs)
    for each in (ours, theirs):
        setup.attempted(each)
    async with setup.database.connection() as connection:
        await connection.execute("UPDATE hookledger.lease SET owner = 'you', epoch = epoch + 1 WHERE shard = 1")
    await setup.recorder.flush()
    assert setup.lost == [1]
    assert [row.seq for row in setup.written] == [1]
    assert await setup.count("attempt") == 1
    assert (await setup.checkpoint(0), await setup.checkpoint(1)) == (1, 0)


async def test_a_late_answer_about_an_old_epoch_does_not_cost_the_new_one(
    setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, goes_on = recording.flush, asyncio.Event()

    async def late(*arguments: object, **options: object) -> object:
        await goes_on.wait()
        return await flush(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

    monkeypatch.setattr(recording, "flush", late)
    one = delivery()
    setup.read(one)
    setup.attempted(one)
    flushing = asyncio.ensure_future(setup.recorder.flush())
    await asyncio.sleep(0)
    setup.lose_all()
    await setup.take()
    goes_on.set()
    await flushing
    assert setup.lost == []
    assert await setup.count("attempt") == 0
    assert set(setup.shards.writable()) == {0, 1}


async def test_a_withdrawn_delivery_is_not_recorded(setup: RecorderSetup) -> None:
    one = delivery()
    setup.read(one)
    setup.ledger.drop(0)
    setup.attempted(one)
    assert setup.recorder.backlog == 0


async def test_what_is_noted_is_known_until_it_is_written(setup: RecorderSetup) -> None:
    route = uuid4()
    one, other = delivery(1, route_id=route), delivery(2, route_id=route)
    setup.read(one, other)
    setup.attempted(one)
    setup.recorder.park(other)
    assert setup.recorder.has_unwritten(route)
    assert setup.recorder.is_parking(route)
    await setup.recorder.flush()
    assert not setup.recorder.has_unwritten(route)
    assert not setup.recorder.is_parking(route)


async def test_whether_a_route_without_anything_in_memory_has_something_unwritten_takes_no_search(
    setup: RecorderSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread(list[Delivery]):
        def __iter__(self) -> Iterator[Delivery]:
            raise AssertionError("a hundred thousand lanes are asked for at once, of thousands of outcomes")

    one = delivery(1)
    setup.read(one)
    setup.attempted(one)
    monkeypatch.setattr(setup.recorder._buffer, "ended", Unread(setup.recorder._buffer.ended))
    assert not setup.recorder.has_unwritten(uuid4())
