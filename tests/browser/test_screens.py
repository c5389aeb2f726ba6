"""Every screen in both themes, wide and narrow: axe-core finds nothing, nothing scrolls sideways, each has one heading.

A screen is loaded once, then made narrower and dark: 640 px is 200 % zoom of 1280, and 320 px is 400 %. What does not
depend on colours is the same in both themes. From 640 px down only the grid of some lists changes, no colour and no size
of text (tests/unit/web/dashboard/test_style.py): axe-core looks at one of these widths.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest
from playwright.async_api import Page, expect

from tests.support.browser.chromium import (
    HEIGHT,
    NARROW,
    WIDE,
    Visit,
    cut,
    keep_two_rows_of_a_kind,
    restored,
    sideways,
    violations,
)
from tests.support.browser.live import Account, Webhook

Path = Callable[[Account], str]
Step = Callable[[Page], Awaitable[None]]


def of(webhook: str, rest: str = "") -> Path:
    """A page of one of the account's webhooks."""

    def path(account: Account) -> str:
        found: Webhook = getattr(account, webhook)
        return found.page + rest

    return path


def fixed(path: str) -> Path:
    def filled(account: Account) -> str:
        return path.format(
            t=f"/t/{account.tenant}", event=account.event, before=account.before,
            failing=account.failing.id, paused=account.paused.id, deleted=account.deleted.id,
        )  # fmt: skip

    return filled


def delivery(kind: str) -> Path:
    return lambda account: f"/t/{account.tenant}/deliveries/{account.deliveries[kind]}"


SCREENS: Mapping[str, Path] = {
    "first webhook": fixed("/t/nothing-yet/webhooks"),
    "webhooks": fixed("{t}/webhooks"),
    "webhooks, none found": fixed("{t}/webhooks?q=nowhere"),
    "webhooks as of a moment": fixed("{t}/webhooks?as_of={before}"),
    "new webhook": fixed("{t}/webhooks/new"),
    "copy of a deleted webhook": fixed("{t}/webhooks/new?copy={deleted}"),
    "edit": of("shaped", "/edit"),
    "webhook": of("active"),
    "webhook that fails": of("failing"),
    "webhook that is disabled": of("paused"),
    "webhook with a long name": of("long"),
    "webhook that is deleted": of("deleted"),
    "disable": of("busy", "/disable"),
    "delete": of("busy", "/delete"),
    "key": of("shaped", "/key"),
    "rotate key": of("active", "/rotate-key"),
    "revoke old key": of("shaped", "/revoke-old-key"),
    "history": of("shaped", "/history"),
    "test": of("active", "/test"),
    "replay": of("failing", "/replay"),
    "deliveries": fixed("{t}/deliveries"),
    "deliveries, failed of a webhook": fixed("{t}/deliveries?status=failed&route={failing}"),
    "deliveries, wrong filter": fixed("{t}/deliveries?since=yesterday"),
    "no deliveries": fixed("/t/nothing-yet/deliveries"),
    "delivery that failed": delivery("failed"),
    "delivery that waits": delivery("pending"),
    "delivery that arrived": delivery("delivered"),
    "delivery that was held back": delivery("suppressed"),
    "events": fixed("{t}/events"),
    "no events": fixed("/t/nothing-yet/events"),
    "events to a disabled webhook": fixed("{t}/events?route={paused}"),
    "event": fixed("{t}/events/{event}"),
    "event to one webhook": fixed("{t}/events/{event}?route={paused}"),
    "activity": fixed("{t}/activity"),
    "catalogue": fixed("{t}/event-types"),
    "catalogue, one type": fixed("{t}/event-types/order.create"),
    "webhooks after one was saved": lambda account: (
        f"/t/{account.tenant}/webhooks?done=created&saved={account.active.id}"
    ),
    "tenants": fixed("/operator"),
    "tokens": fixed("/operator/tokens"),
    "event types": fixed("/operator/event-types"),
    "event type": fixed("/operator/event-types/order.create"),
    "new event type": fixed("/operator/event-types/new"),
    "removing an event type": fixed("/operator/event-types/order.create/remove"),
    "list of event types": fixed("/operator/event-types/list"),
    "audits": fixed("/operator/audits"),
    "status": fixed("/operator/status"),
    "webhooks that fail": fixed("/operator/failing"),
    "refused messages": fixed("/operator/refusals"),
    "found by id": fixed("/operator/find?id=nothing"),
    "webhooks that fail here": fixed("{t}/webhooks?status=failing"),
    "not found": fixed("{t}/webhooks/none"),
}


# Screens with an error.
REFUSED = {"not found": 404, "deliveries, wrong filter": 422}


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_can_be_used_by_everybody(onlooker: Visit, account: Account, screen: str) -> None:
    with onlooker.refused(*([REFUSED[screen]] if screen in REFUSED else [])):
        page = await onlooker.at(SCREENS[screen](account))
    assert await page.locator("h1").count() == 1
    assert await page.locator(".button.primary:visible").count() <= 1
    assert await _found_at_each_width(page) == []


def opened(link: str) -> Step:
    """A step that opens the dialog of a link."""

    async def step(page: Page) -> None:
        await page.get_by_role("link", name=link, exact=True).first.click()
        await expect(page.get_by_role("dialog")).to_be_visible()

    return step


async def _with_verdict_and_preview(page: Page) -> None:
    await page.locator("#target_url").fill("ftp://nowhere")
    await expect(page.locator("#target-verdict .verdict-bad")).to_be_visible()
    await page.locator("#payload-transform").fill("{text: type}")
    await expect(page.locator("#preview pre").first).to_contain_text("text")


async def _with_errors(page: Page) -> None:
    await page.locator("#target_url").fill("ftp://nowhere")
    await page.locator("details.advanced > summary").click()
    await page.locator("#payload-filter").fill("a b [")
    await page.locator("#headers").fill("X-Team")
    await page.locator("#name").fill("Orders")
    await page.get_by_role("button", name="Create webhook").click()
    await expect(page.locator(".notice-bad")).to_be_focused()


async def _with_nothing_ticked(page: Page) -> None:
    await page.get_by_role("button", name="Delete webhook").click()
    await expect(page.locator(".notice-bad")).to_be_focused()


async def _with_no_type_found(page: Page) -> None:
    await page.locator("#find").fill("nowhere")
    await expect(page.locator("[data-none]")).to_be_visible()


async def _with_everything_chosen(page: Page) -> None:
    await page.locator("#all-types").check()


async def _counted(page: Page) -> None:
    await page.get_by_role("button", name="Count deliveries").click()
    await expect(page.locator(".counted")).to_be_visible()


async def _with_panel_of_the_past(page: Page) -> None:
    await page.get_by_text("Go back in time").click()
    await expect(page.get_by_label("As of (UTC)")).to_be_visible()


async def _with_commands_of_a_row(page: Page) -> None:
    await page.locator("details.menu > summary").nth(1).click()
    await expect(page.get_by_role("link", name="Copy verification key")).to_be_visible()


async def _with_a_group_but_for_one(page: Page) -> None:
    await page.get_by_label("All of item").check()
    await page.locator("[value='item.remove']").uncheck()
    await expect(page.locator("[data-single]:visible")).to_have_count(1)


async def _with_table_of_days(page: Page) -> None:
    await page.get_by_text("Show as a table").click()
    name = "Requests that were made and deliveries that ended in each period"
    await expect(page.get_by_role("table", name=name)).to_be_visible()


async def _with_key_revealed(page: Page) -> None:
    await page.get_by_role("link", name="Reveal the verification key").click()
    await expect(page.locator("#key-value")).not_to_contain_text("•")


async def _live(page: Page) -> None:
    await page.get_by_role("link", name="Follow live").click()
    await expect(page.locator("[data-live-state]")).to_have_text("Live")


async def _with_sign_in_link(page: Page) -> None:
    await page.get_by_role("button", name="Sign-in link for").first.click()
    await expect(page.get_by_role("region", name="Sign-in link")).to_be_visible()


async def _at_sign_in_page(page: Page) -> None:
    await _with_sign_in_link(page)
    await page.goto((await page.get_by_role("region", name="Sign-in link").inner_text()).strip())
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


async def _with_list_compared(page: Page) -> None:
    await page.locator("#types").fill('[{"name": "invoice.paid", "description": "Paid.", "example": {"data": {}}}]')
    await page.get_by_role("button", name="Compare with the catalogue").click()
    await expect(page.get_by_role("button", name="Replace the catalogue")).to_be_visible()


async def _with_audit_run(page: Page) -> None:
    await page.get_by_role("button", name="Run the audit").click()
    await page.wait_for_url("**/operator/audits/*")
    await expect(page.locator("[data-settled]")).to_be_visible()


# States of a screen after a step that changes no data.
STATES: Mapping[str, tuple[Path, Step]] = {
    "asking to disable": (of("busy"), opened("Disable")),
    "asking to delete": (of("busy"), opened("Delete")),
    "asking to rotate": (of("active"), opened("Rotate the verification key")),
    "asking to revoke the old key": (of("shaped"), opened("Revoke the old verification key now")),
    "asking to remove an event type": (fixed("/operator/event-types/order.create"), opened("Remove")),
    "form with a verdict and a preview": (of("shaped", "/edit"), _with_verdict_and_preview),
    "form with errors": (fixed("{t}/webhooks/new"), _with_errors),
    "form where no type is found": (fixed("{t}/webhooks/new"), _with_no_type_found),
    "form with everything": (fixed("{t}/webhooks/new"), _with_everything_chosen),
    "delete with errors": (of("busy", "/delete"), _with_nothing_ticked),
    "replay counted": (of("failing", "/replay"), _counted),
    "commands of a row": (fixed("{t}/webhooks"), _with_commands_of_a_row),
    "form with a group but for one": (fixed("{t}/webhooks/new"), _with_a_group_but_for_one),
    "panel of the past": (fixed("{t}/webhooks"), _with_panel_of_the_past),
    "days as a table": (of("active"), _with_table_of_days),
    "key revealed": (of("active"), _with_key_revealed),
    "live log": (fixed("{t}/deliveries"), _live),
    "sign-in link": (fixed("/operator"), _with_sign_in_link),
    "signing in": (fixed("/operator"), _at_sign_in_page),
    "audit that has ended": (fixed("/operator/audits"), _with_audit_run),
    "list compared": (fixed("/operator/event-types/list"), _with_list_compared),
}


@pytest.mark.parametrize("state", STATES)
async def test_a_screen_can_be_used_in_that_state(onlooker: Visit, account: Account, state: str) -> None:
    path, step = STATES[state]
    page = await onlooker.at(path(account))
    with onlooker.refused(422):
        await step(page)
        assert await _found_at_each_width(page) == []


# Widths at which the lists are tables, and at which they are cards.
@pytest.mark.parametrize("screen", ["webhooks", "deliveries", "webhook", "events", "tokens", "audits", "status"])
async def test_no_width_between_makes_a_list_scroll_sideways(onlooker: Visit, account: Account, screen: str) -> None:
    page = await onlooker.at(SCREENS[screen](account))
    assert [found for width in range(680, WIDE, 40) for found in await sideways(page, width)] == []


async def test_in_a_readers_own_colours_the_present_page_is_marked(onlooker: Visit, account: Account) -> None:
    page = await onlooker.at(SCREENS["webhook"](account))
    await page.emulate_media(forced_colors="active")
    for menu in (".main-nav", ".tabs"):
        marked = "links => links.map((link) => getComputedStyle(link).borderBottomColor)"
        here = await page.locator(f"{menu} a[aria-current]").evaluate_all(marked)
        others = await page.locator(f"{menu} a:not([aria-current])").evaluate_all(marked)
        assert set(here).isdisjoint(others), menu
    await page.emulate_media(forced_colors="none")


async def test_on_a_phone_the_status_takes_three_screens(onlooker: Visit, account: Account) -> None:
    height = 812
    page = await onlooker.at(SCREENS["status"](account))
    await expect(page.locator("#failing-webhooks")).to_be_visible()
    await page.set_viewport_size({"width": NARROW, "height": height})
    assert await page.evaluate("document.documentElement.scrollHeight") <= 3 * height


@pytest.mark.parametrize("style", [".crumbs a { color: #ccc }", "main { background: #444 }", "h1 { opacity: 0.3 }"])
async def test_a_text_that_became_faint_is_found_although_it_was_looked_at(
    onlooker: Visit, account: Account, style: str
) -> None:
    page = await onlooker.at(SCREENS["webhook"](account))
    assert await violations(page) == []
    await page.evaluate(
        "rule => document.styleSheets[0].insertRule(rule, document.styleSheets[0].cssRules.length)", style
    )
    assert any(each.startswith("color-contrast") for each in await violations(page))


async def _found_at_each_width(page: Page) -> list[str]:
    found = [each for width in (WIDE // 2, NARROW, 320) for look in (sideways, cut) for each in await look(page, width)]
    found += await restored(page)
    await keep_two_rows_of_a_kind(page)
    await page.set_viewport_size({"width": WIDE, "height": HEIGHT})
    found += await violations(page)
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": NARROW, "height": HEIGHT})
    found += await violations(page, "color-contrast", "link-in-text-block")
    await page.emulate_media(color_scheme="light")
    return found + await violations(page)
