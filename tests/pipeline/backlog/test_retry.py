"""Retries: when, how often, with which request, and when there is none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import RouteStatus
from daemon.deliveries import sample_events
from daemon.pipeline.backlog.retrier import _Places
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.scheduling.lanes import DeliveryWriter, Lanes
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.progress import backlog, manual_retry
from eventstore.progress.backlog import WaitingDelivery, WaitingRetries
from eventstore.progress.manual_retry import RetryRequest
from tests.support.pipeline.process import CONTEXT, pipeline_process
from tests.support.receivers.receiver import once, receiver, status
from tests.support.rows.credentials import LOG_MACS
from tests.support.until import until


async def test_a_retry_comes_when_the_schedule_says_and_not_before(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=0.3), factor=2, cap=timedelta(seconds=1), attempts=3, jitter=0.1)
    arrived: list[datetime] = []

    async def answer(_request: web.Request) -> web.StreamResponse:
        arrived.append(datetime.now(UTC))
        return web.Response(status=500)

    async with receiver() as there, pipeline_process(database_url, retry=policy) as it:
        there.answer["/"] = answer
        await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt")
        first, second = ((b - a).total_seconds() for a, b in pairwise(arrived))
        assert first >= 0.27
        assert second >= 0.54
        rows = await it.rows("SELECT number, outcome, status_code, error FROM hookledger.attempt ORDER BY at")
        assert [(r["number"], r["outcome"], r["status_code"], r["error"]) for r in rows] == [
            (1, "retrying", 500, "http_500"), (2, "retrying", 500, "http_500"), (3, "failed", 500, "http_500"),
        ]  # fmt: skip
        assert await it.rows("SELECT * FROM hookledger.retry") == []
        assert len({got.headers["webhook-id"] for got in there.received}) == 1
        assert list(await it.outcomes()) == [event_id]


@pytest.mark.parametrize(
    ("code", "header", "least", "most"),
    [(503, "20", 20, 25), (429, "99999", 59, 61), (500, "20", 9, 11.1), (503, "nonsense", 9, 11.1)],
)
async def test_retry_after_is_honoured_on_429_and_503_up_to_six_times_the_cap(
    database_url: str, code: int, header: str, least: float, most: float
) -> None:
    ten = RetryPolicy(first=timedelta(seconds=10), cap=timedelta(seconds=10))
    async with receiver() as there, pipeline_process(database_url, retry=ten) as it:
        there.answer["/"] = status(code, {"Retry-After": header})
        await it.route(there.url + "/")
        await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
        (row,) = await it.rows(
            "SELECT extract(epoch FROM r.due_at - a.started_at)::float8 - a.duration_ms / 1000.0 AS seconds"
            "  FROM hookledger.retry r JOIN hookledger.attempt a USING (seq)"
        )
        assert least - 0.1 <= row["seconds"] <= most


async def test_410_disables_the_route_with_its_reason_in_the_history(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        there.answer["/"] = status(410)
        route = await it.route(there.url + "/")
        ids = await it.publish(count=30)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.route_event WHERE type = 'disabled'")
        await it.until_accounted()
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt")
        rows = await it.rows("SELECT actor, origin, reason FROM hookledger.route_event WHERE type = 'disabled'")
        assert rows == [{"actor": "system", "origin": "delivery", "reason": "the receiver answered 410 Gone"}]
        assert {tuple(o) for o in (await it.outcomes()).values()} <= {("failed",), ("suppressed",)}
        assert set(await it.outcomes()) == set(ids)
        timeline = it.projection.index.timeline(route.id)
        assert timeline is not None
        assert timeline.current.status is RouteStatus.DISABLED


async def test_a_late_410_of_an_old_target_does_not_disable_the_route(database_url: str) -> None:
    opened = asyncio.Event()

    async def gone(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response(status=410)

    async with receiver() as there, pipeline_process(database_url) as it:
        there.answer["/old"] = gone
        route = await it.route(there.url + "/old")
        await it.publish()
        await there.count(1)
        await it.commands.edit(route.tenant, route.id, {"target_url": there.url + "/new"}, CONTEXT)
        opened.set()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE status_code = 410")
        await it.publish()
        await there.count(1, path="/new")
        assert await it.rows("SELECT * FROM hookledger.route_event WHERE type = 'disabled'") == []


async def test_a_retry_after_an_edit_goes_to_the_new_target(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=0.5), cap=timedelta(seconds=1))
    async with receiver() as there, pipeline_process(database_url, retry=policy) as it:
        there.answer["/old"] = status(500)
        route = await it.route(there.url + "/old")
        (event_id,) = await it.publish()
        await there.count(1, path="/old")
        await it.commands.edit(route.tenant, route.id, {"target_url": there.url + "/new"}, CONTEXT)
        await there.count(1, path="/new")
        await it.until_row("SELECT count(*) = 2 FROM hookledger.attempt")
        assert await it.outcomes() == {event_id: ["retrying", "delivered"]}
        assert len(there.at("/old")) == 1
        versions = [
            r["route_version"] for r in await it.rows("SELECT route_version FROM hookledger.attempt ORDER BY at")
        ]
        assert versions == [1, 2]


async def test_a_route_with_very_many_due_retries_leaves_room_for_others(database_url: str) -> None:
    """All retries of the dead route are due before the other's, and fill whole pages."""
    tunables = Tunables(retry_route_limit=8, retry_page_rows=20)
    policy = RetryPolicy(first=timedelta(seconds=0.2), cap=timedelta(seconds=0.2))
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with (
        receiver() as there,
        pipeline_process(
            database_url, retry=policy, route_concurrency=4, breaker_failures=1000, tunables=tunables
        ) as it,
    ):
        there.answer |= {"/dead": status(500), "/other": once(status(500))}
        await it.route(there.url + "/dead", "order.dead")
        await it.route(there.url + "/other", "order.other")
        await it.publish("order.dead", count=200)
        await it.until_row("SELECT count(*) = 200 FROM hookledger.attempt WHERE number = 1")
        there.answer["/dead"] = hang
        await until(lambda: it.pipeline._lanes.queued >= 4)
        (other,) = await it.publish("order.other")
        await there.count(2, path="/other")
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'delivered'")
        assert (await it.outcomes())[other] == ["retrying", "delivered"]
        never.set()


async def test_more_due_retries_than_a_page_are_all_taken_up(database_url: str) -> None:
    tunables = Tunables(retry_route_limit=8, retry_page_rows=20, retry_held_limit=50)
    async with receiver() as there, pipeline_process(database_url, tunables=tunables) as it:
        there.answer |= {f"/{n}": status(500) for n in range(10)}
        for n in range(10):
            await it.route(f"{there.url}/{n}", f"order.t{n}")
        ids = await it.publish(*[f"order.t{n}" for n in range(10)], count=30)
        await it.until_row("SELECT count(*) >= 300 FROM hookledger.attempt")
        there.answer.clear()
        await it.until_row("SELECT count(*) = 300 FROM hookledger.attempt WHERE outcome = 'delivered'")
        outcomes = await it.outcomes()
        assert all(outcomes[i][-1] == "delivered" and outcomes[i].count("delivered") == 1 for i in ids)
        assert not list(it.pipeline._working_set.with_retry_row())


@pytest.mark.parametrize(("are_slow", "places"), [(False, 15), (True, 8)])
async def test_the_routes_of_one_tenant_do_not_take_all_places(database_url: str, are_slow: bool, places: int) -> None:
    """All of theirs are due before that of the other tenant, and nothing of them is sent meanwhile."""
    tunables = Tunables(retry_route_limit=2, retry_page_rows=5, retry_held_limit=20)
    async with pipeline_process(database_url, run=False, tunables=tunables) as it:
        for _ in range(20):
            await it.route("https://many.example/")
        await it.route("https://other.example/", tenant="other")
        await it.publish(count=2)
        await it.publish(tenant="other")
        await it.rows(
            "INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) "
            "SELECT r.route_id, e.seq, e.recorded_at, e.recorded_at, 1, e.shard, 1, "
            "       now() - CASE e.tenant WHEN 'other' THEN 1 ELSE 2 END * interval '1 minute', e.tenant "
            "  FROM hookledger.route_event r JOIN hookledger.domain_event e USING (tenant)"
        )
        for route in it.projection.index.routes() if are_slow else ():
            it.pipeline._lanes.lane(route.id, domain_events.shard_of(route.tenant)).found_slow()
        shards = [domain_events.shard_of(tenant) for tenant in ("acme", "other")]
        await it.pipeline._backlog.retrier._take_due(shards)
        held = Counter(delivery.event.tenant for delivery in it.pipeline._working_set.with_retry_row())
        assert held == {"acme": places, "other": 1}


async def test_of_very_many_slow_receivers_none_is_asked_for_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand took a third of a second of the event loop, several times a second."""
    monkeypatch.setattr(Lane, "due_places", None)
    working_set, limits = WorkingSet(), SendingLimits(concurrency=8, route_concurrency=2)
    lanes = Lanes(limits, cast("DeliveryWriter", None), working_set, RouteIndex())
    slow = {uuid4() for _ in range(20)}
    for route_id in slow:
        lanes.lane(route_id, 0).found_slow()
    for count, without in ((0, set[UUID]()), (2, slow)):
        held = [(route_id, seq) for seq in range(5) for route_id in list(slow)[:count]]
        tunables = Tunables(retry_held_limit=20)
        places = _Places(lanes, working_set, held, lambda _: False, lambda _: "acme", tunables)
        assert places.without == without


# Four of a route, and eight altogether: three routes that hold what they cannot send would leave nothing to others.
# All of them may be one tenant's, which has three of these routes.
FEW = Tunables(
    retry_route_limit=4, retry_held_limit=8, retry_tenant_part=1.0, retry_poll_seconds=0.2, persist_seconds=0.2
)


async def test_retries_that_wait_for_the_rate_of_their_routes_leave_room_for_others(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=1), cap=timedelta(seconds=1), attempts=100)
    async with receiver() as there, pipeline_process(database_url, retry=policy, tunables=FEW) as it:
        there.answer |= {"/paced": status(500), "/other": once(status(500))}
        paced = [await it.route(there.url + "/paced", tenant="loud") for _ in range(3)]
        await it.publish(tenant="loud", count=6)
        await it.until_row("SELECT count(*) = 18 FROM hookledger.attempt")
        for route in paced:
            await it.edit(route, rate_limit_per_second=0.001)
        await it.until_row("SELECT count(DISTINCT route_id) = 3 FROM hookledger.attempt WHERE number = 2")
        await it.until_row("SELECT bool_and(due_at < clock_timestamp()) FROM hookledger.retry WHERE failures = 1")
        await it.route(there.url + "/other")
        (other,) = await it.publish()
        await there.count(2, path="/other")
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'delivered'")
        assert (await it.outcomes())[other] == ["retrying", "delivered"]
        for route in paced:
            await it.edit(route, rate_limit_per_second=None)
        there.answer.clear()
        await it.until_row("SELECT count(*) = 19 FROM hookledger.attempt WHERE outcome = 'delivered'")


async def test_retries_that_wait_for_the_order_of_their_routes_leave_room_for_others(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, retry=policy, tunables=FEW) as it:
        for _ in range(3):
            await it.route(there.url + "/ordered", tenant="loud", ordered=True)
        await it.publish(tenant="loud", count=6)
        await it.until_row("SELECT count(*) = 18 FROM hookledger.attempt")
        there.answer |= {"/ordered": status(500), "/other": once(status(500))}
        again = await it.rows("SELECT route_id, seq FROM hookledger.attempt ORDER BY seq")
        for row in again:
            await manual_retry.retry(it.database, **row, request=RetryRequest(actor="ada", origin="api"), macs=LOG_MACS)
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt WHERE outcome = 'retrying'")
        route = await it.route(there.url + "/other")
        (other,) = await it.publish()
        await there.count(1, path="/other")
        await it.until_row("SELECT count(*) = 4 FROM hookledger.attempt WHERE outcome = 'retrying'")
        (row,) = await it.rows("SELECT route_id, seq FROM hookledger.retry WHERE route_id = $1", route.id)
        await manual_retry.retry(it.database, **row, request=RetryRequest(actor="ada", origin="api"), macs=LOG_MACS)
        await there.count(2, path="/other")
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1 AND number = 2", other)
        there.answer.clear()
        await it.rows("UPDATE hookledger.retry SET due_at = due_at - interval '2 hours' RETURNING 1")
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
        sent = await it.rows(
            "SELECT array_agg(seq ORDER BY at, started_at) AS seqs FROM hookledger.attempt"
            " WHERE number > 1 AND outcome = 'delivered' AND tenant = 'loud' GROUP BY route_id"
        )
        assert [len(row["seqs"]) for row in sent] == [6, 6, 6]
        assert all(row["seqs"] == sorted(row["seqs"]) for row in sent), "in order"


async def test_ordered_routes_hold_no_more_than_half_of_the_places_but_each_its_first_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five routes with four retries each: one look, one question, and five first ones beside two places of eight."""
    tunables = replace(FEW, retry_held_limit=4, retry_poll_seconds=3600.0)
    never, asked = asyncio.Event(), list[int]()
    first_of_routes = backlog.first_of_routes

    async def counted(database: Database, routes: Collection[UUID], **options: Any) -> list[WaitingDelivery]:
        asked.append(len(routes))
        return await first_of_routes(database, routes, **options)

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with receiver() as there, pipeline_process(database_url, tunables=tunables) as it:
        for _ in range(5):
            await it.route(there.url + "/", ordered=True)
        await it.publish(count=4)
        await it.until_row("SELECT count(*) = 20 FROM hookledger.attempt")
        there.answer["/"] = hang
        monkeypatch.setattr(backlog, "first_of_routes", counted)
        for row in await it.rows("SELECT route_id, seq FROM hookledger.attempt"):
            await manual_retry.retry(it.database, **row, request=RetryRequest(actor="ada", origin="api"), macs=LOG_MACS)
        await it.until_row("SELECT count(*) = 20 FROM hookledger.retry")
        retrier = it.pipeline._backlog.retrier
        async with it.pipeline._working_set.moving:
            asked.clear()
        retrier.wakeup.set()
        await until(lambda: asked and not it.pipeline._working_set.moving.locked())
        held = Counter(delivery.route_id for delivery in it.pipeline._working_set.with_retry_row())
        assert asked[:1] == [5]
        assert len(held) == 5
        assert held.total() <= 5 + tunables.retry_held_limit // 2
        never.set()
        there.answer.clear()
        monkeypatch.setattr(retrier, "_tunables", replace(tunables, retry_poll_seconds=0.1))
        retrier.wakeup.set()
        await it.until_row("SELECT count(*) = 40 FROM hookledger.attempt WHERE outcome = 'delivered'")


async def test_retries_are_taken_up_no_further_than_memory_reaches_but_one_of_each_route(database_url: str) -> None:
    size = 100_000
    tunables = Tunables(max_bytes=5 * size, retry_poll_seconds=0.2, parking_pause_seconds=0.005)
    policy = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=9, jitter=0.0)
    opened = asyncio.Event()
    most = 0

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal most
        most = max(most, it.pipeline._working_set.size_bytes)
        await opened.wait()
        return web.Response()

    async with (
        receiver() as there,
        pipeline_process(
            database_url, tunables=tunables, route_concurrency=1, breaker_failures=1000, retry=policy
        ) as it,
    ):
        there.answer["/"] = status(500)
        for number in range(8):
            await it.route(there.url + "/", ordered=number == 7)
        data = json.dumps({"x": "x" * size}).encode()
        large = [NewEvent(tenant="acme", id=f"large_{number}", type="a.b", data=data) for number in range(6)]
        for event in large:
            await domain_events.publish(it.database, [event])
            it.pipeline.hurry()
            await it.until_accounted()
        tried = 7 * 6 + 1
        await it.until_row("SELECT count(*) = $1 FROM hookledger.retry", tried)
        there.answer["/"] = answer
        await it.rows("UPDATE hookledger.retry SET due_at = now() - interval '1 second' RETURNING 1")
        it.pipeline._backlog.retrier.wakeup.set()
        await there.count(tried + 8)
        opened.set()
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=30)
    assert 5 * size < most <= (5 + 8) * (size + 1000)


async def test_retries_of_receivers_that_hang_leave_room_for_others(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=0.5), cap=timedelta(seconds=0.5), attempts=100)
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with (
        receiver() as there,
        pipeline_process(
            database_url,
            retry=policy,
            route_concurrency=1,
            breaker_failures=1000,
            timeout_seconds=600,
            tunables=FEW,
        ) as it,
    ):
        there.answer |= {"/slow": status(500), "/other": once(status(500))}
        for _ in range(3):
            await it.route(there.url + "/slow", tenant="loud")
        await it.publish(tenant="loud", count=6)
        await it.until_row("SELECT count(*) >= 18 FROM hookledger.attempt")
        there.answer["/slow"] = hang
        await until(lambda: sum(lane.is_slow for lane in it.pipeline._lanes) == 3)
        await it.route(there.url + "/other")
        (other,) = await it.publish()
        await there.count(2, path="/other")
        await it.until_row("SELECT count(*) = 2 FROM hookledger.attempt WHERE event_id = $1", other)
        there.answer.clear()
        never.set()
        await it.until_row("SELECT count(*) = 19 FROM hookledger.attempt WHERE outcome = 'delivered'")


async def test_tests_that_wait_for_the_rate_of_their_route_are_not_held_in_memory(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=0.3), cap=timedelta(seconds=0.3), attempts=100)
    names = [f"order.t{number}" for number in range(30)]
    async with receiver() as there, pipeline_process(database_url, retry=policy, tunables=FEW) as it:
        example = '{"data":{},"context":{},"snapshot":{}}'
        await catalogue.replace(it.database, [TypeRow(name=name, description="", example=example) for name in names])
        paced = await it.route(there.url + "/paced", tenant="loud", rate_limit_per_second=0.001)
        await sample_events.send(it.database, paced, None)
        it.pipeline.hurry()
        await it.until_row("SELECT count(*) = 29 FROM hookledger.retry")
        await until(lambda: it.pipeline._lanes.queued <= FEW.retry_route_limit)
        there.answer["/other"] = once(status(500))
        await it.route(there.url + "/other")
        await it.publish()
        await there.count(2, path="/other")
        await it.edit(paced, rate_limit_per_second=None)
        await there.count(30, path="/paced")
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt WHERE is_test AND outcome = 'delivered'")
        assert not await it.rows("SELECT 1 FROM hookledger.retry")


async def test_it_looks_less_often_while_nothing_waits_and_nothing_is_recorded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, answers = 0, [WaitingRetries(None, True)]

    async def waiting(_database: Database, _shards: Sequence[int]) -> WaitingRetries:
        nonlocal looks
        looks += 1
        return answers[-1]

    monkeypatch.setattr(backlog, "waiting", waiting)
    async with pipeline_process(database_url, run=False, tunables=Tunables(retry_poll_seconds=0.0)) as it:
        retrier = it.pipeline._backlog.retrier
        it.pipeline.shards.take({3: 1}, 1e12)
        it.pipeline.shards.hold(Takeover(checkpoints={3: 0}), {3: 1})

        async def looks_of_two_turns() -> int:
            before = looks
            for _ in range(2):
                await retrier.run_once()
            return looks - before

        assert await looks_of_two_turns() == 1
        assert await looks_of_two_turns() == 0
        retrier.recorded([], [])
        assert await looks_of_two_turns() == 1
        retrier.wakeup.set()
        assert await looks_of_two_turns() == 1
        retrier._empty_until -= 10
        assert await looks_of_two_turns() == 1
        answers.append(WaitingRetries(None, False))
        retrier.wakeup.set()
        assert await looks_of_two_turns() == 2, "something is due, and its turn has not come"
