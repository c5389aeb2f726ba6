"""Traces of a real daemon, as a collector on loopback gets them by OTLP over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.receiver import Received, Receiver, receiver, status

# What protobuf makes has no types.
EXPORT: Any = ExportTraceServiceRequest

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
CONTEXT = '{"by": 1.10}'


async def taken(_request: web.Request) -> web.StreamResponse:
    return web.Response(content_type="application/x-protobuf")


class Collector(Receiver):
    """A collector of OpenTelemetry."""

    def spans(self) -> list[dict[str, Any]]:
        found = []
        for request in self.received:
            export: Any = EXPORT.FromString(request.body)
            for resource in export.resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "hookledger"
                found += [_span(each) for scope in resource.scope_spans for each in scope.spans]
        return found

    async def until(self, number: int, name: str = "") -> list[dict[str, Any]]:  # type: ignore[override] # of spans
        """Waits for so many spans of that name."""

        def chosen() -> list[dict[str, Any]]:
            return [each for each in self.spans() if name in ("", each["name"])]

        await super().until(lambda: len(chosen()) >= number)
        return chosen()


def _span(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "links": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        "kind": span.kind,
        "failed": span.status.code == 2,
        "state": span.trace_state,
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        **{each.key: each.value.string_value or each.value.int_value for each in span.attributes},
    }


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    there = Collector()
    there.answer["/v1/traces"] = taken
    async with receiver(there):
        yield there


@asynccontextmanager
async def tracing(hookledger: CommandLine, endpoint: str, **settings: str) -> AsyncIterator[Running]:
    more = {f"HOOKLEDGER_{name.upper()}": value for name, value in settings.items()}
    hookledger.environment |= {"HOOKLEDGER_TRACING__ENDPOINT": endpoint, **more}
    async with running(hookledger) as daemon:
        yield daemon


async def publish(daemon: Running, body: str, *, kind: str = "application/json", **headers: str) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{daemon.url}/v1/events", data=body, headers={"Content-Type": kind} | headers) as response,
    ):
        assert response.status == 202, await response.text()
        return [event["id"] for event in (await response.json())["events"]]


async def ask(daemon: Running, path: str) -> tuple[Any, str]:
    async with aiohttp.ClientSession() as session, session.get(daemon.url + path) as response:
        text = await response.text()
        return (json.loads(text) if response.content_type == "application/json" else None), text


def route(hookledger: CommandLine, there: Receiver, path: str = "/", *options: str) -> str:
    made = hookledger.create_route("--target-url", there.url + path, "--dev", *options)
    id: str = made["id"]
    return id


def event(number: int = 1) -> str:
    return f'{{"tenant": "acme", "type": "order.create", "id": "evt_{number}", "data": {{}}, "context": {CONTEXT}}}'


async def test_publishing_and_each_attempt_are_spans_of_the_publishers_trace(hookledger: CommandLine) -> None:
    quick = {"delivery__retry_first_seconds": "0.1", "delivery__retry_attempts": "2"}
    async with collecting() as collector, receiver() as there, tracing(hookledger, collector.url, **quick) as daemon:
        there.answer["/bad"] = status(500)
        good, bad = route(hookledger, there, "/good"), route(hookledger, there, "/bad")
        await publish(daemon, event(), traceparent=SAMPLED, tracestate="a=1,b=2")
        attempts = await collector.until(3, "deliver")
        (ingest,) = await collector.until(1, "POST /v1/events")
        shown, text = await ask(daemon, "/v1/tenants/acme/events/evt_1")
    assert (ingest["trace"], ingest["parent"], ingest["state"]) == (TRACE, SPAN, "a=1,b=2")
    assert ingest["http.response.status_code"] == 202
    assert {each["trace"] for each in attempts} == {TRACE}
    assert all(each["links"] == [(TRACE, ingest["id"])] and each["parent"] == ingest["id"] for each in attempts)
    assert len({each["id"] for each in attempts}) == 3
    assert sorted(
        (each["hookledger.route.id"] == bad, each["hookledger.attempt"], each["hookledger.outcome"], each["failed"])
        for each in attempts
    ) == [(False, 1, "delivered", False), (True, 1, "retrying", True), (True, 2, "failed", True)]
    assert {each["hookledger.event.id"] for each in attempts} == {"evt_1"}
    assert {each["http.response.status_code"] for each in attempts} == {204, 500}
    assert all(0 <= each["seconds"] < 20 for each in attempts)
    assert good
    # What was published stays what it was, for receivers and in the API.
    assert len({request.body for request in there.received}) == 1
    for request in there.received:
        assert f'"context":{CONTEXT},"snapshot":{{}}'.encode() in request.body
        assert not {"traceparent", "tracestate"} & {name.lower() for name in request.headers}
    assert f'"context":{CONTEXT}' in text
    assert shown["context"] == json.loads(CONTEXT)


async def test_what_the_publisher_does_not_sample_is_not_sampled(hookledger: CommandLine) -> None:
    async with collecting() as collector, receiver() as there, tracing(hookledger, collector.url) as daemon:
        route(hookledger, there)
        await publish(daemon, event(1), traceparent=UNSAMPLED)
        await publish(daemon, event(2), traceparent="nonsense")
        await there.count(2)
        spans = await collector.until(2)
    assert len(spans) == 2
    assert TRACE not in {each["trace"] for each in spans}
    assert {each.get("hookledger.event.id") for each in spans} == {None, "evt_2"}


async def test_events_of_a_batch_cloud_events_and_sql_are_traced_too(hookledger: CommandLine) -> None:
    async with collecting() as collector, receiver() as there, tracing(hookledger, collector.url) as daemon:
        route(hookledger, there)
        await publish(daemon, f"{event(1)}\n{event(2)}", kind="application/x-ndjson", traceparent=SAMPLED)
        cloud = {
            "ce-specversion": "1.0",
            "ce-id": "evt_3",
            "ce-source": "/a",
            "ce-type": "order.create",
            "ce-tenant": "acme",
        }
        await publish(daemon, "{}", traceparent=SAMPLED, **cloud)
        hookledger("publish", stdin=event(4))
        attempts = {each["hookledger.event.id"]: each for each in await collector.until(4, "deliver")}
        ingests = {each["id"] for each in await collector.until(2, "POST /v1/events")}
        bodies = {json.loads(request.body)["id"]: json.loads(request.body) for request in there.received}
    assert {each["trace"] for id, each in attempts.items() if id != "evt_4"} == {TRACE}
    assert attempts["evt_1"]["parent"] == attempts["evt_2"]["parent"]
    assert {attempts["evt_1"]["parent"], attempts["evt_3"]["parent"]} == ingests
    assert attempts["evt_4"]["trace"] == attempts["evt_4"]["hookledger.delivery.id"].replace("-", "")
    assert (attempts["evt_4"]["parent"], attempts["evt_4"]["links"]) == ("", [])
    assert bodies["evt_3"]["context"] == {"source": "/a", "datacontenttype": "application/json"}


async def test_receivers_are_told_of_the_trace_if_asked_and_the_request_is_shown_so(hookledger: CommandLine) -> None:
    async with (
        collecting() as collector,
        receiver() as there,
        tracing(hookledger, collector.url, tracing__propagate="true") as daemon,
    ):
        route(hookledger, there)
        await publish(daemon, event(1), traceparent=SAMPLED, tracestate="a=1")
        await publish(daemon, event(2), traceparent=UNSAMPLED)
        requests: dict[str, Received] = {json.loads(each.body)["id"]: each for each in await there.count(2)}
        (attempt,) = await collector.until(1, "deliver")
        shown: dict[str, Any] = {}
        while len(shown) < 2:  # an outcome is durable within a moment
            listed, _ = await ask(daemon, "/v1/tenants/acme/deliveries?status=delivered")
            for each in listed["items"]:
                detail, _ = await ask(daemon, f"/v1/tenants/acme/deliveries/{each['id']}")
                shown[each["event"]["id"]] = detail["attempts"][0]["request"]["headers"]
            await asyncio.sleep(0.05)
    traced, plain = requests["evt_1"].headers, requests["evt_2"].headers
    assert (traced["traceparent"], traced["tracestate"]) == (f"00-{TRACE}-{attempt['id']}-01", "a=1")
    assert plain["traceparent"].startswith(f"00-{TRACE}-")
    assert plain["traceparent"].endswith("-00")
    assert "tracestate" not in plain
    for id, request in requests.items():
        assert shown[id]["traceparent"] == request.headers["traceparent"]


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(hookledger: CommandLine) -> None:
    async with receiver() as there, tracing(hookledger, "http://127.0.0.1:1") as daemon:
        route(hookledger, there)
        for number in range(20):
            await publish(daemon, event(number))
        await there.count(20)
        for _ in range(2):
            lost = 0.0
            async with asyncio.timeout(60):
                while not lost:
                    _, text = await ask(daemon, "/metrics")
                    lost = next(
                        float(line.split()[-1]) for line in text.splitlines() if 'spans_total{result="lost"}' in line
                    )
                    await asyncio.sleep(0.1)
        assert await daemon.stop() == 0
    lines = daemon.lines()
    told = [line for line in lines if line["event"] == "spans.lost"]
    assert len(told) == 1
    assert "http://127.0.0.1:1/v1/traces" in told[0]["cause"]
    assert not [line for line in lines if line["event"] == "library.logged" and line["level"] != "info"]


def test_without_the_extra_the_check_of_the_configuration_says_what_to_install(
    without_database: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "shadow" / "opentelemetry").mkdir(parents=True)
    (tmp_path / "shadow" / "opentelemetry" / "__init__.py").touch()
    process = without_database
    process.environment["PYTHONPATH"] = f"{tmp_path / 'shadow'}:{process.environment['PYTHONPATH']}"
    process.environment["HOOKLEDGER_TRACING__ENDPOINT"] = "http://127.0.0.1:4318"
    ended = process.start("config", "check")
    _, said = ended.communicate(timeout=60)
    assert ended.returncode == 78
    assert "HOOKLEDGER_TRACING__ENDPOINT: OpenTelemetry is not installed; pip install 'hookledger[otel]'" in said


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ENDPOINT", "collector:4318", "must be"),
        ("SAMPLE_RATIO", "2", "must be less than or equal to 1"),
        ("MAX_PER_SECOND", "0", "must be"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    without_database: CommandLine, name: str, value: str, message: str
) -> None:
    without_database.environment[f"HOOKLEDGER_TRACING__{name}"] = value
    ended = without_database("config", "check", code=78)
    assert f"HOOKLEDGER_TRACING__{name}" in ended.err
    assert message in ended.err
