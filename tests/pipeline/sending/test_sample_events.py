"""Delivery of test events: they go to one route only, they are marked, and no traffic metric counts them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from daemon import audit
from daemon.commands import Conflict
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import PayloadOptions, Route
from daemon.deliveries import sample_events
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status

EXAMPLE = '{"data":{"a":1},"context":{},"snapshot":{"customer":{"name":"Ada"}}}'
METRICS = ("hookledger_attempts_total", "hookledger_decisions_total", "hookledger_delivery_latency_seconds_count")


async def load_catalogue(it: PipelineProcess, *names: str) -> None:
    await catalogue.replace(it.database, [TypeRow(name=name, description="", example=EXAMPLE) for name in names])


async def send_test_events(it: PipelineProcess, route: Route) -> list[str]:
    """Sends the test events of a route. Returns their ids."""
    sent = await sample_events.send(it.database, route, None)
    it.pipeline.hurry()
    return [each.event_id for each in sent]


async def attempts(it: PipelineProcess) -> list[dict[str, Any]]:
    return await it.rows("SELECT event_id, route_id, outcome, is_test FROM hookledger.attempt ORDER BY seq, at")


def counted(it: PipelineProcess) -> float:
    samples = [sample for family in it.metrics.registry.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name in METRICS)


async def test_a_test_reaches_its_route_marked_and_no_other(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/mine", "order.*", payload=PayloadOptions(filter="`false`"))
        other = await it.route(there.url + "/other", "*")
        await load_catalogue(it, "order.create", "cart.create")
        (event_id,) = await send_test_events(it, route)
        (got,) = await there.count(1, path="/mine")
        (real,) = await it.publish("order.create")
        (sent,) = await there.count(1, path="/other")
        await it.until_row("SELECT count(*) = 2 FROM hookledger.attempt")

        assert got.headers["Hookledger-Test"] == "true"
        assert f'"id":"{event_id}","type":"order.create"'.encode() in got.body
        assert "Hookledger-Test" not in sent.headers
        assert await attempts(it) == [
            {"event_id": event_id, "route_id": route.id, "outcome": "delivered", "is_test": True},
            {"event_id": real, "route_id": other.id, "outcome": "delivered", "is_test": False},
        ]
        assert len(there.received) == 2


async def test_tests_are_counted_by_no_metric(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        await load_catalogue(it, "order.create")
        await send_test_events(it, route)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt")
        assert counted(it) == 0
        await it.publish()
        await it.until_row("SELECT count(*) = 2 FROM hookledger.attempt")
        assert counted(it) > 0


async def test_explain_and_audit_know_whom_a_test_was_for(database_url: str) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url, "order.*", payload=PayloadOptions(filter="`false`"))
        other = await it.route(there.url, "*")
        await load_catalogue(it, "order.create")
        (event_id,) = await send_test_events(it, route)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt")
        late = await it.route(there.url, "*")

        told = {each.route_id: each for each in await audit.explain(it.database, event_id, tenant="acme")}
        assert told[route.id].verdict == "delivered"
        for each in (other, late):
            assert told[each.id].verdict == "not_subscribed"
            assert told[each.id].detail == "It was a test event, sent on purpose to another route only."
        await it.until_accounted()
        report = await audit.audit(it.database, start=start, end=datetime.now(UTC) + timedelta(minutes=1))
        assert (report.events, report.deliveries, report.findings) == (1, 1, [])


async def test_a_test_that_fails_is_retried_like_anything_else(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        await load_catalogue(it, "order.create")
        await send_test_events(it, route)
        await it.until_row("SELECT count(*) = 5 FROM hookledger.attempt")
        assert [(row["outcome"], row["is_test"]) for row in await attempts(it)] == [("retrying", True)] * 4 + [
            ("failed", True)
        ]
        assert all(got.headers["Hookledger-Test"] == "true" for got in there.received)


async def test_a_test_that_waits_when_its_route_is_disabled_is_suppressed_as_a_test(database_url: str) -> None:
    slowly = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=5)
    async with receiver() as there, pipeline_process(database_url, retry=slowly) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        await load_catalogue(it, "order.create")
        await send_test_events(it, route)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt")
        await it.disable(route)
        await it.until_row("SELECT count(*) = 2 FROM hookledger.attempt")
        assert [(row["outcome"], row["is_test"]) for row in await attempts(it)] == [
            ("retrying", True), ("suppressed", True),
        ]  # fmt: skip


async def test_a_disabled_route_gets_no_test(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/", enabled=False)
        await load_catalogue(it, "order.create")
        with pytest.raises(Conflict, match="is disabled"):
            await sample_events.send(it.database, route, None)


async def test_types_of_events_are_noted_once_they_are_read(database_url: str) -> None:
    async with pipeline_process(database_url) as it:
        await it.publish("order.create", "cart.create", "order.create")
        await it.until_row("SELECT count(*) = 2 FROM hookledger.event_type_seen")
        await it.publish("cart.cancel")
        await it.until_row(
            "SELECT array_agg(name ORDER BY name) = '{cart.cancel,cart.create,order.create}' FROM hookledger.event_type_seen"
        )


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_test_goes_out_at_once_while_the_breaker_holds_back_all_else(database_url: str, ordered: bool) -> None:
    never = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    long_pause = Tunables(breaker_first_pause_seconds=600, breaker_longest_pause_seconds=600)
    async with (
        receiver() as there,
        pipeline_process(database_url, breaker_failures=1, route_concurrency=1, retry=never, tunables=long_pause) as it,
    ):
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/", ordered=ordered)
        await load_catalogue(it, "order.create")
        await it.publish(count=5)
        await it.until_row("SELECT coalesce(sum(pairs), 0) = 4 FROM hookledger.parked")
        asked = len(there.received)
        await send_test_events(it, route)
        got = (await there.count(asked + 1))[-1]
        assert got.headers["Hookledger-Test"] == "true"
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE is_test")
        await it.until_accounted()
        assert len(there.received) == asked + 1


async def test_nothing_waits_behind_a_test_that_fails(database_url: str) -> None:
    """A receiver that knows no tests must not cost an ordered route its deliveries for as long as the test is retried."""
    later = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    refused: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        event = json.loads(await request.read())["id"]
        is_refused = "Hookledger-Test" in request.headers or event not in refused
        refused.append(event)
        return web.Response(status=500 if is_refused else 204)

    async with receiver() as there, pipeline_process(database_url, retry=later) as it:
        there.answer["/"] = answer
        route = await it.route(there.url + "/", ordered=True)
        await load_catalogue(it, "order.create")
        (test,) = await send_test_events(it, route)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
        (first,) = await it.publish()
        await it.until_row("SELECT count(*) = 2 FROM hookledger.retry", seconds=20)
        await it.rows(
            "UPDATE hookledger.retry SET due_at = now() WHERE tick = (SELECT max(tick) FROM hookledger.retry)"
        )
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'delivered'", seconds=20)
        assert (await it.outcomes()) == {test: ["retrying"], first: ["retrying", "delivered"]}
