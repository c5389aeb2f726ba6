"""The log of deliveries as a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import UUID, uuid4

import pytest

from daemon import deliveries
from daemon.core.delivery.answer import delivery_id
from daemon.deliveries import listing
from daemon.deliveries.scanning import merge
from daemon.web.dashboard.html import page_links
from daemon.web.dashboard.logs import live, route_lookup
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.queries.deliveries import undecided
from eventstore.queries.deliveries.delivery_log import ListPosition
from eventstore.queries.events import sample_events
from tests.support.rows.delivery_log import DeliveryLog, ExpectedDelivery, delivery_log
from tests.support.rows.recorded import recorded
from tests.support.values.builders import new_event
from tests.support.web import pages
from tests.support.web.application import App, path
from tests.support.web.pages import Page
from tests.support.web.tokens import bearer, token

LOG = "/t/acme/deliveries"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


async def publish_events(app: App, *ids: str, **more: Any) -> None:
    await domain_events.publish(app.database, [new_event(id=each, **more) for each in ids])


async def listed(app: App, **query: str) -> list[tuple[str, str, str]]:
    """Event, webhook and status of each delivery on all pages of the log."""
    return [row for page in await pages.get_all(app, f"{LOG}?{urlencode(query)}") for row in rows_on(page)]


def rows_on(page: Page) -> list[tuple[str, str, str]]:
    return [
        (
            row.select_one(".row-id").get_text(),  # type: ignore[union-attr] # each has one
            str(row.select_one("td[data-label=Webhook] a")["href"]).rpartition("/")[2],  # type: ignore[index] # so too
            row.select_one(".pill").get_text().lower(),  # type: ignore[union-attr] # and so
        )
        for row in page.all(".deliveries tbody tr")
    ]


def ids(page: Page) -> list[str]:
    return page.words(".deliveries .row-id")


def expected(log: DeliveryLog, fits: Any = lambda _it: True) -> list[tuple[str, str, str]]:
    return [(it.event_id, str(it.route_id), it.status) for it in log.expected(fits)]


def form_errors(page: Page) -> dict[str, str]:
    """The messages beside the fields with an error, by field."""
    for each in page.all("[aria-invalid]"):
        assert f"{each['name']}-wrong" in str(each["aria-describedby"])
    return {
        str(each["id"]).removesuffix("-wrong"): " ".join(each.get_text().split()).replace(" .", ".")
        for each in page.all(".wrong")
    }


def query_of(link: object) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(link)).query).items()}


# ---- rows ----


async def test_each_filter_leaves_what_fits_and_nothing_else_in_order(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        whole = log.expected()
        early, late = whole[-len(whole) // 4].event_time, whole[len(whole) // 4].event_time
        one = whole[7].event_id

        def is_then(it: ExpectedDelivery) -> bool:
            return early <= it.event_time < late

        for query, fits in (
            ({}, lambda _it: True),
            ({"status": "failed"}, lambda it: it.status == "failed"),
            ({"status": "pending"}, lambda it: it.status == "pending"),
            ({"route": str(log.broad)}, lambda it: it.route_id == log.broad),
            ({"type": "order.pay"}, lambda it: it.event_type == "order.pay"),
            ({"event": f" {one} "}, lambda it: it.event_id == one),
            ({"since": early.isoformat(), "until": late.isoformat()}, is_then),
            (
                {"since": early.isoformat(), "route": str(log.broad), "type": "order.pay", "status": "delivered"},
                lambda it: (
                    it.event_time >= early
                    and (it.route_id, it.event_type, it.status) == (log.broad, "order.pay", "delivered")
                ),
            ),
        ):
            found = expected(log, fits)
            assert found, query
            assert await listed(log.app, **query) == found, query


async def test_what_a_filter_matches_can_be_taken_as_a_file(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        early = log.expected()[-5].event_time
        query = {"since": early.isoformat(), "route": str(log.broad), "status": "delivered"}
        page = await pages.get(log.app, f"{LOG}?{urlencode(query)}")
        found = log.expected(lambda it: it.event_time >= early and (it.route_id, it.status) == (log.broad, "delivered"))
        links = {link.get_text(): str(link["href"]) for link in page.all("a[download]")}
        assert links.keys() == {"CSV", "NDJSON"}
        exported = await log.app.ask("GET", links["NDJSON"])
        events = [json.loads(line)["event"]["id"] for line in exported.text.splitlines()]
        assert events == [it.event_id for it in found]
        assert (await log.app.ask("GET", links["CSV"])).text.count("\r\n") == len(found) + 1


async def test_a_row_leads_to_the_delivery_and_to_its_webhook(app: App) -> None:
    route = await app.route(name="Orders")
    await publish_events(app, "a/b c%")
    page = await pages.get(app, LOG)
    links = [str(each["href"]) for each in page.all(".deliveries tbody a")]
    made = delivery_id(UUID(route["id"]), "a/b c%", datetime.now(UTC))
    assert links == [f"{LOG}/{made}?event=a%2Fb+c%25", f"/t/acme/webhooks/{route['id']}"]
    assert page.words("td[data-label=Webhook]") == ["Orders"]
    assert (await pages.get(app, links[0])).status == 200


async def test_a_row_says_what_the_last_request_came_to_and_when_the_next_is(app: App) -> None:
    it = await recorded(app)
    failed = it.row("retrying", status_code=500, error="http_500")
    await it.record(failed, it.row("retrying", number=2, status_code=None, error="timeout"))
    await it.wait(failures=2, after=timedelta(minutes=5))
    (row,) = (await pages.get(app, LOG)).words(".deliveries tbody tr")
    assert "Pending next in 4 min" in row
    assert "No answer in time 42 ms, attempt 2" in row


@pytest.mark.parametrize(
    ("outcome", "number", "message"),
    [("delivered", 1, "Delivered 200 OK 42 ms"), ("suppressed", 0, "Suppressed Not sent"), ("", 0, "Not tried yet")],
)
async def test_a_row_says_what_became_of_it(app: App, outcome: str, number: int, message: str) -> None:
    it = await recorded(app)
    if outcome:
        await it.record(it.row(outcome, number=number, status_code=200 if number else None))
    (row,) = (await pages.get(app, LOG)).words(".deliveries tbody tr")
    assert message in row
    assert "attempt" not in row


@pytest.mark.parametrize("after", [timedelta(0), timedelta(milliseconds=990)])
async def test_an_attempt_that_begins_by_now_is_said_to_be_due(app: App, after: timedelta) -> None:
    it = await recorded(app)
    await it.record(it.row("retrying"))
    await it.wait(after=after)
    assert "due now" in (await pages.get(app, LOG)).words(".deliveries tbody tr")[0]


async def test_test_deliveries_are_marked(app: App) -> None:
    route = await app.route()
    await sample_events.publish(
        app.database, UUID(route["id"]), [NewEvent(tenant="acme", id="test_1", type="a.b", data=b"{}")]
    )
    await publish_events(app, "real")
    page = await pages.get(app, LOG)
    assert ids(page) == ["real", "test_1"]
    assert page.words(".deliveries .tag") == ["Test"]


# ---- the filter by webhook ----


async def test_a_webhook_is_found_by_its_id_its_name_or_a_part_of_it(app: App) -> None:
    orders, shop = await app.route(name="Orders"), await app.route(name="Shop <Süd>")
    await publish_events(app, "e1")
    for text, route in (
        (orders["id"], orders),
        (orders["id"].upper(), orders),
        ("orders", orders),
        ("RDER", orders),
        (" shop <SÜD> ", shop),
    ):
        page = await pages.get(app, f"{LOG}?{urlencode({'route': text})}")
        assert [row[1] for row in rows_on(page)] == [route["id"]], text
        assert page.form_data("form.filters")["route"] == [route["id"]]
        assert page.words(".chip span:first-child") == [f"Webhook {route['name']}"]


async def test_the_very_name_counts_more_than_a_part_of_others(app: App) -> None:
    exact = await app.route(name="Orders")
    await app.route(name="Orders of the south")
    await publish_events(app, "e1")
    assert [row[1] for row in rows_on(await pages.get(app, f"{LOG}?route=orders"))] == [exact["id"]]


async def test_if_several_webhooks_match_the_page_asks_to_choose(app: App) -> None:
    await app.route(name="Shop")
    made = [await app.route(name=f"Orders {each}", target_url=f"https://{each}.example.com/") for each in "ab"]
    await publish_events(app, "e1")
    page = await pages.get(app, f"{LOG}?route=order&status=pending&after=x")
    assert page.status == 422
    assert form_errors(page) == {"route": "May be one of these webhooks: choose one."}
    assert page.words(".matches a") == ["Orders a", "Orders b"]
    assert page.words(".matches li") == ["Orders a https://a.example.com/", "Orders b https://b.example.com/"]
    assert page.all(".deliveries") == []
    links = [each["href"] for each in page.all(".matches a")]
    assert [query_of(link) for link in links] == [{"route": each["id"], "status": "pending"} for each in made]
    assert [row[1] for row in rows_on(await pages.get(app, str(links[1])))] == [made[1]["id"]]


async def test_two_webhooks_of_one_name_are_the_choice_and_not_all_that_have_it_in_theirs(app: App) -> None:
    for number in range(12):
        await app.route(name=f"Orders {number}")
    for _ in range(2):
        await app.route(name="Orders")
    page = await pages.get(app, f"{LOG}?route=orders")
    assert page.words(".matches a") == ["Orders", "Orders"]
    assert len((await pages.get(app, f"{LOG}?route=order")).all(".matches a")) == 10


async def test_neither_a_foreign_webhook_nor_an_unknown_one_is_found(app: App) -> None:
    await app.route(name="ours")
    foreign = await app.route("globex", name="theirs")
    for text in (foreign["id"], "theirs", str(uuid4()), "\0"):
        page = await pages.get(app, f"{LOG}?{urlencode({'route': text})}")
        assert page.status == 422
        assert form_errors(page) == {"route": "Is neither the name nor the id of a webhook."}
        assert page.form_data("form.filters")["route"] == [text]
    assert "theirs" not in (await pages.get(app, LOG)).text


async def test_webhooks_are_chosen_by_name_and_deleted_ones_are_apart(app: App) -> None:
    for name in ("zebra", "Ant", "bee"):
        await app.route(name=name)
    gone = await app.route(name="aardvark")
    await app.ask("DELETE", path(gone))
    page = await pages.get(app, LOG)
    assert page.words("select#route > option") == ["All webhooks", "Ant", "bee", "zebra"]
    assert page.words("select#route optgroup[label=Deleted] option") == ["aardvark"]


async def test_what_a_deleted_webhook_got_is_still_there(app: App) -> None:
    it = await recorded(app, name="Gone")
    await it.record(it.row("delivered"))
    await app.ask("DELETE", path(it.route))
    page = await pages.get(app, f"{LOG}?route={it.route['id']}")
    assert rows_on(page) == [("e1", it.route["id"], "delivered")]
    assert page.words("select#route option[selected]") == ["Gone"]
    assert page.words(".tabs a") == ["Overview", "Deliveries", "History"]


async def test_with_more_webhooks_than_a_list_can_have_one_types_a_name(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert route_lookup.MAX_CHOICES == 200
    monkeypatch.setattr(route_lookup, "MAX_CHOICES", 2)
    made = [await app.route(name=f"Orders {each}") for each in "ab"]
    assert (await pages.get(app, LOG)).one("#route").name == "select"
    await app.route(name="Shop")
    page = await pages.get(app, f"{LOG}?route={made[0]['id']}")
    assert page.one("#route").name == "input"
    assert page.form_data("form.filters")["route"] == ["Orders a"]
    page = await pages.get(app, f"{LOG}?route=order")
    assert page.form_data("form.filters")["route"] == ["order"]
    assert page.words(".matches a") == ["Orders a", "Orders b"]


async def test_the_log_of_one_webhook_shows_its_tabs(app: App) -> None:
    route = await app.route(name="Orders")
    page = await pages.get(app, f"{LOG}?route={route['id']}")
    assert page.words(".crumbs a") == ["Webhooks", "Orders"]
    assert page.words(".tabs [aria-current]") == ["Deliveries"]
    assert page.one("title").text == "Deliveries · Orders · Hookledger"
    assert (await pages.get(app, LOG)).all(".tabs") == []


# ---- filters ----


async def test_what_is_wrong_is_reported_beside_its_field_and_the_input_is_kept(app: App) -> None:
    await app.route()
    entered = {
        "route": "nope",
        "status": "lost",
        "type": "Order",
        "event": "x\0",
        "since": "yesterday",
        "until": "2026-11-24T25:00",
        "where": "public_id",
    }
    page = await pages.get(app, f"{LOG}?{urlencode(entered)}")
    assert page.status == 422
    a_moment = "Must be a date and a time in UTC, like 2026-11-24 08:30."
    assert form_errors(page) == {
        "route": "Is neither the name nor the id of a webhook.",
        "status": "Must be one of delivered, pending, retrying, failed, suppressed, expired.",
        "type": "Must be object.action in lower case (a-z, 0-9, _), like order.create, of at most 128 characters.",
        "event": "Is not the id of an event.",
        "since": a_moment,
        "until": a_moment,
        "where": "Looks into one event only: leave out its id, or this. "
        "Must name a field and its value, like data.object.public_id = 7dc6.",
    }
    assert page.form_data("form.filters") == {name: [value] for name, value in entered.items()}
    assert page.one("details").has_attr("open")
    assert page.words("[role=alert]") == ["Nothing was looked up yet: correct what is marked above, and apply again."]
    assert page.all(".deliveries") == page.all(".empty") == page.all(".chip") == []
    assert page.all(".page-head .actions") == []


async def test_a_wrong_moment_is_in_a_field_that_a_browser_does_not_empty(app: App) -> None:
    await app.route()
    page = await pages.get(app, f"{LOG}?since=yesterday&until=2026-11-24 08:30")
    assert (page.one("#since")["type"], page.one("#until")["type"]) == ("text", "datetime-local")
    assert page.form_data("form.filters")["until"] == ["2026-11-24T08:30:00"]


async def test_a_period_must_end_after_it_begins(app: App) -> None:
    await app.route()
    page = await pages.get(app, f"{LOG}?since=2026-11-24T08:30&until=2026-11-24T08:30:00Z")
    assert form_errors(page) == {"until": "Must be later than the beginning."}
    assert page.words(".chip span:first-child") == ["From 24 Nov 2026, 08:30:00 UTC"]


async def test_each_part_of_a_filter_can_be_taken_away(app: App) -> None:
    route = await app.route(name="Orders")
    query = {
        "route": route["id"],
        "status": "failed",
        "type": "order.pay",
        "event": "e1",
        "since": "2026-11-24T08:30:00+02:00",
        "until": "2026-11-25",
    }
    page = await pages.get(app, f"{LOG}?{urlencode(query)}&after=x&done=created")
    assert page.words(".chip span:first-child") == [
        "Webhook Orders",
        "Status failed",
        "Type order.pay",
        "Event e1",
        "From 24 Nov 2026, 06:30:00 UTC",
        "Until 25 Nov 2026, 00:00:00 UTC",
    ]
    links = [query_of(chip["href"]) for chip in page.all(".chip")]
    assert links == [{name: value for name, value in query.items() if name != left} for left in query]
    assert page.words(".chips li:last-child") == ["Clear all"]
    assert page.one(".chips li:last-child a")["href"] == LOG
    assert page.form_data("form.filters")["since"] == ["2026-11-24T06:30:00"]
    one = await pages.get(app, f"{LOG}?status=failed")
    assert one.words(".chips li") == ["Status failed ×, remove this filter"]


async def test_frequent_filters_are_one_click_and_keep_the_webhook(app: App) -> None:
    route = await app.route()
    page = await pages.get(app, f"{LOG}?route={route['id']}&status=failed&type=a.b")
    assert page.words(".quick a") == ["All", "Failed", "Retrying", "Pending", "Last hour"]
    queries = [query_of(each["href"]) for each in page.all(".quick a")]
    since = datetime.fromisoformat(queries[4].pop("since"))
    assert timedelta(hours=1) <= datetime.now(UTC) - since < timedelta(hours=1, minutes=1)
    lasting = {"route": route["id"]}
    by_status = [lasting | {"status": status} for status in ("failed", "retrying", "pending")]
    assert queries == [lasting, *by_status, lasting]
    for query, current in (("", ["All"]), (f"?route={route['id']}", ["All"]), ("?status=failed", ["Failed"])):
        assert (await pages.get(app, f"{LOG}{query}")).words(".quick [aria-current]") == current


async def test_the_types_of_the_catalogue_are_offered(app: App) -> None:
    types: dict[str, Any] = {
        "event_types": [{"name": name, "description": "", "example": {"data": {}}} for name in ("a.b", "a.c")]
    }
    assert (await app.ask("PUT", "/v1/event-types", types)).status == 200
    await app.route()
    page = await pages.get(app, LOG)
    assert [each["value"] for each in page.all("datalist#types option")] == ["a.b", "a.c"]


# ---- pages ----


async def test_a_long_log_has_pages(app: App) -> None:
    route = await app.route()
    now = datetime.now(UTC)
    await domain_events.publish(
        app.database, [new_event(id=f"e{n:02}", occurred_at=now + timedelta(hours=n)) for n in range(62)]
    )
    first = await pages.get(app, f"{LOG}?route={route['id']}")
    assert first.words(".pager a") == ["Next page"]
    second = await pages.get(app, str(first.one("a[rel=next]")["href"]))
    assert (len(ids(first)), len(ids(second))) == (50, 12)
    assert sorted(ids(first) + ids(second)) == [f"e{n:02}" for n in range(62)]
    assert second.words(".pager a") == ["Previous page"]
    assert second.one(".pager a")["href"] == f"{LOG}?route={route['id']}"
    assert second.words(".chip span:first-child") == ["Webhook a route"]


async def test_one_goes_back_through_the_pages_that_one_came_by(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROWS", 1)
    monkeypatch.setattr(page_links, "TRAIL", 3)
    await app.route()
    await publish_events(app, *(f"e{n}" for n in range(8)))
    page = await pages.get(app, f"{LOG}?type=order.create")
    way = [ids(page)]
    while page.all("a[rel=next]"):
        page = await pages.get(app, str(page.one("a[rel=next]")["href"]))
        way.append(ids(page))
    assert len(way) == 8
    back = [ids(page)]
    while page.all("a[rel=prev]"):
        page = await pages.get(app, str(page.one("a[rel=prev]")["href"]))
        back.append(ids(page))
    assert back == way[:-5:-1]  # a longer way is forgotten
    assert page.words(".pager a") == ["First page", "Next page"]
    assert page.all(".pager a")[0]["href"] == f"{LOG}?type=order.create"


@pytest.mark.parametrize("tenant", ["acme", "after-shave"])
async def test_the_first_page_has_no_link_to_the_first_page_with_any_query(app: App, tenant: str) -> None:
    await app.route(tenant, name="after")
    page = await pages.get(app, f"/t/{tenant}/deliveries?type=order.after_create&event=after")
    assert page.all(".pager") == []


@pytest.mark.parametrize("cursor", ["x", "MTIz", "%00", "é"])
async def test_a_cursor_that_no_page_has_given_out_begins_at_the_newest(app: App, cursor: str) -> None:
    await app.route()
    await publish_events(app, "e1")
    assert ids(await pages.get(app, f"{LOG}?after={cursor}")) == ["e1"]


async def test_a_page_that_is_cut_short_says_that_there_may_be_more(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be cut short when there are very many rows, or when the time is over."""
    monkeypatch.setattr(merge, "_MAX_ROWS", 3)
    monkeypatch.setattr(listing, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(undecided, "FEW_EVENTS", 1)
    monkeypatch.setattr(live, "ROWS", 4)
    async with delivery_log(empty_url) as log:
        failed = expected(log, lambda it: it.status == "failed")
        page = await pages.get(log.app, f"{LOG}?status=failed")
        assert 0 < len(ids(page)) < min(4, len(failed))
        assert "Still looking: everything back to" in page.text
        assert page.words(".pager a") == ["Look further"]
        assert await listed(log.app, status="failed") == failed
        full = await pages.get(log.app, f"{LOG}?status=pending")
        assert len(ids(full)) == 4
        assert "Still looking" not in full.text
        assert full.words(".pager a") == ["Next page"]


async def test_a_page_without_any_though_there_may_be_more_leads_on(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_so_far(*_: Any, **__: Any) -> deliveries.DeliveryPage:
        return deliveries.DeliveryPage(items=[], next=ListPosition(datetime.now(UTC), 5, uuid4()))

    await app.route()
    monkeypatch.setattr(deliveries, "page", nothing_so_far)
    page = await pages.get(app, f"{LOG}?status=expired")
    assert page.words(".empty h2") == ["Still looking"]
    assert page.words(".pager a") == ["Look further"]
    assert query_of(page.one("a[rel=next]")["href"]).keys() == {"status", "after"}


async def test_a_page_behind_the_last_one_says_so(app: App) -> None:
    await app.route()
    await publish_events(app, *(f"e{n}" for n in range(51)))
    first = await pages.get(app, LOG)
    async with app.database.transaction() as connection:  # the rows after the cursor were deleted meanwhile
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM hookledger.domain_event WHERE id <> ALL ($1::text[])", ids(first))
    page = await pages.get(app, str(first.one("a[rel=next]")["href"]))
    assert page.words(".empty h2") == ["No older ones"]
    assert page.words(".pager a") == ["Previous page"]


async def test_a_full_page_is_not_long(app: App) -> None:
    await app.route(name="name " * 20)
    await publish_events(app, *(f"{n:0128}" for n in range(50)), type=f"order.{'x' * 120}")
    page = await pages.get(app, LOG)
    assert len(ids(page)) == 50
    assert len(page.html) < 100_000


# ---- empty lists ----


async def test_without_a_webhook_it_leads_to_creating_one(app: App) -> None:
    await app.route("globex")
    page = await pages.get(app, LOG)
    assert page.words(".empty h2") == ["Nothing is delivered yet"]
    assert page.one(".empty a")["href"] == "/t/acme/webhooks/new"
    assert page.all("form.filters") == page.all(".quick") == []
    reader = pages.BROWSER | bearer(await token(app.database, "auditor:acme"))
    assert (await pages.get(app, LOG, headers=reader)).all(".empty a") == []


async def test_before_the_first_delivery_it_says_when_there_will_be_one(app: App) -> None:
    await app.route()
    page = await pages.get(app, LOG)
    assert page.words(".empty h2") == ["No deliveries yet"]
    assert page.one(".empty a")["href"] == "/t/acme/webhooks"


async def test_if_nothing_fits_it_leads_to_the_events(app: App) -> None:
    await app.route(event_types=["order.*"])
    await publish_events(app, "e1", type="shop.open")
    page = await pages.get(app, f"{LOG}?event=e1")
    assert page.words(".empty h2") == ["No delivery fits"]
    assert page.one(".empty a")["href"] == "/t/acme/events?event=e1"


# ---- access and escaping ----


async def test_another_account_is_not_there(app: App) -> None:
    await app.route()
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    for where in (LOG, f"{LOG}/live"):
        assert (await pages.get(app, where, headers=theirs)).status == 404


async def test_hostile_names_and_ids_are_only_text(app: App) -> None:
    route = await app.route(name=HOSTILE, target_url="https://shop.example.com/?<script>")
    await app.route(name=HOSTILE + "2")
    await publish_events(app, HOSTILE)
    for query in (
        {},
        {"route": route["id"]},
        {"route": HOSTILE[:9]},
        {"route": "<script>alert(2)"},
        {"status": HOSTILE, "type": HOSTILE, "since": HOSTILE, "until": HOSTILE},
        {"event": HOSTILE, "live": "1"},
    ):
        page = await pages.get(app, f"{LOG}?{urlencode(query)}")
        assert [each.get("src") for each in page.all("script")] == [page.one("script")["src"]], query
        assert "</script>49" not in page.text, query
    assert ids(await pages.get(app, f"{LOG}?event={quote(HOSTILE)}")) == [HOSTILE] * 2


# ---- live ----


async def test_followed_live_the_page_names_the_stream_of_its_filter(app: App) -> None:
    route = await app.route()
    page = await pages.get(app, f"{LOG}?route={route['id']}&status=failed&after=x")
    (stop,) = [each for each in page.all(".actions a") if each.text == "Follow live"]
    assert query_of(stop["href"]) == {"route": route["id"], "status": "failed", "live": "1"}
    assert page.all("[data-live]") == []
    page = await pages.get(app, str(stop["href"]))
    stream_url = str(page.one("[data-live]")["data-live"])
    assert urlsplit(stream_url).path == f"{LOG}/live"
    assert query_of(stream_url) == {"route": route["id"], "status": "failed"}
    assert page.words(".actions") == ["Connecting Stop"]
    assert query_of(page.one(".actions a")["href"]) == {"route": route["id"], "status": "failed"}
    assert "Scripts are off" in page.one("noscript").get_text()
