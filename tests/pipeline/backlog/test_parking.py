"""Parking: deliveries that overflow are stored, return in order, and are sent once, with or without a crash."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest

from daemon.pipeline.backlog.parking import Parking
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events.events import READ_BYTES, StoredEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import backlog
from tests.support.pipeline.crash import crashing_process, possible_duplicates
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import Receiver, gate, receiver
from tests.support.until import until
from tests.support.values.builders import new_event

PARKED = "SELECT coalesce(sum(cardinality(seqs)), 0) >= $1 FROM hookledger.parked"
ALL_PARKED = (
    "SELECT (SELECT coalesce(sum(pairs), 0) FROM hookledger.parked)"
    " + (SELECT coalesce(sum(pairs), 0) FROM hookledger.parked_range) >= $1"
)
NONE_PARKED = "SELECT count(*) = 0 FROM hookledger.parked"


SMALL_LANES = Tunables(lane_queue=20, unmeasured_lane_queue=20, low_water=10, chunk_events=25)


def ids_of(there: Receiver) -> list[str]:
    return [json.loads(got.body)["id"] for got in there.received]


async def test_a_lane_that_overflows_is_parked_drained_in_order_and_live_again(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        ids = await it.publish(count=150)
        await it.until_row(PARKED, 100)
        ids += await it.publish(count=50)
        await it.until_row(PARKED, 150)
        await it.until_accounted()
        opened.set()
        await there.count(200)
        ids += await it.publish(count=1)
        await there.count(201)
        assert ids_of(there) == ids
        lane = it.pipeline._lanes.lane(route.id, 0)
        await until(lambda: not lane.is_parking)
        await it.until_row(NONE_PARKED)
        ids += await it.publish(count=10)
        await there.count(211)
        await it.until_accounted()
        assert not lane.is_parking
        assert ids_of(there) == ids
        assert Counter(map(tuple, (await it.outcomes()).values())) == {("delivered",): 211}


async def test_a_lane_parked_anew_while_its_last_chunk_is_under_way_sends_nothing_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as there, pipeline_process(database_url, route_concurrency=4, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        lane = it.pipeline._lanes.lane(route.id, domain_events.shard_of("acme"))
        published = await it.publish(count=35)
        await it.until_row(PARKED, 10)
        # Makes space in memory for the rest of the table: the lane is live while its rows are still in the table.
        with monkeypatch.context() as patched:
            patched.setattr(it.pipeline._backlog.parking, "_tunables", replace(SMALL_LANES, low_water=1000))
            await until(lambda: not lane.is_parking)
        assert await it.rows("SELECT 1 AS one FROM hookledger.parked")
        published += await it.publish(count=100)
        await it.until_row(PARKED, 100)
        opened.set()
        await it.until_row("SELECT count(DISTINCT seq) = 135 FROM hookledger.attempt")
        await it.until_row(NONE_PARKED)
        assert Counter(ids_of(there)) == dict.fromkeys(published, 1)


async def test_a_crash_while_draining_loses_nothing(database_url: str) -> None:
    published: list[str] = []
    allowed = 0
    async with receiver() as there:
        opened = gate(there, "/")
        for progress in (60, 140, 260):
            async with crashing_process(database_url, tunables=SMALL_LANES) as it:
                if not published:
                    await it.route(there.url + "/")
                    published = await it.publish(count=400)
                    await it.until_row(PARKED, 350)
                    opened.set()
                await there.count(progress)
            allowed += possible_duplicates(it)
        async with pipeline_process(database_url, tunables=SMALL_LANES) as it:
            await it.until_row("SELECT count(DISTINCT seq) = 400 FROM hookledger.attempt")
            await it.until_row(NONE_PARKED)
            await it.until_accounted()
            await until(lambda: not any(lane.is_parking for lane in it.pipeline._lanes))
        counts = Counter(ids_of(there))
        assert set(counts) == set(published)
        assert counts.total() - 400 <= allowed


async def test_a_chunk_whose_events_could_not_be_read_is_not_forgotten(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes down after the packed row is read and before its events are."""
    first_by_seq = domain_events.first_by_seq
    fails = 3

    async def failing(*arguments: object) -> object:
        nonlocal fails
        if fails and arguments[1]:
            fails -= 1
            raise StoreUnavailable("away")
        return await first_by_seq(*arguments)  # type: ignore[arg-type] # the original's arguments

    async with receiver() as there, pipeline_process(database_url, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/")
        published = await it.publish(count=200)
        await it.until_row(PARKED, 150)
        monkeypatch.setattr(domain_events, "first_by_seq", failing)
        opened.set()
        await there.count(200)
        await it.until_row(NONE_PARKED)
        assert not fails
        assert Counter(ids_of(there)) == dict.fromkeys(published, 1)


async def test_a_lane_stays_parked_for_what_the_query_could_not_see_yet(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query finds the table empty. More is parked and flushed before its answer arrives."""
    oldest = backlog.oldest_packed
    answered = asyncio.Event()
    asked = asyncio.Event()

    async def late(*arguments: object, **options: object) -> object:
        found = await oldest(*arguments, **options)  # type: ignore[arg-type] # the original's arguments
        if found is None and not answered.is_set():
            asked.set()
            await answered.wait()
        return found

    async with receiver() as there, pipeline_process(database_url, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/")
        published = await it.publish(count=60)
        await it.until_row(PARKED, 30)
        monkeypatch.setattr(backlog, "oldest_packed", late)
        opened.set()
        await asked.wait()
        published += await it.publish(count=60)
        await it.until_row(PARKED, 60)
        await it.until_accounted()
        answered.set()
        await there.count(120)
        await it.until_row(NONE_PARKED)
        assert Counter(ids_of(there)) == dict.fromkeys(published, 1)


async def test_a_lane_holds_no_more_than_its_rate_lets_it_send_soon(database_url: str) -> None:
    tunables = replace(SMALL_LANES, max_queued_seconds=0.2, sweep_seconds=0.05)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        opened = gate(there, "/other")
        paced = [await it.route(there.url + "/paced", rate_limit_per_second=0.001) for _ in range(3)]
        await it.route(there.url + "/other")
        await it.publish(count=60)
        await it.until_row(PARKED, 4 * 50)
        opened.set()
        await there.count(60, path="/other")
        lanes = [it.pipeline._lanes.lane(route.id, 0) for route in paced]
        assert [lane.load for lane in lanes] == [0, 0, 0]
        for route in paced:
            await it.edit(route, rate_limit_per_second=None)
        await there.count(180, path="/paced")
        await it.until_row(NONE_PARKED)


async def test_what_is_taken_up_again_is_bounded_by_its_bytes(database_url: str) -> None:
    tunables = replace(SMALL_LANES, max_bytes=1_000_000, chunk_events=4)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        opened = gate(there, "/")
        for _ in range(5):
            await it.route(there.url + "/")
        large = b'{"customer":{"note":"%b"}}' % (b"x" * 100_000)
        await it.publish(count=30, snapshot=large)
        await it.until_row(PARKED, 5 * 25)
        held = it.pipeline._working_set
        peak = 0

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, sum(d.event.size_bytes for of in held._deliveries.values() for d in of.values()))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        opened.set()
        await there.count(150)
        watching.cancel()
        await it.until_row(NONE_PARKED)
        assert held.size_bytes == 0
    # What was there before, a chunk, and one of each route.
    assert peak < 1_000_000 + (4 + 5) * 110_000, peak


async def test_lanes_that_recover_together_do_not_fill_memory_in_one_pass(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunables = replace(SMALL_LANES, chunk_events=20, crowded_events=30)
    after_pass: list[int] = []
    refill_all = Parking._refill_all

    async def noted(parking: Parking) -> None:
        await refill_all(parking)
        after_pass.append(it.pipeline._lanes.queued)

    async with receiver() as there:
        opened = gate(there, "/")
        async with crashing_process(database_url, tunables=tunables, route_concurrency=1) as it:
            for _ in range(8):
                await it.route(there.url + "/")
            published = await it.publish(count=60)
            await it.until_row("SELECT count(*) = 8 FROM (SELECT FROM hookledger.parked GROUP BY route_id) parked")
            await it.until_accounted()
        monkeypatch.setattr(Parking, "_refill_all", noted)
        async with pipeline_process(database_url, tunables=tunables, route_concurrency=1) as it:
            await until(lambda: any(after_pass))
            opened.set()
            await it.until_row("SELECT count(DISTINCT (route_id, seq)) = 480 FROM hookledger.attempt")
        assert set(ids_of(there)) == set(published)
    assert 30 <= next(filter(None, after_pass)) < 30 + 20 + 8


async def test_a_look_at_very_many_lanes_leaves_the_event_loop_to_others(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, breaker_failures=1) as it:
        lanes, turns = it.pipeline._lanes, 0
        it.pipeline._ledger.adopt(Takeover(checkpoints={0: 0}))
        for _ in range(5000):
            lane = lanes.lane(uuid4(), 0)
            lanes.park(lane)
            lane.breaker.failed(time.monotonic(), roll=0.5)

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        working = asyncio.create_task(others())
        await it.pipeline._backlog.parking._refill_all()
        working.cancel()
        assert turns >= 5


async def test_of_large_events_a_few_are_read_at_a_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first_by_seq = domain_events.first_by_seq
    sizes: list[int] = []

    async def noted(database: Database, asked: dict[int, datetime]) -> dict[int, StoredEvent | None]:
        found = await first_by_seq(database, asked)
        sizes.append(sum(event.size_bytes for event in found.values() if event is not None))
        return found

    monkeypatch.setattr(domain_events, "first_by_seq", noted)
    tunables = replace(SMALL_LANES, lane_queue=2, unmeasured_lane_queue=2, range_pairs=4)
    size = READ_BYTES // 4
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/")
        for _ in range(20):
            await domain_events.publish(it.database, [new_event(data=b'{"n": "%b"}' % (b"x" * size))])
            it.pipeline.hurry()
        await it.until_row(ALL_PARKED, 16)
        opened.set()
        await there.count(20)
        await it.until_row(NONE_PARKED)
    assert max(sizes) < READ_BYTES + 2 * size


async def test_while_very_many_lanes_are_refilled_what_holds_up_others_is_looked_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[float] = []

    async def refill(_parking: Parking, _lane: Lane, _chunk_events: int) -> int:
        await asyncio.sleep(0.01)
        return 0

    monkeypatch.setattr(Parking, "_refill", refill)
    tunables = Tunables(sweep_seconds=0.005)
    async with pipeline_process(database_url, run=False, tunables=tunables) as it:
        lanes = it.pipeline._lanes
        monkeypatch.setattr(lanes, "sweep", sweeps.append)
        it.pipeline._ledger.adopt(Takeover(checkpoints={0: 0}))
        for _ in range(10):
            lanes.park(lanes.lane(uuid4(), 0))
        await it.pipeline._backlog.parking._refill_all()
    assert len(sweeps) >= 9
