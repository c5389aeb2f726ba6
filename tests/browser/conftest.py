"""One daemon, one receiver and one Chromium for all tests here; each test has accounts and browser contexts of its own.

A test fails if one of its visits has troubles, and saves a screenshot of each of its open pages in `screenshots/`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Protocol

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, StorageState, expect

from tests.support.browser.chromium import HEIGHT, WAIT_MS, WIDE, Scheme, Visit, chromium
from tests.support.browser.live import QUICK_RETRIES, Account, Guarded, Live, furnish, shop
from tests.support.postgres.databases import of_database, temporary_database
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running
from tests.support.receivers.receiver import Receiver

HERE = Path(__file__).parent
SCREENSHOTS = HERE / "screenshots"

_failed = pytest.StashKey[bool]()
_tenants = count(1)

expect.set_options(timeout=WAIT_MS)


class Visiting(Protocol):
    def __call__(
        self,
        at: Live | None = ...,
        *,
        scheme: Scheme = ...,
        width: int = ...,
        scripts: bool = ...,
        signed_in: StorageState | None = ...,
    ) -> Awaitable[Visit]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of the folder share the event loop of the browser and the receiver."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as it:
        yield it


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def there() -> AsyncIterator[Receiver]:
    """The receiver."""
    async with shop() as it:
        yield it


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def live(
    browser: Browser,  # without a browser the tests are skipped, and need no daemon
    there: Receiver,
    postgres_url: str,
    administrator: asyncpg.Connection,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Live]:
    """The daemon, with the sample catalogue."""
    async with temporary_database(administrator, "browser", template=template_database) as name:
        url = of_database(postgres_url, name)
        hookledger = CommandLine(tmp_path_factory.mktemp("browser"), url, **QUICK_RETRIES)
        async with lives(hookledger, there) as it:
            yield it


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def guarded(
    browser: Browser,
    there: Receiver,
    postgres_url: str,
    administrator: asyncpg.Connection,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Guarded]:
    """A daemon with an admin token: its pages need a session."""
    admin = {"HOOKLEDGER_SERVER__ADMIN_TOKEN": secrets.token_urlsafe(32)}
    async with temporary_database(administrator, "guarded", template=template_database) as name:
        url = of_database(postgres_url, name)
        hookledger = CommandLine(tmp_path_factory.mktemp("guarded"), url, **QUICK_RETRIES, **admin)
        async with lives(hookledger, there, *admin.values()) as it:
            yield Guarded(live=it, hookledger=hookledger)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def account(live: Live) -> Account:
    """An account with webhooks and deliveries, which tests read and do not change."""
    return await furnish(live, "acme")


@pytest.fixture
def tenant() -> str:
    """The name of an account that is new."""
    return f"shop-{next(_tenants)}"


@pytest_asyncio.fixture(loop_scope="session")
async def visiting(browser: Browser, live: Live, request: pytest.FixtureRequest) -> AsyncIterator[Visiting]:
    """A function that begins a visit."""
    visits: list[Visit] = []

    async def begin(
        at: Live | None = None,
        *,
        scheme: Scheme = "light",
        width: int = WIDE,
        scripts: bool = True,
        signed_in: StorageState | None = None,
    ) -> Visit:
        context = await new_context(browser, scheme=scheme, width=width, scripts=scripts, signed_in=signed_in)
        visits.append(Visit((at or live).url, context))
        return visits[-1]

    yield begin
    await save_screenshots_if_failed(request.node, *visits)
    for visit in visits:
        await visit.context.close()
    assert not [trouble for visit in visits for trouble in visit.troubles]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def long_visit(browser: Browser, live: Live) -> AsyncIterator[Visit]:
    context = await new_context(browser)
    yield Visit(live.url, context, tab=await context.new_page())
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def onlooker(long_visit: Visit, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    """A visit of one who only looks at pages, those of all tests in one tab: its process has compiled the scripts of
    the pages and axe-core before, which takes half a second for each new one.
    """
    long_visit.troubles.clear()
    yield long_visit
    await save_screenshots_if_failed(request.node, long_visit)
    assert not long_visit.troubles


@pytest_asyncio.fixture(loop_scope="session")
async def visit(visiting: Visiting) -> Visit:
    return await visiting()


async def new_context(
    browser: Browser,
    *,
    scheme: Scheme = "light",
    width: int = WIDE,
    scripts: bool = True,
    signed_in: StorageState | None = None,
) -> BrowserContext:
    context = await browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": HEIGHT},
        java_script_enabled=scripts,
        storage_state=signed_in,
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(WAIT_MS)
    return context


async def save_screenshots_if_failed(test: pytest.Item, *visits: Visit) -> None:
    if not test.stash.get(_failed, False):
        return
    SCREENSHOTS.mkdir(exist_ok=True)
    pages = [page for visit in visits for page in visit.context.pages]
    for number, page in enumerate(pages):
        name = f"{re.sub(r'[^a-zA-Z0-9_]+', '-', test.name)}-{number}.png"
        await page.screenshot(path=SCREENSHOTS / name, full_page=True)


@asynccontextmanager
async def lives(hookledger: CommandLine, there: Receiver, token: str | None = None) -> AsyncIterator[Live]:
    """A daemon with the sample catalogue."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with running(hookledger) as daemon, aiohttp.ClientSession(headers=headers) as session:
        it = Live(url=daemon.url, target=there.url, session=session)
        await it.load_catalogue()
        yield it
