"""The page of one webhook."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore import domain_events
from eventstore.leases import lease
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.events import missed_events
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import attempt, new_event
from tests.support.web import pages
from tests.support.web.application import TARGET, App, path
from tests.support.web.tokens import bearer, token

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


def at(route: dict[str, str], rest: str = "") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}{rest}"


async def publish_events(app: App, *types: str) -> None:
    await domain_events.publish(app.database, [new_event(type=type) for type in types])


async def disabled(app: App, reason: str | None = None, **more: Any) -> dict[str, str]:
    route = await app.route(**more)
    await app.ask("POST", path(route, "/disable"), {"reason": reason} if reason else {})
    return route


async def test_it_says_what_the_webhook_is_and_how_it_is_set(app: App) -> None:
    route = await app.route(
        name="Orders",
        event_types=["order.*", "shop.open"],
        payload={"filter": "data.total > `100`", "snapshot": {"customer": True, "orders": ["total"]}},
        headers={"X-Shop": "geheim"},
        ordered=True,
        rate_limit_per_second=2.5,
    )
    page = await pages.get(app, at(route))
    assert page.status == 200
    assert page.words("h1") == ["Orders"]
    assert page.words("h1 + .pill") == ["Enabled"]
    assert page.words(".tag") == ["order.*", "shop.open"]
    facts = page.text
    for message in (
        TARGET,
        "data.total > `100`",
        "customer: all fields",
        "orders: total",
        "X-Shop: ***",
        "2.5 per second",
    ):
        assert message in facts
    assert "geheim" not in page.html
    assert "One at a time" in facts
    assert [link.text for link in page.all(".page-head .actions a")] == ["Edit", "Send test event", "Disable", "Delete"]


async def test_the_key_is_not_on_the_page_but_a_link_to_it_is(app: App) -> None:
    route = await app.route()
    page = await pages.get(app, at(route))
    assert route["verification_key"] not in page.html
    assert route["key"]["fingerprint"] in page.text
    assert page.one("a[data-reveal]")["href"] == at(route, "/key")


async def test_without_deliveries_it_leads_to_a_test_event(app: App) -> None:
    route = await app.route()
    page = await pages.get(app, at(route))
    assert page.words(".empty h2") == ["Nothing was sent yet"]
    assert page.one(".empty a")["href"] == at(route, "/test")


async def test_it_lists_the_latest_deliveries_and_no_others(app: App) -> None:
    epochs = await lease.acquire(app.database, "me", range(16))
    route, other = await app.route(), await app.route(name="other")
    now = datetime.now(UTC)
    for number, route_id in enumerate([route["id"]] * 9 + [other["id"]], 1):
        row = attempt(seq=number, event_id=f"evt-{number}", route_id=route_id)
        row = row._replace(tenant="acme", event_time=now + timedelta(seconds=number), started_at=now)
        await recording.flush(app.database, "me", epochs, Flush(attempts=[row]), number=number, macs=LOG_MACS)
    page = await pages.get(app, at(route))
    assert page.words(".deliveries .row-id") == [f"evt-{number}" for number in range(9, 1, -1)]


async def test_a_disabled_one_says_since_when_by_whom_why_and_what_it_missed(app: App) -> None:
    await publish_events(app, "order.create")
    route = await disabled(app, "the receiver moves", event_types=["order.*"])
    await publish_events(app, "order.create", "order.pay", "shop.open")
    page = await pages.get(app, at(route))
    (notice,) = page.words(".notice-warn")
    assert notice.startswith("Disabled since ")
    assert "by Administrator: “the receiver moves”." in notice
    assert notice.endswith("2 events of its types happened since. They were skipped, and will never be sent.")
    assert str(page.one(".notice-warn a")["href"]).startswith(f"/t/acme/events?route={route['id']}&since=20")
    assert [each.text for each in page.all(".page-head .actions button")] == ["Enable"]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([], "No event of its types has happened since, so none was skipped."),
        (["order.create"], "1 event of its types happened since. It was skipped, and will never be sent."),
        (["order.create"] * 3, "More than 2 events of its types happened since. They were skipped, and will never"),
    ],
)
async def test_it_counts_what_was_missed_as_people_do(
    app: App, types: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed_events, "MAX_COUNTED", 2)
    route = await disabled(app, event_types=["order.*"])
    await publish_events(app, *types)
    assert message.replace("More than 2", "At least 2") in (await pages.get(app, at(route))).words(".notice-warn")[0]


async def test_a_number_beyond_the_limit_of_counting_is_a_lower_bound(app: App) -> None:
    route = await disabled(app)
    await publish_events(app, *["order.create"] * 1001)
    assert "More than 1,000 events of its types" in (await pages.get(app, at(route))).words(".notice-warn")[0]


async def test_where_too_much_else_happened_it_claims_no_number(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_events, "MAX_LOOKED_AT", 1)
    route = await disabled(app, event_types=["order.*"])
    await publish_events(app, "shop.open", "shop.open")
    assert "may have been skipped: too many others" in (await pages.get(app, at(route))).words(".notice-warn")[0]


async def test_with_a_filter_the_number_is_the_most_there_can_be(app: App) -> None:
    route = await disabled(app, payload={"filter": "data.total > `100`"})
    await publish_events(app, "order.create", "order.create")
    (notice,) = (await pages.get(app, at(route))).words(".notice-warn")
    assert "Up to 2 events of its types happened since, as far as its filter let them pass." in notice


async def test_one_that_was_created_disabled_says_that_it_was_never_enabled(app: App) -> None:
    route = await app.route(enabled=False)
    await publish_events(app, "order.create")
    page = await pages.get(app, at(route))
    assert page.words(".notice-warn")[0].startswith("Never enabled since it was created on ")
    assert "1 event of its types happened since" in page.words(".notice-warn")[0]
    assert "It was never enabled, so nothing was ever due." in page.text


async def test_once_enabled_again_it_says_from_when_on_and_what_was_skipped(app: App) -> None:
    route = await disabled(app)
    await publish_events(app, "order.create")
    await app.ask("POST", path(route, "/enable"))
    await publish_events(app, "order.create")
    (start, off, on) = [row["effective_at"] for row in await app.log()]
    page = await pages.get(app, at(route, "?done=enabled"))
    (notice,) = page.words(".notice-ok")
    assert f"Events that happen from {on:%-d %b %Y, %H:%M:%S} UTC on are sent." in notice
    assert (
        f"1 event of its types happened from {off:%-d %b %Y, %H:%M:%S} UTC to {on:%-d %b %Y, %H:%M:%S} UTC." in notice
    )
    later = await pages.get(app, at(route))
    assert later.all(".notice-ok") == []
    assert "1 event of its types happened from" in later.text
    assert [time["datetime"] for time in later.all(".windows time")] == [
        moment.isoformat(timespec="microseconds").replace("+00:00", "Z") for moment in (on, start, off)
    ]


async def test_one_that_was_never_off_says_nothing_of_skipped_events(app: App) -> None:
    page = await pages.get(app, at(await app.route()))
    assert "skipped" not in page.text


async def test_while_two_keys_sign_it_counts_down_and_offers_to_revoke_the_old_one(app: App) -> None:
    route = await app.route()
    await app.ask("POST", path(route, "/rotate-key"))
    page = await pages.get(app, at(route))
    countdown = page.one("time[data-countdown]")
    assert countdown.text == "23 h 59 min"
    left = datetime.fromisoformat(str(countdown["datetime"])) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left < timedelta(hours=24)
    assert page.words("[data-countdown] + a, .notice-info a") == ["Revoke the old verification key now"]


async def test_a_deleted_one_is_shown_as_it_was_and_can_only_be_copied(app: App) -> None:
    route = await app.route(name="Gone")
    await app.ask("DELETE", path(route), {"reason": "no shop any more"})
    page = await pages.get(app, at(route))
    assert page.status == 200
    assert page.words("h1 + .pill") == ["Deleted"]
    assert "by Administrator: “no shop any more”" in page.words(".notice-warn")[0]
    assert [link["href"] for link in page.all(".actions a")] == [f"/t/acme/webhooks/new?copy={route['id']}"]
    assert page.all(".actions form") == page.all("#key") == []


@pytest.mark.parametrize("rest", ["", "/disable", "/delete", "/key", "/rotate-key", "/revoke-old-key", "/history"])
async def test_the_webhook_of_another_account_is_not_found(app: App, rest: str) -> None:
    route = await app.route("globex")
    page = await pages.get(app, f"/t/acme/webhooks/{route['id']}{rest}")
    assert page.status == 404
    assert route["name"] not in page.text


async def test_hostile_names_targets_and_reasons_are_shown_as_they_are(app: App) -> None:
    route = await disabled(app, HOSTILE, name=HOSTILE, payload={"filter": "'<script>' == \"<script>\""})
    for rest in ("", "/history", "/delete", "/key", "/rotate-key"):
        page = await pages.get(app, at(route, rest))
        assert page.status == 200
        assert len(page.all("script")) == 1, rest
        assert "{{ 7*7 }}" in page.text


async def test_who_may_only_read_sees_no_buttons_and_no_way_to_the_key(app: App) -> None:
    route = await app.route()
    headers = pages.BROWSER | bearer(await token(app.database, "auditor"))
    page = await pages.get(app, at(route), headers=headers)
    assert page.status == 200
    assert page.all(".actions") == page.all("a[data-reveal]") == page.all("main form") == []
    assert not [link for link in page.all("a") if str(link["href"]).endswith(("/key", "/rotate-key", "/edit", "/test"))]
    refused = await pages.get(app, at(route, "/key"), headers=headers)
    assert refused.status == 403
    assert route["verification_key"] not in refused.html


async def test_two_hundred_event_types_do_not_fill_the_page(app: App) -> None:
    types = [f"order_number_{number}.create" for number in range(200)]
    page = await pages.get(app, at(await app.route(event_types=types)))
    assert page.words(".more-types summary") == ["and 192 more"]
    assert page.words(".tag") == types
    assert len(page.html) < 100_000
