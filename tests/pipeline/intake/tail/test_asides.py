"""Tenants that are set aside of their shard, since their burst keeps it full: nobody in the shard waits for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count, islice

import pytest
from structlog.testing import capture_logs

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.cursors import ShardCursor
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events import tail
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.errors import StoreUnavailable
from tests.pipeline.intake.tail.test_tailer import MANY, PATIENT, gated_receiver, newest_tick
from tests.pipeline.intake.test_heavy_filters import KEEPS, filtered, held_answers, publish
from tests.support.pipeline.crash import crashing_process
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until

SHARD = domain_events.shard_of(MANY)
NEIGHBOURS = list(islice((f"n{n}" for n in count() if domain_events.shard_of(f"n{n}") == SHARD), 3))
AT_ONCE = replace(PATIENT, aside_seconds=0.1, max_pairs=100)


async def test_the_burst_of_a_tenant_does_not_hold_up_one_of_its_shard(database_url: str) -> None:
    async with gated_receiver(database_url) as (it, there, opened):
        beside = await it.route(there.url + "/beside", tenant=NEIGHBOURS[0])
        burst = await it.publish(tenant=MANY, count=70)
        before = await it.publish(tenant=NEIGHBOURS[0])
        burst += await it.publish(tenant=MANY, count=70)
        async with pipeline_process(database_url, tunables=AT_ONCE, timeout_seconds=60) as running:
            try:
                with capture_logs() as logs:
                    await there.count(1, path="/beside", seconds=20)
                told = [(each["tenant"], each["shard"]) for each in logs if each["event"] == "tenant.set_aside"]
                assert told == [(MANY, SHARD)]
                between = await running.publish(tenant=NEIGHBOURS[0], count=3)
                burst += await running.publish(tenant=MANY, count=2)
                await there.count(4, path="/beside", seconds=20)
                assert opened.is_set() is False
                assert await held_at(running) == 0
            finally:
                opened.set()
            await running.until_accounted()
            found = await running.outcomes()
            assert found == {id: ["delivered"] for id in before + between} | {id: ["delivered"] * 2 for id in burst}
            assert await in_order(running, beside.id) == before + between
            assert running.pipeline._intake.tailer._reading.aside == []


async def held_at(it: PipelineProcess) -> int:
    """The checkpoint of the shard."""
    (row,) = await it.rows("SELECT tick FROM hookledger.checkpoint WHERE shard = $1", SHARD)
    return int(row["tick"])


async def in_order(it: PipelineProcess, route_id: object) -> list[str]:
    rows = await it.rows(
        "SELECT event_id FROM hookledger.attempt WHERE route_id = $1 ORDER BY started_at, seq", route_id
    )
    return [row["event_id"] for row in rows]


async def test_what_was_sent_ahead_of_a_tenant_is_not_sent_again_after_a_crash(database_url: str) -> None:
    async with gated_receiver(database_url) as (it, there, opened):
        await it.route(there.url + "/beside", tenant=NEIGHBOURS[0])
        burst = await it.publish(tenant=MANY, count=70)
        async with crashing_process(database_url, tunables=AT_ONCE, timeout_seconds=60) as running:
            await there.count(1, path="/")
            beside = await running.publish(tenant=NEIGHBOURS[0], count=5)
            await there.count(5, path="/beside", seconds=20)
            await running.until_row("SELECT count(*) = 5 FROM hookledger.attempt")
            assert await held_at(running) == 0
        opened.set()
        async with pipeline_process(database_url) as again:
            await again.until_accounted()
            await again.until_row("SELECT count(DISTINCT (route_id, seq)) = 145 FROM hookledger.attempt")
            assert len(there.at("/beside")) == 5
            found = await again.outcomes()
            assert {id: found[id] for id in beside} == {id: ["delivered"] for id in beside}
            assert found.keys() == {*burst, *beside}


async def test_heavy_filters_of_a_tenant_do_not_hold_up_one_of_its_shard(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = held_answers(monkeypatch)
    tunables = Tunables(deferred_of_shard=2, aside_seconds=0.1)
    async with receiver() as there, pipeline_process(database_url, tunables=tunables) as it:
        heavy = await it.route(there.url + "/heavy", tenant=MANY, **filtered(KEEPS.format(10)))
        await it.route(there.url + "/beside", tenant=NEIGHBOURS[0])
        events = [f"e{number}" for number in range(6)]
        try:
            for number in range(6):
                await publish(it, events[number], tenant=MANY)
                await it.publish(tenant=NEIGHBOURS[0])
                await there.count(number + 1, path="/beside", seconds=20)
            assert there.at("/heavy") == []
        finally:
            may_answer.set()
        await there.count(6, path="/heavy")
        await it.until_accounted()
        assert await in_order(it, heavy.id) == events
        reading = it.pipeline._intake.tailer._reading
        await until(lambda: reading.aside == [] and not reading.decider.deferred._counts)


# Room for a few, and little patience.
SMALL = Tunables(max_pairs=12, aside_seconds=0.0, aside_tenants=2, ahead_pairs=25)
ROUNDS = 12


class Interleaved:
    """The loops of a tailer with one shard, whose deliveries are accounted for at random, and whose reads fail so. It
    notes which events were decided, and which tenants were set aside.
    """

    def __init__(self, it: PipelineProcess, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decided: list[str] = []
        self.aside: set[str] = set()
        self.tailer, self.ledger = it.pipeline._intake.tailer, it.pipeline._ledger
        self._chance = chance
        takeover = Takeover(checkpoints={SHARD: 0})
        self.ledger.adopt(takeover)
        self.tailer.adopt(takeover)
        decide, read_cut = self.tailer._reading.decider.decide, tail.read_cut

        def noted(event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
            self.decided.append(event.id)
            self.aside.update(cursor.aside)
            decide(event, cut, cursor)
            assert self.ledger.read_upto(SHARD) < cut.tick

        async def failing(*arguments: object, **options: object) -> AsyncIterator[list[StoredEvent]]:
            async for page in read_cut(*arguments, **options):  # type: ignore[arg-type] # the original's arguments
                await asyncio.sleep(0)
                yield page
                if chance.random() < 0.05:
                    raise StoreUnavailable("away")

        monkeypatch.setattr(self.tailer._reading.decider, "decide", noted)
        monkeypatch.setattr(tail, "read_cut", failing)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the loops. Raises what ends one of them."""
        names = ["tailer", f"tailer of shard {SHARD}", *(f"tailer of a tenant {n}" for n in range(SMALL.aside_tenants))]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in (*map(self._loop, names), self._account())]
            yield
            for task in tasks:
                task.cancel()

    async def until_read(self, tick: Tick, events: int) -> None:
        """Waits until so many events are decided and accounted for up to that tick."""
        async with asyncio.timeout(60):
            while len(self.decided) < events or self.ledger.checkpoint(SHARD) < tick.tick:
                await asyncio.sleep(0.01)

    async def _loop(self, name: str) -> None:
        run_once = self.tailer.loops()[name]
        while True:
            with suppress(StoreUnavailable):
                await run_once()
            await asyncio.sleep(0)

    async def _account(self) -> None:
        while True:
            for each in list(self.ledger._unaccounted):
                if self._chance.random() < 0.2:
                    self.ledger.account(each)
            await asyncio.sleep(self._chance.choice((0, 0, 0.002)))


@pytest.mark.parametrize("seed", range(8))
async def test_every_event_is_decided_once_and_in_the_order_of_its_tenant(
    database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Bursts of random tenants of one shard, in small pages."""
    chance = random.Random(seed)
    monkeypatch.setattr(tail, "PAGE_ROWS", 4)
    monkeypatch.setattr(tail, "FEW_ROWS", 2)
    published: dict[str, list[str]] = {tenant: [] for tenant in (MANY, *NEIGHBOURS)}
    async with pipeline_process(database_url, run=False, tunables=SMALL) as it:
        for tenant in published:
            await it.route("http://127.0.0.1:9/", tenant=tenant)
        interleaved = Interleaved(it, chance, monkeypatch)
        async with interleaved.running():
            for _ in range(ROUNDS):
                for tenant in chance.sample(list(published), chance.randint(1, 4)):
                    published[tenant] += await it.publish(tenant=tenant, count=chance.choice((1, 2, 30)))
                interleaved.tailer.told(await newest_tick(it))
                await asyncio.sleep(chance.choice((0, 0.01, 0.05)))
            await interleaved.until_read(await newest_tick(it), sum(map(len, published.values())))
        decided = interleaved.decided
        assert {tenant: [id for id in decided if id in set(ids)] for tenant, ids in published.items()} == published
        assert len(decided) == len(set(decided))
        assert interleaved.aside
        assert not interleaved.tailer._reading.aside
