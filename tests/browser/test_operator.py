"""What an operator does: makes sign-in links and tokens, edits the catalogue, and reads the status."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import pytest_asyncio
from playwright.async_api import Browser, Page, StorageState, expect

from tests.browser.conftest import Visiting
from tests.support.browser.chromium import NARROW, WIDE, Scheme, Visit, copied, heading, sideways, violations
from tests.support.browser.live import Guarded, Live, example


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def session(guarded: Guarded, browser: Browser) -> StorageState:
    """The cookies of a browser after it used a sign-in link."""
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.goto(guarded.live.url + guarded.link())
        await page.get_by_role("button", name="Sign in").click()
        await heading(page, "Tenants")
        return await context.storage_state()


@pytest_asyncio.fixture(loop_scope="session")
async def operator(guarded: Guarded, visiting: Visiting, session: StorageState) -> Visit:
    """An operator who is signed in."""
    return await visiting(guarded.live, signed_in=session)


SOURCES = """
INSERT INTO hookledger.source_partition
       (source, topic, partition, first_offset, next_offset, events, refused, log_end, owner, fault)
SELECT 'shop_of_the_north', 'orders.of.the.north.v2', n, 0, 12345678, 12345670, 8, 12345699,
       (SELECT owner FROM hookledger.process LIMIT 1), CASE n WHEN 1 THEN 'the partition ends at 2' END
  FROM generate_series(0, 2) n
"""
REFUSALS = """
INSERT INTO hookledger.source_refusal (source_partition, source_offset, reason, key, beginning, size_bytes)
SELECT id, 123456789 + partition, 'type: must be object.action, as order.create, not ' || repeat('long', 30), 'acme',
       convert_to(repeat('{"lines": [', 20), 'UTF8'), 2097152
  FROM hookledger.source_partition
"""


async def test_sources_and_what_they_refused_are_shown_at_every_width(operator: Visit, guarded: Guarded) -> None:
    connection = await asyncpg.connect(guarded.hookledger.environment["HOOKLEDGER_DATABASE__URL"])
    await connection.execute(SOURCES)
    await connection.execute(REFUSALS)
    try:
        page = await operator.at("/operator/status")
        rows = page.get_by_role("row", name="shop_of_the_north")
        await expect(rows).to_have_count(3)
        await expect(rows.nth(1)).to_contain_text("Stopped")
        await expect(page.locator("main")).to_contain_text("the partition ends at 2")
        await _assert_usable(page)
        await page.get_by_role("link", name="3 refused").click()
        await heading(page, "Refused messages")
        await expect(page.get_by_role("row", name="shop_of_the_north")).to_have_count(3)
        await _assert_usable(page)
    finally:
        await connection.execute("DELETE FROM hookledger.source_refusal; DELETE FROM hookledger.source_partition")
        await connection.close()


async def _assert_usable(page: Page) -> None:
    assert [found for width in (WIDE, WIDE // 2, NARROW, 320) for found in await sideways(page, width)] == []
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        assert await violations(page) == []


async def test_nobody_sees_anything_without_a_session(guarded: Guarded, visiting: Visiting) -> None:
    visit = await visiting(guarded.live)
    with visit.refused(401):
        page = await visit.at("/operator")
        await heading(page, "Please sign in")
    await expect(page.locator("main")).to_contain_text("Open a new sign-in link")


async def test_a_sign_in_link_shows_merchants_their_own_and_nothing_else(
    operator: Visit, guarded: Guarded, visiting: Visiting, tenant: str
) -> None:
    live, page = guarded.live, await operator.at("/operator")
    await live.webhook(tenant, "Their own", f"/{tenant}", ["order.*"])
    other = await live.webhook(f"other-than-{tenant}", "Of somebody else", f"/{tenant}", ["order.*"])
    await page.reload()
    await expect(page.get_by_role("row", name=f"Open {tenant} ").locator(".number")).to_have_text(["1", "0", "0"])
    await page.get_by_role("button", name=f"Sign-in link for {tenant}", exact=True).click()
    await heading(page, f"Sign-in link for {tenant}")
    link = await copied(page.get_by_role("button", name="Copy Sign-in link"))

    merchant = await visiting(live)
    page = await merchant.at(link.removeprefix(live.url))
    await page.get_by_role("button", name="Sign in").click()
    await heading(page, "Webhooks")
    await expect(page.locator("#webhooks th a")).to_have_text(["Their own"])
    await expect(page.locator(".tenant")).to_have_text(tenant)
    await expect(page.get_by_role("link", name="All tenants")).to_have_count(0)
    with merchant.refused(403, 404):
        await page.goto(live.url + other.page)
        await heading(page, "There is nothing here")
        await page.goto(live.url + "/operator")
        await heading(page, "That is not allowed here")

    stranger = await visiting(live)
    with stranger.refused(410):
        await heading(await stranger.at(link.removeprefix(live.url)), "This link no longer works")


async def test_signing_out_ends_the_session(guarded: Guarded, visiting: Visiting, tenant: str) -> None:
    merchant = await visiting(guarded.live)
    page = await guarded.signed_in(merchant, tenant)
    await heading(page, "Webhooks")
    with merchant.refused(401):
        await page.get_by_role("button", name="Sign out").click()
        await heading(page, "Your session has ended")
        await page.go_back()
        await page.reload()
        await heading(page, "Your session has ended")


async def test_a_token_is_shown_once_and_lets_in_until_it_is_revoked(
    operator: Visit, guarded: Guarded, tenant: str
) -> None:
    page = await operator.at("/operator")
    await page.get_by_label("Operator").get_by_role("link", name="Tokens").click()
    await heading(page, "Tokens")
    form = page.locator("#new-token")
    await form.get_by_label("Name").fill(f"Backend of {tenant}")
    await form.get_by_label("Publish events").check()
    await form.get_by_label("Tenant", exact=True).fill(tenant)
    await form.get_by_role("button", name="Create token").click()
    await heading(page, "Copy the token now")
    token = await copied(page.get_by_role("button", name="Copy Token"))
    async with _published(guarded.live, token, tenant) as response:
        assert response.status == 202, await response.text()
        event = (await response.json())["events"][0]["id"]
    event_json = await guarded.live.ask("GET", f"/v1/tenants/{tenant}/events/{event}")
    assert event_json["type"] == "order.create"

    await page.get_by_role("link", name="I have copied it").click()
    row = page.get_by_role("row", name=f"Backend of {tenant}")
    await expect(row.locator(".pill")).to_have_text("Active")
    await expect(row.get_by_role("cell", name=re.compile(r"^(just now|\d+ (s|min) ago)\b"))).to_have_count(2)
    assert token not in await page.content()
    await row.get_by_role("link", name="Revoke").click()
    dialog = page.get_by_role("dialog", name=f"Revoke “Backend of {tenant}”?")
    await expect(dialog).to_contain_text("somebody depends on it")
    await dialog.get_by_role("button", name="Revoke token").click()
    await expect(page.locator("[data-notice]")).to_contain_text("The token is revoked")
    await expect(row.locator(".pill")).to_have_text("Revoked")
    async with _published(guarded.live, token, tenant) as response:
        assert response.status == 401


async def test_event_types_are_added_edited_and_removed(operator: Visit, guarded: Guarded) -> None:
    page = await operator.at("/operator")
    await page.get_by_label("Operator").get_by_role("link", name="Event types").click()
    await page.get_by_role("link", name="Add event type").click()
    await page.get_by_label("Name").fill("parcel.lose")
    await page.get_by_label("Description").fill("A parcel is lost.")
    await page.get_by_label("Example").fill('{"data": {"parcel": ')
    with operator.refused(422):
        await page.get_by_role("button", name="Add event type").click()
        await expect(page.locator("#example-wrong")).to_be_visible()
    await expect(page.get_by_label("Description")).to_have_value("A parcel is lost.")
    await page.get_by_label("Example").fill('{"data": {"parcel": 7}}')
    await page.get_by_role("button", name="Add event type").click()
    await expect(page.locator("[data-notice]")).to_contain_text("in the catalogue")
    assert await _type(guarded.live, "parcel.lose") == ("A parcel is lost.", {"parcel": 7})

    await page.get_by_role("link", name="parcel.lose").click()
    await page.get_by_label("Description").fill("A parcel is lost for good.")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("[data-notice]")).to_have_text("The event type is saved.")
    assert await _type(guarded.live, "parcel.lose") == ("A parcel is lost for good.", {"parcel": 7})

    await page.get_by_role("link", name="parcel.lose").click()
    await page.get_by_role("link", name="Remove", exact=True).click()
    dialog = page.get_by_role("dialog", name="Remove parcel.lose?")
    await expect(dialog).to_contain_text("No webhook is subscribed to it.")
    await dialog.get_by_role("button", name="Remove event type").click()
    await expect(page.locator("[data-notice]")).to_contain_text("no longer in the catalogue")
    assert await _type(guarded.live, "parcel.lose") is None


async def test_the_status_follows_the_backlog_by_itself(operator: Visit, guarded: Guarded, tenant: str) -> None:
    page = await operator.at("/operator")
    await page.get_by_label("Operator").get_by_role("link", name="Status").click()
    await heading(page, "Status")
    await expect(page.locator(".notice-ok")).to_contain_text(
        "Every shard has an owner and keeps up, and no webhook fails."
    )
    await page.get_by_text(re.compile("^All .* shards have an owner")).click()
    shards = page.get_by_role("table", name=re.compile("^Shards")).locator("tbody tr")
    status = await guarded.live.ask("GET", "/v1/status")
    await expect(shards).to_have_count(len(status["shards"]))
    await expect(shards.get_by_role("meter")).to_have_count(len(status["shards"]))
    waiting = page.locator(".tiles .card", has_text="Retrying").locator("dd")
    before = int(await waiting.inner_text())

    webhook = await guarded.live.webhook(tenant, "Orders", f"/busy/{tenant}", ["order.*"])
    await webhook.happen("order.create")
    await webhook.until_told_to_wait()
    await expect(waiting).to_have_text(str(before + 1))


@asynccontextmanager
async def _published(live: Live, token: str, tenant: str) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(example("order.create") | {"tenant": tenant})
    async with live.session.post(f"{live.url}/v1/events", data=data, headers=headers) as response:
        yield response


async def _type(live: Live, name: str) -> tuple[str, object] | None:
    items = (await live.ask("GET", "/v1/event-types?limit=200"))["items"]
    return next(((each["description"], each["example"]["data"]) for each in items if each["name"] == name), None)
