"""The operator's first page: the tenants, and sign-in links for them. Merchants see no page of an operator."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.rows.audits import audit_row
from tests.support.web.application import App, app, path
from tests.support.web.pages import BROWSER, OPERATOR_PAGES, Page, get, post
from tests.support.web.sessions import browser, opened
from tests.support.web.tokens import bearer, token

PLACE = "/operator"
HOSTILE = '"><script>alert(1)</script>{{7*7}}'

READ_ONLY = (
    "/operator/event-types",
    "/operator/audits/{audit}",
    "/operator/status",
    "/operator/failing",
    "/operator/refusals",
    "/operator/find",
)
FORMS = [place for place in OPERATOR_PAGES if place not in READ_ONLY]


async def tenants(opened_door: App, *names: str) -> None:
    for name in names:
        await opened_door.route(name)


def rows(page: Page) -> list[list[str]]:
    return [
        [cell.removeprefix("Open ") for cell in (page.words(f"#tenants tbody tr:nth-child({n}) > :nth-child(-n+3)"))]
        for n in range(1, len(page.all("#tenants tbody tr")) + 1)
    ]


def link_on(page: Page) -> str:
    assert page.status == 200, page.text
    return str(page.one("pre").get_text()).strip()


async def test_each_tenant_is_listed_with_how_many_webhooks_it_has(app: App) -> None:
    await tenants(app, "globex", "acme", "acme")
    await app.route("acme", enabled=False)
    await app.ask("DELETE", path(await app.route("gone")))
    page = await get(app, PLACE)
    assert rows(page) == [["acme", "2", "1"], ["globex", "1", "0"], ["gone", "0", "0"]]
    assert "3 tenants that have, or had, webhooks" in page.text
    assert [link["href"] for link in page.all("tbody th a")] == [
        f"/t/{name}/webhooks" for name in ("acme", "globex", "gone")
    ]


async def test_without_a_tenant_it_says_how_one_comes_into_being(app: App) -> None:
    page = await get(app, PLACE)
    assert page.words(".empty h2") == ["No tenant has a webhook yet"]
    assert page.all("#tenants") == page.all("form.search") == []


async def test_tenants_are_found_by_a_part_of_their_id(app: App) -> None:
    await tenants(app, "acme-coffee", "ACME-tea", "globex")
    page = await get(app, f"{PLACE}?q=%20acme%20")
    assert [row[0] for row in rows(page)] == ["ACME-tea", "acme-coffee"]
    assert "2 tenants of 3 that have, or had, webhooks" in page.text
    assert page.one("#q")["value"] == " acme "
    none = await get(app, f"{PLACE}?q=nobody")
    assert none.words(".empty h2") == ["No tenant fits"]


async def test_a_long_list_has_pages_and_keeps_what_is_sought(app: App) -> None:
    names = [f"tenant-{number:02}" for number in range(52)]
    await tenants(app, *names, "other")
    first = await get(app, f"{PLACE}?q=tenant")
    second = await get(app, str(first.one("a[rel=next]")["href"]))
    assert [row[0] for row in rows(first) + rows(second)] == names
    assert second.all("a[rel=next]") == []
    (back,) = second.all(".pager a")
    assert [row[0] for row in rows(await get(app, str(back["href"])))] == names[:50]


async def test_an_address_that_no_page_has_given_out_shows_the_beginning(app: App) -> None:
    await tenants(app, "acme")
    for after in ("x", "%00", "€", "A" * 3000):
        assert rows(await get(app, f"{PLACE}?after={quote(after)}")) == [["acme", "1", "0"]]


@pytest.mark.parametrize("tenant", ["acme", "a/b", "a?b#c", "50%25", '"{<script>}&'])
async def test_a_tenant_that_has_nothing_yet_can_be_opened(app: App, tenant: str) -> None:
    page = await get(app, f"{PLACE}?open=%20{quote(tenant, safe='')}%20")
    assert (page.status, page.location) == (303, f"/t/{quote(tenant, safe='')}/webhooks")
    await app.route(quote(tenant, safe=""), name="Its own")
    listed = await get(app, page.location)
    assert listed.words("tbody th a") == ["Its own"]
    assert listed.words(".tenant") == [tenant]
    assert rows(await get(app, PLACE))[0][0] == tenant


@pytest.mark.parametrize("tenant", ["", " ", "two words", "é", "a\0b", "x" * 129, "</title><script>"])
async def test_what_is_no_tenant_is_reported_beside_its_field(app: App, tenant: str) -> None:
    tenant = tenant.replace("</title>", "</title> ")
    page = await get(app, f"{PLACE}?open={quote(tenant)}")
    assert page.status == 422
    assert page.words("#open-wrong") == ["Must be 1 to 128 printable ASCII characters without spaces."]
    assert page.one("#open")["aria-invalid"] == "true"
    assert page.one("#open")["value"] == tenant
    assert page.all("#tenant-wrong") == []
    assert len(page.all("script")) == 1


async def test_a_sign_in_link_works_once_and_for_one_tenant_only(app: App) -> None:
    await tenants(app, "acme", "globex")
    page = await post(app, PLACE, (await get(app, PLACE)).form_data("#tenants tr:first-child form"))
    url = link_on(page)
    assert page.words("h1") == ["Sign-in link for acme"]
    assert page.headers["Cache-Control"] == "no-store"
    assert url.startswith(f"{app.services.config.server.url()}/login/")
    (row,) = await app.rows("SELECT tenant, created_by FROM hookledger.login_link")
    assert row == {"tenant": "acme", "created_by": "admin"}

    merchant = await opened(app, url)
    assert (await get(app, "/", headers=merchant)).location == "/t/acme/webhooks"
    assert (await get(app, "/t/acme/webhooks", headers=merchant)).status == 200
    assert (await get(app, "/t/globex/webhooks", headers=merchant)).status == 404
    again = await get(app, url[url.index("/login/") :])
    assert again.status == 410
    assert again.words("h1") == ["This link no longer works"]
    assert "works once, and not for long" in again.text


async def test_a_link_for_a_tenant_that_has_nothing_yet_leads_to_its_beginning(app: App) -> None:
    url = link_on(await post(app, PLACE, {"tenant": " new-shop "}))
    page = await get(app, "/t/new-shop/webhooks", headers=await opened(app, url))
    assert page.status == 200
    assert page.all("a[href='/operator']") == []


async def test_a_link_for_a_colleague_is_made_on_purpose_only(app: App) -> None:
    page = await post(app, PLACE, {"operator": "yes", "tenant": "acme"})
    assert page.words("h1") == ["Sign-in link for an operator"]
    assert "may do whatever you may do" in page.text
    colleague = await opened(app, link_on(page))
    assert (await get(app, PLACE, headers=colleague)).status == 200
    assert (await post(app, PLACE, {})).status == 422


async def test_each_link_is_another_one(app: App) -> None:
    page = await post(app, PLACE, {"tenant": "acme"})
    again = await post(app, PLACE, page.form_data("main form"))
    assert link_on(again) != link_on(page)
    assert again.words("h1") == page.words("h1")


async def test_a_link_for_what_is_no_tenant_is_not_made_and_the_input_is_kept(app: App) -> None:
    await tenants(app, "acme")
    page = await post(app, PLACE, {"tenant": "two words"})
    assert page.status == 422
    assert page.words("#tenant-wrong") == ["Must be 1 to 128 printable ASCII characters without spaces."]
    assert page.one("#tenant")["value"] == "two words"
    assert rows(page) == [["acme", "1", "0"]]
    assert await app.rows("SELECT hash FROM hookledger.login_link") == []


async def test_behind_a_proxy_the_link_is_the_one_that_works_there(empty_url: str) -> None:
    async with app(empty_url, server__public_url="https://hooks.example.com/webhooks") as proxied:
        assert link_on(await post(proxied, PLACE, {"tenant": "acme"})).startswith(
            "https://hooks.example.com/webhooks/login/"
        )


async def test_an_operator_is_led_around_and_back(app: App) -> None:
    operator = await browser(app, None)
    page = await get(app, PLACE, headers=operator)
    assert page.words(".main-nav a") == ["Tenants", "Tokens", "Event types", "Audit", "Status"]
    assert page.words(".main-nav [aria-current]") == ["Tenants"]
    assert page.words(".who button") == ["Sign out"]
    inside = await get(app, "/t/acme/webhooks", headers=operator)
    assert inside.words(".who .tenant, .who a") == ["acme", "All tenants"]


async def test_hostile_ids_are_only_text(app: App) -> None:
    await app.route(quote(HOSTILE, safe=""))
    for page in (
        await get(app, PLACE),
        await get(app, f"{PLACE}?q={quote(HOSTILE)}"),
        await post(app, PLACE, {"tenant": HOSTILE}),
    ):
        assert page.status == 200
        assert len(page.all("script")) == 1
        assert HOSTILE in page.text


# ---- merchants ----


async def test_the_pages_of_operators_are_those_that_are_tried_here(app: App) -> None:
    routes = [(each.method, str(each.resource and each.resource.canonical)) for each in app.client.app.router.routes()]
    assert [place for method, place in routes if method == "GET" and place.startswith(PLACE)] == OPERATOR_PAGES
    assert [place for method, place in routes if method == "POST" and place.startswith(PLACE)] == FORMS


@pytest.mark.parametrize("who", ["session", "tenant:acme", "auditor:acme", "producer"])
async def test_a_merchant_sees_nothing_of_an_operators_and_changes_nothing_there(app: App, who: str) -> None:
    await tenants(app, "secret-tenant")
    types: list[dict[str, Any]] = [{"name": "order.create", "example": {}}]
    assert (await app.ask("PUT", "/v1/event-types", {"event_types": types})).status == 200
    made = await app.ask("POST", "/v1/tokens", {"scope": "metrics", "name": "secret-token"})
    known, audit = made.json["id"], await audit_row(app)
    headers = await browser(app, "acme") if who == "session" else BROWSER | bearer(await token(app.database, who))

    for place in OPERATOR_PAGES:
        where = place.format(token=known, name="order.create", audit=audit)
        answers = [await get(app, where, headers=headers)]
        if place in FORMS:
            fields = {"tenant": "acme", "scope": "admin", "name": "a.b", "intent": "sample", "operator": "yes"}
            answers.append(await post(app, where, fields, headers=headers))
        for page in answers:
            assert page.status == 403, place
            assert page.words("h1") == ["That is not allowed here"]
            assert "secret-" not in page.html
            assert page.all("a[href^='/operator']") == []
    assert [each["id"] for each in (await app.ask("GET", "/v1/tokens")).json["items"] if each["revoked_at"]] == []
    assert [each["name"] for each in (await app.ask("GET", "/v1/event-types")).json["items"]] == ["order.create"]
    assert len(await app.rows("SELECT hash FROM hookledger.login_link")) == 0


async def test_a_merchant_at_the_page_of_another_is_led_back(app: App) -> None:
    route = await app.route("globex", name="Theirs")
    merchant = await browser(app, "acme")
    for place in ("/t/globex/webhooks", f"/t/globex/webhooks/{route['id']}", f"/t/acme/webhooks/{route['id']}"):
        page = await get(app, place, headers=merchant)
        assert page.status == 404
        assert "Theirs" not in page.html
        assert page.words(".tenant") == ["acme"]
        assert page.one("main a.button")["href"] == "/t/acme/webhooks"
        assert page.all("a[href^='/t/globex']") == []
