"""The page with the lifecycle events of all webhooks of a tenant."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import uuid4

import pytest

from daemon import route_state
from daemon.core.routing.index import RouteIndex
from daemon.web.dashboard.logs import route_lookup
from daemon.web.dashboard.webhooks import history as screen
from daemon.web.http import paging
from daemon.web.http.services import SERVICES
from eventstore import route_log
from tests.support.web import pages
from tests.support.web.application import App, path
from tests.support.web.pages import Page
from tests.support.web.tokens import bearer, token

ACTIVITY = "/t/acme/activity"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
SECRET = "geheim-7f3a"


async def command(app: App, route: dict[str, Any], rest: str, **more: Any) -> None:
    answer = await app.ask("POST", path(route, rest), more)
    assert answer.status == 200, answer.text


def entries_on(page: Page) -> list[str]:
    """The title and the webhook of each entry."""
    return [
        f"{title} {name}"
        for title, name in zip(page.words(".timeline h2"), page.words(".lifecycle-head a"), strict=True)
    ]


def query_of(link: object) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(link)).query).items()}


async def test_lifecycle_events_of_all_webhooks_are_listed_newest_first(app: App) -> None:
    orders, shop = await app.route(name="Orders"), await app.route(name="Shop")
    await app.route("globex", name="Theirs")
    await command(app, orders, "/disable", reason="the receiver moves")
    await command(app, shop, "/rotate-key")
    assert (await app.ask("PATCH", path(orders), {"event_types": ["order.*"]})).status == 200
    await app.ask("DELETE", path(shop))
    page = await pages.get(app, ACTIVITY)
    assert page.status == 200
    assert entries_on(page) == [
        "Deleted Shop", "Edited Orders", "Verification key rotated Shop", "Disabled Orders", "Created Shop", "Created Orders",
    ]  # fmt: skip
    assert page.words(".timeline > li:nth-child(2) .changes") == ["Event types removed: * added: order.*"]
    assert page.words(".lifecycle-reason") == ["“the receiver moves”"]
    assert page.words(".timeline > li:nth-child(4) .lifecycle-head")[0].startswith("Disabled Orders by Administrator, ")
    assert str(page.one(".timeline > li:nth-child(1) .lifecycle-head a")["href"]) == f"/t/acme/webhooks/{shop['id']}"
    assert page.all(".pager") == []


async def test_a_webhook_is_named_as_it_is_called_now(app: App) -> None:
    route = await app.route(name="Before")
    await app.ask("PATCH", path(route), {"name": "After"})
    assert entries_on(await pages.get(app, ACTIVITY)) == ["Edited After", "Created After"]


async def test_a_webhook_that_this_process_does_not_know_is_named_by_its_id(app: App) -> None:
    await app.route(name="known")
    behind = RouteIndex()
    async for event in route_log.read(app.database):
        route_state.apply(behind, event)
    route = await app.route(name="new")
    app.client.app[SERVICES].index.replace(behind)  # as if it could not apply what follows
    page = await pages.get(app, ACTIVITY)
    assert page.words(".timeline > li:first-child .lifecycle-head > code") == [route["id"]]
    assert page.words(".timeline > li:first-child dd")[0] == "added: new"


@pytest.mark.parametrize("by", ["id", "name"])
async def test_it_lists_what_happened_to_one_webhook(app: App, by: str) -> None:
    route = await app.route(name="Orders")
    await app.route(name="Shop")
    await command(app, route, "/disable")
    page = await pages.get(app, f"{ACTIVITY}?route={quote(route[by].upper())}")
    assert entries_on(page) == ["Disabled Orders", "Created Orders"]
    assert page.form_data("form.search") == {"route": [route["id"]], "kind": [""]}
    (clear,) = [each for each in page.all("form.search a") if each.text == "Clear"]
    assert clear["href"] == ACTIVITY


async def test_it_lists_what_happened_of_one_kind(app: App) -> None:
    first, second = await app.route(name="first"), await app.route(name="second")
    for route in (first, second):
        await command(app, route, "/disable")
    page = await pages.get(app, f"{ACTIVITY}?kind=disabled")
    assert entries_on(page) == ["Disabled second", "Disabled first"]
    assert page.form_data("form.search") == {"route": [""], "kind": ["disabled"]}
    both = await pages.get(app, f"{ACTIVITY}?kind=created&route={first['id']}")
    assert entries_on(both) == ["Created first"]
    assert len(entries_on(await pages.get(app, f"{ACTIVITY}?kind=lost"))) == 4
    assert page.words("select#kind option") == [
        "Everything", "Created", "Edited", "Disabled", "Enabled", "Deleted", "Verification key rotated", "Old verification key revoked",
    ]  # fmt: skip


async def test_if_several_webhooks_match_the_page_asks_to_choose(app: App) -> None:
    made = [await app.route(name=f"Orders {each}", enabled=each == "a") for each in "ab"]
    page = await pages.get(app, f"{ACTIVITY}?route=order&kind=created&after=x")
    assert (page.status, page.all(".timeline")) == (200, [])
    assert page.words(".choices a") == ["Orders a", "Orders b"]
    assert page.words(".choices .pill") == ["Enabled", "Disabled"]
    links = [each["href"] for each in page.all(".choices a")]
    assert [query_of(link) for link in links] == [{"route": each["id"], "kind": "created"} for each in made]
    assert entries_on(await pages.get(app, str(links[1]))) == ["Created Orders b"]


async def test_neither_a_foreign_webhook_nor_an_unknown_one_is_found(app: App) -> None:
    await app.route(name="Ours")
    foreign = await app.route("globex", name="Theirs")
    for text in (foreign["id"], "Theirs", str(uuid4()), "<script>"):
        page = await pages.get(app, f"{ACTIVITY}?{urlencode({'route': text})}")
        assert (page.status, page.all(".timeline")) == (422, [])
        assert page.words("#route-wrong") == [f"No webhook of this account has that id, or “{text}” in its name."]
        assert page.one("#route")["aria-describedby"] == "route-wrong"
        assert page.form_data("form.search")["route"] == [text]


async def test_with_many_webhooks_one_types_a_name(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_lookup, "MAX_CHOICES", 1)
    for name in ("Orders", "Shop"):
        await app.route(name=name)
    page = await pages.get(app, f"{ACTIVITY}?route=shop")
    assert page.one("#route").name == "input"
    assert page.form_data("form.search")["route"] == ["Shop"]
    assert entries_on(page) == ["Created Shop"]


async def test_a_long_activity_has_pages(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.PAGE_SIZE == 50
    monkeypatch.setattr(screen, "PAGE_SIZE", 2)
    for number in range(5):
        route = await app.route(name=f"n{number}")
        await command(app, route, "/disable")
    found = await pages.get_all(app, f"{ACTIVITY}?kind=created")
    assert [each for page in found for each in entries_on(page)] == [
        f"Created n{number}" for number in range(4, -1, -1)
    ]
    assert [page.words(".pager a") for page in found] == [
        ["Next page"],
        ["Previous page", "Next page"],
        ["First page", "Previous page"],
    ]
    assert found[2].all(".pager a")[0]["href"] == f"{ACTIVITY}?kind=created"


@pytest.mark.parametrize("cursor", ["x", "%00", paging.encoded("x"), paging.encoded("-1"), paging.encoded("9" * 30)])
async def test_a_cursor_that_no_page_has_given_out_begins_at_the_newest(app: App, cursor: str) -> None:
    await app.route(name="Orders")
    assert entries_on(await pages.get(app, f"{ACTIVITY}?after={cursor}")) == ["Created Orders"]


async def test_if_nothing_fits_it_leads_to_everything(app: App) -> None:
    await app.route()
    page = await pages.get(app, f"{ACTIVITY}?kind=deleted")
    assert page.words(".empty h2") == ["Nothing like that has happened"]
    assert page.one(".empty a")["href"] == ACTIVITY


async def test_an_empty_activity_leads_to_creating_a_webhook_if_permitted(app: App) -> None:
    await app.route("globex")
    page = await pages.get(app, ACTIVITY)
    assert page.words(".empty h2") == ["Nothing has happened yet"]
    assert page.one(".empty a")["href"] == "/t/acme/webhooks/new"
    auditor = pages.BROWSER | bearer(await token(app.database, "auditor:acme"))
    page = await pages.get(app, ACTIVITY, headers=auditor)
    assert (page.status, page.all(".empty a")) == (200, [])


async def test_deleted_webhooks_are_never_forgotten(app: App) -> None:
    route = await app.route(name="Gone")
    await app.ask("DELETE", path(route), {"reason": "no shop any more"})
    page = await pages.get(app, f"{ACTIVITY}?route=gone")
    assert entries_on(page) == ["Deleted Gone", "Created Gone"]
    assert page.words("optgroup[label=Deleted] option[selected]") == ["Gone"]
    assert (await pages.get(app, str(page.one(".lifecycle-deleted .lifecycle-head a")["href"]))).status == 200


async def test_no_secret_is_in_it(app: App) -> None:
    route = await app.route(headers={"X-Shop": SECRET})
    await command(app, route, "/rotate-key")
    await app.ask("PATCH", path(route), {"headers": {"X-Shop": f"{SECRET}-2"}})
    page = await pages.get(app, ACTIVITY)
    assert "values were set anew" in page.text
    assert SECRET not in page.html
    for key in (route["verification_key"], (await app.ask("GET", path(route, "/key"))).json["verification_key"]):
        assert key.removeprefix("whsec_") not in page.html


async def test_long_changes_are_cut_and_lead_to_the_whole_one(app: App) -> None:
    route = await app.route(target_url="https://shop.example.com/" + "a" * 1000)
    page = await pages.get(app, ACTIVITY)
    assert len(page.html) < 20_000
    links = [str(each["href"]) for each in page.all(".lifecycle-foot a")]
    assert links[0] == f"/t/acme/webhooks/{route['id']}/history?version=1"
    assert route["target_url"] in (await pages.get(app, links[0])).text


async def test_who_may_only_read_sees_it_and_others_do_not(app: App) -> None:
    await app.route(name="Orders")
    auditor = pages.BROWSER | bearer(await token(app.database, "auditor"))
    assert entries_on(await pages.get(app, ACTIVITY, headers=auditor)) == ["Created Orders"]
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    assert (await pages.get(app, ACTIVITY, headers=theirs)).status == 404


async def test_everything_in_it_is_escaped(app: App) -> None:
    route = await app.route(name=HOSTILE)
    await command(app, route, "/disable", reason=HOSTILE)
    await app.route(name=HOSTILE + "2")
    for query in ({}, {"route": route["id"]}, {"route": HOSTILE[:9]}, {"kind": HOSTILE, "after": HOSTILE}):
        page = await pages.get(app, f"{ACTIVITY}?{urlencode(query)}")
        assert len(page.all("script")) == 1, query
        assert "</script>49" not in page.text, query
    assert f"“{HOSTILE}”" in (await pages.get(app, ACTIVITY)).text
