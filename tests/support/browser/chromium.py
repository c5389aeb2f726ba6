"""Chromium at the pages of the dashboard, with the checks that hold on every page.

A page has no error in the console, no request that fails or goes to another host, no horizontal scrolling, and no
violation that axe-core finds.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

REQUIRE_BROWSER = "HOOKLEDGER_TEST_REQUIRE_BROWSER"
WIDE, NARROW, HEIGHT = 1280, 375, 900
WAIT_MS = 40_000
Scheme = Literal["light", "dark"]

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-features=LocalNetworkAccessChecks",  # a public site frames a daemon on loopback in tests alone
)  # fmt: skip

# Elements beyond the right edge that are not inside an element that scrolls or clips.
_KEEP_TWO = """() => {
  const seen = new Map();
  for (const row of document.querySelectorAll("main tbody > tr, main li, main label.choice")) {
    const kind = row.className + row.innerHTML.replace(/>[^<]*</g, "><")
      .replace(/ (href|title|datetime|id|for|value|action|(aria|data)-[a-z-]+)="[^"]*"/g, "");
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    if (seen.get(kind) > 2) row.remove();
  }
}"""
_SIDEWAYS = """() => {
  const scrolls = (element) => /auto|scroll|hidden|clip/.test(getComputedStyle(element).overflowX)
  const isFree = (element) => {
    for (let above = element.parentElement; above && above !== document.body; above = above.parentElement)
      if (scrolls(above)) return false
    return element.getBoundingClientRect().right > innerWidth + 1
  }
  if (document.scrollingElement.scrollWidth <= innerWidth) return []
  const found = [...document.querySelectorAll('body *')].filter(isFree)
  return [`${document.scrollingElement.scrollWidth} px wide`, ...found.slice(0, 5).map((each) => each.outerHTML.slice(0, 120))]
}"""

# Texts of which a part is not seen, as an element above clips it, though none with an ellipsis says so.
_CUT = """() => {
  const found = []
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT)
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    if (!text.data.trim() || text.parentElement.closest('.visually-hidden, script, style, template, svg, option')) continue
    const range = document.createRange()
    range.selectNodeContents(text)
    const right = Math.max(...[...range.getClientRects()].map((each) => each.right))
    for (let above = text.parentElement; above && above.tagName !== 'MAIN'; above = above.parentElement) {
      const style = getComputedStyle(above), box = above.getBoundingClientRect()
      if (/auto|scroll/.test(style.overflowX) || (style.clipPath !== 'none' && box.width <= 1)) break
      if (!/hidden|clip/.test(style.overflowX) || right <= box.right + 1) continue
      if (style.textOverflow !== 'ellipsis') found.push(above.className + ': ' + text.data.trim().slice(0, 60))
      break
    }
  }
  return found
}"""

# Fields whose form lets a browser restore them on the way back: by their places, whatever the page has there now.
_RESTORED = """() => [...document.forms].filter((form) => form.autocomplete !== 'off')
  .flatMap((form) => [...form.elements]).filter((each) => each.matches('input:not([type=hidden]), select, textarea'))
  .map((each) => each.outerHTML.slice(0, 120))"""

_FOCUS_RING = """() => {
  const style = getComputedStyle(document.activeElement)
  return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== 'none'
}"""

_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_CONTRAST = "color-contrast"
_RUN = f"""which => axe.run({{runOnly: which, rules: {{'{_CONTRAST}': {{enabled: false}}}}, resultTypes: ['violations']}})
  .then((found) => found.violations)"""
# What the contrast of an element depends on: its text, and all that is behind it. Takes those that have passed, and
# returns those that pass now. An element that is placed over others is looked at on each page.
_RUN_CONTRAST = f"""async (known) => {{
  const passed = new Set(known)
  const looks = (element) => {{
    const own = getComputedStyle(element)
    const layers = [own.color, own.fontSize, own.fontWeight, own.textShadow]
    for (let each = element; each; each = each.parentElement) {{
      const style = getComputedStyle(each)
      if (!['static', 'relative'].includes(style.position)) return null
      layers.push(style.backgroundColor, style.backgroundImage, style.opacity, style.filter, style.mixBlendMode)
    }}
    return layers.join(' ').replaceAll(' rgba(0, 0, 0, 0) none 1 none normal', '')
  }}
  const hasText = (element) => element.matches('input, select, textarea')
    || [...element.childNodes].some((each) => each.nodeType === Node.TEXT_NODE && each.data.trim())
  const texts = [...document.querySelectorAll('body *')].filter(hasText)
  const all = new Map(texts.map((element) => [element, looks(element)]))
  const include = [...all].filter(([, each]) => !passed.has(each)).map(([element]) => element)
  if (!include.length) return [[], []]
  const resultTypes = ['violations', 'passes']
  const found = await axe.run({{include}}, {{runOnly: ['{_CONTRAST}'], resultTypes, elementRef: true}})
  const nodes = (each) => each.nodes.map(({{target, html}}) => ({{target, html}}))
  return [
    found.violations.map((each) => ({{id: each.id, help: each.help, nodes: nodes(each)}})),
    found.passes.flatMap((each) => each.nodes).map((each) => all.get(each.element)).filter((each) => each),
  ]
}}"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium. Without one the test is skipped, or fails if REQUIRE_BROWSER is set to 1.

    The headless shell comes first: the same engine without windows, at less than a third of the CPU time for a page.
    """
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        complain = pytest.fail if os.environ.get(REQUIRE_BROWSER) == "1" else pytest.skip
        complain("there is no Chromium: the browser tests do not run")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


class Visit:
    """One person at the dashboard: a browser context that records the `troubles` of all its pages.

    With a `tab` each path is opened there, instead of in a new one.
    """

    def __init__(self, base: str, context: BrowserContext, *, tab: Page | None = None) -> None:
        self.base = base
        self.context = context
        self._tab = tab
        self.troubles: list[str] = []
        self._refusals: set[int] = set()
        self._refused: set[str] = set()
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.troubles.append(f"script: {error.error}"))
        context.on("request", self._note_request)
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_response)

    async def at(self, path: str) -> Page:
        """Opens a path in a new tab, or wide and light in the only one."""
        page = self._tab
        if page is None:
            page = await self.context.new_page()
        else:
            await page.set_viewport_size({"width": WIDE, "height": HEIGHT})
            await page.emulate_media(media="screen", color_scheme="light")
        await page.goto(self.base + path)
        return page

    @contextmanager
    def refused(self, *statuses: int) -> Iterator[None]:
        """Inside the context, answers with these statuses are no troubles."""
        self._refusals = set(statuses)
        try:
            yield
        finally:
            self._refusals = set()

    def _note_console(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        if message.text.startswith("Failed to load resource") and where in self._refused:
            return
        if message.type in {"error", "warning"}:
            self.troubles.append(f"console: {message.text} ({where})")

    def _note_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.base).netloc and not request.url.startswith("data:"):
            self.troubles.append(f"another host: {request.url}")

    def _note_failure(self, request: Request) -> None:
        if request.failure not in {"net::ERR_ABORTED", None}:  # ERR_ABORTED: the page was left meanwhile
            self.troubles.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status < 400:
            return
        if response.status in self._refusals:
            self._refused.add(response.url)
        else:
            self.troubles.append(f"{response.status}: {response.request.method} {response.url}")


async def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds on a page, by these rules, or by default by all for WCAG 2.2 AA and its best practices.

    Contrast takes a millisecond for each element. A text that passed before, on whatever page, with the same colours
    behind it, is not looked at again.
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_axe())
    found: list[dict[str, Any]] = await page.evaluate(_RUN, [each for each in rules or _TAGS if each != _CONTRAST])
    if not rules or _CONTRAST in rules:
        faint, passed = await page.evaluate(_RUN_CONTRAST, list(_passed))
        _passed.update(passed)
        found += faint
    return [
        f"{each['id']}: {each['help']}: {node['target']} {node['html'][:200]}"
        for each in found
        for node in each["nodes"][:3]
    ]


async def keep_two_rows_of_a_kind(page: Page) -> None:
    """Removes rows of lists and tables, and boxes to tick, that differ from two others in nothing but their texts and addresses: axe-core
    takes a millisecond for the contrast of each element, and finds the same in each of them.
    """
    await page.evaluate(_KEEP_TWO)


async def sideways(page: Page, width: int) -> list[str]:
    """The elements that make a page scroll sideways at that width in pixels; empty if it does not."""
    await page.set_viewport_size({"width": width, "height": 740})
    found: list[str] = await page.evaluate(_SIDEWAYS)
    return [f"at {width} px: {each}" for each in found]


async def restored(page: Page) -> list[str]:
    """The fields that a browser restores on the way back to a page, which may be another one by then."""
    found: list[str] = await page.evaluate(_RESTORED)
    return [f"restored: {each}" for each in found]


async def cut(page: Page, width: int) -> list[str]:
    """The texts that end in the middle of a letter at that width in pixels, without an ellipsis."""
    await page.set_viewport_size({"width": width, "height": 740})
    found: list[str] = await page.evaluate(_CUT)
    return [f"at {width} px: {each}" for each in found]


async def tab_to(page: Page, selector: str, *, most: int = 60) -> None:
    """Presses Tab until the selected element has the focus, and checks that the focus is visible."""
    target = page.locator(selector).first
    for _ in range(most):
        await page.keyboard.press("Tab")
        if await target.evaluate("element => element === document.activeElement"):
            assert await page.evaluate(_FOCUS_RING), f"the focus on {selector} cannot be seen"
            return
    raise AssertionError(f"{most} times Tab do not lead to {selector}")


async def copied(button: Locator) -> str:
    """The text in the clipboard after a click on the button."""
    page = button.page
    await page.evaluate("navigator.clipboard.writeText('')")
    await button.click()
    async with asyncio.timeout(60):
        # No `wait_for_function`: a promise is true before it is fulfilled.
        while not (text := await page.evaluate("navigator.clipboard.readText()")):
            await asyncio.sleep(0.02)
    return str(text)


async def heading(page: Page, text: str | re.Pattern[str]) -> None:
    """Waits for the page with this heading."""
    await expect(page.locator("main h1")).to_have_text(text)


# How the texts look whose contrast was enough.
_passed: set[str] = set()


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()
