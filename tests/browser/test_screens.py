"""Every screen in both themes, wide and narrow: axe-core finds nothing, nothing scrolls sideways, each has one heading.

A screen is loaded once, then made narrower and dark: 640 px is 200 % zoom of 1280, and 320 px is 400 %. What does not
depend on colours is the same in both themes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.support.browser import NARROW, WIDE, Visit, sideways, violations
from tests.support.live import Account, Webhook

Path = Callable[[Account], str]


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
    "tenants": fixed("/operator"),
    "tokens": fixed("/operator/tokens"),
    "event types": fixed("/operator/event-types"),
    "event type": fixed("/operator/event-types/order.create"),
    "new event type": fixed("/operator/event-types/new"),
    "removing an event type": fixed("/operator/event-types/order.create/remove"),
    "list of event types": fixed("/operator/event-types/list"),
    "status": fixed("/operator/status"),
    "not found": fixed("{t}/webhooks/none"),
}


# Those that are shown because something is wrong.
REFUSED = {"not found": 404, "deliveries, wrong filter": 422}


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_can_be_used_by_everybody(visit: Visit, account: Account, screen: str) -> None:
    with visit.refused(*([REFUSED[screen]] if screen in REFUSED else [])):
        page = await visit.at(SCREENS[screen](account))
    assert await page.locator("h1").count() == 1
    found = await violations(page)
    found += await sideways(page, WIDE // 2)
    await page.emulate_media(color_scheme="dark")
    found += await violations(page, "color-contrast", "link-in-text-block")
    found += await sideways(page, NARROW)
    found += await violations(page, "color-contrast", "link-in-text-block")
    await page.emulate_media(color_scheme="light")
    found += await violations(page)
    found += await sideways(page, 320)
    assert found == []
