"""A page that can no longer be brought up to date says so, and since when, until it is up to date again."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Route, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading, sideways, violations
from tests.support.browser.live import Guarded, Live

# A moment as pages write it.
MOMENT = r"\d+ \w{3} \d{4}, \d\d:\d\d:\d\d UTC"
# A page waits ten seconds for an answer, and loads itself every three.
LATE_MS = 13_000


async def test_a_list_whose_server_is_away_says_of_when_it_is(visit: Visit, live: Live, tenant: str) -> None:
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/webhooks")
    await expect(page.locator("#stale")).to_be_hidden()

    async def away(route: Route) -> None:
        await route.abort("aborted")

    await visit.context.route(f"**/t/{tenant}/webhooks*", away)
    await expect(page.locator("#stale")).to_have_text(
        re.compile(rf"^The server does not answer: what you see is of {MOMENT}\. It is asked again and again\.$")
    )
    assert await violations(page) == []
    assert await sideways(page, 320) == []
    await visit.context.unroute(f"**/t/{tenant}/webhooks*")
    await expect(page.locator("#stale")).to_be_hidden()


async def test_a_page_that_gets_no_answer_at_all_says_so(visit: Visit, live: Live, tenant: str) -> None:
    """A connection that is open, and silent, as that of a process that is frozen."""
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(webhook.page)
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await visit.context.route(f"**{webhook.page}", hold)
    await expect(page.locator("#stale")).to_contain_text("The server does not answer", timeout=4 * LATE_MS)
    await visit.context.unroute(f"**{webhook.page}")
    await expect(page.locator("#stale")).to_be_hidden(timeout=LATE_MS)
    assert held


async def test_a_page_whose_session_has_ended_says_so_by_itself(
    guarded: Guarded, visiting: Visiting, tenant: str
) -> None:
    await guarded.live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    merchant = await visiting(guarded.live)
    page = await guarded.signed_in(merchant, tenant)
    await heading(page, "Webhooks")
    with merchant.refused(401):
        await merchant.context.clear_cookies()
        await expect(page.locator("#stale")).to_have_text(
            re.compile(rf"^Your session has ended: what you see is of {MOMENT}\. Reload the page to go on\.$")
        )
        assert await violations(page) == []
        await page.get_by_role("link", name="Reload the page").click()
        await heading(page, "Please sign in")


async def test_a_webhook_that_somebody_changed_meanwhile_says_so(visit: Visit, live: Live, tenant: str) -> None:
    """Its state is shown at once; its settings and buttons are those of the page as it was loaded."""
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(webhook.page)
    await expect(page.locator("#stale")).to_be_hidden()
    await webhook.command("disable")
    await expect(page.locator(".page-head .pill")).to_have_text("Disabled")
    await expect(page.locator("#stale")).to_have_text(
        "It was changed meanwhile. Reload the page to see all of it as it is now."
    )
    await page.get_by_role("link", name="Reload the page").click()
    await expect(page.get_by_role("button", name="Enable")).to_be_visible()
    await expect(page.locator("#stale")).to_be_hidden()


async def test_the_numbers_of_a_list_change_with_its_rows(visit: Visit, live: Live, tenant: str) -> None:
    webhooks = [await live.webhook(tenant, name, f"/{tenant}", ["order.*"]) for name in ("one", "two")]
    page = await visit.at(f"/t/{tenant}/webhooks")
    options = page.locator("#status option")
    await expect(options).to_have_text(["All (2)", "Enabled (2)", "Disabled (0)", "Failing (0)"])
    await webhooks[0].command("disable")
    await expect(options).to_have_text(["All (2)", "Enabled (1)", "Disabled (1)", "Failing (0)"])
    await webhooks[1].delete()
    await expect(options).to_have_text(["All (1)", "Enabled (0)", "Disabled (1)", "Failing (0)"])
    await expect(page.locator("#webhook-rows")).to_contain_text("1 webhook · 1 deleted")
    page = await visit.at(f"/t/{tenant}/webhooks?status=disabled")
    await webhooks[0].command("enable")
    await expect(page.locator("#webhook-rows")).to_contain_text("No webhook fits now. 0 webhooks of 1")


async def test_a_log_is_called_live_only_while_it_is(visit: Visit, live: Live, tenant: str) -> None:
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    answers = asyncio.Event()

    async def hold(route: Route) -> None:
        await answers.wait()
        await route.continue_()

    await visit.context.route("**/deliveries/live*", hold)
    page = await visit.at(f"/t/{tenant}/deliveries?live=1")
    await expect(page.locator(".page-head .pill")).to_have_text("Connecting")
    assert await violations(page) == []
    answers.set()
    await expect(page.locator(".page-head .pill")).to_have_text("Live")


async def test_a_log_that_hears_nothing_connects_again(visit: Visit, live: Live, tenant: str) -> None:
    """A server sends something every 15 seconds: a page that hears nothing for longer is not connected."""
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.context.new_page()
    await page.clock.install()
    held: list[Route] = []

    async def answer_once(route: Route) -> None:
        held.append(route)
        if len(held) == 1:
            await route.continue_()

    await visit.context.route("**/deliveries/live*", answer_once)
    await page.goto(f"{visit.base}/t/{tenant}/deliveries?live=1")
    await expect(page.locator(".page-head .pill")).to_have_text("Live")
    await page.clock.fast_forward(60_000)
    await expect(page.locator(".page-head .pill")).to_have_text("Connecting")
    assert len(held) > 1


async def test_without_scripts_no_log_is_called_live(visiting: Visiting, live: Live, tenant: str) -> None:
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await (await visiting(scripts=False)).at(f"/t/{tenant}/deliveries?live=1")
    await expect(page.get_by_role("link", name="Stop")).to_be_visible()
    await expect(page.locator(".page-head .pill")).to_be_hidden()
