"""A page that loads parts of itself again leaves alone what one does there: menus, the focus, what is selected."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import NARROW, Visit
from tests.support.browser.live import Live
from tests.support.receivers.receiver import Receiver, ok


async def test_an_open_menu_stays_with_its_webhook_when_rows_come_above_it(
    visit: Visit, live: Live, tenant: str
) -> None:
    await live.webhook(tenant, "first", f"/{tenant}", ["order.*"], enabled=False)
    page = await visit.at(f"/t/{tenant}/webhooks")
    menu, rows = page.locator("details.menu[open]"), page.locator("#webhooks tbody tr")
    await page.locator("summary", has_text="Commands for first").click()
    await menu.get_by_role("button", name="Enable").focus()
    await live.webhook(tenant, "second", f"/{tenant}", ["order.*"], enabled=False)
    await expect(rows).to_have_count(2)
    await expect(menu.locator("summary")).to_have_text("Commands for first")
    await expect(page.get_by_role("row", name="first").get_by_role("button", name="Enable")).to_be_focused()


async def test_a_menu_that_goes_with_its_webhook_opens_no_other(visit: Visit, live: Live, tenant: str) -> None:
    webhooks = [await live.webhook(tenant, name, f"/{tenant}", ["order.*"]) for name in ("first", "second", "third")]
    page = await visit.at(f"/t/{tenant}/webhooks")
    await page.locator("summary", has_text="Commands for second").click()
    await webhooks[1].delete()
    await expect(page.locator("#webhooks tbody tr")).to_have_count(2)
    await expect(page.locator("details.menu[open]")).to_have_count(0)
    assert await page.evaluate("document.activeElement === document.body")


async def test_what_is_selected_or_scrolled_stays_so_while_the_page_follows(
    visiting: Visiting, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    (first,) = await webhook.happen("order.create")
    page = await (await visiting(width=NARROW)).at(webhook.page)
    await page.get_by_text("Show as a table").click()
    table, rows = page.locator(".scroll"), page.locator("#health-now .deliveries tbody tr")
    await expect(rows).to_have_count(1)
    await table.evaluate("table => { table.scrollLeft = 120 }")
    await webhook.happen("order.create")
    await expect(rows).to_have_count(2)
    assert await table.evaluate("table => table.scrollLeft") == 120

    await page.get_by_text(first).evaluate("text => getSelection().selectAllChildren(text)")
    await webhook.happen("order.create")
    await webhook.until(3, "delivered")
    await _loads_again(page)
    await expect(rows).to_have_count(2)
    assert await page.evaluate("getSelection().toString()") == first
    await page.evaluate("getSelection().empty()")
    await expect(rows).to_have_count(3)


async def test_a_log_that_is_followed_waits_for_what_is_selected(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    (first,) = await webhook.happen("order.create")
    page = await visit.at(f"/t/{tenant}/deliveries?live=1")
    await expect(page.locator("[data-live-state]")).to_have_text("Live")
    other, rows = await visit.at(f"/t/{tenant}/deliveries?live=1"), "#rows tbody tr"
    await expect(other.locator(rows)).to_have_count(1)
    await page.get_by_text(first).evaluate("text => getSelection().selectAllChildren(text)")
    await webhook.happen("order.create")
    await expect(other.locator(rows)).to_have_count(2)
    await expect(page.locator(rows)).to_have_count(1)
    assert await page.evaluate("getSelection().toString()") == first
    await page.evaluate("getSelection().empty()")
    await expect(page.locator(rows)).to_have_count(2)


async def test_a_delivery_is_followed_again_once_its_next_attempt_is_due(
    visit: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    place = f"/busy/{tenant}"
    webhook = await live.webhook(tenant, "Orders", place, ["order.*"])
    await webhook.happen("order.create")
    await webhook.until_told_to_wait()
    (delivery,) = await webhook.deliveries()
    page = await visit.context.new_page()
    await page.clock.install()
    await page.goto(f"{visit.base}/t/{tenant}/deliveries/{delivery['id']}")
    title = page.locator("#why")
    await expect(title).to_have_text("It is still to be delivered")
    there.answer[place] = ok
    await live.ask("POST", f"/v1/tenants/{tenant}/deliveries/{delivery['id']}/retry")
    await webhook.until(1, "delivered")
    await page.clock.run_for(20_000)
    await expect(title).to_have_text("It is still to be delivered")
    await page.clock.run_for(3_600_000)
    await expect(title).to_have_text("It was delivered")


async def test_a_dialog_gives_the_focus_back_to_a_link_that_was_loaded_again(
    visit: Visit, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "first", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/webhooks")
    await page.locator("summary", has_text="Commands for first").click()
    opener = page.locator("details.menu[open]").get_by_role("link", name="Disable")
    await opener.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await webhook.edit(name="second")
    await expect(page.locator("#webhooks tbody th a")).to_have_text("second")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(opener).to_be_focused()


async def _loads_again(page: Page) -> None:
    """Waits until the page has shown a part that was asked for after this began."""
    for _ in range(3):  # one that was asked for before, the next one, and one that is loaded once that is shown
        async with page.expect_response(lambda answer: answer.request.headers.get("x-fragment") == "1"):
            pass
