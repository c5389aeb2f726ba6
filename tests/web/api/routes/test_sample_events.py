"""POST …/routes/{id}/test: what is stored for a test event, and what is refused. tests/pipeline tests the
delivery.
"""

from typing import Any
from uuid import UUID, uuid5

import pytest

from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from tests.support.web.application import Answer, App, path

EXAMPLE = '{"data":{"a":1},"context":{"b":2},"snapshot":{"c":{"d":3}}}'


async def know(app: App, *names: str) -> None:
    await catalogue.replace(app.database, [TypeRow(name=name, description="", example=EXAMPLE) for name in names])


async def tried(app: App, route: dict[str, Any], event_types: list[str] | None = None) -> Answer:
    body = {} if event_types is None else {"event_types": event_types}
    return await app.ask("POST", path(route, "/test"), body)


async def test_an_example_of_each_subscribed_type_is_stored_for_the_route(app: App) -> None:
    await know(app, "cart.create", "order.cancel", "order.create")
    route = await app.route(event_types=["order.*"], payload={"filter": "`false`"})
    answer = await tried(app, route)
    assert answer.status == 202, answer.text
    stored = await app.events()
    assert [(row["type"], row["data"], row["context"], row["snapshot"]) for row in stored] == [
        (kind, b'{"a":1}', b'{"b":2}', b'{"c":{"d":3}}') for kind in ("order.cancel", "order.create")
    ]
    assert {str(row["test_route"]) for row in stored} == {route["id"]}
    assert all(row["id"].startswith("test_") and not row["backfill"] for row in stored)
    assert answer.json == {
        "deliveries": [
            {
                "id": str(uuid5(UUID(route["id"]), f"{row['id']}\n{row['recorded_at']:%Y-%m-%d}")),
                "event": row["id"],
                "type": row["type"],
            }
            for row in stored
        ]
    }
    assert app.hurried == [None]


async def test_types_may_be_chosen_each_once(app: App) -> None:
    await know(app, "order.a", "order.b", "order.c")
    route = await app.route(event_types=["*"])
    answer = await tried(app, route, ["order.c", "order.a", "order.c"])
    assert [each["type"] for each in answer.json["deliveries"]] == ["order.c", "order.a"]


async def test_types_that_the_route_does_not_get_are_named_one_by_one(app: App) -> None:
    await know(app, "order.create", "cart.create")
    route = await app.route(event_types=["order.*"])
    answer = await tried(app, route, ["order.create", "cart.create", "order.craete"])
    assert answer.status == 422
    assert answer.errors == {
        "event_types.1": "the route does not subscribe to cart.create",
        "event_types.2": "order.craete is not in the catalogue of event types: did you mean order.create?",
    }
    assert await app.events() == []


@pytest.mark.parametrize("text", ["", "\0", "order.*", "*", "a." + "b" * 200])
async def test_what_is_no_type_is_told_so(app: App, text: str) -> None:
    await know(app, "order.create")
    answer = await tried(app, await app.route(), [text])
    assert (answer.status, list(answer.errors)) == (422, ["event_types.0"])
    assert "must be object.action" in answer.errors["event_types.0"]


async def test_a_route_without_catalogued_types_is_told_the_next_step(app: App) -> None:
    await know(app, "cart.create")
    answer = await tried(app, await app.route(event_types=["order.*"]))
    assert answer.status == 409
    assert "PUT /v1/event-types" in answer.json["detail"]


async def test_at_most_fifty_types_are_tested_at_once(app: App) -> None:
    names = [f"a.n{n:02}" for n in range(51)]
    await know(app, *names)
    route = await app.route()
    assert "subscribes to 51 types, 50 are allowed" in (await tried(app, route)).errors["event_types"]
    assert "has 51 entries, 50 are allowed" in (await tried(app, route, names)).errors["event_types"]
    assert len((await tried(app, route, names[:50])).json["deliveries"]) == 50


async def test_no_types_at_all_are_a_mistake(app: App) -> None:
    await know(app, "a.b")
    assert "is empty" in (await tried(app, await app.route(), [])).errors["event_types"]


async def test_a_disabled_route_is_not_tested(app: App) -> None:
    await know(app, "a.b")
    answer = await tried(app, await app.route(enabled=False))
    assert (answer.status, answer.json["detail"]) == (
        409,
        "the route is disabled, and nothing is sent to it: enable it, then test it",
    )


@pytest.mark.parametrize("route_id", ["00000000-0000-0000-0000-000000000000", "x"])
async def test_an_unknown_route_is_404(app: App, route_id: str) -> None:
    assert (await tried(app, {"tenant": "acme", "id": route_id})).status == 404


async def test_a_foreign_route_is_404(app: App) -> None:
    route = await app.route()
    assert (await tried(app, route | {"tenant": "globex"})).status == 404
