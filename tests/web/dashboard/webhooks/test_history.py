"""The page with the lifecycle events of one webhook."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from daemon.web.dashboard.webhooks import history as screen
from daemon.web.dashboard.webhooks import history_rows
from eventstore import route_log
from tests.support.web import pages, sessions
from tests.support.web.application import TARGET, App, path
from tests.support.web.application import app as opened_door
from tests.support.web.pages import Page
from tests.support.web.tokens import bearer, id_in, token

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
SECRET = "geheim-7f3a"


def at(route: dict[str, Any], rest: str = "") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}/history{rest}"


async def command(app: App, route: dict[str, Any], rest: str, reason: str | None = None, **more: Any) -> None:
    method = {"": "PATCH", "!": "DELETE"}.get(rest, "POST")
    body = more if reason is None else {**more, "reason": reason}
    answer = await app.ask(method, path(route, rest.removesuffix("!")), body)
    assert answer.status in (200, 204), answer.text


async def edit(app: App, route: dict[str, Any], **fields: Any) -> None:
    await command(app, route, "", **fields)


def changes(page: Page, row: int = 1) -> dict[str, tuple[list[str], list[str]]]:
    """The removed and the added values of a row, by field."""
    found = {}
    for each in page.all(f".timeline > li:nth-child({row}) .changes > div"):
        label = each.select_one("dt").get_text()  # type: ignore[union-attr] # each has one
        gone, come = (
            [text.get_text().removeprefix(f"{word}: ") for text in each.select(element)]
            for element, word in (("del", "removed"), ("ins", "added"))
        )
        found[label] = (gone, come)
    return found


def titles(page: Page) -> list[str]:
    return page.words(".timeline h2")


async def test_everything_that_was_done_is_listed_newest_first_with_who_and_why(app: App) -> None:
    route = await app.route(name="Orders")
    await edit(app, route, name="Bestellungen", reason="German <shop>")
    await command(app, route, "/disable", "the receiver moves")
    await command(app, route, "/enable")
    await command(app, route, "/rotate-key")
    await command(app, route, "/revoke-old-key", "it leaked")
    await command(app, route, "!", "no shop any more")
    page = await pages.get(app, at(route))
    assert page.status == 200
    assert titles(page) == [
        "Deleted",
        "Old verification key revoked",
        "Verification key rotated",
        "Enabled",
        "Disabled",
        "Edited",
        "Created",
    ]
    assert [each.get_text() for each in page.all(".lifecycle-reason")] == [
        "“no shop any more”", "“it leaked”", "“the receiver moves”", "“German <shop>”",
    ]  # fmt: skip
    items = (await app.ask("GET", path(route, "/history"))).json["items"]
    assert [each["data-copy"] for each in page.all("[data-copy]")] == [each["hash"] for each in items]
    assert [f"Version {each['version']}, position {each['pos']}" for each in items] == page.words(
        ".lifecycle-foot .muted"
    )
    rows = await app.log()
    assert page.words(".lifecycle-head > .muted") == [
        f"by Administrator, {row['effective_at']:%-d %b %Y, %H:%M:%S} UTC" for row in rows[::-1]
    ]
    assert page.words("h1 + .pill") == ["Deleted"]
    assert page.words(".tabs [aria-current]") == ["History"]


async def test_an_edit_says_what_was_different(app: App) -> None:
    route = await app.route(
        name="Orders",
        event_types=["order.*", "shop.open"],
        payload={"filter": "data.n > `1`"},
        headers={"X-One": "1", "X-Two": "2"},
        rate_limit_per_second=5,
    )
    await edit(
        app,
        route,
        name="Bestellungen",
        target_url="https://other.example.com/",
        event_types=["shop.open", "cart.*", "*"],
        payload={"filter": None, "transform": "data", "snapshot": {"customer": True, "orders": ["total"]}},
        headers={"X-Two": "2", "X-Three": "3"},
        ordered=True,
        rate_limit_per_second=0.5,
    )
    page = await pages.get(app, at(route))
    assert changes(page) == {
        "Name": (["Orders"], ["Bestellungen"]),
        "Target": ([TARGET], ["https://other.example.com/"]),
        "Snapshot": ([], ['{"customer":true,"orders":["total"]}']),
        "Filter": (["data.n > `1`"], []),
        "Transform": ([], ["data"]),
        "Order": ([], ["one at a time, in order"]),
        "Rate limit": (["5 per second"], ["0.5 per second"]),
        "Event types": (["order.*"], ["cart.*", "*"]),
        "Custom headers": (["X-One"], ["X-Three"]),
    }
    assert changes(page, 2) == {
        "Name": ([], ["Orders"]),
        "Target": ([], [TARGET]),
        "Filter": ([], ["data.n > `1`"]),
        "Rate limit": ([], ["5 per second"]),
        "Event types": ([], ["order.*", "shop.open"]),
        "Custom headers": ([], ["X-One", "X-Two"]),
    }


async def test_each_edit_is_compared_with_the_one_before_it(app: App) -> None:
    route = await app.route(name="a")
    for name in ("b", "c"):
        await edit(app, route, name=name)
    await command(app, route, "/disable")
    await edit(app, route, name="d")
    page = await pages.get(app, at(route))
    assert [changes(page, row).get("Name") for row in (1, 2, 3, 4)] == [
        (["c"], ["d"]), None, (["b"], ["c"]), (["a"], ["b"]),
    ]  # fmt: skip


async def test_a_header_with_another_value_is_a_change_without_the_value(app: App) -> None:
    route = await app.route(headers={"X-Shop": SECRET})
    await edit(app, route, headers={"X-Shop": f"{SECRET}-2"})
    await command(app, route, "/rotate-key")
    page = await pages.get(app, at(route))
    assert changes(page, 2) == {"Custom headers": ([], ["values were set anew"])}
    assert changes(page, 3)["Custom headers"] == ([], ["X-Shop"])
    keys = [route["verification_key"], (await app.ask("GET", path(route, "/key"))).json["verification_key"]]
    for version in ("", "?version=1", "?version=2", "?version=3"):
        html = (await pages.get(app, at(route, version))).html
        assert SECRET not in html
        for key in keys:
            assert key.removeprefix("whsec_") not in html


async def test_a_rotation_names_the_new_key_by_its_fingerprint(app: App) -> None:
    route = await app.route()
    await command(app, route, "/rotate-key")
    now = (await app.ask("GET", path(route))).json["key"]["fingerprint"]
    page = await pages.get(app, at(route))
    assert f"The new key has the fingerprint {now}. The old one signs along for 24 h." in page.text


async def test_one_that_was_created_disabled_says_so(app: App) -> None:
    for enabled in (False, True):
        page = await pages.get(app, at(await app.route(enabled=enabled)))
        assert ("Disabled from the start." in page.text) is not enabled


async def test_the_actor_is_named(empty_url: str) -> None:
    async with opened_door(empty_url, server__admin_token="correct horse battery staple") as app:
        text = await token(app.database, "tenant:acme")
        body = {"name": "a", "target_url": TARGET, "event_types": ["*"]}
        route = (await app.ask("POST", "/v1/tenants/acme/routes", body, headers=bearer(text))).json
        cookie = await sessions.browser(app, "acme")
        disabled = await pages.post(app, f"/t/acme/webhooks/{route['id']}/disable", {"reason": "so"}, headers=cookie)
        assert disabled.status == 303
        async with app.database.transaction() as connection:
            draft = route_log.NewRouteEvent(
                route_id=UUID(route["id"]), tenant="acme", version=3, type="enabled", actor="system", origin="daemon",
                body="{}",
            )  # fmt: skip
            await route_log.append(connection, draft)
        page = await pages.get(app, at(route), headers=cookie)
        assert [each.partition(",")[0] for each in page.words(".lifecycle-head > .muted")] == [
            "by the system", "by Dashboard", f"by API token {id_in(text)}",
        ]  # fmt: skip


async def test_an_entry_leads_to_the_webhooks_as_they_were_then(app: App) -> None:
    route = await app.route(name="Before")
    await edit(app, route, name="After")
    page = await pages.get(app, at(route))
    links = [str(each["href"]) for each in page.all(".lifecycle-foot a")]
    names = [(await pages.get(app, link)).words("tbody th a") for link in links]
    assert names == [["After"], ["Before"]]


async def test_long_values_and_lists_are_cut_and_shown_whole_with_their_version(app: App) -> None:
    long, types = "data.a || " * 40 + "data.b", [f"order.n{n:02}" for n in range(12)]
    route = await app.route()
    await edit(app, route, payload={"filter": long}, event_types=types)
    page = await pages.get(app, at(route))
    visible = changes(page)
    (cut,) = visible["Filter"][1]
    assert len(cut) == history_rows.SHORT_CHARACTERS
    assert cut.endswith("…")
    assert long.startswith(cut[:-1])
    assert visible["Event types"] == (["*"], types[: history_rows.SHORT_ITEMS])
    assert "and 4 more" in page.words(".changes")[0]
    (link,) = [each for each in page.all(".lifecycle-foot a") if each.get_text().startswith("Show the whole change")]
    whole = await pages.get(app, str(link["href"]))
    assert titles(whole) == ["Edited"]
    assert changes(whole) == {"Filter": ([], [long]), "Event types": (["*"], types)}
    assert "more" not in whole.words(".changes")[0]
    assert [each["href"] for each in whole.all("main p > a") if each.text == "The whole history"] == [at(route)]
    assert whole.all(".pager") == []


async def test_what_is_cut_by_nothing_has_no_link_to_more(app: App) -> None:
    route = await app.route(name="x" * 100, event_types=[f"order.n{n}" for n in range(history_rows.SHORT_ITEMS)])
    page = await pages.get(app, at(route))
    assert "Show the whole change" not in page.text
    assert changes(page)["Name"] == ([], ["x" * 100])


async def test_a_value_of_just_the_length_that_is_shown_is_not_cut(app: App) -> None:
    for length, is_long in ((history_rows.SHORT_CHARACTERS, False), (history_rows.SHORT_CHARACTERS + 1, True)):
        route = await app.route(target_url="https://shop.example.com/".ljust(length, "a"))
        page = await pages.get(app, at(route))
        ((visible,),) = [changes(page)["Target"][1]]
        assert visible.endswith("…") is is_long
        assert ("Show the whole change" in page.text) is is_long


async def test_a_long_history_has_pages(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.PAGE_SIZE == 50
    monkeypatch.setattr(screen, "PAGE_SIZE", 3)
    route, other = await app.route(name="n0"), await app.route(name="other")
    for number in range(1, 7):
        await edit(app, route, name=f"n{number}")
        await edit(app, other, name=f"other {number}")
    found = await pages.get_all(app, at(route))
    came = [changes(page, row)["Name"][1] for page in found for row in range(1, len(titles(page)) + 1)]
    assert came == [[f"n{number}"] for number in range(6, -1, -1)]
    assert [page.words(".pager a") for page in found] == [
        ["Next page"],
        ["Previous page", "Next page"],
        ["First page", "Previous page"],
    ]
    assert found[2].all(".pager a")[0]["href"] == at(route)


@pytest.mark.parametrize("query", ["?after=x", "?version=", "?version=-1", "?version=²", "?after=" + "9" * 30])
async def test_what_is_no_number_is_as_if_it_was_not_there(app: App, query: str) -> None:
    page = await pages.get(app, at(await app.route(), query))
    assert (page.status, titles(page)) == (200, ["Created"])


@pytest.mark.parametrize("query", ["?version=7", "?version=0", "?after=1", f"?version={'9' * 18}"])
async def test_an_entry_that_there_is_not_leads_to_the_whole_history(app: App, query: str) -> None:
    route = await app.route()
    page = await pages.get(app, at(route, query))
    assert page.words(".empty h2") == ["Nothing here"]
    assert page.one(".empty a")["href"] == at(route)


async def test_who_may_only_read_sees_it_and_others_do_not(app: App) -> None:
    route = await app.route()
    auditor = pages.BROWSER | bearer(await token(app.database, "auditor:acme"))
    assert titles(await pages.get(app, at(route), headers=auditor)) == ["Created"]
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    assert (await pages.get(app, at(route), headers=theirs)).status == 404
    assert (await pages.get(app, at(route | {"tenant": "globex"}))).status == 404
    unknown = await pages.get(app, at(route | {"id": str(uuid4())}))
    assert (unknown.status, "There is no such webhook." in unknown.text) == (404, True)


async def test_everything_in_it_is_escaped(app: App) -> None:
    route = await app.route(name=HOSTILE, payload={"filter": "'<script>' == '{{ 7*7 }}'"})
    await edit(app, route, name="x", reason=HOSTILE)
    for query in ("", "?version=1", "?version=2"):
        page = await pages.get(app, at(route, query))
        assert len(page.all("script")) == 1
        assert "49'" not in page.text
    assert changes(await pages.get(app, at(route)))["Name"] == ([HOSTILE], ["x"])
