"""Ticks that nobody makes are noticed, and those that there is no need for are not missed."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from daemon.pipeline.upkeep.watches.tick_watch import TickWatch
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events import ticks
from eventstore.domain_events.events import publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until
from tests.support.values.builders import new_event

LOCK = "BEGIN; LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE"


async def test_events_that_wait_for_a_held_up_tick_are_told_and_delivered_once_it_is_free(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as daemon:
        await daemon.route(there.url)
        holder = await asyncpg.connect(database_url)
        await holder.execute(LOCK)
        await daemon.publish("order.create")
        await until(lambda: daemon.pipeline.tick_age_seconds > 0)
        await until(lambda: daemon.metrics.tick_age._value.get() > 0)
        assert there.received == []
        await holder.execute("ROLLBACK")
        await holder.close()
        await there.count(1)
        await until(lambda: daemon.pipeline.tick_age_seconds == 0)
        await until(lambda: daemon.metrics.tick_age._value.get() == 0)


async def test_producers_that_go_on_event_by_event_do_not_hide_that_ticks_are_held_up(database_url: str) -> None:
    """Each of their answers comes within milliseconds, and none has a tick."""
    async with receiver() as there, pipeline_process(database_url) as daemon, asyncio.TaskGroup() as group:
        await daemon.route(there.url)

        async def keep_publishing() -> None:
            while True:
                await daemon.pipeline.publish(daemon.database, [new_event(tenant="acme")], seconds=3)
                await asyncio.sleep(0.05)

        holder = await asyncpg.connect(database_url)
        await holder.execute(LOCK)
        producer = group.create_task(keep_publishing())
        await until(lambda: daemon.pipeline.tick_age_seconds > 1)
        await holder.close()
        await until(lambda: daemon.pipeline.tick_age_seconds == 0)
        producer.cancel()


async def test_the_age_counts_from_when_the_events_were_first_seen_without_a_tick(database_url: str) -> None:
    database, now = Database(database_url), [100.0]
    await database.open()
    watch = TickWatch(database, Metrics(), look_seconds=0, clock=lambda: now[0])

    async def look_at(seconds: float) -> float:
        now[0] = seconds
        await watch.run_once()
        return watch.age_seconds

    assert await look_at(100) == 0
    await publish(database, [new_event()])
    assert [await look_at(seconds) for seconds in (110, 111, 115)] == [0, 1, 5]
    assert await ticks.make(database) == 1
    await publish(database, [new_event(id="another")])
    assert await look_at(116) == 0, "another tick was made: these events wait since now"
    assert await look_at(118) == 2
    assert await ticks.make(database) == 2
    assert await look_at(119) == 0
    await publish(database, [new_event(id="a third")])
    assert await look_at(120) == 0
    await database.close()
    with pytest.raises(StoreUnavailable):
        await look_at(125)
    assert watch.age_seconds == 5, "without the database there are no ticks either"
