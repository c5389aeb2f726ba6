"""The main steps with the keyboard alone: the focus is always visible, and dialogs take it and give it back."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from tests.support.browser.chromium import Visit, heading, tab_to
from tests.support.browser.live import Account, Live

IN_DIALOG = "document.activeElement.closest('dialog') !== null"


async def test_a_webhook_is_created_with_the_keyboard(visit: Visit, live: Live, tenant: str) -> None:
    page = await visit.at(f"/t/{tenant}/webhooks")
    await tab_to(page, "text=Skip to content")
    await page.keyboard.press("Enter")
    await tab_to(page, "main a.primary", most=1)
    await page.keyboard.press("Enter")
    await heading(page, "Create webhook")
    await tab_to(page, "#name")
    await page.keyboard.type("Order sync")
    await tab_to(page, "#target_url", most=1)
    await page.keyboard.type(f"{live.target}/{tenant}")
    await tab_to(page, "#find", most=1)
    await page.keyboard.type("skip")
    await page.keyboard.press("Enter")  # finds, and does not send the form
    await tab_to(page, "[value='order.skip_order']", most=4)
    await page.keyboard.press("Space")
    await tab_to(page, "[value=save]")
    await page.keyboard.press("Enter")
    await heading(page, "Webhooks")
    (made,) = (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    assert (made["status"], made["event_types"]) == ("enabled", ["order.skip_order"])


async def test_a_dialog_takes_the_focus_and_escape_gives_it_back(visit: Visit, account: Account) -> None:
    page = await visit.at(account.active.page)
    for command in ("disable", "delete"):
        opener, dialog = f"a[href$='/{command}']", page.get_by_role("dialog")
        await _open(page, opener)
        assert await page.evaluate(IN_DIALOG)
        await tab_to(page, "dialog [name=reason]")
        await tab_to(page, "dialog [data-cancel]")
        assert await page.evaluate(IN_DIALOG)
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(page.locator(opener)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(dialog).to_be_visible()
        await _press(page, "dialog [data-cancel]")
        await expect(dialog).to_have_count(0)
        await expect(page.locator(opener)).to_be_focused()


async def test_the_commands_of_a_row_are_reached_with_the_keyboard(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/webhooks")
    menu = page.locator("details.menu")
    await tab_to(page, "details.menu > summary")
    await page.keyboard.press("Enter")
    await expect(menu).to_have_attribute("open", "")
    await tab_to(page, ".menu-panel a >> nth=2", most=3)
    await page.keyboard.press("Enter")
    await expect(menu.get_by_text("Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == await webhook.key()
    await page.keyboard.press("Escape")
    await expect(menu).not_to_have_attribute("open", "")
    await expect(page.locator("details.menu > summary")).to_be_focused()
    await page.keyboard.press("Enter")
    await tab_to(page, ".menu-panel a >> nth=1", most=2)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Disable “Orders”?")).to_be_visible()


async def test_pressing_twice_opens_one_dialog(visit: Visit, account: Account) -> None:
    page = await visit.at(account.active.page)
    await page.get_by_role("link", name="Disable").dblclick()
    await page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_webhook_is_disabled_enabled_and_deleted_with_the_keyboard(
    visit: Visit, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(webhook.page)
    await _open(page, "a[href$='/disable']")
    await tab_to(page, "dialog [name=reason]")
    await page.keyboard.type("a pause")
    await _press(page, "dialog .primary")
    await expect(page.locator(".page-head .pill")).to_have_text("Disabled")
    await _press(page, "text=Enable")
    await expect(page.locator(".page-head .pill")).to_have_text("Enabled")

    await _open(page, "a[href$='/delete']")
    await tab_to(page, "dialog [name=confirmation]")
    await page.keyboard.type("delete")
    with visit.refused(422):
        await page.keyboard.press("Enter")
        await expect(page.locator(".notice-bad")).to_be_focused()
    await tab_to(page, ".notice-bad a >> nth=0", most=1)
    await page.keyboard.press("Enter")
    await expect(page.locator("#understood")).to_be_focused()
    await page.keyboard.press("Space")
    await tab_to(page, "#confirmation", most=1)
    await page.keyboard.type("DELETE")  # the present text is selected, and so replaced
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is deleted.")
    assert (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"] == []


async def test_a_delivery_is_opened_and_read_with_the_keyboard(visit: Visit, account: Account) -> None:
    page = await visit.at(f"/t/{account.tenant}/deliveries?status=failed&route={account.failing.id}")
    await _press(page, "table.deliveries a.row-link")
    await expect(page.locator("main h1")).to_contain_text("to Warehouse")
    first = page.locator("ol.timeline > li").first
    body = first.get_by_role("region", name="Response body")
    await expect(body).to_be_visible()
    await tab_to(page, "ol.timeline summary")
    await page.keyboard.press("Enter")
    await expect(body).to_be_hidden()
    await page.keyboard.press("Enter")
    await tab_to(page, "ol.timeline pre.heads")
    await tab_to(page, "ol.timeline details.curl summary")
    await page.keyboard.press("Enter")
    await expect(first.get_by_role("region", name="cURL command")).to_be_visible()


async def test_each_choice_of_a_list_is_reached_with_the_arrows(visit: Visit, account: Account) -> None:
    page = await visit.at(f"/t/{account.tenant}/deliveries")
    await tab_to(page, "#status")
    for _ in range(3):
        await page.keyboard.press("ArrowDown")
    status = page.locator("#status")
    await expect(status).to_be_focused()
    chosen = await status.input_value()
    assert chosen == await status.locator("option").nth(3).get_attribute("value")
    await tab_to(page, ".filters .button")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**status={chosen}&**")


async def test_the_slider_keeps_the_focus_while_one_goes_back_step_by_step(visit: Visit, account: Account) -> None:
    page = await visit.at(f"/t/{account.tenant}/webhooks")
    await _press(page, "details.as-of summary")
    slider = page.get_by_label("Between the first webhook and now")
    await tab_to(page, "#slider")
    requests: list[str] = []
    page.on("request", lambda request: requests.extend([request.url] if "slider=" in request.url else []))
    for steps in (3, 2):
        before = int(await slider.input_value())
        async with page.expect_navigation():
            for _ in range(steps):
                await page.keyboard.press("ArrowLeft")
        await expect(page.locator(".past")).to_be_visible()
        await expect(slider).to_be_focused()
        await expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^\d+ \w{3} 20\d\d, \d\d:\d\d:\d\d UTC$"))
        assert int(await slider.input_value()) <= before - steps  # less, as "now" has advanced
    assert len(requests) == 2


async def _open(page: Page, selector: str) -> None:
    """Opens a dialog."""
    await _press(page, selector)
    await expect(page.get_by_role("dialog")).to_be_visible()


async def _press(page: Page, selector: str) -> None:
    await tab_to(page, selector)
    await page.keyboard.press("Enter")
