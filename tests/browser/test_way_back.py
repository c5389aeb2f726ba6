"""The way back to a page: it is as it is now, and what stood ticked or typed in it before is in no other's place."""

from __future__ import annotations

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
