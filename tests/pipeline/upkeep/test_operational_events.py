"""Operational events: operators are told by ordinary, signed webhooks of their own tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson

from daemon.commands import Context
from daemon.core.delivery.retry import RetryPolicy
from daemon.operations import Audience
from daemon.pipeline.tunables import Tunables
from tests.support.pipeline_process import PipelineProcess, pipeline_process
from tests.support.receiver import receiver, status

OPERATORS = Audience(tenant="ops")
BOTH = Audience(tenant="ops", tells_tenants=True)
ONCE = RetryPolicy(first=timedelta(seconds=1), cap=timedelta(seconds=1), attempts=1)
QUICK = Tunables(operations_pause_seconds=0.05, operations_webhook_seconds=0.3)
RARE = Tunables(operations_pause_seconds=0.05, operations_webhook_seconds=3600.0)

IS_TOLD = "SELECT count(*) >= $2 FROM hookledger.domain_event WHERE type = 'hookledger.' || $1"
IS_FAILED = "SELECT count(*) >= $1 FROM hookledger.attempt WHERE outcome = 'failed' AND tenant = 'acme'"


async def told(it: PipelineProcess, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Tenant and data of the operational events of a kind."""
    rows = await it.rows(
        "SELECT tenant, data FROM hookledger.domain_event WHERE type = 'hookledger.' || $1 ORDER BY seq", kind
    )
    return [(row["tenant"], orjson.loads(row["data"])) for row in rows]


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


async def test_without_an_audience_nothing_is_told(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=ONCE, tunables=QUICK) as it:
        there.answer["/failing"] = status(500)
        route = await it.route(f"{there.url}/failing")
        await it.publish()
        await it.until_row(IS_FAILED, 1)
        await it.commands.disable("acme", route.id, Context(actor="user:7", origin="api"))
        assert await it.rows("SELECT FROM hookledger.domain_event WHERE type LIKE 'hookledger.%'") == []
