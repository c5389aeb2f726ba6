"""What a merchant does to a webhook over time: edits, disables and enables it, rotates its key, looks back, deletes it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from playwright.async_api import Page, expect

from tests.support.browser.chromium import Visit, copied, heading
from tests.support.browser.live import Live, Webhook, example
from tests.support.receivers.receiver import Receiver
from tests.support.until import until


async def test_editing_shows_what_would_be_sent_and_sends_that(
    visit: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.create"])
    page = await visit.at(webhook.page)
    await page.locator(".page-head").get_by_role("link", name="Edit").click()
    await heading(page, "Edit Orders")
    await page.get_by_label("subscription.cancel").check()
    await page.get_by_text("Advanced settings").click()
    preview = page.locator("#preview")
    await page.get_by_label("With the example of").select_option("order.create")
    await expect(preview).to_contain_text("Would be sent.")
    await page.get_by_label("Filter", exact=True).fill("data.total > `")
    await expect(preview.get_by_role("link", name="Filter")).to_be_visible()
    await page.get_by_label("Filter", exact=True).fill("to_number(data.total) > `100000`")
    await expect(preview).to_contain_text("Would not be sent:")
    await page.get_by_label("Filter", exact=True).fill("")
    await page.get_by_label("Snapshot").fill("customer: email")
    await page.get_by_label("Transform").fill("{what: type, whose: snapshot.customer.email}")
    body = preview.get_by_role("region", name="Body")
    await expect(body).to_contain_text('"whose"')
    previewed = json.loads(await body.inner_text())
    await page.get_by_label("Why do you change it?").fill("only what the warehouse needs")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The changes are saved.")

    await webhook.happen("order.create")
    (arrived,) = await there.count(1, path=f"/{tenant}")
    assert json.loads(arrived.body) == previewed == {
        "what": "order.create", "whose": example("order.create")["snapshot"]["customer"]["email"],
    }  # fmt: skip
    assert (await webhook.told())["event_types"] == ["order.create", "subscription.cancel"]
    await page.locator("tr.saved").get_by_role("link", name="Orders").click()
    await page.get_by_label("This webhook").get_by_role("link", name="History").click()
    edited = page.locator(".lifecycle-edited")
    await expect(edited).to_contain_text("“only what the warehouse needs”")
    await expect(edited.locator("ins")).to_contain_text(["subscription.cancel"])


async def test_what_happens_while_disabled_is_skipped_for_good(
    visit: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    before = await webhook.happen("order.create")
    await there.count(1, path=f"/{tenant}")
    page = await visit.at(webhook.page)
    await page.get_by_role("link", name="Disable").click()
    dialog = page.get_by_role("dialog", name="Disable “Orders”?")
    await expect(dialog).to_contain_text("From this moment nothing more is sent")
    await expect(dialog).to_contain_text("Events that happen while it is disabled are skipped for good.")
    await dialog.get_by_label("Reason").fill("the shop is moving")
    await dialog.get_by_role("button", name="Disable webhook").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is disabled.")
    off = page.locator(".notice-warn")
    await expect(off).to_contain_text("“the shop is moving”. No event of its types has happened since")

    skipped = await webhook.happen("order.cancel", "order.reject", "item.create", "order.success")
    await page.reload()
    await expect(off).to_contain_text("3 events of its types happened since. They were skipped")
    await off.get_by_role("link", name="3 events").click()
    rows = page.locator("table.list tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.locator(".pill")).to_have_text(["Skipped: disabled"] * 3)
    await rows.last.get_by_role("link", name=re.compile(re.escape(skipped[0]))).click()
    await expect(page.locator(".verdicts")).to_contain_text("It is never sent, not even after an enable.")

    await page.goto(live.url + webhook.page)
    await page.get_by_role("button", name="Enable").click()
    enabled = page.locator(".notice-ok")
    await expect(enabled).to_contain_text(re.compile(r"Events that happen from \d+ \w+ \d{4}, [\d:]+ UTC on are sent"))
    await expect(enabled).to_contain_text("3 events of its types happened from")
    after = await webhook.happen("order.create")
    await webhook.until(2, "delivered")
    assert [json.loads(each.body)["id"] for each in there.at(f"/{tenant}")] == [*before, *after]


async def test_a_rotated_key_signs_beside_the_old_one_until_that_is_revoked(
    visit: Visit, live: Live, there: Receiver, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    old = await webhook.key()
    page = await visit.at(webhook.page)
    await page.get_by_role("link", name="Rotate the verification key").click()
    dialog = page.get_by_role("dialog", name="Rotate the verification key of “Orders”?")
    await expect(dialog).to_contain_text("For 24 hours each request carries two signatures")
    await dialog.get_by_role("button", name="Rotate the verification key").click()
    present = page.get_by_role("region", name="Your new verification key of “Orders”")
    await expect(present.locator(".key-value code")).not_to_have_text(old)
    new = await present.locator(".key-value code").inner_text()
    assert new == await webhook.key()
    await expect(present.locator("time[data-countdown]")).to_have_text("23 h 59 min")
    assert await _signatures(webhook, there) == 2

    await present.get_by_role("link", name="Revoke the old verification key now").click()
    dialog = page.get_by_role("dialog", name="Revoke the old verification key?")
    await dialog.get_by_role("button", name="Revoke the old verification key").click()
    await expect(page.locator("[data-notice]")).to_contain_text("only the present one signs")
    assert await _signatures(webhook, there) == 1
    assert await webhook.key() == new


async def test_one_goes_back_in_time_by_field_slider_and_activity(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    made_at = datetime.now(UTC)
    await until(lambda: int(datetime.now(UTC).timestamp()) > made_at.timestamp())  # the field has whole seconds
    then = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    await webhook.edit(name="Orders of today")
    await webhook.command("disable")
    await live.webhook(tenant, "Later one", f"/{tenant}/later", ["item.*"])

    page = await visit.at(f"/t/{tenant}/webhooks")
    await _expect_listed(page, ("Later one", "Enabled"), ("Orders of today", "Disabled"))
    await page.get_by_text("Go back in time").click()
    await page.get_by_label("As of (UTC)").fill(then)
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.locator(".past")).to_contain_text("You are looking at the past")
    await _expect_listed(page, ("Orders", "Enabled"))
    await page.locator("#webhooks").get_by_role("link", name="Orders").click()
    await heading(page, "Orders")
    await expect(page.locator(".page-head .pill")).to_have_text("Enabled")
    await expect(page.locator(".past")).to_contain_text("this webhook as it was on")
    await page.go_back()
    slider = page.get_by_label("Between the first webhook and now")
    assert 0 < int(await slider.input_value()) < 1000
    await page.get_by_role("link", name="Back to now").click()
    await _expect_listed(page, ("Later one", "Enabled"), ("Orders of today", "Disabled"))

    await page.get_by_text("Go back in time").click()
    await slider.press("Home")
    await _expect_listed(page, ("Orders", "Enabled"))
    await slider.press("End")
    await _expect_listed(page, ("Later one", "Enabled"), ("Orders of today", "Disabled"))

    await page.get_by_label("Webhooks", exact=True).get_by_role("link", name="Activity").click()
    await page.locator(".lifecycle-edited").get_by_role("link", name="All webhooks as of then").click()
    await _expect_listed(page, ("Orders of today", "Enabled"))


async def test_deleting_asks_for_the_word_and_leaves_history_and_configuration(
    visit: Visit, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/busy/{tenant}", ["order.*"], headers={"X-Team": "growth"})
    await webhook.happen("order.create", "order.cancel")
    await webhook.until_told_to_wait()
    page = await visit.at(webhook.page)
    await page.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete “Orders”?")
    await expect(dialog).to_contain_text("2 deliveries wait now: they are not sent any more.")
    with visit.refused(422):
        await dialog.get_by_label("Type DELETE to confirm").fill("delete")
        await dialog.get_by_role("button", name="Delete webhook").click()
        await expect(page.locator(".notice-bad")).to_contain_text("“delete” is not the word")
        await expect(page.locator("#understood-wrong")).to_contain_text("Please confirm")
        await expect(page.get_by_label("Type DELETE to confirm")).to_have_value("delete")
        await page.get_by_label("I understand").check()
        await page.locator("form[action$='/delete']").evaluate(
            "form => form.submit()"
        )  # without the validation of the browser
        await expect(page.locator(".notice-bad li")).to_have_count(1)
    assert (await webhook.told())["status"] == "enabled"

    await page.get_by_label("Type DELETE to confirm").fill("DELETE")
    await page.get_by_label("Reason").fill("the season is over")
    await page.get_by_role("button", name="Delete webhook").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is deleted.")
    await expect(page.get_by_role("heading", name="No webhooks now")).to_be_visible()
    await webhook.until(2, "suppressed")

    await page.get_by_label("Webhooks", exact=True).get_by_role("link", name="Activity").click()
    deleted = page.locator(".lifecycle-deleted")
    await expect(deleted).to_contain_text("“the season is over”")
    await deleted.get_by_role("link", name="Orders").click()
    await expect(page.locator(".page-head .pill")).to_have_text("Deleted")
    await page.get_by_role("link", name="Copy into a new webhook").click()
    await expect(page.locator(".notice-info")).to_contain_text("This is like Orders, which was deleted.")
    await expect(page.get_by_label("Name", exact=True)).to_have_value("Copy of Orders")
    await expect(page.get_by_label("Custom headers")).to_have_value(re.compile("^X-Team:"))
    await page.get_by_label("Custom headers").fill("X-Team: growth")
    await page.get_by_role("button", name="Create webhook").click()
    await heading(page, "Webhooks")
    await expect(page.locator("tr.saved th a")).to_have_text("Copy of Orders")
    (made,) = (await live.ask("GET", f"/v1/tenants/{tenant}/routes"))["items"]
    assert made["id"] != webhook.id
    assert (made["status"], made["event_types"]) == ("enabled", ["order.*"])
    assert (made["target_url"], list(made["headers"])) == (f"{live.target}/busy/{tenant}", ["X-Team"])


async def _expect_listed(page: Page, *rows: tuple[str, str]) -> None:
    """Waits until the list has these webhooks with these statuses."""
    await expect(page.locator("#webhooks th a")).to_have_text([name for name, _ in rows])
    await expect(page.locator("#webhooks .pill")).to_have_text([status for _, status in rows])


async def _signatures(webhook: Webhook, there: Receiver) -> int:
    """The number of signatures that the next request has."""
    path = f"/{webhook.tenant}"
    sent = len(there.at(path))
    await webhook.happen("order.create")
    received = await there.count(sent + 1, path=path)
    return received[sent].headers["webhook-signature"].count("v1,")


async def test_the_commands_of_a_row_do_what_they_say(visit: Visit, live: Live, tenant: str) -> None:
    await live.webhook(tenant, "Older", f"/{tenant}/older", ["item.*"])
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"/t/{tenant}/webhooks")
    await _expect_listed(page, ("Orders", "Enabled"), ("Older", "Enabled"))
    row = page.get_by_role("row", name="Orders")
    menu, opener = row.locator("details.menu"), row.locator("details.menu > summary")

    await opener.click()
    assert await copied(menu.get_by_role("link", name="Copy verification key")) == await webhook.key()
    await page.get_by_role("heading", name="Webhooks").click()
    await expect(menu).not_to_have_attribute("open", "")

    await opener.click()
    await menu.get_by_role("link", name="Disable").click()
    await page.get_by_role("dialog", name="Disable “Orders”?").get_by_role("button", name="Disable webhook").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is disabled.")
    await _expect_listed(page, ("Orders", "Disabled"), ("Older", "Enabled"))

    await opener.click()
    await menu.get_by_role("button", name="Enable").click()
    await expect(page.locator(".notice-ok")).to_contain_text("“Orders” is enabled.")
    await _expect_listed(page, ("Orders", "Enabled"), ("Older", "Enabled"))

    await opener.click()
    await menu.get_by_role("link", name="Edit").click()
    await page.get_by_label("Name", exact=True).fill("Orders of today")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.locator("tr.saved th")).to_contain_text("Saved")
    await _expect_listed(page, ("Orders of today", "Enabled"), ("Older", "Enabled"))

    await opener.click()
    await menu.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete “Orders of today”?")
    await dialog.get_by_label("I understand").check()
    await dialog.get_by_label("Type DELETE").fill("DELETE")
    await dialog.get_by_role("button", name="Delete webhook").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The webhook is deleted.")
    await _expect_listed(page, ("Older", "Enabled"))
