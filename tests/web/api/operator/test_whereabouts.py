"""GET /v1/find: whose an id is, over all tenants; and the operator's page for it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest

from tests.support.rows.recorded import recorded
from tests.support.web import pages
from tests.support.web.application import App

FIND = "/v1/find?id="


async def publish(app: App, tenant: str, id: str, type: str = "order.create") -> None:
    answer = await app.ask("POST", "/v1/events", {"tenant": tenant, "type": type, "id": id, "data": {}})
    assert answer.status == 202


async def test_an_event_is_found_with_every_tenant_that_has_one_of_that_id(app: App) -> None:
    for tenant in ("acme", "globex", "initech"):
        await publish(app, tenant, "e1")
    await publish(app, "acme", "e2")
    items = (await app.ask("GET", f"{FIND}e1")).json["items"]
    assert [(each["tenant"], each["event"], each["delivery"]) for each in items] == [
        ("initech", "e1", None),
        ("globex", "e1", None),
        ("acme", "e1", None),
    ]
    assert (await app.ask("GET", f"{FIND}e3")).json == {"items": []}


async def test_a_delivery_that_was_tried_is_found_with_its_webhook(app: App) -> None:
    delivery = await recorded(app, name="Orders")
    await delivery.record(delivery.row("failed"))
    (found,) = (await app.ask("GET", f"{FIND}{delivery.id}")).json["items"]
    assert (found["tenant"], found["event"], found["delivery"], found["route"]) == ("acme", "e1", delivery.id, "Orders")
    near = f"{delivery.id[:-1]}{'0' if delivery.id[-1] != '0' else '1'}"  # the same key in the index
    assert (await app.ask("GET", FIND + near)).json == {"items": []}


@pytest.mark.parametrize("text", ["", "a" * 129])
async def test_what_cannot_be_an_id_is_refused(app: App, text: str) -> None:
    assert (await app.ask("GET", FIND + text)).status == 422


async def test_the_page_leads_to_the_only_thing_with_that_id(app: App) -> None:
    await publish(app, "acme", "a/b")
    delivery = await recorded(app)
    await delivery.record(delivery.row("failed"))
    event = await pages.get(app, f"/operator/find?id={quote(' a/b ')}")
    assert event.location.endswith("/t/acme/events/a%2Fb")
    found = await pages.get(app, f"/operator/find?id={delivery.id}")
    assert urlsplit(found.location).path == f"/t/acme/deliveries/{delivery.id}"


async def test_the_page_lists_several_and_says_if_there_is_none(app: App) -> None:
    for tenant in ("acme", "globex"):
        await publish(app, tenant, "e1")
    several = await pages.get(app, "/operator/find?id=e1")
    assert several.words("td[data-label=Tenant]") == ["globex", "acme"]
    assert [each["href"] for each in several.all("tbody a")] == ["/t/globex/events/e1", "/t/acme/events/e1"]
    for text in ("nothing", "%00", "<script>", "a" * 500):
        none = await pages.get(app, f"/operator/find?id={text}")
        assert none.words(".empty h2") == ["Nothing has this id"]
    assert (await pages.get(app, "/operator/find")).all(".empty") == []


async def test_the_status_page_has_the_search(app: App) -> None:
    page = await pages.get(app, "/operator/status")
    assert page.one("form[role=search]")["action"] == "/operator/find"
