"""`events.strict_types`: a type that is not in the catalogue cannot be published, nor subscribed to by name."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.connect import Database
from tests.support.web.application import TARGET, App, app, path


@pytest_asyncio.fixture(name="strict", loop_scope="session")
async def _strict(empty_url: str) -> AsyncIterator[App]:
    async with app(empty_url, events__strict_types="true") as opened:
        yield opened


async def know(opened: App, *names: str) -> None:
    await catalogue.replace(opened.database, [TypeRow(name=name, description="", example="{}") for name in names])


def event(kind: str) -> dict[str, object]:
    return {"tenant": "acme", "type": kind, "data": {}}


async def test_a_type_of_the_catalogue_is_published(strict: App) -> None:
    await know(strict, "order.create")
    assert (await strict.ask("POST", "/v1/events", event("order.create"))).status == 202


async def test_another_type_is_refused_with_a_guess_at_what_was_meant(strict: App) -> None:
    await know(strict, "order.create", "order.cancel")
    answer = await strict.ask("POST", "/v1/events", event("order.craete"))
    assert answer.status == 422
    assert answer.errors == {"type": "order.craete is not in the catalogue of event types: did you mean order.create?"}
    assert await strict.events() == []


async def test_with_an_empty_catalogue_the_next_step_is_told(strict: App) -> None:
    answer = await strict.ask("POST", "/v1/events", event("order.create"))
    assert "which is empty: load one with hookledger event-types load" in answer.errors["type"]


async def test_an_unknown_type_is_told_with_the_other_mistakes(strict: App) -> None:
    await know(strict, "order.create")
    answer = await strict.ask("POST", "/v1/events", event("cart.create") | {"id": ""})
    assert set(answer.errors) == {"type", "id"}


async def test_of_a_batch_only_the_unknown_types_are_rejected(strict: App) -> None:
    await know(strict, "order.create")
    lines = b"\n".join(orjson.dumps(event(kind)) for kind in ("order.create", "order.crate", "order.create"))
    answer = await strict.ask("POST", "/v1/events", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (202, 2, 1)
    (bad,) = (each for each in answer.json["events"] if each["status"] == "rejected")
    assert bad["line"] == 2
    assert "did you mean order.create?" in bad["errors"][0]["message"]


async def test_types_that_are_not_strict_need_no_catalogue(app: App) -> None:
    assert (await app.ask("POST", "/v1/events", event("made.up"))).status == 202


async def test_a_route_names_only_known_types_but_any_group(strict: App) -> None:
    await know(strict, "order.create")
    route = {"name": "a", "target_url": TARGET, "event_types": ["order.create", "cart.*", "*"]}
    assert (await strict.ask("POST", "/v1/tenants/acme/routes", route)).status == 201
    answer = await strict.ask("POST", "/v1/tenants/acme/routes", route | {"event_types": ["order.*", "order.crate"]})
    assert answer.status == 422
    assert answer.errors == {
        "event_types": "order.crate is not in the catalogue of event types: did you mean order.create?"
    }


async def test_what_a_route_has_already_does_not_stand_in_the_way_of_an_edit(empty_url: str, strict: App) -> None:
    async with app(empty_url) as lenient:
        route = await lenient.route(event_types=["made.up"])
    await strict.projection.catch_up()
    answer = await strict.ask("PATCH", path(route), {"name": "b", "event_types": ["made.up", "order.*"]})
    assert answer.status == 200, answer.text
    answer = await strict.ask("PATCH", path(route), {"event_types": ["made.up", "made.upper"]})
    assert list(answer.errors) == ["event_types"]


async def test_a_type_that_is_put_is_known_at_once_where_it_was_put(strict: App) -> None:
    assert (await strict.ask("POST", "/v1/events", event("order.create"))).status == 422
    answer = await strict.ask("PUT", "/v1/event-types", {"event_types": [{"name": "order.create"}]})
    assert answer.status == 200
    assert (await strict.ask("POST", "/v1/events", event("order.create"))).status == 202


async def test_what_others_put_is_known_a_second_later(strict: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await strict.ask("POST", "/v1/events", event("order.create"))).status == 422
    await know(strict, "order.create")
    monkeypatch.setattr("daemon.catalogue.FRESH_SECONDS", 0.0)
    assert (await strict.ask("POST", "/v1/events", event("order.create"))).status == 202


async def test_the_catalogue_is_read_once_for_many_events(strict: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await know(strict, "order.create")
    read, names = 0, catalogue.names

    async def counted(database: Database) -> list[str]:
        nonlocal read
        read += 1
        return await names(database)

    monkeypatch.setattr(catalogue, "names", counted)
    monkeypatch.setattr("daemon.catalogue.FRESH_SECONDS", 60.0)
    answers = await asyncio.gather(*(strict.ask("POST", "/v1/events", event("order.create")) for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert read == 1
