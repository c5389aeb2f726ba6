"""A webhook whose requests fail says so in the list and at the head of its page, with what waits for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.rows.healths import START, noted, wait
from tests.support.web import pages
from tests.support.web.application import App
from tests.support.web.pages import PART

LIST = "/t/acme/webhooks"
SINCE = "23 Nov 2026, 13:16:00 UTC"


def place(route: dict[str, Any], query: str = "") -> str:
    return f"{LIST}/{route['id']}{query}"


async def test_a_receiver_that_is_down_is_told_with_what_waits_and_the_next_probe(app: App) -> None:
    route = await app.route(name="Orders")
    await noted(app, route)
    await wait(app, route, parked_pairs=3, retries=1)
    page = await pages.get(app, place(route))
    (banner,) = page.words(".notice-bad")
    assert f"Every request has failed since {SINCE}: 500 Internal Server Error." in banner
    assert "4 deliveries wait: 1 for its next attempt, 3 until the receiver answers again. Next probe in 1" in banner
    assert page.words(".notice-bad a") == ["Send test event", "Open the last attempt"]
    assert str(page.all(".notice-bad a")[1]["href"]).endswith("?event=e1")
    assert page.words(".row > .pill") == ["Failing: nothing gets through"]
    headings = page.words("main h2")
    assert headings.index("Requests of the last 24 hours") < headings.index("Latest deliveries")
    assert headings.index("Latest deliveries") < headings.index("Configuration") < headings.index("When it receives")


async def test_the_list_tells_red_from_amber_in_words_too(app: App) -> None:
    well, failing, down = [await app.route(name=name) for name in ("well", "failing", "down")]  # the newest is first
    await noted(
        app, down, since=datetime.now(UTC) - timedelta(minutes=26), run_since=datetime.now(UTC) - timedelta(minutes=26)
    )
    await noted(app, failing, state="failing", failures=1)
    await noted(app, well, state="ok", failures=0, successes=5, run_since=START, delivered_at=START, delivered_status=200,
                delivered_event="e2", delivered_event_time=START)  # fmt: skip
    await wait(app, down, parked_pairs=2)
    page = await pages.get(app, LIST)
    states = page.words("td[data-label='Status']")
    assert states[0] == "Failing: nothing gets through for 26 min, 2 wait"
    assert states[1].startswith("Failing: some requests fail for ")
    assert states[2] == "Enabled"
    assert page.words("[data-summary]") == ["2 webhooks fail"]


async def test_a_receiver_that_answers_again_is_recovering_and_then_recovered(app: App) -> None:
    route = await app.route()
    later = datetime.now(UTC) - timedelta(minutes=1)
    answered: dict[str, Any] = {
        "failures": 0, "run_since": later, "delivered_at": later, "delivered_status": 200, "delivered_event": "e2",
        "delivered_event_time": later,
    }  # fmt: skip
    await noted(app, route, state="failing", successes=3, **answered)
    (banner,) = (await pages.get(app, place(route))).words(".notice-warn")
    assert banner.startswith("It answers again: since ")
    assert f"Before, requests failed from {SINCE} on: 500 Internal Server Error." in banner
    assert banner.endswith("Open the last failed attempt")
    await noted(app, route, state="ok", since=later, successes=30, **answered)
    page = await pages.get(app, place(route))
    (banner,) = page.words(".notice-ok")
    assert banner.startswith("Recovered: since ")
    assert page.words(".row > .pill") == ["Enabled"]


@pytest.mark.parametrize(
    ("failures", "run_since", "words"),
    [
        (1, START, f"The last request failed, at {SINCE}: 500 Internal Server Error."),
        (2, START, f"The last 2 requests failed, since {SINCE}: 500 Internal Server Error."),
        (
            1,
            START + timedelta(minutes=5),
            f"Some requests fail since {SINCE}. The last one failed: 500 Internal Server Error.",
        ),
        (
            2,
            START + timedelta(minutes=5),
            f"Some requests fail since {SINCE}. The last 2 failed: 500 Internal Server Error.",
        ),
    ],
)
async def test_one_failure_is_not_told_as_many(app: App, failures: int, run_since: datetime, words: str) -> None:
    route = await app.route()
    await noted(app, route, state="failing", failures=failures, run_since=run_since)
    (banner,) = (await pages.get(app, place(route))).words(".notice-warn")
    assert banner.startswith(words)


async def test_whoever_mended_the_target_is_told_that_nothing_was_sent_to_it_yet(app: App) -> None:
    route = await app.route()
    changed = "The webhook was changed after the last failure, at "
    await noted(app, route)
    assert changed in (await pages.get(app, place(route))).words(".notice-bad")[0], "as it was created after it"
    await noted(app, route, failed_at=datetime.now(UTC))
    assert changed not in (await pages.get(app, place(route))).text
    await app.ask("PATCH", f"/v1/tenants/acme/routes/{route['id']}", {"target_url": "https://other.example.com/"})
    (banner,) = (await pages.get(app, place(route))).words(".notice-bad")
    assert changed in banner
    assert "its next request shows whether that helps." in banner


async def test_an_old_recovery_is_not_told_any_more(app: App) -> None:
    route = await app.route()
    await noted(app, route, state="ok", failures=0, successes=9, run_since=START, since=START, delivered_at=START,
                delivered_status=200, delivered_event="e2", delivered_event_time=START)  # fmt: skip
    assert (await pages.get(app, place(route))).all(".notice") == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "2 deliveries wait for their turn: the receiver is slower than its events."),
        ({"ordered": True}, "2 deliveries wait for an earlier one: this webhook sends in the order of events."),
        ({"rate_limit_per_second": 5}, "2 deliveries wait for our rate limit of 5 per second."),
    ],
)
async def test_what_waits_says_for_what(app: App, config: dict[str, Any], words: str) -> None:
    route = await app.route(**config)
    await wait(app, route, parked_pairs=2)
    assert words in (await pages.get(app, place(route))).text


async def test_what_waits_for_its_schedule_says_until_when(app: App) -> None:
    route = await app.route()
    await wait(app, route, parked_pairs=0, retries=1)
    assert "1 delivery waits for its next attempt at " in (await pages.get(app, place(route))).text


async def test_a_disabled_one_is_disabled_whatever_its_receiver_did(app: App) -> None:
    route = await app.route()
    await noted(app, route)
    await app.ask("POST", f"/v1/tenants/acme/routes/{route['id']}/disable", {})
    page = await pages.get(app, place(route))
    assert page.words(".row > .pill") == ["Disabled"]
    assert page.all(".notice-bad") == []
    assert (await pages.get(app, LIST)).words("td[data-label='Status']") == ["Disabled by Administrator"]


@pytest.mark.parametrize("rest", ["", "/{id}"])
async def test_a_part_that_has_not_changed_is_not_sent_again(app: App, rest: str) -> None:
    route = await app.route()
    where = LIST + rest.format(**route)
    first = await pages.get(app, where, headers=PART)
    assert first.status == 200
    assert first.all("h1") == []
    known = PART | {"If-None-Match": first.headers["ETag"]}
    again = await pages.get(app, where, headers=known)
    assert (again.status, again.html) == (304, "")
    await noted(app, route)
    assert (await pages.get(app, where, headers=known)).status == 200


@pytest.mark.parametrize(
    ("query", "title"), [("1h", "hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("x", "24 hours")]
)
async def test_counts_are_told_for_an_hour_a_day_7_and_30_days(app: App, query: str, title: str) -> None:
    page = await pages.get(app, place(await app.route(), f"?range={query}"))
    assert f"Requests of the last {title}" in page.words("h2")
    assert len(page.all("nav[aria-label=Period] a[aria-current]")) == 1


@pytest.mark.parametrize("tab", ["", "/history", "/test", "/replay", "deliveries"])
async def test_every_tab_of_a_webhook_has_the_same_pill(app: App, tab: str) -> None:
    route = await app.route()
    await noted(app, route)
    where = f"/t/acme/deliveries?route={route['id']}" if tab == "deliveries" else f"/t/acme/webhooks/{route['id']}{tab}"
    page = await pages.get(app, where)
    assert page.words("[data-state] > .pill") == ["Failing: nothing gets through"]


async def test_those_that_fail_can_be_listed_alone(app: App) -> None:
    ill, disabled = await app.route(name="Ill"), await app.route(name="Ill and disabled")
    await app.route(name="Well")
    theirs = await app.route("globex", name="Theirs")
    for each in (ill, disabled, theirs):
        await noted(app, each)
    await app.ask("POST", f"/v1/tenants/acme/routes/{disabled['id']}/disable")
    page = await pages.get(app, "/t/acme/webhooks?status=failing")
    assert page.words("#webhook-rows tbody th .row-link") == ["Ill"]
    assert "Failing (1)" in page.words("#status option")
    past = await pages.get(app, "/t/acme/webhooks?as_of=2100-01-01")
    assert "Failing (1)" in past.words("#status option")  # the future is refused, so it is now
