"""Manual retries: one request for each manual retry, whatever else happens to the delivery."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from daemon.commands import Conflict
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.deliveries import replays
from daemon.pipeline.scheduling.working_set import WorkingSet
from eventstore import domain_events
from eventstore.progress.manual_retry import RetryResult
from eventstore.queries.deliveries.attempts import EventAndRoute
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.deliveries import delivery

ONCE = RetryPolicy(first=timedelta(seconds=1), attempts=1)
LATER = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=3)


async def retry_now(it: PipelineProcess, route: Route, event_id: str) -> RetryResult:
    (event,) = await domain_events.find(it.database, event_id, tenant=route.tenant)
    timeline = it.projection.index.timeline(route.id)
    assert timeline is not None
    pair = EventAndRoute(seq=event.seq, route_id=route.id, event_id=event.id, event_time=event.event_time)
    return await replays.retry_now(it.database, timeline, pair, CONTEXT, macs=LOG_MACS)


async def until_attempts(it: PipelineProcess, number: int) -> None:
    await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", number)


async def test_a_retry_that_waits_for_an_hour_is_sent_at_once_and_goes_on_with_its_schedule(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATER) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
        assert await retry_now(it, route, event_id) is RetryResult.DUE
        await until_attempts(it, 2)
        (row,) = await it.rows(
            "SELECT failures, due_at > now() + interval '50 minutes' AS is_later FROM hookledger.retry"
        )
        assert row == {"failures": 2, "is_later": True}
        assert await retry_now(it, route, event_id) is RetryResult.DUE
        await until_attempts(it, 3)
        assert await it.outcomes() == {event_id: ["retrying", "retrying", "failed"]}


async def test_one_that_used_up_its_attempts_gets_one_more_each_time(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=ONCE) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        for number in (1, 2, 3):
            await until_attempts(it, number)
            assert await it.outcomes() == {event_id: ["failed"] * number}
            assert await retry_now(it, route, event_id) is RetryResult.DUE
        await until_attempts(it, 4)
        numbers = await it.rows("SELECT number FROM hookledger.attempt ORDER BY at")
        assert [row["number"] for row in numbers] == [1, 2, 3, 4]
        assert await it.rows("SELECT * FROM hookledger.retry") == []


async def test_a_delivered_one_is_sent_again_under_its_id_to_the_present_target(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/old")
        (event_id,) = await it.publish()
        await until_attempts(it, 1)
        await it.edit(route, target_url=there.url + "/new")
        assert await retry_now(it, route, event_id) is RetryResult.DUE
        await until_attempts(it, 2)
        assert [got.path for got in there.received] == ["/old", "/new"]
        assert len({got.headers["webhook-id"] for got in there.received}) == 1


async def test_asked_elsewhere_the_owner_of_the_shard_sends_it(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=ONCE) as it,
        pipeline_process(database_url, run=False) as elsewhere,
    ):
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        await elsewhere.projection.catch_up()
        (event_id,) = await it.publish()
        await until_attempts(it, 1)
        there.answer.clear()
        assert await retry_now(elsewhere, route, event_id) is RetryResult.DUE
        await until_attempts(it, 2)
        assert await it.outcomes() == {event_id: ["failed", "delivered"]}


async def test_however_often_it_is_asked_for_each_that_is_granted_is_one_request(database_url: str) -> None:
    """Manual retries race with flushes that settle them: no row is lost, and none is sent twice."""
    dice = random.Random(7)
    async with receiver() as there, pipeline_process(database_url, retry=ONCE, breaker_failures=10_000) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        ids = await it.publish(count=10)
        await until_attempts(it, 10)
        granted: Counter[str] = Counter()

        async def retry_repeatedly() -> None:
            while granted.total() < 40:
                event_id = dice.choice(ids)
                if await retry_now(it, route, event_id) is RetryResult.DUE:
                    granted[event_id] += 1

        await asyncio.gather(*(retry_repeatedly() for _ in range(5)))
        await until_attempts(it, 10 + granted.total())
        assert {i: len(words) for i, words in (await it.outcomes()).items()} == {i: 1 + granted[i] for i in ids}
        assert len(there.received) == 10 + granted.total()
        numbers = await it.rows("SELECT seq, number, count(*) AS n FROM hookledger.attempt GROUP BY 1, 2")
        assert {row["n"] for row in numbers} == {1}
        assert await it.rows("SELECT * FROM hookledger.retry") == []


async def test_nothing_is_sent_again_once_the_window_has_closed(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=ONCE) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await until_attempts(it, 1)
        await it.disable(route)
        with pytest.raises(Conflict, match="is disabled since"):
            await retry_now(it, route, event_id)
        await it.enable(route)
        with pytest.raises(Conflict, match="what happened before is never sent"):
            await retry_now(it, route, event_id)
        assert await it.rows("SELECT * FROM hookledger.retry") == []


async def test_put_in_line_at_the_moment_of_a_disable_it_is_suppressed_and_not_sent(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with pipeline_process(database_url, retry=ONCE) as it:
            route = await it.route(there.url + "/")
            (event_id,) = await it.publish()
            await until_attempts(it, 1)
        async with (
            pipeline_process(database_url, run=False) as it,
            pipeline_process(database_url, run=False) as elsewhere,
        ):
            await elsewhere.disable(route)
            assert await retry_now(it, route, event_id) is RetryResult.DUE  # the process has not been notified
        async with pipeline_process(database_url, retry=ONCE) as it:
            await until_attempts(it, 2)
            assert await it.outcomes() == {event_id: ["failed", "suppressed"]}
            assert len(there.received) == 1


def test_an_outcome_lets_go_of_its_own_delivery_and_not_of_one_that_was_taken_up_since() -> None:
    working_set = WorkingSet()
    ended = delivery(1)
    taken_up = delivery(1, route_id=ended.route_id)
    working_set.add(taken_up)
    working_set.discard(ended)
    assert working_set.seqs(ended.route_id) == {1}
    working_set.discard(taken_up)
    assert working_set.seqs(ended.route_id) == set()
