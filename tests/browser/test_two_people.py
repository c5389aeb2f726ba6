"""Two people at once: edits of the same webhook are not lost, and a log that is followed shows new deliveries."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading
from tests.support.browser.live import Live


async def test_the_second_sees_what_the_first_changed_and_both_are_kept(
    visiting: Visiting, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    first, second = await visiting(), await visiting()
    one, other = await first.at(f"{webhook.page}/edit"), await second.at(f"{webhook.page}/edit")
    await one.get_by_label("Name", exact=True).fill("Orders of the north")
    await _save(one, "Save changes")
    await _saved(one, "Orders of the north")

    await other.get_by_label("order.cancel").check()
    await other.get_by_text("Advanced settings").click()
    await other.get_by_label("Rate limit").fill("5")
    with second.refused(409):
        await _save(other, "Save changes")
        meanwhile = other.locator(".meanwhile")
        await expect(meanwhile).to_contain_text("Somebody else changed this webhook meanwhile.")
    await expect(meanwhile).to_be_focused()
    await expect(meanwhile.locator("del")).to_contain_text("Orders")
    await expect(meanwhile.locator("ins")).to_contain_text("Orders of the north")
    await expect(meanwhile).to_contain_text("You changed different things: saving again keeps both.")
    await expect(other.get_by_label("Name", exact=True)).to_have_value("Orders of the north")
    await expect(other.get_by_label("order.cancel")).to_be_checked()
    await expect(other.get_by_label("Rate limit")).to_have_value("5")
    assert (await webhook.told())["event_types"] == ["order.create"]

    await _save(other, "Save again")
    await _saved(other, "Orders of the north")
    route = await webhook.told()
    assert (route["name"], route["event_types"]) == ("Orders of the north", ["order.cancel", "order.create"])
    assert route["rate_limit_per_second"] == 5


async def test_people_who_changed_the_same_field_see_it_and_decide(visiting: Visiting, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    first, second = await visiting(), await visiting()
    one, other = await first.at(f"{webhook.page}/edit"), await second.at(f"{webhook.page}/edit")
    await one.get_by_label("Name", exact=True).fill("Orders of the north")
    await _save(one, "Save changes")
    await _saved(one, "Orders of the north")

    await other.get_by_label("Name", exact=True).fill("Orders of the south")
    with second.refused(409):
        await _save(other, "Save changes")
        await expect(other.locator(".meanwhile")).to_contain_text("You both changed Name: look there.")
    await expect(other.get_by_label("Name", exact=True)).to_have_value("Orders of the south")
    await _save(other, "Save anyway")
    await _saved(other, "Orders of the south")
    assert (await webhook.told())["name"] == "Orders of the south"


async def test_a_delivery_that_happens_while_the_log_is_followed_appears_by_itself(
    visit: Visit, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/deliveries")
    await page.get_by_role("link", name="Follow live").click()
    await expect(page.locator(".page-head .pill")).to_have_text("Live")
    rows = page.locator("#rows tbody tr")
    await expect(rows).to_have_count(0)
    await webhook.happen("order.create")
    await expect(rows).to_have_count(1)
    await rows.get_by_role("link", name=re.compile("order.create")).focus()
    await webhook.happen("order.cancel")
    await expect(rows.locator("th a")).to_have_text([re.compile("^order.cancel"), re.compile("^order.create")])
    await expect(rows.locator(".pill")).to_have_text(["Delivered", "Delivered"])
    await expect(rows.get_by_role("link", name=re.compile("order.create"))).to_be_focused()
    await page.keyboard.press("Enter")
    await heading(page, "order.create to Orders")


async def _saved(page: Page, name: str) -> None:
    """Waits for the list, where the webhook that was saved is marked."""
    await heading(page, "Webhooks")
    await expect(page.locator("tr.saved th a")).to_have_text(name)


async def _save(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).click()
