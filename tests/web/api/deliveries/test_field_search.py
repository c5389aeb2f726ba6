"""`?where=`: deliveries of events that have a value in their data."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from daemon.deliveries import event_search, listing
from tests.support.web.application import Answer, App
from tests.support.web.evaluator import evaluator_of
from tests.support.web.lists import all_items, publish_event

LIST = "/v1/tenants/acme/deliveries"


async def ask(app: App, **query: str) -> Answer:
    return await app.ask("GET", f"{LIST}?{urlencode(query)}")


async def found(app: App, **query: str) -> list[str]:
    """The ids of the events on all pages."""
    return [item["event"]["id"] for item in await all_items(app, LIST, **query)]


async def test_it_finds_the_deliveries_of_every_event_with_that_value(app: App) -> None:
    await app.route()
    await app.route(event_types=["order.create"])
    for number in range(12):
        await publish_event(app, number, {"public_id": f"p{number % 4}", "of": {"total": number}})
    await publish_event(app, 12, {"public_id": "p1"}, type="order.cancel")
    where = {"where": "data.object.public_id = p1"}
    assert await found(app, **where) == ["e12", "e9", "e9", "e5", "e5", "e1", "e1"]
    assert await found(app, **where, type="order.create") == ["e9", "e9", "e5", "e5", "e1", "e1"]
    assert await found(app, **where, limit="1") == ["e12", "e9", "e9", "e5", "e5", "e1", "e1"]
    assert await found(app, **where, status="delivered") == []
    recorded = [each["recorded_at"].isoformat() for each in await app.events()]
    assert await found(app, **where, since=recorded[5], until=recorded[9]) == ["e5", "e5"]
    assert await found(app, where="data.object.of.total = 7") == ["e7", "e7"]


async def test_long_payloads_are_left_to_the_evaluation_process(app: App) -> None:
    """Parsing them would hold up the event loop, in a thread too."""
    await app.route()
    await publish_event(app, 1, {"public_id": "p1"})
    assert await found(app, where="data.object.public_id = p1") == ["e1"]
    assert evaluator_of(app).turns == []
    await publish_event(app, 2, {"public_id": "p1", "fill": [1] * 50_000})
    assert await found(app, where="data.object.public_id = p1") == ["e2", "e1"]
    assert evaluator_of(app).turns == ["acme asks"]


async def test_another_tenants_events_are_never_found(app: App) -> None:
    await app.route("other")
    await app.route()
    event = {"tenant": "other", "type": "order.create", "id": "theirs", "data": {"public_id": "p1"}}
    await app.ask("POST", "/v1/events", event)
    assert await found(app, where="data.object.public_id = p1") == []


async def test_a_search_without_an_end_ends_its_page_early_and_goes_on_from_there(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(event_search, "_FIRST_SEARCHED_ROWS", 3)
    monkeypatch.setattr(event_search, "_MAX_SEARCHED_ROWS", 3)
    await app.route()
    for number in range(10):
        await publish_event(app, number, {"public_id": "there" if number == 0 else "else"})
    answer = await ask(app, where="data.object.public_id = there")
    assert answer.json["items"] == []
    assert answer.json["next"] is not None
    assert await found(app, where="data.object.public_id = there") == ["e0"]


async def test_payloads_that_postgresql_cannot_read_as_text_are_searched_too(app: App) -> None:
    await app.route()
    await publish_event(app, 1, {"note": "a\0b", "public_id": "p1"})
    assert await found(app, where="data.object.public_id = p1") == ["e1"]


@pytest.mark.parametrize(
    "where", ["", "public_id", "data.object.x", "data.object.x = a\0", "data.object.x = " + "a" * 600]
)
async def test_what_is_no_condition_is_refused(app: App, where: str) -> None:
    answer = await ask(app, where=where)
    assert answer.status == 422
    assert list(answer.errors) == ["where"]


async def test_it_is_not_combined_with_the_id_of_an_event(app: App) -> None:
    answer = await ask(app, where="data.object.x = 1", event="e1")
    assert answer.errors == {"where": "cannot be given together with event: leave one out"}
