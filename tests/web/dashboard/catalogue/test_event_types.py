"""The catalogue as merchants read it."""

from __future__ import annotations

import json

from daemon.core.drafts.login_link_draft import DashboardRole, LoginLinkDraft
from daemon.core.events.catalogue import TypeDraft
from tests.support.web.application import App
from tests.support.web.pages import get, get_all
from tests.support.web.sessions import browser

LIST = "/t/acme/event-types"
EXAMPLE = {
    "data": {"public_id": "7dc6", "lines": [{"sku": "a", "price": 1.5}]},
    "snapshot": {"customer": {"name": "Ada"}},
}


async def add(app: App, *names: str, description: str = "An order is <placed>.") -> None:
    types = [TypeDraft(name=name, description=description, example=EXAMPLE) for name in names]
    await app.services.catalogue.replace(types)


async def test_types_are_listed_by_group_with_their_descriptions(app: App) -> None:
    await add(app, "order.create", "cart.create", "order.cancel")
    for headers in (await browser(app, "acme"), await browser(app, "acme", LoginLinkDraft(role=DashboardRole.VIEW))):
        page = await get(app, LIST, headers=headers)
        assert page.words("main h2") == ["cart", "order"]
        assert page.words(".type-rows code") == ["cart.create", "order.cancel", "order.create"]
        assert "An order is <placed>." in page.text
        assert page.words(".main-nav [aria-current]") == ["Event types"]


async def test_a_type_has_an_example_and_a_schema_that_fits_it(app: App) -> None:
    await add(app, "order.create")
    await app.route(name="Orders", event_types=["order.*"])
    await app.route(name="Carts", event_types=["cart.create"])
    await app.route("globex", name="Theirs", event_types=["*"])
    page = await get(app, f"{LIST}/order.create", headers=await browser(app, "acme"))
    example, schema = (json.loads(each.get_text()) for each in page.all("pre"))
    assert (example["type"], example["data"]["object"]) == ("order.create", EXAMPLE["data"])
    assert example["snapshot"] == EXAMPLE["snapshot"]
    lines = schema["properties"]["data"]["properties"]["object"]["properties"]["lines"]
    assert lines["items"]["properties"] == {"sku": {"type": "string"}, "price": {"type": "number"}}
    assert page.words(".facts a") == ["Orders"]


async def test_types_are_found_by_a_part_of_their_name_or_description(app: App) -> None:
    await add(app, "order.create", "cart.create")
    assert (await get(app, f"{LIST}?q=ORDER.c")).words(".type-rows code") == ["order.create"]
    assert (await get(app, f"{LIST}?q=Placed")).words(".type-rows code") == ["cart.create", "order.create"]
    assert (await get(app, f"{LIST}?q=nothing")).words(".empty h2") == ["No type fits"]


async def test_a_large_catalogue_has_pages(app: App) -> None:
    names = [f"order.type_{number:03}" for number in range(250)]
    await add(app, *names, description="x" * 1000)
    pages = await get_all(app, LIST)
    assert [name for page in pages for name in page.words(".type-rows code")] == names
    assert max(len(page.html.encode()) for page in pages) < 100_000


async def test_a_large_example_is_shown_in_part(app: App) -> None:
    example = {"data": {f"member_{number}": "<&>" * 20 for number in range(800)}}
    await app.services.catalogue.replace([TypeDraft(name="order.create", example=example)])
    page = await get(app, f"{LIST}/order.create")
    assert "This is its beginning." in page.text
    assert len(page.html.encode()) < 100_000


async def test_what_is_not_in_the_catalogue_is_no_page(app: App) -> None:
    assert (await get(app, LIST)).words(".empty h2") == ["No event types are listed"]
    assert (await get(app, f"{LIST}/order.create")).status == 404
    for name in ("%3Cb%3E", "%00", "order%00create"):
        assert (await get(app, f"{LIST}/{name}")).status == 404, name
