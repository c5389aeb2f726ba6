"""Buttons that are clicked twice over a slow line: the server gets one request, and the person its answer."""

from __future__ import annotations

import asyncio

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading
from tests.support.browser.live import Guarded, Live

# The second click comes while the first request is on its way.
TWICE = "button => { button.click(); setTimeout(() => button.click(), 100) }"
LINE_SECONDS = 0.5


async def slow_line(page: Page, path: str) -> list[str]:
    """Lets the answers to posted forms take their time. Returns a list of what is posted."""
    posted: list[str] = []

    async def slow(route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        posted.append(route.request.url)
        answer = await route.fetch(max_redirects=0)
        await asyncio.sleep(LINE_SECONDS)
        await route.fulfill(response=answer)

    await page.route(path, slow)
    return posted


async def test_a_sign_in_link_signs_in_whoever_clicks_twice(guarded: Guarded, visiting: Visiting, tenant: str) -> None:
    merchant = await visiting(guarded.live)
    page = await merchant.at(guarded.link(tenant))
    posted = await slow_line(page, "**/login/*")
    await page.get_by_role("button", name="Sign in").evaluate(TWICE)
    await heading(page, "Webhooks")
    assert len(posted) == 1


async def test_a_token_is_made_once(visit: Visit, live: Live) -> None:
    page = await visit.at("/operator/tokens")
    posted = await slow_line(page, "**/operator/tokens")
    await page.get_by_label("Name", exact=True).fill("Clicked twice")
    await page.locator("input[value=metrics]").check()
    await page.locator("#new-token button.primary").evaluate(TWICE)
    await expect(page.locator("main")).to_contain_text("Copy the token now")
    assert len(posted) == 1
    names = [each["name"] for each in (await live.ask("GET", "/v1/tokens"))["items"]]
    assert names.count("Clicked twice") == 1


async def test_test_events_are_sent_once(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"{webhook.page}/test")
    posted = await slow_line(page, f"**{webhook.page}/test")
    await page.get_by_role("button", name="Send test events").evaluate(TWICE)
    await expect(page.locator("#arrivals tbody tr")).to_have_count(1)
    assert len(posted) == 1
    assert len(await webhook.until(1, "delivered")) == 1


async def test_another_button_of_the_form_is_not_held_up(visit: Visit, live: Live, tenant: str) -> None:
    """A person who asks for a preview, and then saves without waiting for it, saves."""
    page = await visit.at(f"/t/{tenant}/webhooks/new")
    await page.get_by_label("Name", exact=True).fill("Orders")
    await page.get_by_label("Target URL").fill(f"{live.target}/{tenant}")
    await page.locator("#all-types").check()
    await page.locator(".advanced summary").first.click()
    posted = await slow_line(page, f"**/t/{tenant}/webhooks/new*")
    await page.evaluate(
        """() => {
          document.querySelector("button[value=preview]").click()
          setTimeout(() => document.querySelector("button[value=save]").click(), 100)
        }"""
    )
    await heading(page, "Webhooks")
    assert len(posted) == 2
