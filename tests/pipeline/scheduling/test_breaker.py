"""A receiver that is down gets fewer and fewer requests. Once it is back it gets all pending deliveries in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import PayloadOptions
from daemon.pipeline.tunables import Tunables
from tests.pipeline.backlog.test_parking import NONE_PARKED, PARKED, ids_of
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import ok, receiver, status
from tests.support.until import until

# Retries are due only after the test, so all requests are first attempts and probes.
LATE = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))


SHORT_PAUSES = Tunables(breaker_first_pause_seconds=0.2, breaker_longest_pause_seconds=0.4)


async def test_an_open_breaker_parks_what_arrives_and_drains_it_in_order_once_the_receiver_is_back(
    database_url: str,
) -> None:
    async with (
        receiver() as there,
        pipeline_process(
            database_url, route_concurrency=1, breaker_failures=5, retry=LATE, tunables=SHORT_PAUSES
        ) as it,
    ):
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        published = await it.publish(count=200)
        await it.until_row(PARKED, 150)
        await it.until_accounted()
        asked = len(there.received)
        assert asked < 50, "an open breaker asks once in a while"
        lane = it.pipeline._lanes.lane(route.id, 0)
        assert not lane.queue, "what waits is in the table"
        await there.count(asked + 1)
        there.answer["/"] = ok
        there.received.clear()
        await it.until_row(NONE_PARKED)
        await until(lambda: lane.breaker.is_closed and not lane.is_parking)
        outcomes = await it.outcomes()
        failed = [event for event in published if outcomes.get(event) == ["retrying"]]
        rest = [event for event in published if event not in failed]
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt WHERE outcome = 'delivered'", len(rest))
        got = [event for event in ids_of(there) if event in rest]
        assert got == rest, "in the order of events, once each"
        assert not it.pipeline._lanes.broken


async def test_retries_keep_their_schedule_while_the_breaker_is_open(database_url: str) -> None:
    quick = RetryPolicy(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.1), attempts=8)
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=3, retry=quick, tunables=SHORT_PAUSES) as it,
    ):
        there.answer["/"] = status(503)
        await it.route(there.url + "/")
        published = await it.publish(count=3)
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt WHERE outcome = 'failed'", seconds=20)
        assert Counter(ids_of(there)) == dict.fromkeys(published, 8)


async def test_an_edited_route_gets_another_chance_at_once(database_url: str) -> None:
    tunables = replace(SHORT_PAUSES, breaker_first_pause_seconds=3600.0)
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=2, retry=LATE, tunables=tunables) as it,
    ):
        there.answer["/down"] = status(500)
        route = await it.route(there.url + "/down")
        await it.publish(count=30)
        await it.until_row(PARKED, 1)
        lane = it.pipeline._lanes.lane(route.id, 0)
        await until(lambda: not lane.breaker.is_closed)
        await it.edit(route, target_url=there.url + "/up")
        await it.until_row(NONE_PARKED)
        later = await it.publish(count=1)
        await until(lambda: later[0] in ids_of(there))


async def test_a_delivery_that_cannot_be_rendered_says_nothing_about_the_receiver(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=2, retry=LATE, tunables=SHORT_PAUSES) as it,
    ):
        broken = await it.route(there.url + "/", payload=PayloadOptions(transform="sum(data.object.n)"))
        published = await it.publish(count=10)
        await it.until_row("SELECT count(*) = 10 FROM hookledger.attempt WHERE error LIKE 'render_error%'")
        assert it.pipeline._lanes.lane(broken.id, 0).breaker.is_closed
        assert len(published) == 10
