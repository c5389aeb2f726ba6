"""The dashboard inside a platform's own page: a second origin frames it by a login link, a third one is refused."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Frame, Page, Route, expect

from tests.browser.conftest import lives, new_context, save_screenshots_if_failed
from tests.support.browser.chromium import NARROW, WIDE, Visit, heading, violations
from tests.support.browser.live import QUICK_RETRIES, Live
from tests.support.postgres.databases import of_database, temporary_database
from tests.support.processes.cli import CommandLine
from tests.support.receivers.receiver import Receiver

SHOP, STRANGER = "https://shop.example.com", "https://evil.example.net"
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="#0a7d4b" d="M4 8h16l-2 13H6z"/></svg>'
PAGE = """<!doctype html><html lang="en"><title>Shop</title><h1>Developers</h1>
<iframe id="webhooks" title="Webhooks" src="{}" allow="clipboard-write" style="width: 100%; height: 760px; border: 0"></iframe>"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def housed(
    browser: Browser,
    there: Receiver,
    postgres_url: str,
    administrator: asyncpg.Connection,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Live]:
    """A daemon in the house of a platform."""
    home = tmp_path_factory.mktemp("housed")
    (home / "logo.svg").write_text(LOGO)
    token = secrets.token_urlsafe(32)
    look = {
        "HOOKLEDGER_SERVER__ADMIN_TOKEN": token,
        "HOOKLEDGER_DASHBOARD__NAME": "Shop",
        "HOOKLEDGER_DASHBOARD__LOGO_FILE": str(home / "logo.svg"),
        "HOOKLEDGER_DASHBOARD__ACCENT": "#0a7d4b",
        "HOOKLEDGER_DASHBOARD__RETURN_URL": f"{SHOP}/developers",
        "HOOKLEDGER_DASHBOARD__FRAME_ANCESTORS": SHOP,
    }
    async with temporary_database(administrator, "housed", template=template_database) as name:
        hookledger = CommandLine(home, of_database(postgres_url, name), **QUICK_RETRIES, **look)
        async with lives(hookledger, there, token) as it:
            yield it


@asynccontextmanager
async def platform(browser: Browser, housed: Live, link: str, test: pytest.Item) -> AsyncIterator[BrowserContext]:
    """A browser in which two sites have a page with the link in a frame."""
    context = await new_context(browser)

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body=PAGE.format(link))

    for site in (SHOP, STRANGER):
        await context.route(f"{site}/**", answer)
    yield context
    await save_screenshots_if_failed(test, Visit(housed.url, context))
    await context.close()


async def login_link(housed: Live, tenant: str, **body: object) -> str:
    """A login link at the address where the daemon listens."""
    made = await housed.ask("POST", f"/v1/tenants/{tenant}/login-links", {"actor": "Jane Miller"} | body)
    path: str = urlsplit(made["url"]).path
    return housed.url + path


async def framed(page: Page) -> Frame:
    element = await page.wait_for_selector("#webhooks")
    frame = None if element is None else await element.content_frame()
    assert frame is not None
    return frame


async def test_a_platform_embeds_the_dashboard_by_a_login_link(
    browser: Browser, housed: Live, tenant: str, request: pytest.FixtureRequest
) -> None:
    link = await login_link(housed, tenant, path="/webhooks/new")
    async with platform(browser, housed, link, request.node) as context:
        page = await context.new_page()
        await page.goto(f"{SHOP}/developers")
        frame = await framed(page)
        await frame.get_by_role("button", name="Sign in").click()
        await expect(frame.locator("main h1")).to_have_text("Create webhook")
        await expect(frame.locator("body")).to_have_class("framed")
        assert await frame.locator(".brand img").evaluate("image => image.naturalWidth > 0")
        button = frame.get_by_role("button", name="Create webhook")
        assert await button.evaluate("it => getComputedStyle(it).backgroundColor") == "rgb(10, 125, 75)"

        await frame.get_by_label("Name", exact=True).fill("Order sync")
        await frame.get_by_label("Target URL").fill(f"{housed.target}/{tenant}")
        await expect(frame.locator("#target-verdict")).to_contain_text("This target may be used.")
        await frame.get_by_label("All of order").check()
        await button.click()
        await expect(frame.locator("tr.saved th")).to_contain_text("Order sync")
        for width in (WIDE, NARROW):
            await page.set_viewport_size({"width": width, "height": 900})
            assert not await frame.evaluate("document.scrollingElement.scrollWidth > innerWidth + 1")
        await frame.get_by_role("link", name="Activity").click()
        await expect(frame.locator(".lifecycle-created")).to_contain_text("Jane Miller")

        cookies = {each["name"]: (each["sameSite"], each["secure"]) for each in await context.cookies(housed.url)}
        names = ("hookledger", "hookledger-return")
        assert cookies == dict.fromkeys(names, ("None", True))


async def test_a_third_site_is_refused(
    browser: Browser, housed: Live, tenant: str, request: pytest.FixtureRequest
) -> None:
    link = await login_link(housed, tenant)
    async with platform(browser, housed, link, request.node) as context:
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        async with page.expect_event("console", lambda message: "frame-ancestors" in message.text):
            await page.goto(f"{STRANGER}/")
        frame = await framed(page)
        await expect(frame.get_by_role("button", name="Sign in")).to_have_count(0)
        assert any(f"frame-ancestors {SHOP}" in text for text in said)


async def test_what_is_typed_in_a_frame_survives_a_new_login(
    browser: Browser, housed: Live, tenant: str, request: pytest.FixtureRequest
) -> None:
    link = await login_link(housed, tenant, path="/webhooks/new")
    async with platform(browser, housed, link, request.node) as context:
        page = await context.new_page()
        await page.goto(f"{SHOP}/developers")
        frame = await framed(page)
        await frame.get_by_role("button", name="Sign in").click()
        await frame.get_by_label("Name", exact=True).fill("Order sync")
        await frame.get_by_label("Target URL").fill(f"{housed.target}/{tenant}")
        await frame.get_by_label("All of order").check()
        await frame.evaluate("fetch('/logout', {method: 'POST', redirect: 'manual'})")
        await frame.get_by_role("button", name="Create webhook").click()
        await expect(frame.locator("main h1")).to_have_text("Your session has ended")
        back = frame.get_by_role("link", name="Back to shop.example.com")
        assert await back.get_attribute("href") == f"{SHOP}/developers"

        await context.unroute(f"{SHOP}/**")
        again = await login_link(housed, tenant)

        async def answer(route: Route) -> None:
            await route.fulfill(content_type="text/html", body=PAGE.format(again))

        await context.route(f"{SHOP}/**", answer)
        async with context.expect_page() as opened:
            await back.click()
        other = await framed(await opened.value)
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.locator("main h1")).to_have_text("Webhooks")
        await frame.get_by_role("button", name="Send the form again").click()
        await expect(frame.locator("tr.saved th")).to_contain_text("Order sync")


async def test_a_viewer_sees_and_changes_nothing(
    browser: Browser, housed: Live, tenant: str, request: pytest.FixtureRequest
) -> None:
    webhook = await housed.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    context = await new_context(browser)
    page = await context.new_page()
    await page.goto(await login_link(housed, tenant, role="view", path=f"/webhooks/{webhook.id}"))
    await expect(page.locator("main")).to_contain_text("change nothing")
    assert await violations(page) == []
    await page.get_by_role("button", name="Sign in").click()
    await heading(page, "Orders")
    assert await violations(page) == []
    for command in ("Edit", "Disable", "Delete", "Rotate the verification key", "Reveal the verification key"):
        await expect(page.get_by_role("link", name=command)).to_have_count(0)
    await page.get_by_label("Webhooks", exact=True).get_by_role("link", name="Webhooks").click()
    await expect(page.locator("details.menu")).to_have_count(0)
    await expect(page.get_by_role("link", name="Create webhook")).to_have_count(0)
    await page.goto(f"{housed.url}{webhook.page}/key")
    await heading(page, "That is not allowed here")
    await save_screenshots_if_failed(request.node, Visit(housed.url, context))
    await context.close()


async def test_the_accent_can_be_read_in_both_themes(browser: Browser, housed: Live, tenant: str) -> None:
    await housed.webhook(tenant, "Orders", f"/{tenant}", ["order.*"])
    context = await new_context(browser)
    page = await context.new_page()
    await page.goto(await login_link(housed, tenant))
    await page.get_by_role("button", name="Sign in").click()
    for path in ("webhooks", "webhooks/new", "deliveries"):
        await page.goto(f"{housed.url}/t/{tenant}/{path}")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            assert await violations(page, "color-contrast", "link-in-text-block") == [], (path, scheme)
    await context.close()
