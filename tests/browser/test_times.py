"""Times are those of the reader's zone where scripts run, in one format, and UTC where none do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
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
    later = (created.astimezone(ZoneInfo(NEW_YORK)) + timedelta(hours=1)).replace(second=30)  # :00 would not be shown
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


async def test_a_moment_of_the_hour_that_comes_twice_in_autumn_stays_itself(
    browser: Browser, live: Live, tenant: str
) -> None:
    await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    visit = await visitor(browser, live, "Europe/Berlin")
    for second in ("2026-10-25T00:30:07Z", "2026-10-25T01:30:07Z"):
        page = await visit.at(f"/t/{tenant}/deliveries?since={second}")
        await expect(page.locator("#since")).to_have_value("2026-10-25T02:30:07")
        await page.locator(".filters").get_by_role("button").first.click()
        await page.wait_for_url("**route=&**")
        assert f"since={second.replace(':', '%3A')}" in page.url
    await visit.context.close()


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_period_that_nobody_touches_leaves_out_no_delivery(
    visiting: Visiting, live: Live, tenant: str, scripts: bool
) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    (happened,) = [each["event"]["event_time"] for each in await webhook.until(1, "delivered")]
    end = datetime.fromisoformat(happened) + timedelta(microseconds=1)
    period = urlencode({"since": happened, "until": end.isoformat()})
    page = await (await visiting(scripts=scripts)).at(f"/t/{tenant}/deliveries?{period}")
    await expect(page.locator(".deliveries tbody tr")).to_have_count(1)
    await page.locator(".filters").get_by_role("button", name="Apply").click()
    await page.wait_for_url("**route=&**")
    await expect(page.locator(".deliveries tbody tr")).to_have_count(1)


async def test_when_a_delivery_happened_is_shown_whole(browser: Browser, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    await webhook.until(1, "delivered")
    visit = await visitor(browser, live, NEW_YORK)
    page = await visit.at(f"/t/{tenant}/deliveries")
    for ago in ("13 min ago", "29 days ago"):
        cell = page.locator(".deliveries td.when").first
        assert await cell.evaluate(
            "(cell, ago) => (cell.querySelector('time').textContent = ago, cell.scrollWidth <= cell.clientWidth)", ago
        ), ago
    await visit.context.close()


# The texts of a page with a time of day that page.js did not put there.
STRAYS = r"""() => {
  const found = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let text = walker.nextNode(); text; text = walker.nextNode())
    if (/\b\d\d:\d\d\b/.test(text.data) && !text.parentElement.closest('time, [data-clock], pre, script, template'))
      found.push(text.data.trim())
  return found
}"""


async def test_no_page_has_a_time_of_day_in_another_zone(browser: Browser, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    (delivery,) = await webhook.until(1, "delivered")
    visit = await visitor(browser, live, KOLKATA)
    replays = await visit.at(f"{webhook.page}/replay")
    await replays.get_by_label("All of them").check()
    await replays.get_by_role("button", name="Count deliveries").click()
    await replays.get_by_role("button", name="Replay 1 delivery").click()
    await expect(replays.locator("#progress .pill")).to_have_text("Done")
    await expect(replays.locator("#progress")).to_contain_text("Ended")
    await expect(replays.get_by_role("button", name="Cancel this replay")).to_have_count(0)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    shown = [f"/t/{tenant}/{each}" for each in ("webhooks", "deliveries", "events", "activity")]
    shown += [
        f"{webhook.page}{each}" for each in ("?range=1h", "", "?range=7d", "?range=30d", f"?as_of={now}", "/history")
    ]
    shown += [f"/t/{tenant}/deliveries/{delivery['id']}", replays.url.removeprefix(live.url)]
    for path in shown:
        page = await visit.at(path)
        await expect(page.locator("footer")).to_contain_text("UTC+5:30")
        assert await page.evaluate(STRAYS) == [], path
    await visit.context.close()


async def test_the_hours_of_charts_are_the_readers_too(browser: Browser, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    await webhook.until(1, "delivered")
    visit = await visitor(browser, live, KOLKATA)
    page = await visit.at(webhook.page)
    labels = page.locator(".plot-bars text[data-clock]")
    await expect(labels).not_to_have_count(0)
    for label in await labels.all():
        at = datetime.fromisoformat(await label.get_attribute("data-clock") or "").astimezone(ZoneInfo(KOLKATA))
        assert await label.text_content() == f"{at:%H:%M}"
    bar = page.locator(".plot-bars title").last
    at = datetime.fromisoformat(await bar.get_attribute("data-clock") or "").astimezone(ZoneInfo(KOLKATA))
    assert await bar.text_content() == f"{at:%-d %b, %H:%M}: 1 successful, 0 failed"
    await page.get_by_text("Show as a table").click()
    await expect(page.get_by_role("columnheader", name="From (UTC+5:30)")).to_be_visible()
    await expect(page.get_by_role("rowheader", name=f"{at:%-d %b, %H:%M}", exact=True)).to_be_visible()
    page = await visit.at(f"{webhook.page}?range=30d")
    await page.get_by_text("Show as a table").click()
    await expect(page.get_by_role("columnheader", name="From (UTC)", exact=True)).to_be_visible()
    await visit.context.close()


async def test_a_period_that_is_refused_is_shown_as_it_was_entered(browser: Browser, live: Live, tenant: str) -> None:
    """What is shown again is in the zone that stands beside it, and is sent as such."""
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    visit = await visitor(browser, live, KOLKATA)
    entered = {"from": "2026-11-20T18:00:00", "to": "2026-11-20T10:00:00"}
    page = await visit.at(f"{webhook.page}/replay")
    for name, text in entered.items():
        await page.locator(f"#{name}").fill(text)
    with visit.refused(422):
        await page.get_by_role("button", name="Count deliveries").click()
        await expect(page.locator("#to-wrong")).to_have_text("Must be later than from.")
    for name, text in entered.items():
        value = await page.locator(f"#{name}").input_value()
        assert f"{value}:00"[:19] == text, name
    await expect(page.locator("[data-zone-name]")).to_have_text("UTC+5:30")
    with visit.refused(422):
        page = await visit.at(f"/t/{tenant}/webhooks?as_of=2999-01-01T00:00:00Z")
        await expect(page.locator("#as_of-wrong")).to_contain_text("is in the future")
        assert (await page.locator("#as_of").input_value()).startswith("2999-01-01T05:30")
        page = await visit.at(f"/t/{tenant}/deliveries?since=2026-11-20T10:00:00Z&until=2026-11-20T04:30:00Z")
        assert (await page.locator("#until").input_value()).startswith("2026-11-20T10:00")
        page = await visit.at(f"/t/{tenant}/deliveries?since=yesterday&until=2026-11-20T04:30:00Z")
        await expect(page.locator("#since")).to_have_value("yesterday")
        assert (await page.locator("#until").input_value()).startswith("2026-11-20T04:30"), "both are in UTC"
        assert await page.locator("[data-zone-name]").all_text_contents() == ["UTC", "UTC"]
    await visit.context.close()


async def test_a_wrong_clock_of_the_reader_changes_no_countdown(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    await webhook.command("rotate-key")
    page = await visit.context.new_page()
    await page.clock.install(time=datetime.now(UTC) - timedelta(hours=3))
    await page.goto(live.url + webhook.page)
    await page.clock.run_for(2000)
    await expect(page.locator("time[data-countdown]").first).to_have_text(re.compile(r"^(24 h 0|23 h 59) min$"))


async def test_without_scripts_times_are_utc(visiting: Visiting, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    created = datetime.fromisoformat((await webhook.told())["created_at"])
    page = await (await visiting(scripts=False)).at(webhook.page)
    await expect(page.locator("dt:text-is('Created') + dd time")).to_have_text(written(created, "UTC"))
    await expect(page.locator("footer")).to_have_text("All times are UTC.")
