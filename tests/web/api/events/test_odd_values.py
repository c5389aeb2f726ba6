"""An event with numbers and texts that few programs read: every place that shows it shows it as it was published."""

from __future__ import annotations

from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from eventstore.domain_events import ticks
from tests.support.web import pages
from tests.support.web.application import App, path

ODD = (
    '{"e":1E400,"far":1e99999999999999999999,"zero":-0,"big":123456789012345678901234567890,"price":19.90,'
    '"cut":"\\ud83d","\\udc00":"\\u00e9\\/","twice":1,"twice":2}'
)


async def published(app: App) -> dict[str, object]:
    route = await app.route(payload={"transform": "{p: data.object.price, c: data.object.cut}"})
    line = f'{{"tenant":"acme","type":"order.create","id":"odd","data":{ODD},"context":{ODD},"snapshot":{{"s":{ODD}}}}}'
    answer = await app.ask("POST", "/v1/events", data=line.encode(), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    await ticks.make(app.database)
    return route


async def test_the_api_shows_it_to_the_byte(app: App) -> None:
    await published(app)
    async with app.client.get("/v1/tenants/acme/events/odd") as answer:
        assert (await answer.text()).count(ODD) == 3


@pytest.mark.parametrize(
    "place", ["events/odd", "events", "deliveries", "activity", "webhooks/{route}", "webhooks/{route}/edit"]
)
async def test_no_page_fails_of_it(app: App, place: str) -> None:
    route = await published(app)
    page = await pages.get(app, "/t/acme/" + place.format(route=route["id"]))
    assert page.status == 200
    if place == "events/odd":
        assert '"price": 19.90' in page.text
        assert '"e": 1E400' in page.text
        assert r'"cut": "\ud83d"' in page.text


async def test_its_delivery_is_found_and_explained(app: App) -> None:
    route = await published(app)
    stored = (await app.events())[0]
    which = delivery_id(UUID(str(route["id"])), "odd", stored["recorded_at"])
    for query in ("", "?event=odd"):
        assert (await app.ask("GET", f"/v1/tenants/acme/deliveries/{which}{query}")).json["status"] == "pending"
        assert (await pages.get(app, f"/t/acme/deliveries/{which}{query}")).status == 200
    assert (await app.ask("GET", "/v1/tenants/acme/explain?event=odd")).json["items"][0]["decision"] == "pending"


async def test_a_preview_with_it_shows_what_would_be_sent(app: App) -> None:
    await published(app)
    event = f'{{"type":"order.create","data":{ODD}}}'
    draft = '{"payload":{"transform":"{p: data.object.price, c: data.object.cut, e: data.object.e}"}}'
    body = f'{{"route":{draft},"event":{event}}}'.encode()
    json_type = {"Content-Type": "application/json"}
    async with app.client.post("/v1/tenants/acme/preview", data=body, headers=json_type) as answer:
        shown = await answer.text()
    assert answer.status == 200, shown
    assert '"body":{"p":19.90,"c":"\\ud83d","e":1E400}' in shown


async def test_a_route_is_no_place_for_such_values(app: App) -> None:
    made = await app.route()
    for body in (b'{"name":"\\ud83d"}', b'{"rate_limit_per_second":1E400}', b'{"payload":{"filter":"\\ud83d"}}'):
        answer = await app.ask("PATCH", path(made), data=body, headers={"Content-Type": "application/json"})
        assert answer.status in (400, 422)
