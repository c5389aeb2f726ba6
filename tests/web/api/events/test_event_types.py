"""GET and PUT /v1/event-types: the catalogue, and the types of events that are not in it."""

import asyncio
import json
from importlib.resources import files
from typing import Any

import pytest

from daemon.core.events.catalogue import MAX_EXAMPLE_BYTES, MAX_TYPES
from eventstore.domain_events import catalogue
from tests.support.web.application import App
from tests.support.web.tokens import bearer, token

SAMPLE: list[dict[str, Any]] = json.loads(files("daemon").joinpath("data", "event_types.json").read_bytes())
ORDER = {"name": "order.create", "description": "An order is placed.", "example": {"data": {"id": 1}}}


async def put(app: App, *types: dict[str, Any]) -> None:
    answer = await app.ask("PUT", "/v1/event-types", {"event_types": types})
    assert (answer.status, answer.json["event_types"]) == (200, len(types)), answer.text


async def names(app: App, query: str = "") -> list[str]:
    answer = await app.ask("GET", f"/v1/event-types{query}")
    assert answer.status == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


async def test_the_catalogue_is_empty_at_first(app: App) -> None:
    answer = await app.ask("GET", "/v1/event-types")
    assert answer.json == {"items": [], "next": None}


async def test_what_was_put_is_listed_by_group_and_name(app: App) -> None:
    await put(app, *reversed(SAMPLE))
    answer = await app.ask("GET", "/v1/event-types?limit=200")
    assert answer.json["next"] is None
    assert [item["name"] for item in answer.json["items"]] == sorted(each["name"] for each in SAMPLE)
    shown = {item["name"]: item for item in answer.json["items"]}
    for each in SAMPLE:
        assert shown[each["name"]] == each | {"is_catalogued": True}


async def test_putting_replaces_everything(app: App) -> None:
    await put(app, *SAMPLE)
    await put(app, ORDER)
    assert await names(app) == ["order.create"]
    await put(app)
    assert await names(app) == []


async def test_a_put_tells_what_it_has_changed(app: App) -> None:
    await put(app, *SAMPLE)
    changed = [SAMPLE[0] | {"description": "Something else."}, *SAMPLE[3:], {"name": "order.unheard_of"}]
    answer = await app.ask("PUT", "/v1/event-types", {"event_types": changed})
    assert answer.json == {"event_types": len(changed), "added": 1, "changed": 1, "removed": 2}


async def test_of_two_puts_at_once_each_tells_what_it_has_changed(app: App) -> None:
    await put(app, *SAMPLE)
    answers = await asyncio.gather(
        *(app.ask("PUT", "/v1/event-types", [{"name": f"order.number_{n}"}]) for n in range(2))
    )
    assert sorted((it.json["added"], it.json["removed"]) for it in answers) == [(1, 1), (1, len(SAMPLE))]


async def test_what_an_entry_leaves_out_is_empty(app: App) -> None:
    await put(app, {"name": "order.create"})
    answer = await app.ask("GET", "/v1/event-types")
    assert answer.json["items"] == [
        {
            "name": "order.create",
            "group": "order",
            "description": "",
            "example": {"data": {}, "context": {}, "snapshot": {}},
            "is_catalogued": True,
        }
    ]


async def test_a_group_is_listed_alone_and_is_not_a_beginning(app: App) -> None:
    await put(app, *({"name": name} for name in ("order.a", "order.b.c", "order_2.a", "orders.a")))
    assert await names(app, "?group=order") == ["order.a", "order.b.c"]
    assert await names(app, "?group=ord") == []
    assert await names(app, "?group=a%00b") == []


async def test_types_that_were_seen_are_listed_as_not_catalogued(app: App) -> None:
    await put(app, ORDER)
    await catalogue.note_seen(app.database, ["order.create", "cart.create"])
    answer = await app.ask("GET", "/v1/event-types")
    assert [(item["name"], item["is_catalogued"]) for item in answer.json["items"]] == [
        ("cart.create", False),
        ("order.create", True),
    ]
    assert (answer.json["items"][0]["description"], answer.json["items"][0]["example"]) == (None, None)


@pytest.mark.parametrize("scope", ["tenant:acme", "producer:acme", "auditor:acme"])
async def test_who_is_bound_to_a_tenant_sees_no_type_that_only_events_had(app: App, scope: str) -> None:
    await put(app, ORDER)
    await catalogue.note_seen(app.database, ["order.secret", "cart.create"])
    theirs = bearer(await token(app.database, scope))
    for query in ("", "?group=order"):
        answer = await app.ask("GET", f"/v1/event-types{query}", headers=theirs)
        assert [item["name"] for item in answer.json["items"]] == ["order.create"]


async def test_pages_lead_through_catalogued_and_seen_types_alike(app: App) -> None:
    await put(app, *({"name": f"a.n{n}"} for n in (1, 3, 5)))
    await catalogue.note_seen(app.database, [f"a.n{n}" for n in (1, 2, 3, 4)])
    found: list[str] = []
    query = "?limit=2"
    while query:
        page = (await app.ask("GET", f"/v1/event-types{query}")).json
        found += [item["name"] for item in page["items"]]
        query = f"?limit=2&cursor={page['next']}" if page["next"] else ""
    assert found == [f"a.n{n}" for n in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("entry", "field", "message"),
    [
        ({"name": "Order"}, "name", "must be object.action in lower case"),
        ({"name": "a." + "b" * 200}, "name", "at most 128 characters"),
        ({}, "name", "is missing"),
        ({"name": "a.b", "group": "b"}, "group", "before the first dot, 'a'"),
        ({"name": "a.b", "description": "x" * 1001}, "description", "1001 characters, 1000 are allowed"),
        ({"name": "a.b", "description": "\0"}, "description", "control characters: remove U+0000"),
        ({"name": "a.b", "example": {"data": [1]}}, "example.data", "must be an object"),
        ({"name": "a.b", "example": {"dta": {}}}, "example.dta", "did you mean data?"),
        ({"name": "a.b", "example": {"data": {"x": "y" * MAX_EXAMPLE_BYTES}}}, "example", "65536 are allowed"),
        ({"nmae": "a.b", "name": "a.b"}, "nmae", "did you mean name?"),
    ],
)
async def test_an_entry_that_is_wrong_is_named_with_its_number(
    app: App, entry: dict[str, Any], field: str, message: str
) -> None:
    answer = await app.ask("PUT", "/v1/event-types", {"event_types": [{"name": "x.y"}, entry]})
    assert answer.status == 422, answer.text
    assert list(answer.errors) == [f"event_types.1.{field}"]
    assert message in answer.errors[f"event_types.1.{field}"]
    assert await names(app) == []


async def test_a_bare_list_is_the_catalogue_as_a_file_has_it(app: App) -> None:
    kind = {"Content-Type": "application/json"}
    answer = await app.ask("PUT", "/v1/event-types", data=json.dumps(SAMPLE).encode(), headers=kind)
    added = {"event_types": len(SAMPLE), "added": len(SAMPLE), "changed": 0, "removed": 0}
    assert (answer.status, answer.json) == (200, added), answer.text
    wrong = await app.ask("PUT", "/v1/event-types", data=b'[{"name": "A"}]', headers=kind)
    assert (wrong.status, list(wrong.errors)) == (422, ["event_types.0.name"])
    neither = await app.ask("PUT", "/v1/event-types", data=b'"order.create"', headers=kind)
    assert (neither.status, neither.json["detail"]) == (400, "the body must be a JSON object or list")


async def test_what_is_listed_can_be_put_again(app: App) -> None:
    """What events had alone is in the list, and not in the catalogue: it does not get there by that."""
    await put(app, *SAMPLE)
    await catalogue.note_seen(app.database, ["seen.only"])
    listed = (await app.ask("GET", "/v1/event-types?limit=200")).json["items"]
    assert [each["name"] for each in listed if not each["is_catalogued"]] == ["seen.only"]

    answer = await app.ask("PUT", "/v1/event-types", listed)
    assert answer.json == {"event_types": len(SAMPLE), "added": 0, "changed": 0, "removed": 0}
    assert (await app.ask("GET", "/v1/event-types?limit=200")).json["items"] == listed


async def test_a_type_that_is_left_out_is_checked_all_the_same(app: App) -> None:
    left_out = {"name": "Order", "group": None, "description": None, "example": None, "is_catalogued": False}
    answer = await app.ask("PUT", "/v1/event-types", [ORDER, left_out])
    assert [error["field"] for error in answer.json["errors"]] == ["event_types.1.name"]
    answer = await app.ask("PUT", "/v1/event-types", [ORDER, left_out | {"is_catalogued": "no"}])
    assert [error["field"] for error in answer.json["errors"]] == ["event_types.1.is_catalogued"]


async def test_all_mistakes_are_told_at_once_and_nothing_is_changed(app: App) -> None:
    await put(app, ORDER)
    types = [{"name": "A"}, {"name": "a.b"}, {"name": "a.b"}, {"name": "c.d", "group": "e"}]
    answer = await app.ask("PUT", "/v1/event-types", {"event_types": types})
    assert set(answer.errors) == {
        "event_types.0.name", "event_types.1.name", "event_types.2.name", "event_types.3.group",
    }  # fmt: skip
    assert await names(app) == ["order.create"]


async def test_nested_too_deeply_or_too_many_is_refused(app: App) -> None:
    deep = '{"a":' * 300 + "1" + "}" * 300
    body = '{"event_types":[{"name":"a.b","example":{"data":' + deep + "}}]}"
    answer = await app.ask("PUT", "/v1/event-types", data=body, headers={"Content-Type": "application/json"})
    assert answer.errors == {"event_types.0.example": "is nested too deeply"}
    many = [{"name": f"a.n{n}"} for n in range(MAX_TYPES + 1)]
    answer = await app.ask("PUT", "/v1/event-types", {"event_types": many})
    assert answer.errors == {"event_types": "has too many entries, 1000 are allowed"}


async def test_a_catalogue_of_the_most_types_is_taken_and_found(app: App) -> None:
    await put(app, *({"name": f"a.n{n:04}"} for n in range(MAX_TYPES)))
    assert len(await names(app, "?limit=200")) == 200
