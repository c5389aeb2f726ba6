"""The recorder against a real database: what it notes, in which order it writes, and what it gives up with a lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from daemon.metrics import Metrics
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.ledger import Ledger
from eventstore.postgres.connect import Database
from eventstore.progress import lease, recording
from eventstore.progress.recording import AttemptRow
from tests.support.deliveries import delivery, outcome


@dataclass
class Desk:
    database: Database
    ledger: Ledger = field(default_factory=Ledger)
    lost: list[int] = field(default_factory=list)
    written: list[AttemptRow] = field(default_factory=list)

    async def open(self) -> None:
        self.recorder = Recorder(self.database, self.ledger, Metrics(), owner="me", on_lost=self.lost.append)
        self.recorder.on_recorded.append(lambda rows, _deliveries: self.written.extend(rows))
        await self.take()

    async def take(self) -> None:
        epochs = await lease.acquire(self.database, "me", [0, 1])
        for shard in epochs:
            self.ledger.adopt(shard, 0)
        self.recorder.adopt(epochs, dict.fromkeys(epochs, 0))

    def read(self, *deliveries: Delivery) -> None:
        for each in deliveries:
            self.ledger.add(each)
        for shard in {d.shard for d in deliveries}:
            self.ledger.read(shard, max(d.tick for d in deliveries if d.shard == shard))

    async def count(self, table: str) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM hookledger.{table}"))

    async def checkpoint(self, shard: int = 0) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval("SELECT tick FROM hookledger.checkpoint WHERE shard = $1", shard))


@pytest_asyncio.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    it = Desk(Database(database_url))
    await it.database.open()
    try:
        await it.open()
        yield it
    finally:
        await it.database.close()


async def test_the_checkpoint_goes_along_with_the_rows_that_justify_it(desk: Desk) -> None:
    first, second = delivery(1, tick=1), delivery(2, tick=2)
    desk.read(first, second)
    await desk.recorder.flush()
    assert await desk.checkpoint() == 0
    desk.recorder.attempted(first, outcome(first))
    await desk.recorder.flush()
    assert await desk.checkpoint() == 1
    desk.recorder.park(second)
    await desk.recorder.flush()
    assert await desk.checkpoint() == 2
    assert (await desk.count("attempt"), await desk.count("parked")) == (1, 1)


@pytest.mark.parametrize("is_flushed_between", [False, True])
async def test_a_spilled_request_that_ends_leaves_no_retry_behind(desk: Desk, is_flushed_between: bool) -> None:
    one = delivery()
    desk.read(one)
    desk.recorder.persist_in_flight(one, due_after=timedelta(hours=1))
    if is_flushed_between:
        await desk.recorder.flush()
        assert await desk.count("retry") == 1
    desk.recorder.attempted(one, outcome(one))
    await desk.recorder.flush()
    assert (await desk.count("attempt"), await desk.count("retry")) == (1, 0)


async def test_a_flush_does_not_overtake_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, numbers = recording.flush, list[int]()

    async def slow_first(*arguments: object, number: int, **options: object) -> object:
        if not numbers:
            numbers.append(0)
            await asyncio.sleep(0.1)
        numbers.append(number)
        return await flush(*arguments, number=number, **options)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(recording, "flush", slow_first)
    first, second = delivery(1, tick=1), delivery(2, tick=2)
    desk.read(first, second)
    desk.recorder.attempted(first, outcome(first))
    flushing = asyncio.ensure_future(desk.recorder.flush())
    await asyncio.sleep(0)
    desk.recorder.attempted(second, outcome(second))
    await desk.recorder.settle()
    await flushing
    assert numbers == [0, 1, 2]
    assert await desk.count("attempt") == 2
    assert await desk.checkpoint() == 2


async def test_settling_waits_for_a_flush_under_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = recording.flush

    async def slow(*arguments: object, **options: object) -> object:
        await asyncio.sleep(0.1)
        return await flush(*arguments, **options)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(recording, "flush", slow)
    one = delivery()
    desk.ledger.add(one)
    desk.recorder.attempted(one, outcome(one))
    flushing = asyncio.ensure_future(desk.recorder.flush())
    await asyncio.sleep(0)
    await desk.recorder.settle()
    assert await desk.count("attempt") == 1
    await flushing


async def test_what_was_noted_under_an_old_epoch_is_not_written_under_the_new_one(desk: Desk) -> None:
    gone, other = delivery(1, shard=0), delivery(2, shard=1)
    desk.read(gone, other)
    desk.recorder.attempted(gone, outcome(gone))
    desk.recorder.park(other)
    desk.recorder.drop(0)
    desk.ledger.drop(0)
    await desk.take()
    await desk.recorder.flush()
    assert (await desk.count("attempt"), await desk.count("parked")) == (0, 1)
    assert desk.written == []


async def test_a_shard_that_somebody_else_has_is_left_out_and_reported_lost(desk: Desk) -> None:
    ours, theirs = delivery(1, shard=0), delivery(2, shard=1)
    desk.read(ours, theirs)
    for each in (ours, theirs):
        desk.recorder.attempted(each, outcome(each))
    async with desk.database.connection() as connection:
        await connection.execute("UPDATE hookledger.lease SET owner = 'you', epoch = epoch + 1 WHERE shard = 1")
    await desk.recorder.flush()
    assert desk.lost == [1]
    assert [row.seq for row in desk.written] == [1]
    assert await desk.count("attempt") == 1
    assert (await desk.checkpoint(0), await desk.checkpoint(1)) == (1, 0)


async def test_a_late_answer_about_an_old_epoch_does_not_cost_the_new_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, goes_on = recording.flush, asyncio.Event()

    async def late(*arguments: object, **options: object) -> object:
        await goes_on.wait()
        return await flush(*arguments, **options)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(recording, "flush", late)
    one = delivery()
    desk.read(one)
    desk.recorder.attempted(one, outcome(one))
    flushing = asyncio.ensure_future(desk.recorder.flush())
    await asyncio.sleep(0)
    for shard in (0, 1):
        desk.recorder.drop(shard)
        desk.ledger.drop(shard)
    await desk.take()
    goes_on.set()
    await flushing
    assert desk.lost == []
    assert await desk.count("attempt") == 0
    assert set(desk.recorder.epochs) == {0, 1}


async def test_a_withdrawn_delivery_is_not_recorded(desk: Desk) -> None:
    one = delivery()
    desk.read(one)
    desk.ledger.drop(0)
    desk.recorder.attempted(one, outcome(one))
    assert desk.recorder.backlog == 0


async def test_what_is_noted_is_known_until_it_is_written(desk: Desk) -> None:
    route = uuid4()
    one, other = delivery(1, route_id=route), delivery(2, route_id=route)
    desk.read(one, other)
    desk.recorder.attempted(one, outcome(one))
    desk.recorder.park(other)
    assert desk.recorder.seqs(route) == {1}
    assert desk.recorder.is_parking(route)
    await desk.recorder.flush()
    assert desk.recorder.seqs(route) == set()
    assert not desk.recorder.is_parking(route)
