"""Liveness, readiness and metrics, on the main listener or on one of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import values

from daemon.core.routing.decision import Decision
from daemon.telemetry import metrics as metrics_of_workers
from daemon.telemetry.metrics import Metrics
from daemon.web.app import build_ops
from tests.support.web.application import App, app

# The metrics that operators' dashboards and alerts use.
METRICS = [
    "hookledger_events_published_total",
    "hookledger_decisions_total",
    "hookledger_attempts_total",
    "hookledger_attempt_duration_seconds",
    "hookledger_delivery_latency_seconds",
    "hookledger_deliveries_pending",
    "hookledger_oldest_pending_seconds",
    "hookledger_in_flight",
    "hookledger_connections_open",
    "hookledger_checkpoint_lag_seconds",
    "hookledger_seal_age_seconds",
    "hookledger_tick_age_seconds",
    "hookledger_database_went_back_total",
    "hookledger_clock_skew_seconds",
    "hookledger_clock_steps_total",
    "hookledger_forged_credentials_total",
    "hookledger_routes",
    "hookledger_breakers_open",
    "hookledger_shards_owned",
    "hookledger_flush_seconds",
    "hookledger_egress_denied_total",
    "hookledger_event_loop_lag_seconds",
    "hookledger_log_lines_dropped_total",
    "hookledger_log_lines_left_out_total",
    "hookledger_spans_total",
    "hookledger_expression_seconds",
    "hookledger_tenant_over_budget_total",
    "hookledger_queries_refused_total",
    "hookledger_requests_unavailable_total",
    "hookledger_resident_memory_bytes",
    "hookledger_tasks",
    "hookledger_build_info",
]


METRICS_OF_SOURCES = ["hookledger_source_messages_total", "hookledger_source_lag", "hookledger_source_faulty"]


def used(metrics: Metrics) -> Metrics:
    """Sets one sample of each metric. For a worker, call it before the next worker is created: that takes over this process."""
    metrics.attempted("delivered", 200, 0.1)
    metrics.decided(Decision.DELIVER, 3)
    metrics.add_up()  # as each flush of outcomes does
    metrics.events_published.labels("accepted").inc()
    metrics.egress_denied.labels("loopback").inc()
    metrics.query_refused(True)
    metrics.deliveries_pending.labels("parked").set(1)
    metrics.routes.labels("enabled").set(1)
    return metrics


def missing(text: str, names: Iterable[str] = METRICS) -> list[str]:
    """The names without a sample."""
    return [name for name in names if not re.search(rf"^{name}(_count)?(\{{.*\}})? ", text, re.MULTILINE)]


def value(metrics: Metrics, sample: str) -> float:
    (found,) = re.findall(rf"^{re.escape(sample)} (\S+)$", metrics.render().decode(), re.MULTILINE)
    return float(found)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that workers share. After the test this process has no worker metrics."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(metrics_of_workers.DIRECTORY_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_source_has_metrics_from_the_beginning_and_without_one_there_are_none() -> None:
    metrics = Metrics()
    assert missing(metrics.render().decode(), METRICS_OF_SOURCES) == METRICS_OF_SOURCES
    metrics.has_source("orders")
    assert missing(metrics.render().decode(), METRICS_OF_SOURCES) == []
    for result in ("event", "repeated", "refused", "filtered", "absent"):
        assert value(metrics, f'hookledger_source_messages_total{{result="{result}",source="orders"}}') == 0


def test_what_has_not_happened_yet_is_shown_as_zero() -> None:
    metrics = Metrics()
    assert missing(metrics.render().decode(), [name for name in METRICS if name.endswith("_total")]) == []
    for sample in (
        'hookledger_decisions_total{decision="filtered"}',
        'hookledger_attempts_total{outcome="failed",status_class="none"}',
        'hookledger_events_published_total{result="rejected"}',
        'hookledger_egress_denied_total{reason="private"}',
    ):
        assert value(metrics, sample) == 0


def test_each_worker_shows_what_all_have(directory: Path) -> None:
    workers = [used(Metrics(worker=0)), used(Metrics(worker=1)), Metrics(worker=2)]
    for each in workers:
        text = each.render().decode()
        assert missing(text) == []
        assert "pid=" not in text
        assert value(each, 'hookledger_attempts_total{outcome="delivered",status_class="2xx"}') == 2
        assert value(each, "hookledger_attempt_duration_seconds_count") == 2
        assert value(each, 'hookledger_deliveries_pending{state="parked"}') == 2


def test_with_workers_the_same_is_described_as_without(directory: Path) -> None:
    def described(metrics: Metrics) -> list[str]:
        lines = metrics.render().decode().splitlines()
        return [line for line in lines if line.startswith("#") and "_created" not in line]

    alone = used(Metrics())
    together = described(Metrics(worker=0))
    assert together == described(alone)
    assert together


def test_a_successor_counts_on_and_gauges_of_the_dead_are_gone(directory: Path) -> None:
    living, dead = used(Metrics(worker=0)), used(Metrics(worker=1))
    for each in (living, dead):
        each.shards_owned.set(8)
    metrics_of_workers.remove_gauges(1, directory)
    assert value(living, "hookledger_shards_owned") == 8
    assert value(living, 'hookledger_decisions_total{decision="deliver"}') == 6
    successor = Metrics(worker=1)
    successor.decided(Decision.DELIVER)
    successor.add_up()
    assert value(living, 'hookledger_decisions_total{decision="deliver"}') == 7
    assert value(successor, "hookledger_shards_owned") == 8


def test_one_of_the_workers_tells_what_is_the_same_for_all(directory: Path) -> None:
    first, second = Metrics(worker=0), Metrics(worker=1)
    assert [first.sets_shared_gauges, second.sets_shared_gauges, first.sets_shared_gauges] == [True, False, True]
    assert first._shared_lock is not None
    os.close(first._shared_lock)  # as the end of its process would
    assert second.sets_shared_gauges
    assert Metrics().sets_shared_gauges


async def test_a_ready_process_says_so(app: App) -> None:
    assert (await app.ask("GET", "/healthz")).status == 200
    assert (await app.ask("GET", "/readyz")).status == 200


async def test_a_stopping_process_is_alive_and_not_ready(app: App) -> None:
    app.pipeline.is_stopping = True

    answer = await app.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, ["the daemon is stopping"])
    assert (await app.ask("GET", "/healthz")).status == 200


async def test_a_process_whose_route_log_was_rewritten_is_alive_and_not_ready(app: App) -> None:
    app.pipeline.log_fault = "the route log was rewritten"

    answer = await app.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, ["the route log was rewritten"])
    assert (await app.ask("GET", "/healthz")).status == 200


async def test_a_process_is_not_ready_if_a_stage_gets_no_answer(app: App) -> None:
    app.pipeline.stage_faults = ["stage ticker has had no answer from the database for 12 s: permission denied"]

    answer = await app.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, app.pipeline.stage_faults)
    assert (await app.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize(("seconds", "status"), [(9.9, 200), (10.1, 503)])
async def test_a_process_is_not_ready_if_events_wait_ten_seconds_for_a_tick(
    app: App, seconds: float, status: int
) -> None:
    app.pipeline.tick_age_seconds = seconds

    answer = await app.ask("GET", "/readyz")

    assert answer.status == status
    assert status == 200 or answer.json["reasons"] == ["no tick was made for 10 s although events were published"]
    assert (await app.ask("GET", "/healthz")).status == 200


async def test_without_the_database_a_process_is_alive_and_not_ready(app: App) -> None:
    await app.disconnect()

    answer = await app.ask("GET", "/readyz")

    assert (answer.status, answer.json["reasons"]) == (503, ["the database does not answer"])
    assert (await app.ask("GET", "/healthz")).status == 200


async def test_a_database_that_is_being_restored_is_an_outage(app: App) -> None:
    """Daemons should be stopped meanwhile. One that was forgotten ends soon, and says nothing wrong until then."""
    async with app.database.connection() as connection:
        await connection.execute("ALTER SCHEMA hookledger RENAME TO elsewhere")
    try:
        answer = await app.ask("GET", "/readyz")
        healthy = await app.ask("GET", "/healthz")
        published = await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {}})
        listed = await app.ask("GET", "/v1/tenants/acme/events")
    finally:
        async with app.database.connection() as connection:
            await connection.execute("ALTER SCHEMA elsewhere RENAME TO hookledger")

    expected = ["the database does not have the schema of this version"]
    assert (answer.status, answer.json["reasons"]) == (503, expected)
    assert (healthy.status, published.status, listed.status) == (200, 503, 503)


async def test_every_promised_metric_is_there_without_names_of_customers(app: App) -> None:
    used(app.services.metrics)
    await app.ask("POST", "/v1/events", {"tenant": "canary", "type": "order.create", "data": {}})

    answer = await app.ask("GET", "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert missing(answer.text) == []
    assert "canary" not in answer.text
    assert set(re.findall(r"[{,](\w+)=", answer.text)) <= {
        "result", "decision", "outcome", "status_class", "state", "status", "reason", "side", "version", "le", "limit", "kind",
    }  # fmt: skip


async def test_a_listener_for_operations_serves_nothing_else(empty_url: str) -> None:
    async with app(empty_url, server__ops_listen="127.0.0.1:9091") as split:
        for where in ("/healthz", "/readyz", "/metrics"):
            assert (await split.ask("GET", where)).status == 404
        async with TestClient(TestServer(build_ops(split.services))) as ops:
            for where in ("/healthz", "/readyz", "/metrics"):
                assert (await ops.get(where)).status == 200
            assert (await ops.get("/v1/tenants")).status == 404
