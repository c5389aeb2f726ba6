"""The fields of a route: every kind of invalid value, in a create and in an edit."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.web.application import TARGET, Answer, App, path

ROUTES = "/v1/tenants/acme/routes"
GOOD = {"name": "shop", "target_url": TARGET, "event_types": ["order.*"]}
JSON = {"Content-Type": "application/json"}

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "name", "is empty"),
    ({"name": "  "}, "name", "is empty"),
    ({"name": "x" * 129}, "name", "128 are allowed"),
    ({"name": "a\nb"}, "name", "control characters"),
    ({"name": "a\x00b"}, "name", "control characters: remove U+0000"),
    ({"name": "a\u202eb"}, "name", "reorder a text: remove U+202E, right-to-left override"),
    ({"name": "\u3000\u200b"}, "name", "is empty"),
    ({"payload": {"snapshot": {"a\nb": True}}}, "payload.snapshot", "control characters: remove U+000A"),
    ({"reason": "a\u2066b"}, "reason", "reorder a text: remove U+2066"),
    ({"name": 5}, "name", "must be a text"),
    ({"name": ["shop"]}, "name", "must be a text"),
    ({"target_url": "shop.example.com"}, "target_url", ""),
    ({"target_url": "http://shop.example.com/"}, "target_url", ""),
    ({"target_url": "https://127.0.0.1/"}, "target_url", ""),
    ({"target_url": "https://shop.example.com\r\nX-Evil: 1/"}, "target_url", ""),
    ({"target_url": "https://user:pass@shop.example.com/"}, "target_url", ""),
    ({"target_url": "https://shop.example.com:22/"}, "target_url", ""),
    ({"target_url": "https://shop.example.com/" + "x" * 2048}, "target_url", "2,048"),
    ({"target_url": 1}, "target_url", "must be a text"),
    ({"event_types": []}, "event_types", "is empty"),
    ({"event_types": "order.*"}, "event_types", "must be a list"),
    ({"event_types": ["order"]}, "event_types", "is no event type"),
    ({"event_types": ["order.*.x"]}, "event_types", "as * stands only at the end and after a dot: use a type"),
    ({"event_types": ["*.created"]}, "event_types", "as * stands only at the end and after a dot: use a type"),
    ({"event_types": ["order*"]}, "event_types", "all below a prefix like order.* or customer.subscription.*"),
    ({"event_types": ["order.**"]}, "event_types", "as * stands only at the end and after a dot"),
    ({"event_types": ["Customer.subscription.*"]}, "event_types", "is no event type: use a type"),
    ({"event_types": ["order.create\n"]}, "event_types", "is no event type"),
    ({"event_types": [1]}, "event_types.0", "must be a text"),
    ({"event_types": ["a.b"] * 201}, "event_types", "200 are allowed"),
    ({"payload": []}, "payload", "must be an object"),
    ({"payload": {"filtre": "a"}}, "payload.filtre", "did you mean filter?"),
    ({"payload": {"filter": "a ="}}, "payload.filter", "JMESPath"),
    ({"payload": {"filter": 1}}, "payload.filter", "must be a text"),
    ({"payload": {"transform": "{"}}, "payload.transform", "JMESPath"),
    ({"payload": {"transform": "x" * 4097}}, "payload.transform", "4096"),
    ({"payload": {"snapshot": []}}, "payload.snapshot", "must be an object"),
    ({"payload": {"snapshot": {"bool": 1}}}, "payload.snapshot.bool", "must be true"),
    ({"payload": {"snapshot": {"orders": ["a", 1]}}}, "payload.snapshot.orders", "must be true"),
    ({"payload": {"snapshot": {f"e{n}": True for n in range(101)}}}, "payload.snapshot", "100 are allowed"),
    ({"headers": []}, "headers", "must be an object"),
    ({"headers": {"X-A": 1}}, "headers.X-A", "must be a text"),
    ({"headers": {"X A": "1"}}, "headers.X A", "1 to 64"),
    ({"headers": {"": "1"}}, "headers.", "1 to 64"),
    ({"headers": {"X-A": "1\r\nX-Evil: 1"}}, "headers.X-A", "visible ASCII"),
    ({"headers": {"X-A\r\nX-Evil": "1"}}, "headers.X-A\r\nX-Evil", "1 to 64"),
    ({"headers": {"X-A": "ü"}}, "headers.X-A", "visible ASCII"),
    ({"headers": {"X-A": "x" * 4097}}, "headers.X-A", "4,096"),
    ({"headers": {"X-A": "***"}}, "headers.X-A", "stands for a hidden value"),
    ({"headers": {"Host": "evil"}}, "headers.Host", "reserved"),
    ({"headers": {"content-length": "0"}}, "headers.content-length", "reserved"),
    ({"headers": {"Webhook-Id": "1"}}, "headers.Webhook-Id", "reserved"),
    ({"headers": {"ordergroove-signature": "1"}}, "headers.ordergroove-signature", "reserved"),
    ({"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a", "twice"),
    ({"headers": {f"X-{n}": "1" for n in range(21)}}, "headers", "at most 20"),
    ({"ordered": "yes"}, "ordered", "true or false"),
    ({"ordered": 1}, "ordered", "true or false"),
    ({"rate_limit_per_second": 0}, "rate_limit_per_second", "above 0"),
    ({"rate_limit_per_second": -1}, "rate_limit_per_second", "above 0"),
    ({"rate_limit_per_second": 1e30}, "rate_limit_per_second", "at most"),
    ({"rate_limit_per_second": "5"}, "rate_limit_per_second", "must be a number"),
    ({"rate_limit_per_second": True}, "rate_limit_per_second", "must be a number"),
    ({"reason": 1}, "reason", "must be a text"),
    ({"reason": "x" * 1001}, "reason", "1000"),
    ({"reason": "a\x00"}, "reason", "U+0000"),
    ({"target_ulr": TARGET}, "target_ulr", "did you mean target_url?"),
    ({"id": "x"}, "id", "is not a field of this request"),
]


def field_of(answer: Answer, field: str) -> str:
    assert answer.status == 422, answer.text
    assert field in answer.errors, answer.text
    return answer.errors[field]


@pytest.mark.parametrize(("change", "field", "says"), WRONG, ids=lambda value: repr(value)[:50])
async def test_a_wrong_field_is_named(app: App, change: dict[str, Any], field: str, says: str) -> None:
    made = await app.ask("POST", ROUTES, GOOD | change)
    assert says in field_of(made, field)
    assert await app.log() == []

    route = await app.route()
    edited = await app.ask("PATCH", path(route), change)
    assert says in field_of(edited, field)
    assert len(await app.log()) == 1


@pytest.mark.parametrize(
    "text", ["注文\u3000通知", "Commandes\u00a0:", "👨\u200d👩\u200d👧", "سفارش\u200cها", "הזמנות\u200f"]
)
async def test_names_and_reasons_may_be_of_any_script(app: App, text: str) -> None:
    route = await app.route(name=text, payload={"snapshot": {text: True}})
    assert (await app.ask("POST", path(route, "/disable"), {"reason": f"{text}\n{text}"})).status == 200
    shown = await app.ask("GET", path(route))
    assert (shown.json["name"], list(shown.json["payload"]["snapshot"])) == (text, [text])


@pytest.mark.parametrize("name", ["name", "target_url", "event_types"])
async def test_a_required_field_is_missed(app: App, name: str) -> None:
    answer = await app.ask("POST", ROUTES, {key: value for key, value in GOOD.items() if key != name})

    assert field_of(answer, name) == "is missing"


@pytest.mark.parametrize("name", ["name", "target_url", "event_types", "payload", "headers", "ordered"])
async def test_an_edit_to_null_is_refused(app: App, name: str) -> None:
    route = await app.route()

    assert "must not be null" in field_of(await app.ask("PATCH", path(route), {name: None}), name)


async def test_all_mistakes_are_named_at_once_malformed_or_not(app: App) -> None:
    body = {"name": "", "target_url": 1, "event_types": ["x", 2], "headers": {"Host": "a", "X-A": 1}, "orderd": True}

    answer = await app.ask("POST", ROUTES, body)

    named = {"name", "target_url", "event_types", "event_types.1", "headers.Host", "headers.X-A", "orderd"}
    assert set(answer.errors) == named


async def test_a_body_that_is_wrong_everywhere_is_answered_briefly(app: App) -> None:
    headers = {f"X {n}": "ü" for n in range(5000)}

    answer = await app.ask("POST", ROUTES, GOOD | {"headers": headers})

    assert answer.status == 422
    assert len(answer.json["errors"]) <= 101


async def test_an_answer_never_repeats_a_header_value(app: App) -> None:
    answer = await app.ask("POST", ROUTES, GOOD | {"headers": {"X-A": "canary\r\n", "X-B": ["canary"], "X": 1}})

    assert answer.status == 422
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": 1e999}',
        b'{"name":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"name":' + b"[" * 1000 + b"]" * 1000 + b"}",
    ],
    ids=lambda raw: repr(raw[:30]),
)
async def test_a_body_that_is_no_json_object_is_400(app: App, raw: bytes) -> None:
    answer = await app.ask("POST", ROUTES, data=raw, headers=JSON)

    assert answer.status == 400, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("raw", [b"\xff\xfe", b'{"name": "\xe9t\xe9"}'])
async def test_a_body_in_another_encoding_is_told_so(app: App, raw: bytes) -> None:
    for place in (ROUTES, "/v1/tenants/acme/preview"):  # the second one takes an event apart from the rest
        answer = await app.ask("POST", place, data=raw, headers=JSON)
        assert (answer.status, answer.json["detail"]) == (400, "the body is not valid JSON: it is not UTF-8")


async def test_a_name_given_twice_is_a_mistake(app: App) -> None:
    raw = b'{"name":"a","name":"b","target_url":"https://shop.example.com/","event_types":["*"],"headers":{"A":"1","A":"2"}}'

    answer = await app.ask("POST", ROUTES, data=raw, headers=JSON)

    assert answer.errors == {"name": "is given more than once", "A": "is given more than once"}


@pytest.mark.parametrize("tenant", ["a%20b", "%00", "x" * 129, "%C3%BC", "a%0D%0AX-Evil:%201"])
async def test_a_tenant_that_cannot_be_gets_no_route(app: App, tenant: str) -> None:
    body = orjson.dumps(GOOD)
    head = f"POST /v1/tenants/{tenant}/routes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = await app.raw(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)

    assert answer.startswith(b"HTTP/1.1 422 "), answer
    assert b'"field":"tenant"' in answer
    assert b"\r\nX-Evil" not in answer


async def test_another_content_type_is_refused(app: App) -> None:
    answer = await app.ask("POST", ROUTES, data=b"name=shop", headers={"Content-Type": "text/plain"})

    assert answer.status == 415


async def test_a_body_beyond_all_measure_is_refused(app: App) -> None:
    answer = await app.ask("POST", ROUTES, GOOD | {"name": "x" * 2_000_000})

    assert answer.status == 413
