"""Operational events: operators are told by ordinary, signed webhooks of their own tenant."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
import standardwebhooks

from daemon import operations
from daemon.commands import Context
from daemon.core.delivery import health
from daemon.core.delivery.health import HealthState, ReceiverHealth
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.core.sealing.head import SignedHead, TreeHead, parse_head
from daemon.core.sealing.seal import SealContent, SealedDay
from daemon.operations import OF_WEBHOOKS, Audience, RefusedMessages
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep import operational_events
from daemon.pipeline.upkeep.operational_events import OperationalEvents
from daemon.pipeline.upkeep.sealing import SealSettings
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Received, receiver, status
from tests.support.values.builders import NOON

OPERATORS = Audience(tenant="ops")
BOTH = Audience(tenant="ops", tells_tenants=True)
ONCE = RetryPolicy(first=timedelta(seconds=1), cap=timedelta(seconds=1), attempts=1)
QUICK = Tunables(operations_pause_seconds=0.05, operations_webhook_seconds=0.3)
RARE = Tunables(operations_pause_seconds=0.05, operations_webhook_seconds=3600.0)

HEAD = SignedHead(head=TreeHead(origin="hookledger", size=1, root=bytes(32)), signatures=())

IS_TOLD = "SELECT count(*) >= $2 FROM hookledger.domain_event WHERE type = 'hookledger.' || $1"
IS_FAILED = "SELECT count(*) >= $1 FROM hookledger.attempt WHERE outcome = 'failed' AND tenant = 'acme'"


async def told(it: PipelineProcess, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Tenant and data of the operational events of a kind."""
    rows = await it.rows(
        "SELECT tenant, data FROM hookledger.domain_event WHERE type = 'hookledger.' || $1 ORDER BY seq", kind
    )
    return [(row["tenant"], orjson.loads(row["data"])) for row in rows]


def seal_of(number: int, *, events: int) -> SealContent:
    """A seal that covers so many events and nothing else."""
    return SealContent(
        n=number, at=NOON, origin="hookledger", snap="1:1:", tick=number, tick_snap="1:1:", route_pos=0, route_hash=b"",
        events=(SealedDay(day=NOON.date(), rows=events, root=bytes(32)),) if events else (), attempts=(), ticks=1,
        ticks_root=b"", keys=0, keys_root=b"", signatures=0, checkpoints=(), events_kept_from=None,
        attempts_kept_from=None, public_key=b"",
    )  # fmt: skip


async def test_who_disabled_a_webhook_and_why_arrives_at_a_webhook_of_the_operators(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, audience=OPERATORS, tunables=QUICK) as it:
        await it.route(there.url, "hookledger.webhook_disabled", tenant="ops")
        route = await it.route("https://shop.example.com/hook")
        await it.commands.disable("acme", route.id, Context(actor="user:7", origin="api", reason="too slow"))
        await there.count(1)
        (request,) = there.received
        body = orjson.loads(request.body)
        assert body["type"] == "hookledger.webhook_disabled"
        assert body["data"]["object"] == {
            "tenant": "acme", "webhook_id": str(route.id), "webhook_name": route.config.name,
            "target_url": "https://shop.example.com/hook", "actor": "user:7", "reason": "too slow",
        }  # fmt: skip
        assert request.headers["webhook-signature"].startswith("v1,")


async def test_disabling_again_tells_nothing_more(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, audience=OPERATORS) as it:
        route = await it.route("https://shop.example.com/hook")
        context = Context(actor="user:7", origin="api")
        for _ in range(2):
            await it.commands.disable("acme", route.id, context)
        await it.commands.enable("acme", route.id, context)
        await it.commands.disable("acme", route.id, context)
        assert len(await told(it, "webhook_disabled")) == 2


async def test_a_storm_of_failures_is_one_event_with_a_count(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=ONCE, breaker_failures=100, audience=OPERATORS, tunables=RARE) as it,
    ):
        there.answer["/failing"] = status(500)
        route = await it.route(f"{there.url}/failing")
        await it.publish()
        await it.until_row(IS_TOLD, "delivery_failed", 1)
        for _ in range(30):
            await it.publish()
        await it.until_row(IS_FAILED, 31)
        await it.until_accounted()
        ((tenant, data),) = await told(it, "delivery_failed")
        assert tenant == "ops"
        assert (data["webhook_id"], data["count"], data["last_status_code"]) == (str(route.id), 1, 500)
        assert (data["last_error"], data["last_event"]["type"]) == ("http_500", "order.create")


async def test_every_failure_is_counted_in_some_event(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=ONCE, audience=OPERATORS, tunables=QUICK) as it,
    ):
        there.answer["/failing"] = status(500)
        await it.route(f"{there.url}/failing")
        for _ in range(20):
            await it.publish()
        await it.until_row(
            "SELECT sum((convert_from(data, 'UTF8')::jsonb ->> 'count')::integer) = 20 FROM hookledger.domain_event "
            "WHERE type = 'hookledger.delivery_failed'"
        )


async def test_nothing_is_told_about_the_webhooks_of_the_operators_and_of_events_about_failures(
    database_url: str,
) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=ONCE, audience=BOTH, tunables=QUICK) as it,
    ):
        there.answer["/failing"] = status(500)
        await it.route(f"{there.url}/failing", "*", tenant="ops")
        mine = await it.route(f"{there.url}/failing", "*")
        await it.publish()
        await it.until_row(IS_TOLD, "delivery_failed", 2)
        # Both webhooks get the event about the failure, and fail again.
        await it.until_row("SELECT count(*) >= 3 FROM hookledger.attempt WHERE outcome = 'failed'")
        await it.until_accounted()
        found = await told(it, "delivery_failed")
        assert [tenant for tenant, _ in found] == ["ops", "acme"]
        assert {data["webhook_id"] for _, data in found} == {str(mine.id)}
        assert {data["count"] for _, data in found} == {1}


async def test_a_receiver_that_is_down_is_told_once_and_again_when_it_is_well(database_url: str) -> None:
    often = RetryPolicy(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.05), attempts=1000)
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=often, audience=OPERATORS, tunables=QUICK) as it,
    ):
        there.answer["/hook"] = status(503)
        route = await it.route(f"{there.url}/hook")
        await it.publish(count=5)
        await it.until_row(IS_TOLD, "webhook_failing", 1)
        there.answer["/hook"] = status(204)
        await it.publish(count=health.WELL_SUCCESSES)
        await it.until_row(IS_TOLD, "webhook_recovered", 1)
        ((tenant, failing),), (recovered,) = await told(it, "webhook_failing"), await told(it, "webhook_recovered")
        assert (tenant, failing["webhook_id"], failing["last_status_code"]) == ("ops", str(route.id), 503)
        assert (failing["last_error"], recovered[1]["since"]) == ("http_503", failing["since"])


def turned(route: Route, state: HealthState, *, seconds: int) -> tuple[UUID, ReceiverHealth]:
    """A receiver that is down or well again since so many seconds after noon."""
    at = NOON + timedelta(seconds=seconds)
    return route.id, ReceiverHealth(state=state, run_since=at, ill_since=at)


async def test_a_receiver_that_goes_down_again_and_again_is_told_once_a_minute(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("https://shop.example.com/hook")
        events = OperationalEvents(it.database, it.projection.index, OPERATORS, owner="me", tunables=RARE)
        for number in range(5):
            events.turned(*turned(route, HealthState.DOWN, seconds=number))
            await events.run_once()
            events.turned(*turned(route, HealthState.OK, seconds=number))
            await events.run_once()
        assert len(await told(it, "webhook_failing")) == 1
        assert len(await told(it, "webhook_recovered")) == 1


async def test_a_receiver_that_stays_down_after_it_was_told_is_told_when_the_minute_is_over(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("https://shop.example.com/hook")
        events = OperationalEvents(it.database, it.projection.index, OPERATORS, owner="me", tunables=QUICK)
        for number, state in enumerate((HealthState.DOWN, HealthState.OK, HealthState.DOWN)):
            events.turned(*turned(route, state, seconds=number))
            await events.run_once()
        async with asyncio.timeout(10):
            while len(await told(it, "webhook_failing")) < 2:
                await events.run_once()
        assert len(await told(it, "webhook_recovered")) == 1


async def test_when_very_many_receivers_go_down_at_once_each_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operational_events, "MOST_WAITING", 3)
    async with pipeline_process(database_url, run=False) as it:
        routes = [await it.route(f"https://shop.example.com/{number}") for number in range(8)]
        events = OperationalEvents(it.database, it.projection.index, OPERATORS, owner="me", tunables=QUICK)
        for route in routes:
            events.turned(*turned(route, HealthState.DOWN, seconds=1))
        async with asyncio.timeout(10):
            while len(await told(it, "webhook_failing")) < len(routes):
                await events.run_once()


async def test_what_comes_while_others_are_published_is_published_next(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue was full, so what came pushed out what was being published already."""
    monkeypatch.setattr(operational_events, "MOST_WAITING", 3)
    async with pipeline_process(database_url, run=False) as it:
        events = OperationalEvents(it.database, it.projection.index, OPERATORS, owner="me", tunables=QUICK)
        for number in (1, 2, 3):
            events.sealed(seal_of(number, events=9), HEAD)
        publish = domain_events.publish

        async def publish_meanwhile(database: Database, batch: list[NewEvent]) -> object:
            monkeypatch.setattr(domain_events, "publish", publish)
            events.sealed(seal_of(4, events=9), HEAD)
            return await publish(database, batch)

        monkeypatch.setattr(domain_events, "publish", publish_meanwhile)
        await events.run_once()
        assert [data["seal"] for _, data in await told(it, "sealed")] == [1, 2, 3, 4]


async def test_a_signed_head_arrives_at_a_webhook_of_the_operators(database_url: str) -> None:
    settings = SealSettings(every=timedelta(seconds=0.2))
    async with (
        receiver() as there,
        pipeline_process(database_url, audience=OPERATORS, tunables=QUICK, seals=settings) as it,
    ):
        await it.route(there.url, "hookledger.sealed", tenant="ops")
        await it.publish()
        await there.count(1)
        data = orjson.loads(there.received[0].body)["data"]["object"]
        head = parse_head(data["head"])
        assert head.head.size == data["seal"]
        assert await it.rows("SELECT FROM hookledger.seal WHERE n = $1", head.head.size)


async def test_of_a_seal_that_covers_only_the_event_about_the_one_before_nothing_is_told(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        events = OperationalEvents(it.database, it.projection.index, OPERATORS, owner="me", tunables=QUICK)
        for number, rows in enumerate((1, 1, 2, 1, 0, 1), start=1):
            events.sealed(seal_of(number, events=rows), HEAD)
        await events.run_once()
        assert [data["seal"] for _, data in await told(it, "sealed")] == [1, 3, 6]


async def test_daemons_that_come_and_are_lost_are_told_once_each(database_url: str) -> None:
    async with (
        pipeline_process(database_url, audience=OPERATORS, tunables=QUICK) as it,
        pipeline_process(database_url, audience=OPERATORS, tunables=QUICK),
    ):
        await it.until_row(IS_TOLD, "daemon_joined", 2)
        await it.rows(
            "INSERT INTO hookledger.process (owner, host, pid, version, master_key, seen_at) "
            "VALUES ('gone', 'host-1', 42, '0.1.0', 'k', now() - interval '5 minutes')"
        )
        await it.until_row(IS_TOLD, "daemon_lost", 1)
        assert await told(it, "daemon_lost") == [("ops", {"host": "host-1", "pid": 42})]


async def test_an_event_of_every_type_arrives_signed(database_url: str) -> None:
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    settings: dict[str, Any] = {"retry": ONCE, "breaker_failures": 100, "audience": BOTH, "tunables": QUICK}
    async with (
        receiver() as there,
        pipeline_process(database_url, seals=SealSettings(every=timedelta(seconds=0.2)), **settings) as it,
    ):
        await it.route(f"{there.url}/ops", "hookledger.*", tenant="ops", verification_key=key)
        await it.route(f"{there.url}/told", "hookledger.*", verification_key=key)
        route = await it.route(f"{there.url}/failing", "order.create")
        there.answer["/failing"] = status(500)
        await it.publish(count=health.DOWN_FAILURES)
        await it.until_row(IS_TOLD, "webhook_failing", 1)
        there.answer["/failing"] = status(204)
        await it.publish(count=health.WELL_SUCCESSES)
        await it.until_row(IS_TOLD, "webhook_recovered", 1)
        await it.disable(route)
        await it.rows(
            "INSERT INTO hookledger.process (owner, host, pid, version, master_key, seen_at) "
            "VALUES ('gone', 'host-1', 42, '0.1.0', 'k', now() - interval '5 minutes')"
        )
        it.pipeline.tell(of_sources())
        async with pipeline_process(database_url, **settings):  # another daemon joins
            await there.until(lambda: types_of(there.at("/ops")) >= BOTH.types)
            await there.until(lambda: types_of(there.at("/told")) >= OF_WEBHOOKS)
    assert types_of(there.at("/ops")) == BOTH.types
    assert types_of(there.at("/told")) == OF_WEBHOOKS
    for request in (*there.at("/ops"), *there.at("/told")):
        names = {name.lower(): value for name, value in request.headers.items()}
        standardwebhooks.Webhook(key).verify(request.body, names)


def of_sources() -> list[NewEvent]:
    """What sources tell."""
    now = datetime.now(UTC)
    refused = RefusedMessages(count=1, since=now, until=now, topic="orders", partition=3, offset=7, reason="no JSON")
    return [
        *operations.messages_refused(BOTH, "shop", refused),
        *operations.source_stopped(BOTH, "shop", topic="orders", partition=3, offset=10, fault="it ends at 2"),
    ]


def types_of(requests: list[Received]) -> set[str]:
    return {orjson.loads(request.body)["type"] for request in requests}


async def test_without_an_audience_nothing_is_told(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=ONCE, tunables=QUICK) as it:
        there.answer["/failing"] = status(500)
        route = await it.route(f"{there.url}/failing")
        await it.publish()
        await it.until_row(IS_FAILED, 1)
        await it.commands.disable("acme", route.id, Context(actor="user:7", origin="api"))
        assert await it.rows("SELECT FROM hookledger.domain_event WHERE type LIKE 'hookledger.%'") == []
