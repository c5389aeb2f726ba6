"""The tailer: how often it asks for ticks, and that it misses none of which it was not told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake import tailer as module
from daemon.pipeline.intake.tailer import Tailer
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.ticks import Tick
from tests.support.pipeline_process import PipelineProcess, pipeline_process

Counted = Callable[[], int]


@asynccontextmanager
async def tailing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[PipelineProcess, Tailer, Counted]]:
    """A tailer that holds all shards from the first tick on, and how often it asked for ticks since the last look."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    asked: list[int] = []
    after = ticks.after

    async def counted(*arguments: object, **options: object) -> list[Tick]:
        asked.append(1)
        return await after(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

    def questions() -> int:
        count = len(asked)
        asked.clear()
        return count

    async with pipeline_process(database_url, run=False) as it:
        tailer = it.pipeline._intake.tailer
        takeover = Takeover(checkpoints=dict.fromkeys(range(domain_events.SHARDS), 0))
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        monkeypatch.setattr(ticks, "after", counted)
        yield it, tailer, questions


async def newest_tick(it: PipelineProcess) -> Tick:
    newest = (await ticks.poll(it.database, known_tick=0, known_pos=0)).newest
    assert newest is not None
    return newest


async def tick(it: PipelineProcess) -> Tick:
    """Publishes an event and makes the tick of it."""
    await it.publish()
    return await newest_tick(it)


async def test_a_tick_that_it_was_told_is_not_asked_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        for number in (1, 2, 3):
            tailer.told(await tick(it))
            await tailer.run_once()
            assert (tailer.position, questions()) == (number, 0)
            tailer.told(await newest_tick(it))
            await tailer.run_once()
            assert (tailer.position, questions()) == (number, 0)


async def test_ticks_of_which_nobody_told_are_asked_for_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, questions):
        await tick(it)
        tailer.told(await tick(it))
        await tailer.run_once()
        assert (tailer.position, questions()) == (2, 1)
        told = await tick(it)
        await tick(it)
        tailer.told(told)
        tailer.must_ask()
        await tailer.run_once()
        assert (tailer.position, questions()) == (4, 1)


async def test_more_ticks_than_a_page_are_all_read(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        async with it.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)"
                " SELECT n, '1:1:', now(), 0, now() FROM generate_series(1, $1::integer) n",
                2 * ticks.PAGE_TICKS,
            )
        tailer.must_ask()
        await tailer.run_once()
        assert tailer.position == 2 * ticks.PAGE_TICKS


async def test_a_shard_that_is_behind_is_read_from_where_it_stands(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tailing(database_url, monkeypatch) as (it, tailer, _):
        for _ in range(3):
            tailer.told(await tick(it))
            await tailer.run_once()
        tailer.told(await newest_tick(it))
        it.pipeline._ledger.drop(3)
        takeover = Takeover(checkpoints={3: 1})
        it.pipeline._ledger.adopt(takeover)
        tailer.adopt(takeover)
        assert tailer.position == 1
        await tailer.run_once()
        assert tailer.position == 3
