"""Liveness, readiness and metrics, on the main listener or on one of their own."""

from __future__ import annotations

import re

from aiohttp.test_utils import TestClient, TestServer

from daemon.web.app import build_ops
from tests.support.web import Door, door

# What dashboards and alerts are built on.
METRICS = [
    "hookledger_events_published_total",
    "hookledger_decisions_total",
    "hookledger_attempts_total",
    "hookledger_attempt_duration_seconds",
    "hookledger_delivery_latency_seconds",
    "hookledger_deliveries_pending",
    "hookledger_oldest_pending_seconds",
    "hookledger_in_flight",
    "hookledger_checkpoint_lag_seconds",
    "hookledger_routes",
    "hookledger_breakers_open",
    "hookledger_shards_owned",
    "hookledger_flush_seconds",
    "hookledger_egress_denied_total",
    "hookledger_event_loop_lag_seconds",
    "hookledger_build_info",
]


async def test_a_ready_process_says_so(door: Door) -> None:
    assert (await door.ask("GET", "/healthz")).status == 200
    assert (await door.ask("GET", "/readyz")).status == 200


async def test_a_stopping_process_is_alive_and_not_ready(door: Door) -> None:
    door.pipeline.is_stopping = True

    answer = await door.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, ["the daemon is stopping"])
    assert (await door.ask("GET", "/healthz")).status == 200


async def test_without_the_database_a_process_is_alive_and_not_ready(door: Door) -> None:
    await door.database.close()

    answer = await door.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, ["the database does not answer"])
    assert (await door.ask("GET", "/healthz")).status == 200


async def test_every_promised_metric_is_there_without_names_of_customers(door: Door) -> None:
    metrics = door.services.metrics
    metrics.attempted("delivered", "2xx", 0.1)
    metrics.decided("deliver", 3)
    metrics.egress_denied.labels("loopback").inc()
    metrics.deliveries_pending.labels("parked").set(1)
    metrics.routes.labels("enabled").set(1)
    await door.ask("POST", "/v1/events", {"tenant": "canary", "type": "order.create", "data": {}})

    answer = await door.ask("GET", "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain")
    for name in METRICS:
        assert re.search(rf"^{name}(_count)?(\{{.*\}})? ", answer.text, re.MULTILINE), name
    assert "canary" not in answer.text
    assert set(re.findall(r"[{,](\w+)=", answer.text)) <= {
        "result", "decision", "outcome", "status_class", "state", "status", "reason", "version", "le",
    }  # fmt: skip


async def test_a_listener_for_operations_serves_nothing_else(empty_url: str) -> None:
    async with door(empty_url, server__ops_listen="127.0.0.1:9091") as split:
        for where in ("/healthz", "/readyz", "/metrics"):
            assert (await split.ask("GET", where)).status == 404
        async with TestClient(TestServer(build_ops(split.services))) as ops:
            for where in ("/healthz", "/readyz", "/metrics"):
                assert (await ops.get(where)).status == 200
            assert (await ops.get("/v1/tenants")).status == 404
