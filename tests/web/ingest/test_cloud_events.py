"""POST /v1/events with CloudEvents, as the CloudEvents library makes the requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.support.web.application import Answer, App

ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "id": "c1",
    "source": "/orders",
    "type": "order.create",
    "tenant": "acme",
    "time": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "datacontenttype": "application/json",
    "note": "Grüße, 5 €",
}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}


def as_json(**changes: object) -> dict[str, Any]:
    value = ATTRIBUTES | {"time": "2026-01-02T03:04:05.000006Z", "data": {"total": 1}} | changes
    return {name: each for name, each in value.items() if each is not ...}


async def send(to: App, message: http.HTTPMessage) -> Answer:
    return await to.ask("POST", "/v1/events", data=message.body, headers=message.headers)


async def one(to: App, **changes: object) -> Answer:
    return await to.ask("POST", "/v1/events", data=json.dumps(as_json(**changes)).encode(), headers=STRUCTURED)


async def many(to: App, *events: object) -> Answer:
    return await to.ask("POST", "/v1/events", data=json.dumps(events).encode(), headers=BATCH)


@pytest.mark.parametrize("to_message", [http.to_structured, http.to_binary])
async def test_what_the_library_sends_is_stored(app: App, to_message: Any) -> None:
    answer = await send(app, to_message(CloudEvent(ATTRIBUTES, {"total": 1}), JSONFormat()))
    assert (answer.status, answer.json["events"]) == (202, [{"id": "c1", "status": "accepted"}])
    [stored] = await app.events()
    assert (stored["tenant"], stored["type"], stored["id"]) == ("acme", "order.create", "c1")
    assert stored["occurred_at"] == ATTRIBUTES["time"]
    assert json.loads(stored["data"]) == {"total": 1}
    assert json.loads(stored["context"]) == {
        "source": "/orders",
        "note": "Grüße, 5 €",
        "datacontenttype": "application/json",
    }
    assert len(app.hurried) == 1


async def test_a_batch_stores_what_is_right_and_says_what_is_wrong(app: App) -> None:
    answer = await many(app, as_json(), as_json(id="c2", source=...), 5, as_json(id="c3"), as_json())
    assert (answer.status, answer.json["accepted"], answer.json["rejected"], answer.json["duplicates"]) == (
        202,
        2,
        2,
        1,
    )
    events = answer.json["events"]
    assert [event["status"] for event in events] == ["accepted", "rejected", "rejected", "accepted", "duplicate"]
    assert [event.get("line") for event in events] == [None, 2, 3, None, None]
    assert events[1]["errors"][0]["field"] == "source"
    assert [row["id"] for row in await app.events()] == ["c1", "c3"]


async def test_an_empty_batch(app: App) -> None:
    answer = await many(app)
    assert (answer.status, answer.json) == (202, {"accepted": 0, "duplicates": 0, "rejected": 0, "events": []})


@pytest.mark.parametrize("body", [b"{}", b"[", b'[{"a":1}', b"[1,]", b"\xff", b"[" * 50_000])
async def test_a_batch_that_is_no_array_stores_nothing(app: App, body: bytes) -> None:
    answer = await app.ask("POST", "/v1/events", data=body, headers=BATCH)
    assert answer.status == 422
    assert "array" in answer.json["errors"][0]["message"]
    assert await app.events() == []


async def test_the_same_id_and_source_is_a_duplicate_and_another_source_is_told(app: App) -> None:
    assert (await one(app)).json["accepted"] == 1
    assert (await one(app)).json["events"] == [{"id": "c1", "status": "duplicate"}]
    refused = await one(app, source="/invoices")
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "id")
    assert "/orders" in refused.json["errors"][0]["message"]
    answer = await many(app, as_json(id="c9"), as_json(id="c9", source="/invoices"), as_json(id="c9"))
    assert [event["status"] for event in answer.json["events"]] == ["accepted", "rejected", "duplicate"]
    assert [row["id"] for row in await app.events()] == ["c1", "c9"]


async def test_an_event_of_another_kind_with_the_id_is_a_duplicate(app: App) -> None:
    await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "id": "c1", "data": {}})
    assert (await one(app)).json["events"] == [{"id": "c1", "status": "duplicate"}]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "Order.Create"}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"tenant": ...}, "tenant"),
        ({"tenant": "two words"}, "tenant"),
        ({"id": "ü"}, "id"),
        ({"specversion": "0.3"}, "specversion"),
        ({"data": "x" * 300_000}, ""),
    ],
)
async def test_what_is_wrong_is_said_by_the_names_of_cloud_events(
    app: App, changes: dict[str, Any], field: str
) -> None:
    answer = await many(app, as_json(**changes))
    [event] = answer.json["events"]
    assert (event["status"], [error["field"] for error in event["errors"]]) == ("rejected", [field])
    if field:
        alone = await one(app, **changes)
        assert (alone.status, [error["field"] for error in alone.json["errors"]]) == (422, [field])
    assert await app.events() == []


async def test_headers_without_specversion_are_told_what_is_missing(app: App) -> None:
    headers = {
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "a.b",
        "ce-tenant": "acme",
        "Content-Type": "application/json",
    }
    answer = await app.ask("POST", "/v1/events", data=b"{}", headers=headers)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "specversion")


async def test_a_header_twice_and_an_unknown_format_are_refused(app: App) -> None:
    twice = await app.raw(
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nce-specversion: 1.0\r\nce-id: 1\r\nCe-Id: 2\r\nce-source: /s\r\n"
        b"ce-type: a.b\r\nce-tenant: acme\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert b" 400 " in twice.split(b"\r\n")[0]
    assert b"more than once" in twice
    avro = await app.ask("POST", "/v1/events", data=b"x", headers={"Content-Type": "application/cloudevents+avro"})
    assert avro.status == 415
    assert "application/cloudevents-batch+json" in avro.text
    assert await app.events() == []


async def test_a_batch_of_too_many_or_too_large_stores_nothing(app: App) -> None:
    events = b"[" + b",".join([b"{}"] * 10_001) + b"]"
    assert (await app.ask("POST", "/v1/events", data=events, headers=BATCH)).status == 413
    large = b"[" + b" " * (32 * 262_144) + b"]"
    assert (await app.ask("POST", "/v1/events", data=large, headers=BATCH)).status == 413
