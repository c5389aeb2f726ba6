"""Times are those of the reader's zone where scripts run, in one format, and UTC where none do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from playwright.async_api import Browser, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import Visit
from tests.support.browser.live import Live

NEW_YORK, KOLKATA = "America/New_York", "Asia/Kolkata"


async def visitor(browser: Browser, live: Live, zone: str) -> Visit:
    return Visit(live.url, await browser.new_context(timezone_id=zone))


def written(at: datetime, zone: str) -> str:
    """A moment as pages write it."""
    local = at.astimezone(ZoneInfo(zone))
    minutes = int((local.utcoffset() or timedelta()).total_seconds() // 60)
    hours, rest = divmod(abs(minutes), 60)
    offset = f"{'−' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''}" if minutes else ""
    return f"{local:%-d %b %Y, %H:%M:%S} UTC{offset}"


async def test_a_reader_sees_their_own_time_and_the_exact_one_on_hover(
    browser: Browser, live: Live, tenant: str
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    created = datetime.fromisoformat((await webhook.told())["created_at"])
    for zone in (NEW_YORK, KOLKATA):
        visit = await visitor(browser, live, zone)
        page = await visit.at(webhook.page)
        moment = page.locator("dt:text-is('Created') + dd time")
        await expect(moment).to_have_text(written(created, zone))
        assert (await moment.get_attribute("title") or "").endswith("Z"), "to the microsecond, in UTC"
        await expect(page.locator("footer")).to_contain_text("your own time zone")
        page = await visit.at(f"/t/{tenant}/webhooks")
        ago = page.locator("#webhooks time")
        await expect(ago).to_have_text(re.compile(r"^(just now|\d+ (s|min) ago)$"))
        assert await ago.get_attribute("title") == written(created, zone)
        await visit.context.close()


async def test_moments_within_a_sentence_are_the_readers_too(browser: Browser, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    (delivery,) = await webhook.until(1, "delivered")
    visit = await visitor(browser, live, KOLKATA)
    page = await visit.at(f"/t/{tenant}/deliveries/{delivery['id']}")
    time = page.locator(".because time")
    at = datetime.fromisoformat(await time.get_attribute("datetime") or "")
    day, zone = written(at, KOLKATA).split(" UTC")
    await expect(time).to_have_text(f"{day}.{at.microsecond // 1000:03} UTC{zone}")
    await visit.context.close()


async def test_what_is_entered_in_ones_own_time_means_that_moment(browser: Browser, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    created = datetime.fromisoformat((await webhook.told())["created_at"])
    visit = await visitor(browser, live, NEW_YORK)
    page = await visit.at(f"/t/{tenant}/deliveries")
    later = created.astimezone(ZoneInfo(NEW_YORK)) + timedelta(hours=1)
    await page.get_by_text("Period").or_(page.locator(".filters summary")).first.click()
    field = page.locator("#until")
    await field.fill(f"{later:%Y-%m-%dT%H:%M:%S}")
    await page.locator(".filters").get_by_role("button").first.click()
    await page.wait_for_url("**until=*")
    sent = re.search(r"until=([^&]+)", page.url)
    assert sent is not None
    assert datetime.fromisoformat(sent[1].replace("%3A", ":")) == later.replace(microsecond=0).astimezone(UTC)
    await expect(page.locator("#until")).to_have_value(f"{later:%Y-%m-%dT%H:%M:%S}")
    await visit.context.close()


async def test_without_scripts_times_are_utc(visiting: Visiting, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    created = datetime.fromisoformat((await webhook.told())["created_at"])
    page = await (await visiting(scripts=False)).at(webhook.page)
    await expect(page.locator("dt:text-is('Created') + dd time")).to_have_text(written(created, "UTC"))
    await expect(page.locator("footer")).to_have_text("All times are UTC.")
