"""What a merchant does when a webhook did not arrive: finds the delivery in the log, sees why, and sends it again."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import expect

from tests.support.browser.chromium import Visit, copied, heading
from tests.support.browser.live import Account, Live, Webhook
from tests.support.receivers.receiver import Receiver, ok, status


@pytest.fixture
def path(tenant: str, there: Receiver) -> str:
    """A path at which the receiver answers with 500 until a test changes that."""
    there.answer[f"/{tenant}"] = status(500)
    return f"/{tenant}"


async def _failed(live: Live, tenant: str, path: str, *types: str) -> Webhook:
    """A webhook whose deliveries have all failed for good."""
    webhook = await live.webhook(tenant, "Warehouse", path, ["order.*"])
    await webhook.happen(*types)
    await webhook.until(len(types), "failed")
    return webhook


async def test_a_failure_is_found_in_the_log_and_explained(visit: Visit, account: Account) -> None:
    page = await visit.at(f"/t/{account.tenant}/webhooks")
    await page.get_by_label("Webhooks", exact=True).get_by_role("link", name="Deliveries").click()
    await heading(page, "Deliveries")
    await page.get_by_label("Often wanted").get_by_role("link", name="Failed").click()
    await page.get_by_label("Webhook", exact=True).select_option("Warehouse")
    await page.get_by_label("Event type").fill("item.remove")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_label("Active filters").get_by_role("listitem")).to_have_count(4)
    failed = [each for each in await account.failing.deliveries("failed") if each["event"]["type"] == "item.remove"]
    rows = page.locator("table.deliveries tbody tr")
    await expect(rows).to_have_count(len(failed))
    await expect(rows.locator(".pill")).to_have_text(["Failed"] * len(failed))

    await rows.get_by_role("link", name=failed[0]["event"]["id"]).click()
    await heading(page, "item.remove to Warehouse")
    why = page.get_by_role("region", name="It was not delivered")
    await expect(why).to_contain_text(", after 3 attempts: the receiver answered 500 Internal Server Error.")
    attempts = page.locator("ol.timeline > li")
    await expect(attempts.locator("h3")).to_have_text(["Attempt 3", "Attempt 2", "Attempt 1"])
    last = attempts.first
    target = (await account.failing.told())["target_url"]
    await expect(last.get_by_role("region", name="Request headers of attempt 3")).to_contain_text(f"POST {target}")
    await expect(last.get_by_role("region", name=re.compile("Request body"))).to_contain_text(failed[0]["event"]["id"])
    await expect(last.get_by_role("region", name="Response headers of attempt 3")).to_contain_text("text/html")
    await expect(last.get_by_role("region", name="Response body")).to_contain_text("order_id must not be null")


async def test_what_waits_says_when_it_is_tried_next(visit: Visit, account: Account) -> None:
    page = await visit.at(f"/t/{account.tenant}/deliveries/{account.deliveries['pending']}")
    await expect(page.get_by_role("region", name="It is still to be delivered")).to_contain_text("Attempt 2 is due at")
    await expect(page.locator("ol.timeline > li.next")).to_contain_text("Next attempt")
    countdown = page.locator("main time[data-countdown]")
    await expect(countdown).to_have_text(re.compile(r"^(1 h 0 min|\d+ min \d+ s)$"))
    first_text = await countdown.inner_text()
    await expect(countdown).not_to_have_text(first_text)


async def test_the_copied_command_sends_the_same_request(visit: Visit, there: Receiver, account: Account) -> None:
    delivery = account.deliveries["failed"]
    page = await visit.at(f"/t/{account.tenant}/deliveries/{delivery}")
    await page.locator("details.curl summary").first.click()
    command = await copied(page.get_by_role("button", name="Copy cURL command").first)
    *_, sent = [each for each in there.received if each.headers.get("webhook-id") == delivery]
    curl = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=asyncio.subprocess.PIPE)
    answer, _ = await curl.communicate()
    assert (curl.returncode, b"Internal error" in answer) == (0, True)
    again = [each for each in there.received if each.headers.get("webhook-id") == delivery][-1]
    assert again is not sent
    assert (again.path, again.body) == (sent.path, sent.body)
    for name in ("Content-Type", "webhook-timestamp", "webhook-signature"):
        assert again.headers[name] == sent.headers[name]


async def test_retry_now_sends_it_again(visit: Visit, live: Live, there: Receiver, tenant: str, path: str) -> None:
    webhook = await _failed(live, tenant, path, "order.create")
    page = await visit.at(f"/t/{tenant}/deliveries")
    await page.get_by_role("link", name=re.compile("order.create")).click()
    there.answer[path] = ok
    await page.get_by_role("button", name="Retry now").click()
    await expect(page.locator("[data-notice]")).to_contain_text("You have had it sent again: its answer appears below.")
    await expect(page.get_by_role("heading", name="It was delivered")).to_be_visible()  # by itself
    await webhook.until(1, "delivered")
    await expect(page.locator("ol.timeline > li h3")).to_have_count(4)
    bodies = {each.body for each in there.at(path)}
    assert (len(there.at(path)), len(bodies)) == (4, 1)


async def test_a_replay_counts_first_and_then_sends(
    visit: Visit, live: Live, there: Receiver, tenant: str, path: str
) -> None:
    webhook = await _failed(live, tenant, path, "order.create", "order.cancel", "order.reject")
    attempted = len(there.at(path))
    there.answer[path] = ok
    await webhook.happen("order.success")
    await webhook.until(1, "delivered")
    page = await visit.at(webhook.page)
    await page.get_by_label("This webhook").get_by_role("link", name="Replay").click()
    await page.get_by_role("link", name="Last hour").click()
    await page.get_by_label("Reason").fill("the warehouse was down")
    await page.get_by_role("button", name="Count deliveries").click()
    await expect(page.get_by_role("region", name="3 deliveries would be sent again")).to_be_visible()
    assert len(there.at(path)) == attempted + 1

    await page.get_by_role("button", name="Replay 3 deliveries").click()
    await expect(page.locator("#progress [data-summary]")).to_contain_text("3 of 3 sent")
    await expect(page.locator("#progress .pill")).to_have_text("Done")
    replayed = there.at(path)[attempted + 1 :]
    types = ["order.cancel", "order.create", "order.reject"]
    assert sorted(json.loads(each.body)["type"] for each in replayed) == types
    assert {each.headers["webhook-id"] for each in replayed} == {
        each.headers["webhook-id"] for each in there.at(path)[:attempted]
    }
    await webhook.until(4, "delivered")
    await page.get_by_label("Breadcrumb").get_by_role("link", name="Replay").click()
    await expect(page.get_by_role("row", name=re.compile("the warehouse was down"))).to_contain_text("3 of 3")
