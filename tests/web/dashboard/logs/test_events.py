"""The log of events, with the decisions about them for one webhook."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from daemon.web.dashboard.logs import events as screen
from daemon.web.service.events import event_pages
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent
from eventstore.queries.events import sample_events
from tests.support.values.builders import new_event
from tests.support.web import pages
from tests.support.web.application import App, path
from tests.support.web.pages import Page
from tests.support.web.tokens import bearer, token

LIST = "/t/acme/events"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def publish_events(app: App, *events: NewEvent) -> None:
    """Publishes events that are read at once."""
    await domain_events.publish(app.database, events)
    await ticks.make(app.database)


def ids(page: Page) -> list[str]:
    return page.words("tbody .row-id")


def decisions_on(page: Page) -> dict[str, str]:
    """The decision for the webhook, by event."""
    return dict(zip(ids(page), page.words("td[data-label='To it']"), strict=True))


def query_of(link: object) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(link)).query).items()}


async def on_all_pages(app: App, where: str) -> list[str]:
    return [each for page in await pages.get_all(app, where) for each in ids(page)]


async def command(app: App, route: dict[str, Any], *commands: str) -> None:
    for each in commands:
        answer = await app.ask("POST", path(route, each))
        assert answer.status == 200


# ---- the list ----


async def test_what_was_published_is_listed_newest_first_by_the_time_it_happened(app: App) -> None:
    now = datetime.now(UTC)
    ago = [timedelta(hours=2), timedelta(0), timedelta(days=2), timedelta(hours=1)]
    await publish_events(
        app, *(new_event(id=f"e{n}", type="order.pay", occurred_at=now - each) for n, each in enumerate(ago))
    )
    await publish_events(app, new_event(tenant="globex", id="theirs"))
    page = await pages.get(app, LIST)
    assert page.status == 200
    assert ids(page) == ["e1", "e3", "e0", "e2"]
    assert page.words("tbody th")[0] == "order.pay, event e1"
    assert page.words("thead th") == ["Event", "Happened", "Recorded"]
    assert page.words("td[data-label=Happened]")[3] == "2 days ago"
    exact = page.all("td[data-label=Happened] time")[3]["title"]
    assert exact == f"{now - ago[2]:%-d %b %Y, %H:%M:%S} UTC"
    assert [each.endswith((" ago", "just now")) for each in page.words("td[data-label=Recorded]")] == [True] * 4
    assert str(page.one("tbody tr:first-child a")["href"]) == f"{LIST}/e1"


async def test_a_row_leads_to_its_event_with_any_id(app: App) -> None:
    await publish_events(app, new_event(id="a/b c%?#&"))
    page = await pages.get(app, LIST)
    event = await pages.get(app, str(page.one("tbody a")["href"]))
    assert (event.status, event.words("aside .copyable code")) == (200, ["a/b c%?#&"])


async def test_tests_and_imports_are_marked(app: App) -> None:
    route = await app.route()
    await publish_events(app, new_event(id="old", backfill=True))
    await sample_events.publish(
        app.database, UUID(route["id"]), [NewEvent(tenant="acme", id="test_1", type="a.b", data=b"{}")]
    )
    page = await pages.get(app, LIST)
    assert page.words("tbody th") == ["a.b, event test_1 Test", "order.create, event old Backfill"]


async def test_a_long_list_has_pages(app: App) -> None:
    await publish_events(app, *(new_event(id=f"e{n:02}", occurred_at=NOON + timedelta(hours=n)) for n in range(62)))
    first = await pages.get(app, f"{LIST}?type=order.create")
    second = await pages.get(app, str(first.one("a[rel=next]")["href"]))
    assert ids(first) + ids(second) == [f"e{n:02}" for n in range(61, -1, -1)]
    assert len(ids(first)) == screen.PAGE_SIZE == 50
    assert first.words(".pager a") == ["Next page"]
    assert second.words(".pager a") == ["Previous page"]
    assert second.one(".pager a")["href"] == f"{LIST}?type=order.create"


async def test_a_page_without_any_though_there_may_be_more_leads_on(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "MAX_TYPES", 0)  # as with very many types
    monkeypatch.setattr(event_pages, "_WALKED_ROWS", 3)
    monkeypatch.setattr(event_pages, "PAGE_SECONDS", 0.0)
    types = ["shop.open", *["order.create"] * 7]
    await publish_events(
        app, *(new_event(id=f"e{n}", type=each, occurred_at=NOON + timedelta(hours=n)) for n, each in enumerate(types))
    )
    first = await pages.get(app, f"{LIST}?type=shop.open")
    assert first.words(".empty h2") == ["Still looking"]
    assert first.words(".pager a") == ["Look further"]
    second = await pages.get(app, str(first.one("a[rel=next]")["href"]))
    assert second.words(".pager a") == ["Previous page", "Look further"]
    assert await on_all_pages(app, f"{LIST}?type=shop.open") == ["e0"]


async def test_a_short_page_says_that_it_is_still_looking(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "MAX_TYPES", 0)
    monkeypatch.setattr(event_pages, "_WALKED_ROWS", 3)
    monkeypatch.setattr(event_pages, "PAGE_SECONDS", 0.0)
    await publish_events(app, *(new_event(id=f"e{n}", occurred_at=NOON + timedelta(hours=n)) for n in range(4)))
    page = await pages.get(app, f"{LIST}?type=order.create")
    assert ids(page) == ["e3", "e2", "e1"]
    assert "Still looking: there may be older ones that fit." in page.text
    assert page.words(".pager a") == ["Look further"]


async def test_a_page_behind_the_last_one_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "MAX_TYPES", 0)
    monkeypatch.setattr(event_pages, "_WALKED_ROWS", 2)
    monkeypatch.setattr(event_pages, "PAGE_SECONDS", 0.0)
    await publish_events(app, *(new_event(id=f"e{n}", occurred_at=NOON + timedelta(hours=n)) for n in range(4)))
    *_, page = await pages.get_all(app, f"{LIST}?type=order.create")
    assert page.words(".empty h2") == ["No older ones"]
    assert page.one(".empty a")["href"] == f"{LIST}?type=order.create"


@pytest.mark.parametrize("tenant", ["acme", "after-shave"])
async def test_the_first_page_has_no_link_to_the_first_page_with_any_query(app: App, tenant: str) -> None:
    await publish_events(app, new_event(tenant=tenant, type="order.after_pay"))
    page = await pages.get(app, f"/t/{tenant}/events?type=order.after_pay")
    assert len(ids(page)) == 1
    assert page.all(".pager") == []


@pytest.mark.parametrize("cursor", ["x", "MTIz", "%00", "é"])
async def test_a_cursor_that_no_page_has_given_out_begins_at_the_newest(app: App, cursor: str) -> None:
    await publish_events(app, new_event(id="e1"))
    assert ids(await pages.get(app, f"{LIST}?after={cursor}")) == ["e1"]


async def test_without_events_it_says_when_there_will_be_some(app: App) -> None:
    page = await pages.get(app, LIST)
    assert page.words(".empty h2") == ["No events yet"]
    assert page.all("[data-live]") == []


# ---- filters ----


async def test_each_filter_leaves_what_fits(app: App) -> None:
    await publish_events(
        app,
        *(
            new_event(id=f"e{n}", type=("order.create", "shop.open")[n % 5 == 0], occurred_at=NOON + timedelta(hours=n))
            for n in range(20)
        ),
    )
    since, until = "2026-01-01T17:00", "2026-01-02 03:00:00"
    for query, found in (
        ({"type": "shop.open"}, ["e15", "e10", "e5", "e0"]),
        ({"type": " shop.open ", "since": since, "until": until}, ["e10", "e5"]),
        ({"since": "2026-01-02T05:00:00Z"}, ["e19", "e18", "e17"]),
        ({"until": "2026-01-01T13:00:00.000001Z"}, ["e1", "e0"]),
        ({"type": "shop.close"}, []),
    ):
        assert ids(await pages.get(app, f"{LIST}?{urlencode(query)}")) == found, query
    none = await pages.get(app, f"{LIST}?type=shop.close")
    assert none.words(".empty h2") == ["No event fits"]
    assert none.one(".empty a")["href"] == LIST


async def test_an_event_id_leads_to_the_event(app: App) -> None:
    route = await app.route(name="Orders")
    found = await pages.get(app, f"{LIST}?event=+a/b+c%25+")
    assert (found.status, found.location) == (303, f"{LIST}/a%2Fb%20c%25")
    found = await pages.get(app, f"{LIST}?event=e1&route=orders&type=a.b")
    assert (found.status, found.location) == (303, f"{LIST}/e1?route={route['id']}")


async def test_what_is_wrong_is_reported_beside_its_field_and_the_input_is_kept(app: App) -> None:
    await app.route()
    await publish_events(app, new_event())
    entered = {"route": "nope", "type": "Order", "event": "x", "since": "yesterday", "until": "1", "where": "x"}
    page = await pages.get(app, f"{LIST}?{urlencode(entered)}")
    assert page.status == 422
    wrong = ["route-wrong", "type-wrong", "since-wrong", "until-wrong", "where-wrong"]
    assert [each["id"] for each in page.all(".wrong")] == wrong
    assert page.form_data("form.filters") == {name: [value] for name, value in entered.items()}
    assert page.one("details").has_attr("open")
    assert page.all("main table") == page.all(".empty") == page.all(".page-head .actions") == []
    assert page.words("[role=alert]") == ["Nothing was looked up yet: correct what is marked above, and apply again."]


async def test_if_several_webhooks_match_the_page_asks_to_choose(app: App) -> None:
    made = [await app.route(name=f"Orders {each}") for each in "ab"]
    page = await pages.get(app, f"{LIST}?route=order&type=order.pay")
    assert page.status == 422
    links = [query_of(each["href"]) for each in page.all(".matches a")]
    assert links == [{"route": each["id"], "type": "order.pay"} for each in made]


async def test_each_part_of_a_filter_can_be_taken_away(app: App) -> None:
    route = await app.route(name="Orders")
    query = {"route": route["id"], "type": "order.pay", "since": "2026-11-24T08:30"}
    page = await pages.get(app, f"{LIST}?{urlencode(query)}&after=x")
    assert page.words(".chip span:first-child") == [
        "Webhook Orders",
        "Type order.pay",
        "From 24 Nov 2026, 08:30:00 UTC",
    ]
    assert [query_of(chip["href"]) for chip in page.all(".chip")] == [
        {name: value for name, value in query.items() if name != left} for left in query
    ]
    assert page.one(".chips li:last-child a")["href"] == LIST


async def test_the_status_of_a_delivery_is_nothing_to_ask_of_events(app: App) -> None:
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{LIST}?status=lost")
    assert (page.status, ids(page), page.all(".chip")) == (200, ["e1"], [])
    assert "status" not in page.form_data("form.filters")


# ---- one webhook ----


async def test_for_one_webhook_each_event_has_its_decision(app: App) -> None:
    await publish_events(app, new_event(id="before"))
    other = await app.route(name="other")
    route = await app.route(name="Orders", event_types=["shop.open"])
    await publish_events(app, new_event(id="not-yet-wanted"))
    assert (await app.ask("PATCH", path(route), {"event_types": ["order.*"]})).status == 200
    await publish_events(app, new_event(id="due"), new_event(id="imported", backfill=True))
    await command(app, route, "/disable")
    await publish_events(app, new_event(id="missed"))
    await command(app, route, "/enable")
    for each in (route, other):
        test = NewEvent(tenant="acme", id=f"test_{each['name']}", type="order.create", data=b"{}")
        await sample_events.publish(app.database, UUID(each["id"]), [test])
    await publish_events(app, new_event(id="of-no-type-of-it", type="shop.open"))
    await domain_events.publish(app.database, [new_event(id="unread")])
    page = await pages.get(app, f"{LIST}?route=orders")
    assert decisions_on(page) == {
        "unread": "Not read yet",
        "test_other": "Not subscribed",
        "test_Orders": "Delivery",
        "missed": "Skipped: disabled",
        "imported": "Not sent: backfill",
        "due": "Delivery",
        "not-yet-wanted": "Not subscribed",
        "before": "Before its creation",
    }
    assert page.words("thead th") == ["Event", "To Orders", "Happened", "Recorded"]
    assert "Of the types that Orders has now." in page.text
    links = [str(each["href"]) for each in page.all("td[data-label='To it'] a")]
    assert links == [
        f"/t/acme/deliveries/{delivery_id(UUID(route['id']), each, datetime.now(UTC))}?event={each}"
        for each in ("test_Orders", "due")
    ]
    for link in links:
        assert (await pages.get(app, link)).status == 200
    assert page.one("tbody tr:last-child th a")["href"] == f"{LIST}/before?route={route['id']}"
    assert await api_decisions(app, route, list(decisions_on(page))) == [
        "not_yet_read", "not_subscribed", "pending", "disabled_at_event_time", "backfill", "pending",
        "not_subscribed", "before_creation",
    ]  # fmt: skip


async def api_decisions(app: App, route: dict[str, Any], events: Sequence[str]) -> list[str]:
    """The decisions that the API returns."""
    answers = [await app.ask("GET", f"/v1/tenants/acme/explain?event={each}&route={route['id']}") for each in events]
    return [answer.json["decision"] for answer in answers]


async def test_for_a_webhook_of_a_prefix_the_events_below_it_are_listed(app: App) -> None:
    route = await app.route(event_types=["customer.subscription.*", "shop.open"])
    types = ["customer.create", "customer.subscription.create", "customer.subscription.item.add", "shop.open", "shop.x"]
    await publish_events(app, *(new_event(id=f"e{n}", type=each) for n, each in enumerate(types)))
    page = await pages.get(app, f"{LIST}?route={route['id']}")
    assert decisions_on(page) == {"e3": "Delivery", "e2": "Delivery", "e1": "Delivery"}
    await command(app, route, "/disable")
    await publish_events(app, *(new_event(id=f"late{n}", type=each) for n, each in enumerate(types)))
    overview = await pages.get(app, f"/t/acme/webhooks/{route['id']}")
    assert "3 events" in overview.text


async def test_what_happened_after_a_webhook_was_deleted_says_so(app: App) -> None:
    route = await app.route(name="Gone")
    await publish_events(app, new_event(id="due"))
    await app.ask("DELETE", path(route))
    await publish_events(app, new_event(id="late"))
    page = await pages.get(app, f"{LIST}?route={route['id']}")
    assert decisions_on(page) == {"late": "After its deletion", "due": "Delivery"}


async def test_a_filter_is_not_evaluated_so_deliveries_have_a_proviso(app: App) -> None:
    """The filter that the webhook had at that time counts."""
    route = await app.route(event_types=["order.*"])
    await publish_events(app, new_event(id="unfiltered"))
    await app.ask("PATCH", path(route), {"payload": {"filter": "data.n > `1`"}})
    test = NewEvent(tenant="acme", id="test_1", type="order.create", data=b"{}")
    await sample_events.publish(app.database, UUID(route["id"]), [test])
    await publish_events(app, new_event(id="filtered"), new_event(id="imported", backfill=True))
    proviso = {
        "imported": "Not sent: backfill",
        "filtered": "Delivery if its filter let it pass",
        "test_1": "Delivery",
        "unfiltered": "Delivery",
    }
    page = await pages.get(app, f"{LIST}?route={route['id']}")
    assert {name: proviso[name] for name in decisions_on(page)} == decisions_on(page)
    assert len(decisions_on(page)) == 4
    assert "what its filter says is on the page of each event" in page.text
    await app.ask("PATCH", path(route), {"payload": {"filter": None}})
    later = await pages.get(app, f"{LIST}?route={route['id']}")
    assert decisions_on(later) == decisions_on(page)
    assert "what its filter says" not in later.text


async def test_a_webhook_and_a_type_show_that_type_even_if_it_is_not_subscribed(app: App) -> None:
    route = await app.route(event_types=["order.*"])
    await publish_events(app, new_event(id="e1", type="shop.open"), new_event(id="e2"))
    page = await pages.get(app, f"{LIST}?route={route['id']}&type=shop.open")
    assert decisions_on(page) == {"e1": "Not subscribed"}
    assert "Of the types that" not in page.text


async def test_pages_of_one_webhook_lead_on_with_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "PAGE_SIZE", 2)
    route = await app.route(event_types=["order.*"])
    types = ["order.create", "shop.open", "order.pay", "order.create"]
    await publish_events(
        app, *(new_event(id=f"e{n}", type=each, occurred_at=NOON + timedelta(hours=n)) for n, each in enumerate(types))
    )
    page = await pages.get(app, f"{LIST}?route={route['id']}")
    assert ids(page) == ["e3", "e2"]
    assert query_of(page.one("a[rel=next]")["href"]).keys() == {"route", "after"}
    assert await on_all_pages(app, f"{LIST}?route={route['id']}") == ["e3", "e2", "e0"]


# ---- access and escaping ----


async def test_another_account_is_not_there(app: App) -> None:
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    assert (await pages.get(app, LIST, headers=theirs)).status == 404
    foreign = await app.route("globex", name="theirs")
    page = await pages.get(app, f"{LIST}?route={foreign['id']}")
    assert page.status == 422
    assert "theirs" not in page.text


async def test_who_may_only_read_sees_the_same(app: App) -> None:
    await publish_events(app, new_event(id="e1"))
    headers = pages.BROWSER | bearer(await token(app.database, "auditor"))
    assert ids(await pages.get(app, LIST, headers=headers)) == ["e1"]


async def test_everything_in_it_is_escaped(app: App) -> None:
    route = await app.route(name=HOSTILE)
    await app.route(name=HOSTILE + "2")
    await publish_events(app, new_event(id=HOSTILE))
    for query in (
        {},
        {"route": route["id"]},
        {"route": HOSTILE[:9]},
        {"route": "<script>", "type": HOSTILE, "since": HOSTILE, "until": HOSTILE},
    ):
        page = await pages.get(app, f"{LIST}?{urlencode(query)}")
        assert len(page.all("script")) == 1, query
        assert "</script>49" not in page.text, query
    assert ids(await pages.get(app, LIST)) == [HOSTILE]
    led = await pages.get(app, f"{LIST}?event={quote(HOSTILE)}")
    assert (await pages.get(app, led.location)).words("aside .copyable code") == [HOSTILE]
