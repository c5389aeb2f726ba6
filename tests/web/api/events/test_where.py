"""`?where=`: events that have a value in their data, whether a webhook got them or not."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from daemon.deliveries import event_search
from daemon.web.service.events import event_pages
from tests.support.web import pages
from tests.support.web.application import Answer, App
from tests.support.web.evaluator import evaluator_of
from tests.support.web.lists import all_items, publish_event

LIST = "/v1/tenants/acme/events"
P1 = "data.object.public_id = p1"


async def ask(app: App, **query: str) -> Answer:
    return await app.ask("GET", f"{LIST}?{urlencode(query)}")


async def found(app: App, **query: str) -> list[str]:
    """The ids of the events on all pages."""
    return [item["id"] for item in await all_items(app, LIST, **query)]


async def test_it_finds_events_that_no_webhook_got_too(app: App) -> None:
    for number in range(8):
        await publish_event(app, number, {"public_id": f"p{number % 4}", "of": {"total": number}})
    await publish_event(app, 8, {"public_id": "p1"}, type="order.cancel")
    await app.ask("POST", "/v1/events", {"tenant": "other", "type": "order.create", "data": {"public_id": "p1"}})
    for limit in ("1", "2", "200"):
        assert await found(app, where=P1, limit=limit) == ["e8", "e5", "e1"]
        assert await found(app, where=P1, type="order.create", limit=limit) == ["e5", "e1"]
    assert await found(app, where="data.object.of.total = 7") == ["e7"]
    recorded = [each["recorded_at"].isoformat() for each in await app.events()]
    assert await found(app, where=P1, since=recorded[2], until=recorded[8]) == ["e5"]


async def test_an_export_has_what_the_list_has(app: App) -> None:
    for number in range(6):
        await publish_event(app, number, {"public_id": f"p{number % 2}"})
    answer = await app.ask("GET", f"{LIST}?{urlencode({'where': P1, 'export': 'csv'})}")
    assert [line.split(",")[0] for line in answer.text.split()] == ["id", "e5", "e3", "e1"]


async def test_long_payloads_are_left_to_the_evaluation_process(app: App) -> None:
    await publish_event(app, 1, {"public_id": "p1", "fill": [1] * 50_000})
    assert await found(app, where=P1) == ["e1"]
    assert evaluator_of(app).turns == ["acme asks"]


async def test_a_search_without_an_end_ends_its_page_early_and_goes_on_from_there(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_pages, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(event_search, "_FIRST_SEARCHED_ROWS", 3)
    monkeypatch.setattr(event_search, "_MAX_SEARCHED_ROWS", 3)
    for number in range(10):
        await publish_event(app, number, {"public_id": "p1" if number == 0 else "else"})
    answer = await ask(app, where=P1)
    assert answer.json["items"] == []
    assert answer.json["next"] is not None
    assert await found(app, where=P1) == ["e0"]
    page = await pages.get(app, f"/t/acme/events?{urlencode({'where': P1})}")
    assert page.words(".empty h2") == ["Still looking"]
    assert page.words(".pager a") == ["Look further"]


@pytest.mark.parametrize("where", ["", "public_id", "data.object.x", "data.object.x = " + "a" * 600])
async def test_what_is_no_condition_is_refused(app: App, where: str) -> None:
    answer = await ask(app, where=where)
    assert (answer.status, list(answer.errors)) == (422, ["where"])


async def test_whoever_knows_an_order_alone_learns_why_no_webhook_came(app: App) -> None:
    """From the log of deliveries, which has none, to the event, and to the reason."""
    route = await app.route(name="Orders", event_types=["order.*"])
    await app.ask("POST", f"/v1/tenants/acme/routes/{route['id']}/disable", {})
    await publish_event(app, 1, {"public_id": "p1"})
    await publish_event(app, 2, {"public_id": "p2"})
    await publish_event(app, 3, {"public_id": "p1"}, type="shop.open")
    asked = {"route": route["id"], "status": "failed", "where": P1}
    log = await pages.get(app, f"/t/acme/deliveries?{urlencode(asked)}")
    assert log.words(".empty h2") == ["No delivery fits"]
    events = await pages.get(app, str(log.one(".empty a")["href"]))
    assert events.words("tbody .row-id") == ["e1"]
    assert events.words(".chip") == ["Webhook Orders ×, remove this filter", f"{P1} ×, remove this filter"]
    assert events.one("#where")["value"] == P1
    everything = await pages.get(app, f"/t/acme/events?{urlencode({'where': P1})}")
    assert everything.words("tbody .row-id") == ["e3", "e1"]
    assert "where=data.object.public_id" in str(everything.all(".exports a")[0]["href"])
    wrong = await pages.get(app, "/t/acme/events?where=p1")
    assert (wrong.status, wrong.words("#where-wrong")) == (
        422,
        ["Must name a field and its value, like data.object.public_id = 7dc6."],
    )
