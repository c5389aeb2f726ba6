"""Names that are as long as they may be, or of other scripts, on every page that shows them."""

from __future__ import annotations

from tests.support.browser.chromium import NARROW, WIDE, Visit, cut, sideways
from tests.support.browser.live import Live

LONGEST = "W" * 128


async def test_the_longest_name_makes_no_page_scroll_sideways(visit: Visit, live: Live, tenant: str) -> None:
    webhook = await live.webhook(tenant, LONGEST, f"/{tenant}/{'p' * 300}", ["order.*"])
    await webhook.happen("order.create")
    (delivery,) = await webhook.until(1, "delivered")
    await webhook.edit(name="Short, for a change")
    await webhook.edit(name=LONGEST)
    (event,) = (await live.ask("GET", f"/v1/tenants/{tenant}/events"))["items"]
    pages = [f"/t/{tenant}/{each}" for each in ("webhooks", "deliveries", "deliveries?live=1", "activity", "events")]
    pages += [f"/t/{tenant}/deliveries/{delivery['id']}", f"/t/{tenant}/events/{event['id']}"]
    pages += [f"/t/{tenant}/events?route={webhook.id}", f"/t/{tenant}/deliveries?route={webhook.id}"]
    own = ("", "/edit", "/test", "/replay", "/history", "/key", "/disable", "/delete", "/rotate-key", "/revoke-old-key")
    pages += [f"{webhook.page}{each}" for each in own]
    for path in pages:
        page = await visit.at(path)
        for width in (320, NARROW, WIDE):
            assert await sideways(page, width) == [], path
            assert await cut(page, width) == [], path
        await page.close()


async def test_names_that_run_from_right_to_left_keep_the_order_of_their_sentence(
    visit: Visit, live: Live, tenant: str
) -> None:
    names = ["הזמנות", "משלוחים"]
    for name in names:
        await live.webhook(tenant, name, f"/{tenant}", ["order.*"])
    webhook = await live.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    page = await visit.at(f"{webhook.page}/disable")
    links = page.locator(".meaning").get_by_role("link")
    written = await links.all_text_contents()
    assert sorted(written) == sorted(names)
    boxes = [await link.bounding_box() for link in await links.all()]
    first, second = (box for box in boxes if box is not None)
    assert first["x"] < second["x"]
