"""The main steps in a browser that runs no scripts, with forms and links alone."""

from __future__ import annotations

import json
import re

import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit, heading
from tests.support.browser.live import Live
from tests.support.receivers.receiver import Receiver, ok, status


@pytest_asyncio.fixture(loop_scope="session")
async def plain(visiting: Visiting) -> Visit:
    """A visit with a browser that runs no scripts."""
    return await visiting(scripts=False)


async def test_a_webhook_is_created_after_a_preview(plain: Visit, live: Live, tenant: str) -> None:
    page = await plain.at(f"/t/{tenant}/webhooks/new")
    await page.get_by_label("Name", exact=True).fill("Order sync")
    await page.get_by_label("Target URL").fill(f"{live.target}/{tenant}")
    await page.get_by_label("All of subscription").check()
    await page.get_by_text("Advanced settings").click()
    await page.get_by_label("Transform").fill("{what: type}")
    await page.get_by_label("With the example of").select_option("subscription.cancel")
    await page.get_by_role("button", name="Show what is sent").click()
    preview = page.locator("#preview")
    await expect(preview).to_contain_text("Would be sent.")
    assert json.loads(await preview.get_by_role("region", name="Body").inner_text()) == {"what": "subscription.cancel"}
    assert (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"] == []

    with plain.refused(422):
        await page.get_by_label("Target URL").fill("http://10.0.0.1/hook")
        await page.get_by_role("button", name="Create webhook").click()
        await expect(page.locator("#target_url-wrong")).to_be_visible()
    await expect(page.get_by_label("Name", exact=True)).to_have_value("Order sync")
    await expect(page.get_by_label("All of subscription")).to_be_checked()
    await page.get_by_label("Target URL").fill(f"{live.target}/{tenant}")
    await page.get_by_role("button", name="Create webhook").click()
    await heading(page, "Webhooks")
    await expect(page.locator("tr.saved th")).to_contain_text("Order sync")
    (made,) = (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    assert (made["event_types"], made["payload"]["transform"]) == (["subscription.*"], "{what: type}")


async def test_test_events_are_sent_and_their_deliveries_appear(
    plain: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await plain.at(f"{webhook.page}/test")
    await page.get_by_label("order.reject").check()  # besides the one that is chosen already
    await page.get_by_role("button", name="Send test events").click()
    await expect(page.get_by_role("heading", name=re.compile(r"^Sent (just now|\d+ s ago)$"))).to_be_visible()
    await webhook.until(2, "delivered")
    await page.get_by_role("link", name="Refresh").click()
    await expect(page.locator("#arrivals [data-summary]")).to_contain_text("All 2 arrived")
    assert len(there.at(f"/{tenant}")) == 2


async def test_what_failed_is_sent_again_one_by_one_and_by_a_replay(
    plain: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    there.answer[f"/{tenant}"] = status(500)
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create", "order.cancel", "order.reject")
    await webhook.until(3, "failed")
    attempted = len(there.at(f"/{tenant}"))
    there.answer[f"/{tenant}"] = ok
    page = await plain.at(f"/t/{tenant}/deliveries?status=failed")
    await page.get_by_role("link", name=re.compile("order.create")).click()
    await page.get_by_role("button", name="Retry now").click()
    await expect(page.locator("[data-notice]")).to_contain_text("You have had it sent again: its answer appears below.")
    await webhook.until(1, "delivered")
    await page.locator(".page-head").get_by_role("link", name="Refresh").click()
    await expect(page.get_by_role("heading", name="It was delivered")).to_be_visible()

    await page.goto(f"{live.url}{webhook.page}/replay")
    await page.get_by_role("button", name="Count deliveries").click()
    await expect(page.get_by_role("heading", name="2 deliveries would be sent again")).to_be_visible()
    assert len(there.at(f"/{tenant}")) == attempted + 1
    await page.get_by_role("button", name="Replay 2 deliveries").click()
    await heading(page, re.compile("^Replay of"))
    await webhook.until(3, "delivered")
    await _refresh_until(page, page.locator("#progress .pill"), "Done")
    await expect(page.locator("#progress")).to_contain_text("2 of 2 sent")
    assert len(there.at(f"/{tenant}")) == attempted + 3


async def test_a_webhook_is_disabled_enabled_and_gets_a_new_key(
    plain: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    key = await webhook.key()
    page = await plain.at(webhook.page)
    await page.get_by_role("link", name="Disable").click()
    await heading(page, "Disable “Orders”?")
    await page.get_by_role("button", name="Disable webhook").click()
    await expect(page.locator(".page-head .pill")).to_have_text("Disabled")
    await webhook.happen("order.cancel")
    await page.get_by_role("button", name="Enable").click()
    await expect(page.locator(".notice-ok")).to_contain_text("1 event of its types happened from")
    await page.get_by_role("link", name="Rotate the verification key").click()
    await heading(page, "Rotate the verification key of “Orders”?")
    await page.get_by_role("button", name="Rotate the verification key").click()
    await heading(page, "Verification key and signatures")
    assert await webhook.key() != key
    await expect(page.locator(".key-value code")).to_have_text(await webhook.key())
    await webhook.happen("order.create")
    (arrived,) = await there.count(1, path=f"/{tenant}")
    assert json.loads(arrived.body)["type"] == "order.create"


async def test_a_wrong_word_deletes_nothing_and_keeps_the_entered_text(plain: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await plain.at(f"{webhook.page}/delete")
    await page.get_by_label("I understand").check()
    await page.get_by_label("Type DELETE").fill("DELTE")
    await page.get_by_label("Reason").fill("the season is over")
    with plain.refused(422):
        await page.get_by_role("button", name="Delete webhook").click()
        await expect(page.locator("#confirmation-wrong")).to_contain_text("“DELTE” is not the word")
    await expect(page.get_by_label("I understand")).to_be_checked()
    await expect(page.get_by_label("Type DELETE")).to_have_value("DELTE")
    await expect(page.get_by_label("Reason")).to_have_value("the season is over")
    assert (await webhook.told())["status"] == "enabled"
    await page.get_by_label("Type DELETE").fill("DELETE")
    await page.get_by_role("button", name="Delete webhook").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is deleted.")
    assert (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"] == []


async def test_the_slider_leads_back_in_time(plain: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.edit(name="Orders of today")
    page = await plain.at(f"/t/{tenant}/webhooks")
    await page.get_by_text("Go back in time").click()
    await page.get_by_label("Between the first webhook and now").press("Home")
    await page.get_by_role("button", name="Go", exact=True).click()
    await expect(page.locator(".past")).to_contain_text("You are looking at the past")
    await expect(page.locator("#webhooks th a")).to_have_text(["Orders"])


async def _refresh_until(page: Page, element: Locator, text: str) -> None:
    """Reloads the page until the element has that text."""
    for _ in range(50):
        if await element.inner_text() == text:
            return
        await page.get_by_role("link", name="Refresh").click()
    raise AssertionError(f"it never said {text}: {await element.inner_text()}")
