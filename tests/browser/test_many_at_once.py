"""Many deliveries at once: dense rows, those that are chosen, all that match, and the way through the pages."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading, sideways, tab_to, violations
from tests.support.browser.live import Account, Live

MAX_ROW_PX = 44


async def test_a_row_is_low_and_all_of_it_leads_to_its_delivery(onlooker: Visit, account: Account) -> None:
    page = await onlooker.at(f"/t/{account.tenant}/deliveries")
    rows = page.locator(".deliveries tbody tr")
    heights = await rows.evaluate_all("rows => rows.map((row) => row.getBoundingClientRect().height)")
    assert len(heights) == 50
    assert max(heights) <= MAX_ROW_PX
    box = await rows.first.bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    await expect(page).to_have_url(re.compile(r"/deliveries/[0-9a-f-]{36}\?event="))


@pytest.mark.parametrize("scripts", [True, False])
async def test_the_chosen_ones_are_sent_again_with_and_without_scripts(
    live: Live, tenant: str, visiting: Visiting, scripts: bool
) -> None:
    webhook = await live.webhook(tenant, "Refusing", "/fail/now", ["order.create"])
    await webhook.happen("order.create", "order.create", "order.create")
    await webhook.until(3, "failed")
    page = await (await visiting(scripts=scripts)).at(f"/t/{tenant}/deliveries?status=failed")
    assert await page.locator("[data-choose-all]").is_visible() is scripts
    first, second = (page.locator("tbody input[name=delivery]").nth(number) for number in range(2))
    if scripts:
        await tab_to(page, "tbody input[name=delivery]")
        await page.keyboard.press("Space")
    else:
        await first.check()
    await second.check()
    await page.get_by_role("button", name="Retry chosen").click()
    await heading(page, "2 deliveries are sent again")
    if scripts:
        assert await violations(page) == []


async def test_all_that_match_are_sent_again_once_the_count_is_confirmed(live: Live, tenant: str, visit: Visit) -> None:
    webhook = await live.webhook(tenant, "Refusing", "/fail/now", ["order.create"])
    await webhook.happen("order.create", "order.create", "order.create")
    await webhook.until(3, "failed")
    page = await visit.at(f"/t/{tenant}/deliveries?status=failed")
    await page.get_by_role("button", name="Retry all that match (3)").click()
    await heading(page, "Send 3 deliveries again?")
    assert await violations(page) == []
    assert await sideways(page, 320) == []
    await page.get_by_role("button", name="Send 3 again").click()
    await expect(page).to_have_url(re.compile(r"/replays/"))
    await expect(page.locator("main")).to_contain_text("3 of 3")


async def test_the_head_of_the_list_chooses_the_whole_page(onlooker: Visit, account: Account) -> None:
    page = await onlooker.at(f"/t/{account.tenant}/deliveries")
    every, rows = page.locator("[data-choose-all]"), page.locator("tbody input[name=delivery]")
    await every.check()
    assert await rows.evaluate_all("boxes => boxes.every((box) => box.checked)")
    await rows.first.uncheck()
    assert await every.evaluate("box => box.indeterminate && !box.checked")
    await every.check()
    await every.uncheck()
    assert await rows.evaluate_all("boxes => boxes.every((box) => !box.checked)")


async def test_one_goes_to_the_next_page_and_back(onlooker: Visit, account: Account) -> None:
    page = await onlooker.at(f"/t/{account.tenant}/deliveries")
    first = await page.locator(".row-id").all_inner_texts()
    await page.get_by_role("link", name="Next page").click()
    await expect(page.locator(".row-id").first).not_to_have_text(first[0])
    await page.get_by_role("link", name="Previous page").click()
    await expect(page.locator(".row-id")).to_have_text(first)


async def test_a_delivery_is_found_by_a_value_of_its_event(live: Live, tenant: str, visit: Visit) -> None:
    await live.webhook(tenant, "Orders", "/", ["order.create"])
    events = [{"type": "order.create", "id": f"e{n}", "data": {"public_id": f"p{n}"}} for n in range(3)]
    await live.publish(tenant, events)
    page = await visit.at(f"/t/{tenant}/deliveries")
    await page.locator("form.filters summary").click()
    await page.get_by_label("Field of the data").fill("data.object.public_id = p1")
    await page.keyboard.press("Enter")
    await expect(page.locator(".row-id")).to_have_text(["e1"])
    await expect(page.locator(".chip")).to_contain_text("data.object.public_id = p1")
