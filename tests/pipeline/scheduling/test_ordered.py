"""Ordered routes: one request at a time, in the order of events; a failing delivery blocks those behind it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from aiohttp import web

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.progress import backlog
from tests.pipeline.backlog.test_parking import NONE_PARKED, PARKED, ids_of
from tests.support.pipeline.crash import crashing_process
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Answerer, Receiver, gate, ok, once, receiver, status
from tests.support.until import until

QUICK = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.2), attempts=10)
ALL_DELIVERED = "SELECT count(*) = $1 FROM hookledger.attempt WHERE outcome = 'delivered'"


SMALL_LANES = Tunables(lane_queue=20, unmeasured_lane_queue=20, low_water=10, chunk_events=15)


def failing_some(there: Receiver, path: str, *, each: int, times: int) -> list[str]:
    """Every `each`th event fails `times` times. Returns the list of successes, in the order of their answers."""
    failures: Counter[str] = Counter()
    taken: list[str] = []
    under_way = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        under_way += 1
        try:
            assert under_way == 1, "two at a time"
            event = json.loads(await request.read())["id"]
            await asyncio.sleep(0)
            if int(event.removeprefix("evt_")) % each == 0 and failures[event] < times:
                failures[event] += 1
                return web.Response(status=500)
            taken.append(event)
            return web.Response(status=204)
        finally:
            under_way -= 1

    there.answer[path] = answer
    return taken


def _has(taken: list[str], number: int) -> bool:
    return len(set(taken)) >= number


async def test_what_fails_holds_up_what_comes_after_it_until_it_succeeds(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        taken = failing_some(there, "/", each=7, times=2)
        await it.route(there.url + "/", ordered=True)
        published = await it.publish(count=40)
        await it.until_row(ALL_DELIVERED, 40, seconds=30)
        assert taken == published


async def test_what_fails_for_good_lets_the_next_one_pass(database_url: str) -> None:
    twice = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.1), attempts=2)
    async with receiver() as there, pipeline_process(database_url, retry=twice) as it:
        taken = failing_some(there, "/", each=3, times=2)
        await it.route(there.url + "/", ordered=True)
        published = await it.publish(count=6)
        await it.until_row("SELECT count(*) = 6 FROM hookledger.attempt WHERE outcome <> 'retrying'", seconds=30)
        assert taken == [event for event in published if int(event.removeprefix("evt_")) % 3]
        assert [outcome[-1] for outcome in (await it.outcomes()).values()].count("failed") == 2


async def test_the_order_holds_through_parking_and_crashes(database_url: str) -> None:
    async with receiver() as there:
        taken = failing_some(there, "/", each=25, times=1)
        published: list[str] = []
        for progress in (15, 40, 90):
            async with crashing_process(database_url, retry=QUICK, timeout_seconds=0.5) as it:
                if not published:
                    await it.route(there.url + "/", ordered=True)
                    published = await it.publish(count=150)
                await until(partial(_has, taken, progress), seconds=20)
        async with pipeline_process(database_url, retry=QUICK, timeout_seconds=0.5) as it:
            await it.until_row(
                "SELECT count(DISTINCT seq) = 150 FROM hookledger.attempt WHERE outcome = 'delivered'", seconds=40
            )
            await it.until_row(NONE_PARKED, seconds=20)
        first_seen = list(dict.fromkeys(taken))
        assert first_seen == published, "what a crash has sent again comes at its place, and nothing before its turn"


async def test_a_slow_receiver_of_an_ordered_route_gets_what_was_parked_in_order(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/", ordered=True)
        published = await it.publish(count=60)
        await it.until_row(PARKED, 50)
        await it.until_accounted()
        published += await it.publish(count=20)
        opened.set()
        await it.until_row(ALL_DELIVERED, 80, seconds=30)
        assert ids_of(there) == published


async def test_a_route_that_becomes_ordered_waits_for_what_failed_before(database_url: str) -> None:
    late = RetryPolicy(first=timedelta(seconds=1.5), cap=timedelta(seconds=2), jitter=0.0)
    async with receiver() as there, pipeline_process(database_url, retry=late) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        first = await it.publish(count=2)
        await it.until_row("SELECT count(*) = 2 FROM hookledger.retry WHERE failures = 1")
        taken = failing_some(there, "/", each=10**9, times=0)
        await it.edit(route, ordered=True)
        then = await it.publish(count=3)
        await it.until_row(ALL_DELIVERED, 5, seconds=20)
        assert taken == first + then


async def test_a_retry_that_is_suppressed_or_gone_holds_up_nobody(database_url: str) -> None:
    never = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, retry=never) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/", ordered=True)
        await it.publish(count=1)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry WHERE failures = 1")
        await it.disable(route)
        await it.enable(route)
        taken = failing_some(there, "/", each=10**9, times=0)
        later = await it.publish(count=2)
        await it.until_row(ALL_DELIVERED, 2, seconds=20)
        assert taken == later


async def test_the_first_of_more_retries_than_a_route_may_hold_still_comes_first(database_url: str) -> None:
    """The first delivery failed most often, so it is due last, and the others wait for it in the table."""
    never = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, breaker_failures=1000, retry=never) as it:
        await became_ordered(it, there, count=100)
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=30)
        assert len(await it.outcomes()) == 100


async def test_a_retry_that_waits_behind_a_suppressed_one_holds_up_nobody(database_url: str) -> None:
    never = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, breaker_failures=1000, retry=never) as it:
        route = await became_ordered(it, there, count=3, first_due_in=timedelta(0), answer=once(status(500)))
        lane = it.pipeline._lanes.lane(route.id, 0)
        await until(lambda: len(lane.due) == 2)
        await it.disable(route)
        await it.enable(route)
        later = await it.publish(count=2)
        await it.until_row(ALL_DELIVERED, 2, seconds=30)
        assert ids_of(there)[-2:] == later


async def test_of_very_many_retries_an_ordered_lane_knows_the_first_ones(database_url: str) -> None:
    """A look for the first of 200,000 at each step of the lane took 12 ms of the event loop."""
    never = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    few = Tunables(failing_positions=10)
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=1000, retry=never, tunables=few) as it,
    ):
        opened = asyncio.Event()

        async def answer(_request: web.Request) -> web.StreamResponse:
            await opened.wait()
            return web.Response(status=204)

        route = await became_ordered(it, there, count=40, answer=answer)
        lane = it.pipeline._lanes.lane(route.id, 0)
        await until(lambda: lane.failing is not None)
        rows = await it.rows("SELECT tick, seq FROM hookledger.retry ORDER BY tick, seq LIMIT 10")
        assert lane.failing == {(row["tick"], row["seq"]) for row in rows}
        opened.set()
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=30)
        events = await it.rows("SELECT id FROM hookledger.domain_event ORDER BY seq")
        assert ids_of(there)[40:] == [event["id"] for event in events]


async def became_ordered(
    it: PipelineProcess,
    there: Receiver,
    *,
    count: int,
    first_due_in: timedelta = timedelta(seconds=2),
    answer: Answerer = ok,
) -> Route:
    """A route with retries that became ordered afterwards. All retries are due except the first."""
    there.answer["/"] = status(500)
    route = await it.route(there.url + "/")
    await it.publish(count=count)
    await it.until_row("SELECT count(*) = $1 FROM hookledger.retry", count)
    there.answer["/"] = answer
    await it.edit(route, ordered=True)
    async with it.database.connection() as connection:
        await connection.execute(
            "UPDATE hookledger.retry SET due_at = clock_timestamp() + $1::interval *"
            " (seq = (SELECT min(seq) FROM hookledger.retry))::integer",
            first_due_in,
        )
    return route


async def test_a_rate_limit_spaces_first_attempts_and_retries_alike(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        loop = asyncio.get_running_loop()
        arrived: list[float] = []
        seen: Counter[str] = Counter()

        async def answer(request: web.Request) -> web.StreamResponse:
            arrived.append(loop.time())
            event = json.loads(await request.read())["id"]
            seen[event] += 1
            return web.Response(status=500 if seen[event] == 1 and len(seen) % 3 == 0 else 204)

        there.answer["/"] = answer
        await it.route(there.url + "/", rate_limit_per_second=20.0)
        await it.publish(count=30)
        await it.until_row(ALL_DELIVERED, 30, seconds=30)
        assert len(arrived) >= 35
        # The sender spaces the requests by its own clock; a busy loop may delay the arrival of the first one.
        assert arrived[-1] - arrived[0] >= (len(arrived) - 2) / 20 - 0.7


FEW_PLACES = Tunables(retry_route_limit=16, retry_page_rows=20, retry_held_limit=40, failing_positions=10)


@pytest.mark.parametrize(
    ("retries", "tunables"),
    [pytest.param(150, FEW_PLACES, id="few"), pytest.param(4500, DEFAULTS, id="many", marks=pytest.mark.long)],
)
async def test_a_route_that_becomes_ordered_with_more_retries_than_there_are_places_ends_them_in_order(
    database_url: str, retries: int, tunables: Tunables
) -> None:
    """The last events are due first, so they have all places in memory, and can do nothing before the first ones."""
    late = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=late, timeout_seconds=60, breaker_failures=10**6, tunables=tunables) as it,
    ):
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        published = await it.publish(count=retries)
        await it.until_row("SELECT count(*) = $1 FROM hookledger.retry WHERE failures = 1", retries, seconds=90)
        there.received.clear()
        opened = gate(there, "/")
        await it.rows("UPDATE hookledger.retry SET due_at = now() - seq * interval '1 ms'")
        it.pipeline._backlog.retrier.wakeup.set()
        await until(lambda: len(list(it.pipeline._working_set.with_retry_row())) >= tunables.retry_route_limit)
        await it.edit(route, ordered=True)
        await there.count(len(it.pipeline._lanes.in_flight))  # they started before, and no other starts beside them
        at_once = ids_of(there)
        opened.set()
        await it.until_row(ALL_DELIVERED, retries, seconds=90)
        rest = [event for event in published if event not in set(at_once)]
        assert ids_of(there)[len(at_once) :] == rest
        assert (await it.rows("SELECT count(*) AS n FROM hookledger.retry"))[0]["n"] == 0


async def test_what_many_routes_wait_for_is_asked_by_one_question(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes of all others are refilled by the same loop: a thousand questions held it up for more than a second."""
    asked: list[int] = []
    original = backlog.failing

    async def noted(database: Database, route_ids: Collection[UUID], *, each: int) -> dict[UUID, set[LogPosition]]:
        asked.append(len(route_ids))
        return await original(database, route_ids, each=each)

    monkeypatch.setattr(backlog, "failing", noted)
    later = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, retry=later) as it:
        there.answer["/"] = status(500)
        for _ in range(20):
            await it.route(there.url + "/", ordered=True)
        await it.publish(count=2)
        await it.until_row("SELECT count(*) = 20 FROM hookledger.retry")
        await it.until_accounted()
        asked.clear()
        await until(lambda: len(asked) >= 3)
    assert asked[1:3] == [20, 20]
