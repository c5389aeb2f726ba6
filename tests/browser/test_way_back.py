"""The way back to a page: it is as it is now, and what stood ticked or typed in it before is in no other's place."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading
from tests.support.browser.live import Live

# A browser that has no scripts restores the fields of a page all the same.
with_and_without_scripts = pytest.mark.parametrize("scripts", [True, False])


@with_and_without_scripts
async def test_a_tick_is_not_that_of_a_delivery_which_came_meanwhile(
    visiting: Visiting, live: Live, tenant: str, scripts: bool
) -> None:
    webhook = await live.webhook(tenant, "Refusing", "/fail/now", ["order.create"])
    await webhook.happen("order.create", "order.create")
    await webhook.until(2, "failed")
    page = await (await visiting(scripts=scripts)).at(f"/t/{tenant}/deliveries?status=failed")
    await page.locator("tbody input[name=delivery]").first.check()
    await page.locator("tbody a.whole-row").nth(1).click()
    await heading(page, "order.create to Refusing")
    await webhook.happen("order.create")
    await webhook.until(3, "failed")
    await _back(page)
    await expect(page.locator("tbody input[name=delivery]")).to_have_count(3)
    await expect(page.locator("tbody input[name=delivery]:checked")).to_have_count(0)


@with_and_without_scripts
async def test_saving_after_the_way_back_undoes_nothing_that_somebody_else_saved(
    visiting: Visiting, live: Live, tenant: str, scripts: bool
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    page = await (await visiting(scripts=scripts)).at(f"{webhook.page}/edit")
    await page.get_by_role("link", name="Cancel").click()
    await heading(page, "Orders")
    await webhook.edit(event_types=["order.create", "order.cancel"], ordered=True)
    await _back(page)
    await page.get_by_label("Name", exact=True).fill("Orders of the north")
    await page.get_by_role("button", name="Save changes").click()
    await heading(page, "Webhooks")
    route = await webhook.told()
    assert route["name"] == "Orders of the north"
    assert (route["event_types"], route["ordered"]) == (["order.create", "order.cancel"], True)


async def test_what_was_typed_is_there_on_the_way_back_but_for_secrets(visit: Visit, live: Live, tenant: str) -> None:
    page = await visit.at(f"/t/{tenant}/webhooks/new")
    name, types = page.get_by_label("Name", exact=True), page.locator("#types")
    await name.fill("Typed")
    await page.get_by_label("Target URL").fill(f"{live.target}/{tenant}")
    await types.get_by_label("order.cancel").check()
    await page.get_by_text("Advanced settings").click()
    await page.get_by_label("Custom headers").fill("X-Api-Token: secret")
    await page.get_by_text("or with an event of your own").click()
    await page.get_by_label("Event as JSON").fill('{"type": "a.b", "data": {"name": "secret too"}}')
    await page.get_by_label("Filter").fill("data.object.total")
    await _kept(page, "data.object.total")
    assert "secret" not in await page.evaluate("JSON.stringify(history.state)")
    await page.get_by_role("link", name="Cancel").click()
    await heading(page, "Webhooks")
    await _back(page)
    await expect(name).to_have_value("Typed")
    await expect(page.get_by_label("Target URL")).to_have_value(f"{live.target}/{tenant}")
    await expect(types.get_by_label("order.cancel")).to_be_checked()
    await expect(page.locator(".picker-head strong")).to_have_text("1 of 33")
    await expect(page.get_by_label("Filter")).to_have_value("data.object.total")
    await expect(page.get_by_label("Custom headers")).to_have_value("")

    for _ in range(2):
        await page.get_by_role("button", name="Create webhook").click()
        await heading(page, "Webhooks")
        await _back(page)
    assert len((await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]) == 1


async def test_what_was_typed_before_somebody_else_saved_is_merged_with_that(
    visit: Visit, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    page = await visit.at(f"{webhook.page}/edit")
    name = page.get_by_label("Name", exact=True)
    await name.fill("Orders of the north")  # and leaves at once
    await page.get_by_role("link", name="Cancel").click()
    await heading(page, "Orders")
    await webhook.edit(name="Orders of the south", ordered=True)
    await _back(page)
    await expect(name).to_have_value("Orders of the north")
    with visit.refused(409):
        await page.get_by_role("button", name="Save changes").click()
        await expect(page.locator(".meanwhile")).to_contain_text("You both changed Name: look there.")
    await page.get_by_role("button", name="Save anyway").click()
    await heading(page, "Webhooks")
    route = await webhook.told()
    assert (route["name"], route["ordered"]) == ("Orders of the north", True)


async def test_one_who_saved_is_not_somebody_else_on_the_way_back(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    page = await visit.at(f"{webhook.page}/edit")
    for name in ("Orders of the north", "Orders of the south"):
        await page.get_by_label("Name", exact=True).fill(name)
        await page.get_by_role("button", name="Save changes").click()
        await heading(page, "Webhooks")
        await _back(page)
        await expect(page.get_by_label("Name", exact=True)).to_have_value(name)
    assert (await webhook.told())["name"] == "Orders of the south"


async def test_the_filter_says_what_the_list_is(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    page = await visit.at(f"/t/{tenant}/deliveries")
    await page.get_by_label("Status", exact=True).select_option("failed")
    await expect(page.locator(".chip")).to_contain_text("Status failed")
    await _back(page)
    await expect(page.locator(".chip")).to_have_count(0)
    await expect(page.get_by_label("Status", exact=True)).to_have_value("")


async def test_an_event_type_is_saved_as_it_is_seen(visit: Visit, live: Live) -> None:
    page = await visit.at("/operator/event-types/order.create")
    description = page.get_by_label("Description")
    stored = await description.input_value()
    await description.fill("Typed before somebody else saved")
    await page.get_by_role("link", name="Tokens").click()
    await heading(page, "Tokens")
    await _back(page)
    await expect(description).to_have_value(stored)


async def _back(page: Page) -> None:
    """By the browser's button, to a page that is loaded again."""
    await page.go_back(wait_until="load")


async def _kept(page: Page, text: str) -> None:
    """Waits until that text is kept with the page, which is a moment after it was typed."""
    async with asyncio.timeout(60):
        while text not in await page.evaluate("JSON.stringify(history.state ?? '')"):
            await asyncio.sleep(0.02)
