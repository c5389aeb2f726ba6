"""Pages on paper: no navigation and no commands, lists as tables, and times that are still true when they are read."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.test_screens import SCREENS
from tests.support.browser.chromium import HEIGHT, Visit, sideways
from tests.support.browser.live import Account

# A4 without its margins.
PAPER = 718


@pytest.mark.parametrize("screen", ["webhooks", "webhook that fails", "deliveries", "delivery that failed", "status"])
async def test_a_printed_page_has_what_is_read_and_nothing_to_press(
    onlooker: Visit, account: Account, screen: str
) -> None:
    page = await onlooker.at(SCREENS[screen](account))
    await page.emulate_media(media="print", color_scheme="dark")
    await page.set_viewport_size({"width": PAPER, "height": HEIGHT})
    await expect(page.locator("h1")).to_be_visible()
    for unwanted in (".main-nav", ".button", ".filters", ".search", ".menu", "input", "select"):
        await expect(page.locator(f"{unwanted}:visible")).to_have_count(0)
    rows = page.locator("main table.list tbody tr:visible")
    assert set(await rows.evaluate_all("rows => rows.map((row) => getComputedStyle(row).display)")) <= {"table-row"}
    assert await sideways(page, PAPER) == []
    assert await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


async def test_an_age_is_printed_as_the_moment(onlooker: Visit, account: Account) -> None:
    page = await onlooker.at(f"/t/{account.tenant}/deliveries")
    time = page.locator(".deliveries tbody time[data-ago]").first
    printed = "it => [getComputedStyle(it).fontSize, getComputedStyle(it, '::after').content]"
    await page.emulate_media(media="print")
    size, content = await time.evaluate(printed)
    assert (size, content) == ("0px", f'"{await time.get_attribute("title")}"')
