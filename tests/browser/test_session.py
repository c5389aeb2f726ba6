"""A session that ends while somebody uses a page: the page says so, and the entered text is not lost."""

from __future__ import annotations

from playwright.async_api import Route, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading, violations
from tests.support.browser.live import Guarded, Live

NEXT = "If you were filling in a form, sign in in another tab, and then send it again."


async def test_a_form_that_outlived_its_session_is_sent_again_after_signing_in(
    guarded: Guarded, visiting: Visiting, tenant: str
) -> None:
    merchant = await visiting(guarded.live)
    page = await guarded.signed_in(merchant, tenant)
    await page.get_by_role("link", name="Create webhook").click()
    await page.get_by_label("Name", exact=True).fill("Order sync")
    await page.get_by_label("order.create").check()
    await _sign_out_elsewhere(merchant, tenant)

    with merchant.refused(401):
        await page.get_by_label("Target URL").fill(f"{guarded.live.target}/{tenant}")
        await expect(page.locator("#target-verdict")).to_contain_text(NEXT)
        await page.get_by_role("button", name="Create webhook").click()
        await heading(page, "Your session has ended")
        await expect(page.locator("main")).to_contain_text(NEXT)
        await expect(page.locator("main")).to_contain_text("What you typed is kept on this page.")

    await heading(await guarded.signed_in(merchant, tenant), "Webhooks")
    await page.get_by_role("button", name="Send the form again").click()
    await heading(page, "Webhooks")
    await expect(page.locator("tr.saved th a")).to_have_text("Order sync")
    (made,) = (await guarded.live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    assert (made["name"], made["event_types"]) == ("Order sync", ["order.create"])


async def test_a_command_after_the_end_of_the_session_leads_to_the_way_in(
    guarded: Guarded, visiting: Visiting, tenant: str
) -> None:
    webhook = await guarded.live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    merchant = await visiting(guarded.live)
    await heading(await guarded.signed_in(merchant, tenant), "Webhooks")
    page = await merchant.at(webhook.page)
    await _sign_out_elsewhere(merchant, tenant)
    with merchant.refused(401):
        await page.get_by_role("link", name="Disable").click()
        await heading(page, "Your session has ended")
    assert (await webhook.told())["status"] == "enabled"


async def test_a_link_to_another_account_asks_the_person_who_is_signed_in(
    guarded: Guarded, visiting: Visiting, tenant: str
) -> None:
    merchant = await visiting(guarded.live)
    await heading(await guarded.signed_in(merchant, tenant), "Webhooks")
    page = await merchant.at(guarded.link(f"{tenant}-other"))
    await heading(page, "Sign in as somebody else?")
    assert await violations(page) == []
    await page.get_by_role("link", name="Stay where you are").click()
    await expect(page.locator(".tenant")).to_have_text(tenant)
    await page.go_back()
    await page.get_by_role("button", name=f"Sign in to the account {tenant}-other").click()
    await expect(page.locator(".tenant")).to_have_text(f"{tenant}-other")


async def test_a_log_that_is_followed_no_longer_says_so(visit: Visit, live: Live, tenant: str) -> None:
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401)

    await visit.context.route("**/deliveries/live*", refuse)
    with visit.refused(401):
        page = await visit.at(f"/t/{tenant}/deliveries?live=1")
        await expect(page.locator(".page-head .pill")).to_have_text("No longer live: reload the page")
    await visit.context.unroute("**/deliveries/live*")
    await page.reload()
    await expect(page.locator(".page-head .pill")).to_have_text("Live")


async def _sign_out_elsewhere(merchant: Visit, tenant: str) -> None:
    """Signs out in another tab."""
    with merchant.refused(401):
        page = await merchant.at(f"/t/{tenant}/webhooks")
        await page.get_by_role("button", name="Sign out").click()
        await heading(page, "Your session has ended")
