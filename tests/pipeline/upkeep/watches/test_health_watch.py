"""The health of a receiver is in the database within a moment, for every process, and outlives the process that saw it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from daemon import receivers
from daemon.core.delivery.health import HealthState
from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.watches.health_watch import ROUTES_AT_ONCE
from daemon.receivers import RouteHealth
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health
from eventstore.queries.metrics.route_health import HealthRow
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import ok, receiver, status
from tests.support.values.deliveries import delivery, outcome

LATE = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
QUICK = Tunables(breaker_first_pause_seconds=0.2, breaker_longest_pause_seconds=0.4, health_pause_seconds=0.05)
SLOW_PROBES = Tunables(breaker_first_pause_seconds=600, breaker_longest_pause_seconds=600, health_pause_seconds=0.05)
STATE = "SELECT EXISTS (SELECT FROM hookledger.route_health WHERE route_id = $1 AND state = $2)"


async def health_of(it: PipelineProcess, route_id: UUID) -> RouteHealth:
    return (await receivers.read(it.database, [route_id]))[route_id]


async def test_a_receiver_that_dies_is_down_with_its_last_answer_and_the_next_probe(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=5, route_concurrency=1, retry=LATE, tunables=SLOW_PROBES) as it,
    ):
        route = await it.route(there.url + "/")
        assert (await health_of(it, route.id)).state is HealthState.UNKNOWN
        await it.publish()
        await it.until_row(STATE, route.id, "ok")
        there.answer["/"] = status(500)
        published = await it.publish(count=30)
        await it.until_row(STATE, route.id, "down")
        await it.until_row("SELECT coalesce(sum(pairs), 0) >= 25 FROM hookledger.parked")
        await it.until_row("SELECT probe_at IS NOT NULL FROM hookledger.route_health")
        found = await health_of(it, route.id)
        answer = found.last_answer
        assert answer is not None
        assert (answer.status_code, answer.error) == (500, "http_500")
        assert answer.event_id in published
        assert (found.waiting.number, found.waiting.is_exact) == (30, True)
        assert found.next_probe_at is not None
        (row,) = await it.rows("SELECT probe_at - clock_timestamp() AS left FROM hookledger.route_health")
        assert timedelta(minutes=8) < row["left"] < timedelta(minutes=12)


async def test_a_receiver_that_is_mended_recovers_by_itself(database_url: str) -> None:
    retry = RetryPolicy(first=timedelta(seconds=0.2), cap=timedelta(seconds=0.2), attempts=100)
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=5, retry=retry, tunables=QUICK) as it,
    ):
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        await it.publish(count=30)
        await it.until_row(STATE, route.id, "down")
        began = (await health_of(it, route.id)).since
        there.answer["/"] = ok
        await it.until_row(STATE, route.id, "ok")
        found = await health_of(it, route.id)
        assert found.receiver is not None
        assert found.receiver.ill_since == began
        assert found.next_probe_at is None


async def test_the_next_owner_goes_on_from_what_was_known(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with pipeline_process(database_url, retry=LATE, tunables=QUICK) as one:
            route = await one.route(there.url + "/")
            await one.publish(count=2)
            await one.until_row("SELECT coalesce(max(failures), 0) = 2 FROM hookledger.route_health")
            began = (await health_of(one, route.id)).since
        async with pipeline_process(database_url, retry=LATE, tunables=QUICK) as other:
            await other.publish()
            await other.until_row(STATE, route.id, "down")
            assert (await health_of(other, route.id)).since == began


async def test_of_a_disabled_route_nothing_is_known_until_it_is_sent_to_again(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATE, tunables=QUICK) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        await it.publish(count=3)
        await it.until_row(STATE, route.id, "down")
        await it.disable(route)
        await it.until_row("SELECT count(*) = 0 FROM hookledger.route_health")
        there.answer["/"] = ok
        await it.enable(route)
        await it.publish()
        await it.until_row(STATE, route.id, "ok")


async def test_a_row_of_an_earlier_owner_never_replaces_a_later_one(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATE, tunables=QUICK) as it:
        route = await it.route(there.url + "/")
        await it.publish()
        await it.until_row(STATE, route.id, "ok")
        await it.rows("UPDATE hookledger.route_health SET epoch = epoch + 1")
        there.answer["/"] = status(500)
        await it.publish(count=3)
        await it.until_row("SELECT count(*) = 3 FROM hookledger.retry")
        watch = it.pipeline._upkeep.health_watch
        await watch._write()
        assert (await health_of(it, route.id)).state is HealthState.OK


async def test_what_was_known_of_a_route_ends_with_its_window_though_nobody_ran_then(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with pipeline_process(database_url, retry=LATE, tunables=QUICK) as one:
            stays, disabled, enabled_again, deleted = [await one.route(there.url + "/") for _ in range(4)]
            await one.publish(count=3)
            await one.until_row("SELECT count(*) = 4 FROM hookledger.route_health WHERE state = 'down'")
        async with pipeline_process(database_url, run=False) as idle:
            for route in (disabled, enabled_again):
                await idle.disable(route)
            await idle.enable(enabled_again)
            await idle.commands.delete(deleted.tenant, deleted.id, CONTEXT)
        async with pipeline_process(database_url, retry=LATE, tunables=QUICK) as other:
            await other.until_row("SELECT count(*) = 1 FROM hookledger.route_health")
            assert (await health_of(other, stays.id)).state is HealthState.DOWN
            assert (await health_of(other, enabled_again.id)).state is HealthState.UNKNOWN


async def test_the_health_of_very_many_receivers_is_written_some_at_a_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = route_health.write

    async def noted(database: Database, rows: Sequence[HealthRow]) -> None:
        sizes.append(len(rows))
        await write(database, rows)

    monkeypatch.setattr(route_health, "write", noted)
    async with pipeline_process(database_url, run=False) as it:
        watch = it.pipeline._upkeep.health_watch
        it.pipeline.shards.take({0: 1}, valid_until=1e12)
        it.pipeline.shards.hold(Takeover(checkpoints={0: 0}), {0: 1})
        monkeypatch.setattr(watch, "_is_enabled", lambda _route_id: True)
        heard = [delivery(number) for number in range(2 * ROUTES_AT_ONCE + 1)]
        watch.recorded([outcome(each) for each in heard], heard)
        running = asyncio.create_task(watch.run_once())
        await it.until_row("SELECT count(*) = $1 FROM hookledger.route_health", len(heard))
        running.cancel()
    assert sizes == [ROUTES_AT_ONCE, ROUTES_AT_ONCE, 1]
