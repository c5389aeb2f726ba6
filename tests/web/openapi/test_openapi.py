"""GET /openapi.json: the document describes what the daemon does.

This file does not compare answers with the document. Every `App` of tests/web does that with each of its answers
(tests/support/web/openapi_conformance.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import orjson
import pytest
from aiohttp import web

from daemon.core.events import event
from daemon.core.webhook.payload import EventFilters, PayloadEvent
from daemon.web.http.endpoints import Access, declared
from daemon.web.ingest.event_shapes import EVENT_LINES, EVENT_SCHEMA
from tests.support.web.application import App, path
from tests.support.web.openapi_conformance import resolved, validator

# The promised API, literal on purpose: path → methods.
TABLE = {
    "/v1/events": "POST",
    "/v1/tenants/{tenant}/routes": "GET POST",
    "/v1/tenants/{tenant}/routes/{route}": "GET PATCH DELETE",
    "/v1/tenants/{tenant}/routes/{route}/disable": "POST",
    "/v1/tenants/{tenant}/routes/{route}/enable": "POST",
    "/v1/tenants/{tenant}/routes/{route}/key": "GET",
    "/v1/tenants/{tenant}/routes/{route}/rotate-key": "POST",
    "/v1/tenants/{tenant}/routes/{route}/revoke-old-key": "POST",
    "/v1/tenants/{tenant}/routes/{route}/test": "POST",
    "/v1/tenants/{tenant}/preview": "POST",
    "/v1/tenants/{tenant}/login-links": "POST",
    "/v1/tenants/{tenant}/routes/{route}/history": "GET",
    "/v1/tenants/{tenant}/routes/{route}/metrics": "GET",
    "/v1/tenants/{tenant}/deliveries": "GET",
    "/v1/tenants/{tenant}/retries": "POST",
    "/v1/tenants/{tenant}/deliveries/{delivery}": "GET",
    "/v1/tenants/{tenant}/deliveries/{delivery}/retry": "POST",
    "/v1/tenants/{tenant}/routes/{route}/replay": "POST",
    "/v1/tenants/{tenant}/events": "GET",
    "/v1/tenants/{tenant}/events/{event}": "GET",
    "/v1/tenants/{tenant}/feed": "GET",
    "/v1/tenants/{tenant}/explain": "GET",
    "/v1/tenants/{tenant}/deliveries/{delivery}/proof": "GET",
    "/v1/seals": "GET",
    "/v1/seals/key": "GET",
    "/v1/seals/{seal}": "GET",
    "/v1/seals/{seal}/consistency": "GET",
    "/v1/log": "GET",
    "/v1/audits": "POST",
    "/v1/audits/{audit}": "GET",
    "/v1/event-types": "GET PUT",
    "/v1/projection": "GET",
    "/v1/tenants": "GET",
    "/v1/failing": "GET",
    "/v1/find": "GET",
    "/v1/status": "GET",
    "/v1/sources/refusals": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
}

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
VALUES: tuple[object, ...] = (None, 5, "x", "", [], {}, True, "x" * 129)
EVENT: dict[str, object] = {"tenant": "acme", "type": "order.create", "data": {}}


async def read(app: App) -> dict[str, Any]:
    answer = await app.ask("GET", "/openapi.json")
    assert answer.status == 200, answer.text
    document: dict[str, Any] = answer.json
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path, operation."""
    for place, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), place, operation


def routed(application: web.Application) -> set[tuple[str, str]]:
    """Method and path of the endpoints that are not pages."""
    return {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD" and not is_page(route.handler)
    }


def is_page(handler: object) -> bool:
    found = declared(handler)
    return found is not None and found.is_page


async def test_the_contract_is_kept_by_router_and_document(app: App) -> None:
    promised = {(method, place) for place, methods in TABLE.items() for method in methods.split()}

    assert sorted(promised - routed(app.client.app)) == []
    assert sorted(promised - {(method, place) for method, place, _ in operations(await read(app))}) == []


async def test_the_document_has_what_the_router_has_and_nothing_else(app: App) -> None:
    document = await read(app)

    assert {(method, place) for method, place, _ in operations(document)} == routed(app.client.app)


async def test_it_is_an_openapi_document(app: App) -> None:
    document = await read(app)

    assert document["openapi"] == "3.1.0"
    jsonschema_rs.meta.validate({"$defs": document["components"]["schemas"]})
    for _, _, operation in operations(document):
        assert set(operation) >= {"operationId", "summary", "description", "tags", "responses"}
        assert operation["summary"]


async def test_every_reference_leads_somewhere(app: App) -> None:
    document = await read(app)

    for part in parts(document):
        if isinstance(part.get("$ref"), str):
            assert resolved(document, part)


async def test_operations_and_shapes_have_names_of_their_own(app: App) -> None:
    document = await read(app)
    ids = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(set(ids)) == len(ids)
    for name in document["components"]["schemas"]:
        assert name.isalnum(), f"{name}: two shapes have this name"


async def test_every_answer_with_a_body_has_a_type(app: App) -> None:
    """An endpoint that declares no answer would be documented as if it had an empty one."""
    untyped = [
        f"{method} {place}"
        for method, place, operation in operations(await read(app))
        if "200" in operation["responses"] and "content" not in operation["responses"]["200"]
    ]

    assert untyped == []


async def test_every_name_in_a_path_is_described(app: App) -> None:
    for place, item in (await read(app))["paths"].items():
        for parameter in item.get("parameters", ()):
            assert "description" in parameter, (place, parameter["name"])


async def test_every_example_is_valid(app: App) -> None:
    answer = await app.ask("GET", "/openapi.json")
    raw, document = answer.text.encode(), answer.json

    examples = [part for part in parts(document) if "example" in part and "schema" in part]
    assert len(examples) > len(TABLE)
    for part in examples:
        validator(raw, orjson.dumps(part["schema"]).decode()).validate(part["example"])
    for part in parts(document["components"]["schemas"]):
        for example in part.get("examples", ()) if isinstance(part.get("examples"), list) else ():
            validator(raw, orjson.dumps(part).decode()).validate(example)


async def test_what_the_document_gives_as_an_example_of_a_route_can_be_made_and_edited(app: App) -> None:
    document = await read(app)
    create, edit = (
        document["paths"][place][method]["requestBody"]["content"]["application/json"]["example"]
        for place, method in (
            ("/v1/tenants/{tenant}/routes", "post"),
            ("/v1/tenants/{tenant}/routes/{route}", "patch"),
        )
    )

    made = await app.ask("POST", "/v1/tenants/acme/routes", create)
    edited = await app.ask("PATCH", path(made.json), edit)

    assert (made.status, edited.status) == (201, 200), (made.text, edited.text)
    assert edited.json["version"] == 2


async def test_what_the_document_gives_as_an_example_of_events_is_accepted(app: App) -> None:
    content = (await read(app))["paths"]["/v1/events"]["post"]["requestBody"]["content"]

    one = await app.ask("POST", "/v1/events", content["application/json"]["example"])
    lines = content["application/x-ndjson"]["example"].encode()
    many = await app.ask("POST", "/v1/events", data=lines, headers={"Content-Type": EVENT_LINES.content_type})

    assert (one.status, one.json["accepted"]) == (202, 1)
    assert (many.status, many.json["accepted"]) == (202, 2)


@pytest.mark.parametrize(
    "change",
    [
        {},
        *({name: value} for name in event.FIELDS for value in VALUES),
        {"tenant": "a b"},
        {"tenant": "ü"},
        {"type": "order.create\n"},
        {"type": "Order.create"},
        {"id": "a b"},
        {"id": "ü"},
        {"occurred_at": "2026-11-23T08:00:00Z"},
        {"occurred_at": "2026-11-23T08:00:00"},
        {"occurred_at": "2026-13-23T08:00:00Z"},
        {"typ": "order.create"},
    ],
    ids=str,
)
def test_the_schema_of_an_event_says_what_the_check_says(change: dict[str, object]) -> None:
    body = EVENT | change

    checked = event.parse(orjson.dumps(body), now=NOW, max_bytes=10_000, tenant=None if body["tenant"] else "acme")
    validator_of_event = jsonschema_rs.Draft202012Validator(EVENT_SCHEMA, validate_formats=True)

    assert validator_of_event.is_valid(body) == isinstance(checked, event.IncomingEvent), checked


@pytest.mark.parametrize("name", event.FIELDS)
def test_the_schema_of_an_event_misses_what_the_check_misses(name: str) -> None:
    body = {key: value for key, value in EVENT.items() if key != name}

    checked = event.parse(orjson.dumps(body), now=NOW, max_bytes=10_000, tenant="acme")

    assert jsonschema_rs.is_valid(EVENT_SCHEMA, body) == isinstance(checked, event.IncomingEvent), checked


async def test_open_endpoints_ask_for_no_token_in_the_document_either(app: App) -> None:
    handlers = {(route.method, route.resource.canonical): route.handler for route in resources(app.client.app)}

    for method, place, operation in operations(await read(app)):
        found = declared(handlers[method, place])
        assert found is not None
        assert (operation.get("security") == []) == (found.access is Access.OPEN), place


@pytest.mark.parametrize(
    ("method", "place", "scopes"),
    [
        ("post", "/v1/events", "`admin`, `producer`, `producer:<id>`"),
        ("get", "/v1/tenants/{tenant}/routes", "`admin`, `auditor`, `auditor:<id>`, `tenant:<id>`"),
        ("post", "/v1/tenants/{tenant}/routes", "`admin`, `tenant:<id>`"),
        ("get", "/v1/status", "`admin`, `auditor`"),
        ("get", "/metrics", "`admin`, `metrics`"),
    ],
)
async def test_the_scopes_that_have_access_are_said(app: App, method: str, place: str, scopes: str) -> None:
    operation = (await read(app))["paths"][place][method]

    assert operation["description"].endswith(f"Scopes: {scopes}.")


async def test_commands_say_that_they_take_a_key_and_changes_of_a_route_a_version(app: App) -> None:
    document = await read(app)
    for _, place, operation in operations(document):
        names = {resolved(document, each)["name"] for each in operation.get("parameters", ())}
        if "If-Match" in names:
            assert "{route}" in place
            assert {"409", "412"} <= operation["responses"].keys()
            assert "Idempotency-Key" in names


async def test_publishing_takes_a_trace_and_a_key_that_the_publisher_may_leave_out(app: App) -> None:
    """Without any such parameter openapi-python-client makes of several bodies a module that cannot be imported."""
    document = await read(app)
    found = [resolved(document, each) for each in document["paths"]["/v1/events"]["post"]["parameters"]]
    assert [(each["name"], each["in"], each.get("required", False)) for each in found] == [
        ("traceparent", "header", False),
        ("tracestate", "header", False),
        ("Idempotency-Key", "header", False),
    ]


async def test_it_is_sent_again_only_if_it_changed(app: App) -> None:
    first = await app.ask("GET", "/openapi.json")
    again = await app.ask("GET", "/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    other = await app.ask("GET", "/openapi.json", headers={"If-None-Match": '"other", garbage'})

    assert (again.status, again.text) == (304, "")
    assert other.status == 200
    assert other.headers["ETag"] == first.headers["ETag"]


async def test_the_filters_of_examples_read_what_a_webhook_sends(app: App) -> None:
    document = (await app.ask("GET", "/openapi.json")).json
    told = [each["properties"]["filter"] for each in parts(document) if "filter" in each.get("properties", {})]
    shown = [example for each in told for example in each.get("examples", []) if example]
    paid = PayloadEvent(
        event_id="evt_1",
        event_type="order.create",
        created=datetime(2026, 11, 23, tzinfo=UTC),
        data=b'{"total": 250}',
        context=None,
        snapshot=None,
    )

    assert shown
    assert [example for example in shown if not EventFilters(paid).holds(example)] == []


def resources(application: web.Application) -> Iterator[Any]:
    return (route for route in application.router.routes() if route.resource is not None)


def parts(whole: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(whole, dict):
        yield whole
        for each in whole.values():
            yield from parts(each)
    elif isinstance(whole, list):
        for each in whole:
            yield from parts(each)
