"""A receiver dies and is mended: the list, its page and the operator's status say so by themselves.

The breaker opens soon here, and its pauses are the real ones: what is waited for is what the pages promise.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import Visiting, lives
from tests.support.browser.chromium import violations
from tests.support.browser.live import Live
from tests.support.postgres.databases import of_database, temporary_database
from tests.support.processes.cli import CommandLine
from tests.support.receivers.receiver import Receiver, ok, status

TYPES = ["order.*"]
EVENTS = 25
# What a page may take to say what happened, and something for a slow machine.
TOLD_SECONDS = 5.0
SLACK_SECONDS = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def breaking(
    there: Receiver,
    postgres_url: str,
    administrator: asyncpg.Connection,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Live]:
    """A daemon whose breakers open after three failures, and whose retries come every two seconds."""
    settings = {
        "HOOKLEDGER_DELIVERY__BREAKER_FAILURES": "3",
        "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "2",
        "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": "2",
        "HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS": "60",
    }
    async with temporary_database(administrator, "breaking", template=template_database) as name:
        url = of_database(postgres_url, name)
        async with lives(CommandLine(tmp_path_factory.mktemp("breaking"), url, **settings), there) as it:
            yield it


async def told(page: Page, selector: str, text: str) -> None:
    """Waits until the page says so, which it must do by itself."""
    await expect(page.locator(selector).first).to_contain_text(text, timeout=(TOLD_SECONDS + SLACK_SECONDS) * 1000)


async def test_a_receiver_dies_a_test_shows_its_answer_and_it_recovers_by_itself(
    visiting: Visiting, breaking: Live, there: Receiver, tenant: str
) -> None:
    path = f"/{tenant}"
    webhook = await breaking.webhook(tenant, "Orders", path, TYPES)
    await webhook.happen("order.create")
    await webhook.until(1, "delivered")
    merchant, operator = await visiting(breaking), await visiting(breaking)
    listed, shown = await merchant.at(f"/t/{tenant}/webhooks"), await merchant.at(webhook.page)
    overall = await operator.at("/operator/status")
    await expect(overall.locator("#status")).to_contain_text("Nothing needs a person")
    await expect(shown.locator(".page-head .pill")).to_have_text("Enabled")

    there.answer[path] = status(500)
    await breaking.publish(tenant, [{"type": "order.create", "data": {}} for _ in range(EVENTS)])
    died_at = time.monotonic()
    await told(listed, "td[data-label='Status']", "Failing: nothing gets through")
    await told(shown, ".notice-bad", "Every request has failed since")
    await told(overall, "#failing-webhooks", "Orders")
    assert time.monotonic() - died_at < TOLD_SECONDS + SLACK_SECONDS
    await expect(shown.locator(".notice-bad")).to_contain_text("500 Internal Server Error")
    await expect(shown.locator(".notice-bad")).to_contain_text("Next probe in")
    await expect(shown.locator(".page-head .pill")).to_contain_text("Failing")
    await expect(listed.locator("td[data-label='Status']")).to_contain_text("wait")
    await expect(overall.locator("#failing-webhooks td[data-label='Last answer']")).to_have_text(
        "500 Internal Server Error"
    )
    await expect(overall.locator("#failing-webhooks td[data-label='Next probe']")).to_contain_text("in")
    await expect(overall.locator("#status")).not_to_contain_text("Nothing needs a person")
    for page in (listed, shown, overall):
        assert await violations(page) == []

    last = await merchant.at(await link_of(shown, "Open the last attempt"))
    await expect(last.locator("ol.timeline")).to_contain_text("500 Internal Server Error")

    tests = await merchant.at(await link_of(shown, "Send test event"))
    await tests.get_by_role("button", name="Send test events").click()
    await told(tests, "#arrivals [data-summary]", "It did not arrive")
    await told(tests, "#arrivals tbody", "500 Internal Server Error")

    there.answer[path] = ok
    await tests.get_by_role("button", name="Send test events").click()
    await told(tests, "#arrivals [data-summary]", "It arrived")
    await webhook.until(EVENTS + 3, "delivered")  # the two tests too
    await told(shown, ".notice-ok.health", "Recovered:")
    await expect(shown.locator(".page-head .pill")).to_have_text("Enabled")
    await told(listed, "td[data-label='Status']", "Enabled")
    await told(overall, "#status", "Nothing needs a person")


async def test_without_scripts_the_same_pages_say_it_when_they_are_loaded(
    visiting: Visiting, breaking: Live, there: Receiver, tenant: str
) -> None:
    path = f"/{tenant}"
    there.answer[path] = status(500)
    webhook = await breaking.webhook(tenant, "Orders", path, TYPES)
    await webhook.happen(*["order.create"] * 5)
    plain = await visiting(breaking, scripts=False, width=320)
    page = await plain.at(webhook.page)
    for _ in range(20):
        if await page.locator(".notice-bad").count():
            break
        await page.reload()
    await expect(page.locator(".notice-bad")).to_contain_text("Every request has failed since")
    await page.get_by_role("link", name="Open the last attempt").click()
    await page.get_by_role("button", name="Retry now").click()
    await expect(page.locator("[data-notice]")).to_have_text("You have had it sent again: its answer appears below.")
    await expect(page.get_by_role("link", name="Refresh").first).to_be_visible()


async def link_of(page: Page, name: str) -> str:
    """The path that a link leads to."""
    href = await page.get_by_role("link", name=name).first.get_attribute("href")
    assert href is not None
    return href
