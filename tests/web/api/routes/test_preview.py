"""POST /v1/tenants/{t}/preview: the request that would be sent, and why it would not be sent."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from standardwebhooks import Webhook

from daemon.deliveries.preview import PLACEHOLDER_KEY
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from tests.support.web.application import Answer, App
from tests.support.web.evaluator import evaluator_of

EVENT = {
    "type": "order.create",
    "id": "evt_1",
    "data": {"total": "19.90"},
    "snapshot": {"customer": {"name": "Ada", "age": 36}},
}
AT = "2026-01-02T03:04:05Z"


async def preview(app: App, route: dict[str, Any] | None = None, tenant: str = "acme", **more: Any) -> Answer:
    body = {"route": route or {}, "event": EVENT} | more
    return await app.ask("POST", f"/v1/tenants/{tenant}/preview", {k: v for k, v in body.items() if v is not None})


async def test_a_draft_and_an_event_give_the_request_to_the_letter(app: App) -> None:
    draft = {
        "name": "a",
        "target_url": "https://shop.example.com/in?k=1",
        "event_types": ["order.*"],
        "payload": {"snapshot": {"customer": ["name"]}},
        "headers": {"X-Shop": "canary"},
    }
    shown = (await preview(app, draft, event=EVENT | {"occurred_at": AT})).json
    assert (shown["would_send"], shown["reason"], shown["method"]) == (True, None, "POST")
    assert shown["url"] == "https://shop.example.com/in?k=1"
    assert shown["body_text"] == (
        '{"id":"evt_1","type":"order.create","created":1767323045,"data":{"object":{"total":"19.90"}},'
        '"context":{},"snapshot":{"customer":{"name":"Ada"}}}'
    )
    assert shown["body"]["snapshot"] == {"customer": {"name": "Ada"}}
    assert shown["headers"]["X-Shop"] == "***"
    assert shown["headers"]["Content-Type"] == "application/json"
    assert "Hookledger-Test" not in shown["headers"]


async def test_the_bytes_of_the_event_are_those_of_the_request(app: App) -> None:
    body = b'{"event": {"type":"order.create","data":{ "n":123456789012345678901234567890, "x":1.10 }}}'
    headers = {"Content-Type": "application/json"}
    answer = await app.ask("POST", "/v1/tenants/acme/preview", data=body, headers=headers)
    assert '{ "n":123456789012345678901234567890, "x":1.10 }' in answer.json["body_text"]
    assert "123456789012345678901234567890" in answer.text.split('"body_text"')[0]


async def test_the_signatures_verify_with_the_placeholder_and_are_said_to(app: App) -> None:
    shown = (await preview(app)).json
    assert shown["signed_with"] == "placeholder"
    text, headers = shown["body_text"], shown["headers"]
    assert Webhook(PLACEHOLDER_KEY.text).verify(text, headers) == shown["body"]
    timestamp, _, signature = headers["OrderGroove-Signature"].removeprefix("ts=").partition(",sig=")
    signed = f"{timestamp}.{text}".encode()
    assert signature == hmac.new(PLACEHOLDER_KEY.text.encode(), signed, hashlib.sha256).hexdigest()
    assert base64.b64decode(PLACEHOLDER_KEY.text.removeprefix("whsec_")) == bytes(32)


async def test_a_stored_route_stands_in_for_what_the_draft_leaves_out(app: App) -> None:
    route = await app.route(
        event_types=["order.*"], payload={"filter": "data.object.total"}, headers={"X-Shop": "canary"}
    )
    shown = (await preview(app, route_id=route["id"])).json
    assert (shown["would_send"], shown["url"]) == (True, route["target_url"])
    assert shown["headers"]["X-Shop"] == "***"
    key = (await app.ask("GET", f"/v1/tenants/acme/routes/{route['id']}/key")).json["verification_key"]
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(key).verify(shown["body_text"], shown["headers"])
    changed = (await preview(app, {"payload": {"filter": None, "transform": "id"}}, route_id=route["id"])).json
    assert changed["body_text"] == '"evt_1"'


async def test_a_stored_route_of_nobody_or_somebody_else_is_404(app: App) -> None:
    route = await app.route()
    for tenant, route_id in (("globex", route["id"]), ("acme", "00000000-0000-0000-0000-000000000000"), ("acme", "x")):
        assert (await preview(app, tenant=tenant, route_id=route_id)).status == 404
    await app.ask("DELETE", f"/v1/tenants/acme/routes/{route['id']}")
    assert (await preview(app, route_id=route["id"])).status == 404


@pytest.mark.parametrize(
    ("draft", "more", "reason"),
    [
        ({"event_types": ["cart.*"]}, {}, "the route does not subscribe to order.create"),
        ({"payload": {"filter": "data.object.total == 'x'"}}, {}, "the filter does not let this event pass"),
        ({"enabled": False}, {}, "the route is disabled"),
        (
            {},
            {"event": EVENT | {"backfill": True}},
            "an event that is imported as backfill is never delivered by itself",
        ),
    ],
)
async def test_what_would_not_be_sent_is_shown_with_the_reason(
    app: App, draft: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    shown = (await preview(app, draft, **more)).json
    assert (shown["would_send"], shown["reason"]) == (False, reason)
    assert shown["body"]["id"] == "evt_1"


async def test_a_disabled_route_would_not_send(app: App) -> None:
    route = await app.route(enabled=False)
    assert (await preview(app, route_id=route["id"])).json["reason"] == "the route is disabled"
    assert (await preview(app, {"enabled": True}, route_id=route["id"])).json["would_send"]


@pytest.mark.parametrize(
    ("payload", "errors"),
    [
        ({"filter": "a["}, {"route.payload.filter": "JMESPath"}),
        ({"transform": "no_such(@)"}, {"route.payload.transform": "no_such"}),
        (
            {"filter": "sum(data)", "transform": "abs(id)"},
            {"route.payload.filter": "sum()", "route.payload.transform": "abs()"},
        ),
        ({"transform": " | ".join(["[@,@]"] * 60)}, {"route.payload.transform": "too many steps"}),
        ({"filter": "x" * 5000}, {"route.payload.filter": "more than 4096 bytes"}),
    ],
)
async def test_what_is_wrong_with_expressions_is_told_by_field(
    app: App, payload: dict[str, str], errors: dict[str, str]
) -> None:
    answer = await preview(app, {"payload": payload})
    assert answer.status == 422, answer.text
    assert set(answer.errors) == set(errors)
    for field, part in errors.items():
        assert part in answer.errors[field]


async def test_heavy_expressions_are_left_to_the_evaluation_process(app: App) -> None:
    """A thread would share the interpreter's lock with the event loop, and so would delay everybody."""
    event = EVENT | {"data": {"l": [{"k": f"key {number}"} for number in range(3000)]}}
    light = {"filter": "type == 'order.create'", "transform": "id"}
    heavy = {"filter": "length(data.object.l[?contains(k, '7')]) > `0`", "transform": "data.object.l[*].k"}
    failing = {"filter": "sum(data.object.l[*].k) > `0`"}
    assert (await preview(app, {"payload": light})).json["body_text"] == '"evt_1"'
    assert evaluator_of(app).turns == []
    shown = (await preview(app, {"payload": heavy}, event=event)).json
    assert (shown["would_send"], len(shown["body"])) == (True, 3000)
    assert evaluator_of(app).turns == ["acme asks"] * 2
    assert "sum()" in (await preview(app, {"payload": failing}, event=event)).errors["route.payload.filter"]


async def test_what_is_wrong_with_draft_and_event_is_told_at_once(app: App) -> None:
    draft = {"target_url": "http://127.0.0.1/", "headers": {"Host": "x"}, "event_types": ["Order"]}
    answer = await preview(app, draft, event={"type": "order", "dta": {}})
    assert set(answer.errors) == {
        "route.headers.Host", "route.event_types", "event.type", "event.dta", "event.data", "route.target_url",
    }  # fmt: skip


async def test_the_event_belongs_to_the_tenant_of_the_path(app: App) -> None:
    assert (await preview(app, event=EVENT | {"tenant": "acme"})).status == 200
    assert list((await preview(app, event=EVENT | {"tenant": "globex"})).errors) == ["event.tenant"]


async def test_the_example_of_a_type_can_be_previewed(app: App) -> None:
    example = '{"data":{"a":1},"context":{"b":2},"snapshot":{"c":{"d":3}}}'
    await catalogue.replace(app.database, [TypeRow(name="order.create", description="", example=example)])
    shown = (await preview(app, {"payload": {"snapshot": {"c": True}}}, event=None, type="order.create")).json
    assert (shown["body"]["data"], shown["body"]["context"], shown["body"]["snapshot"]) == (
        {"object": {"a": 1}}, {"b": 2}, {"c": {"d": 3}},
    )  # fmt: skip
    answer = await preview(app, event=None, type="order.craete")
    assert "did you mean order.create?" in answer.errors["type"]
    assert list((await preview(app, event=None, type="a\0b")).errors) == ["type"]


async def test_an_event_or_a_type_is_needed_and_not_both(app: App) -> None:
    assert "is missing" in (await preview(app, event=None)).errors["event"]
    assert "give one" in (await preview(app, type="order.create")).errors["event"]


async def test_nothing_is_stored_and_nothing_asked_for(app: App) -> None:
    await preview(app, {"name": "a"})
    assert (await app.events(), await app.log(), app.hurried) == ([], [], [])


async def test_fields_that_do_not_exist_are_refused_with_a_guess(app: App) -> None:
    assert (
        "did you mean transform?"
        in (await preview(app, {"payload": {"transfrom": "id"}})).errors["route.payload.transfrom"]
    )
    assert "did you mean route?" in (await preview(app, rout={})).errors["rout"]


async def test_an_event_of_the_largest_size_fits_and_a_larger_one_is_named(app: App) -> None:
    limit = app.services.config.events.max_bytes
    fill = limit - len('{"type":"order.create","data":{"x":""}}')
    large = {"type": "order.create", "data": {"x": "y" * fill}}
    assert (await preview(app, event=large)).status == 200
    large["data"] = {"x": "y" * (fill + 1)}
    assert list((await preview(app, event=large)).errors) == ["event"]
