"""A merchant's first day: from the empty list to a webhook whose requests are signed, verified and received."""

from __future__ import annotations

import json
import re

from playwright.async_api import expect

from tests.support.browser.chromium import Visit, copied, heading
from tests.support.browser.live import Live
from tests.support.receivers.receiver import Receiver


async def test_the_first_visit_leads_to_a_webhook_that_is_active(visit: Visit, live: Live, tenant: str) -> None:
    page = await visit.at(f"/t/{tenant}/webhooks")
    await expect(page.locator("main h2")).to_have_text("Create your first webhook")
    await page.get_by_role("link", name="Create webhook").click()
    await heading(page, "Create webhook")
    await page.get_by_label("Name", exact=True).fill("Order sync")

    verdict, target = page.locator("#target-verdict"), page.get_by_label("Target URL")
    await target.press_sequentially("ftp://files.example.com")
    await expect(verdict).to_contain_text("This target cannot be used.")
    await target.fill("")
    await expect(verdict).to_be_empty()
    await target.press_sequentially(f"{live.target}/{tenant}")
    await expect(verdict).to_contain_text("This target may be used.")

    types, chosen = page.locator("#types"), page.locator(".picker-head strong")
    find = page.get_by_label("Find event types")
    await find.fill("skip")
    await expect(types.locator("[data-text]:visible code")).to_have_text(["order.skip_order"])
    await expect(types.locator("[data-group]:visible")).to_have_count(1)
    await types.get_by_label("order.skip_order").check()
    await expect(chosen).to_have_text("1 of 33")
    await find.fill("")
    await expect(types.locator("[data-group]:visible")).to_have_count(5)
    await types.get_by_label("All of subscription subscription.*").check()
    await expect(types.get_by_label("subscription.cancel")).to_be_checked()
    await expect(chosen).to_have_text("8 of 33")

    await page.get_by_role("button", name="Create webhook").click()
    await heading(page, "Webhooks")
    await expect(page.locator("[data-notice]")).to_contain_text("created and active")
    steps = page.get_by_role("region", name="Next steps with “Order sync”")
    await expect(steps.get_by_role("listitem")).to_have_count(3)
    (made,) = (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    key = (await live.ask("GET", f"/v1/tenants/{tenant}/routes/{made['id']}/key"))["verification_key"]
    assert key not in await page.content()
    assert await copied(steps.get_by_role("link", name="Copy the verification key").first) == key
    row = page.get_by_role("row", name="Order sync")
    await expect(row.locator(".pill")).to_have_text("Enabled")
    await expect(row.locator(".tag")).to_have_text(["order.skip_order", "subscription.*"])
    await expect(row.locator(".saved-mark")).to_have_text("New")
    await page.reload()
    await expect(page.locator(".saved-mark, .next-steps")).to_have_count(0)
    assert (made["name"], made["status"], made["target_url"]) == ("Order sync", "enabled", f"{live.target}/{tenant}")
    assert made["event_types"] == ["order.skip_order", "subscription.*"]


async def test_everything_ticked_by_mistake_gives_back_what_was_chosen(visit: Visit, tenant: str) -> None:
    page = await visit.at(f"/t/{tenant}/webhooks/new")
    types, chosen = page.locator("#types"), page.locator(".picker-head strong")
    await types.get_by_label("order.cancel").check()
    await types.get_by_label("All of item").check()
    await expect(chosen).to_have_text("8 of 33")
    everything = page.get_by_label("Everything *")
    await everything.check()
    await expect(chosen).to_have_text("33 of 33")
    await expect(types.get_by_label("order.cancel")).to_be_disabled()
    await everything.uncheck()
    await expect(chosen).to_have_text("8 of 33")
    await expect(types.get_by_label("order.cancel")).to_be_enabled()
    await expect(types.get_by_label("item.remove")).to_be_checked()
    await types.get_by_label("All of item").uncheck()
    await expect(chosen).to_have_text("1 of 33")


async def test_a_group_is_chosen_but_for_one_type(visit: Visit, live: Live, tenant: str) -> None:
    page = await visit.at(f"/t/{tenant}/webhooks/new")
    await page.get_by_label("Name", exact=True).fill("Items")
    await page.get_by_label("Target URL").fill(f"{live.target}/{tenant}")
    types, said = page.locator("#types"), page.locator("[data-single]:visible")
    await types.get_by_label("All of item").check()
    await expect(said).to_have_count(0)
    await types.get_by_label("item.remove").uncheck()
    await expect(said).to_contain_text("types of item that are added later will not be sent")
    await expect(types.get_by_label("All of item")).not_to_be_checked()
    await page.get_by_role("button", name="Create webhook").click()
    await heading(page, "Webhooks")
    (made,) = (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    assert "item.remove" not in made["event_types"]
    assert len(made["event_types"]) == 6
    assert all(name.startswith("item.") and name != "item.*" for name in made["event_types"])


async def test_the_key_is_copied_from_the_webhooks_page(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    key = await webhook.key()
    page = await visit.at(webhook.page)
    assert key not in await page.content()
    await page.get_by_role("link", name="Reveal the verification key").click()
    assert await copied(page.get_by_role("button", name="Copy the verification key")) == key


async def test_a_key_that_is_refused_can_be_asked_for_again(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(webhook.page)
    said, reveal = page.locator("#said"), page.get_by_role("link", name="Reveal the verification key")
    refusal = '<div class="notice notice-bad"><p>Too many of these in a short time.</p></div>'
    await page.route("**/key", lambda route: route.fulfill(status=429, content_type="text/html", body=refusal))
    with visit.refused(429):
        await reveal.click()
        await expect(page.get_by_text("Too many of these in a short time.").first).to_be_visible()
    await expect(said).to_contain_text("Too many of these in a short time.")
    await page.unroute("**/key")
    await reveal.click()
    await expect(page.get_by_role("button", name="Copy the verification key")).to_be_visible()
    await expect(page.locator("main")).not_to_contain_text("Too many of these in a short time.")


async def test_a_button_that_copies_says_so_each_time(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(webhook.page)
    button = page.locator("a[data-copy-from]")
    for _ in range(2):
        await copied(button)
        await expect(button).to_have_text(re.compile("^Copied"))
    await expect(button).to_have_text(re.compile("^Copy"))


async def test_the_pasted_snippet_verifies_what_is_sent(visit: Visit, live: Live, there: Receiver, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/webhooks?done=created&saved={webhook.id}")
    await page.get_by_role("link", name="Verify the signature").click()
    await heading(page, "Verification key and signatures")
    for language, file in {"Go": "verify.go", "Ruby": "verify.rb", "Python": "verify.py"}.items():
        await page.get_by_label("Language").get_by_role("link", name=language).click()
        await expect(page.get_by_role("region", name=file)).to_be_visible()
    snippet = await copied(page.get_by_role("button", name="Copy verify.py"))
    await page.get_by_role("link", name="Put the key itself into the line").click()
    await expect(page.get_by_role("region", name="Call")).to_contain_text(await webhook.key())
    call = await copied(page.get_by_role("button", name="Copy Call"))

    await webhook.happen("order.create")
    (arrived,) = await there.count(1, path=f"/{tenant}")
    for body, is_genuine in (arrived.body, True), (arrived.body + b" ", False):
        receiver = {"request": arrived, "body": body}
        exec(f"{snippet}\n{call}", receiver)
        assert receiver["is_genuine"] is is_genuine


async def test_test_events_are_sent_and_seen_to_arrive(visit: Visit, live: Live, there: Receiver, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"], payload={"filter": "`false`"})
    page = await visit.at(webhook.page)
    await page.locator(".page-head").get_by_role("link", name="Send test event").click()
    await expect(page.get_by_role("heading", name="Send test events")).to_be_visible()
    for box in await page.locator("#types input:checked").all():
        await box.uncheck()
    await page.get_by_label("order.cancel").check()
    await page.get_by_label("order.reject").check()
    await page.get_by_role("button", name="Send test events").click()

    arrivals = page.locator("#arrivals")
    await expect(arrivals.locator("[data-summary]")).to_have_text("All 2 arrived: your receiver answered with success.")
    await expect(arrivals.locator("tbody .pill")).to_have_text(["Delivered", "Delivered"])
    received = there.at(f"/{tenant}")
    assert sorted(json.loads(each.body)["type"] for each in received) == ["order.cancel", "order.reject"]
    assert [each.headers["Hookledger-Test"] for each in received] == ["true", "true"]

    await arrivals.get_by_role("link", name=re.compile("order.cancel")).click()
    await expect(page.locator("main h1")).to_contain_text("order.cancel")
    await expect(page.get_by_role("heading", name="It was delivered")).to_be_visible()
