"""The page of a key: no other page shows it, and it has code to verify signatures."""

from __future__ import annotations

import ast
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.core.gcra import Allowance
from daemon.core.webhook.signing import SigningKey, ordergroove_signature
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard.webhooks.snippets import LANGUAGES
from daemon.web.http.endpoints import RateLimit
from tests.support.web.application import App, app, path
from tests.support.web.pages import BROWSER, PART, Page, get
from tests.support.web.tokens import bearer, token

OTHER_PAGES = ["", "/edit", "/disable", "/delete", "/rotate-key", "/revoke-old-key", "/history", "/test", "/replay"]
LISTS = ["webhooks", "deliveries", "events", "activity"]


def at(route: Mapping[str, Any], rest: str = "/key") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}{rest}"


def code(page: Page, label: str) -> str:
    return str(page.one(f'pre[aria-label="{label}"]').get_text())


async def test_the_key_is_shown_to_be_copied_with_what_it_is_worth(app: App) -> None:
    route = await app.route(name="Orders (EU)")
    page = await get(app, at(route))
    assert page.status == 200
    assert page.words("#present") == ["The verification key of “Orders (EU)”"]
    assert page.words(".key-value code") == [route["verification_key"]]
    assert page.one(".key-value button")["data-copy"] == route["verification_key"]
    assert route["key"]["fingerprint"] in page.text
    assert page.headers["Cache-Control"] == "no-store"


async def test_no_other_page_shows_it(app: App) -> None:
    route = await app.route()
    await app.ask("POST", path(route, "/rotate-key"))
    keys = [route["verification_key"], (await app.ask("GET", path(route, "/key"))).json["verification_key"]]
    for place in [*(at(route, rest) for rest in OTHER_PAGES), *(f"/t/acme/{name}" for name in LISTS)]:
        page = await get(app, place)
        assert page.status == 200, place
        assert not any(key in page.html for key in keys), place
    present = await get(app, at(route))
    assert keys[1] in present.html
    assert keys[0] not in present.html


@pytest.mark.parametrize("language", LANGUAGES)
async def test_each_language_has_its_function_its_hint_and_its_call(app: App, language: str) -> None:
    route = await app.route(name="Orders")
    page = await get(app, at(route, f"/key?language={language}"))
    found = LANGUAGES[language]
    assert page.words(".tabs[aria-label=Language] [aria-current]") == [found.title]
    assert code(page, found.file) == found.function
    hints = [str(each.get_text()) for each in page.all(".steps > li:nth-of-type(2) code")]
    assert hints == found.raw_body.split("`")[1::2]
    assert "ORDERS_WEBHOOK_KEY" in code(page, "Call")
    assert route["verification_key"] not in code(page, "Call")


async def test_it_says_where_frameworks_have_the_header_and_how_long_an_answer_may_take(empty_url: str) -> None:
    async with app(empty_url, signing__header="X-Shop-Signature", delivery__timeout_seconds="7.5") as opened:
        route = await opened.route()
        node, go, ruby = [
            (await get(opened, at(route, f"/key?language={each}"))).text for each in ("node", "go", "ruby")
        ]
        assert 'In Next.js the header is request.headers.get("x-shop-signature")' in node
        assert 'In Gin the header is c.GetHeader("X-Shop-Signature")' in go
        assert "the header is" not in ruby
        assert "answer any 2xx within 7.5 seconds" in node
    async with app(empty_url) as opened:
        assert "answer any 2xx within 15 seconds" in (await get(opened, at(route))).text


async def test_the_key_itself_is_in_the_line_on_request(app: App) -> None:
    route = await app.route()
    page = await get(app, at(route, "/key?language=go&paste=1"))
    assert f'"{route["verification_key"]}"' in code(page, "Call")
    assert "do not commit it" in page.text
    links = [str(link["href"]) for link in page.all("#verify ~ nav a")]
    assert links == [f"{at(route)}?language={name}&paste=1#verify" for name in LANGUAGES]
    back = page.one(".steps a")["href"]
    assert back == f"{at(route)}?language=go#verify"
    assert "Put the key itself into the line" in (await get(app, str(back).partition("#")[0])).text


async def test_what_is_no_language_is_the_first_one(app: App) -> None:
    route = await app.route()
    for query in ("?language=cobol", "?language=<script>", "?language=&paste=2"):
        page = await get(app, at(route, f"/key{query}"))
        assert page.words(".tabs[aria-label=Language] [aria-current]") == ["Python"]
        assert len(page.all("script")) == 1


async def test_what_the_page_says_in_python_verifies_what_we_sign(app: App) -> None:
    route = await app.route(name="Orders")
    key, body, now = route["verification_key"], b'{"id":"evt_1"}', int(time.time())
    header = ordergroove_signature(keys=[SigningKey(key)], timestamp=now, body=body)
    for query, environ in (("", {"ORDERS_WEBHOOK_KEY": key}), ("?paste=1", {})):
        page = await get(app, at(route, f"/key{query}"))
        program = code(page, "verify.py") + "\n" + code(page, "Call")
        for sent, is_genuine in ((body, True), (body + b" ", False)):
            request = SimpleNamespace(headers={"OrderGroove-Signature": header})
            known: dict[str, Any] = {"request": request, "body": sent, "os": SimpleNamespace(environ=environ)}
            exec(compile(ast.parse(program), "page", "exec"), known)
            assert known["is_genuine"] is is_genuine


async def test_headers_are_named_as_this_installation_sends_them(empty_url: str) -> None:
    settings = {"signing__header": "Acme-Signature", "signing__standard_webhooks": "false"}
    async with app(empty_url, **settings) as opened:
        page = await get(opened, at(await opened.route()))
        assert page.words("#headers ~ dl dt") == ["Acme-Signature"]
        assert '"Acme-Signature"' in code(page, "Call")


async def test_by_themselves_the_standard_headers_are_explained_too(app: App) -> None:
    page = await get(app, at(await app.route()))
    assert page.words("#headers ~ dl dt") == [
        "OrderGroove-Signature",
        "webhook-id",
        "webhook-timestamp webhook-signature",
    ]


async def test_while_two_keys_sign_it_says_until_when_and_how_to_end_it(app: App) -> None:
    route = await app.route()
    assert at(route, "/rotate-key") in [link["href"] for link in (await get(app, at(route))).all(".actions a")]
    await app.ask("POST", path(route, "/rotate-key"))
    page = await get(app, at(route, "/key?done=rotated"))
    assert page.words("#present") == ["Your new verification key of “a route”"]
    assert f"The old key, {route['key']['fingerprint']}, signs along for another 23 h 59 min." in page.text
    assert page.one(".notice-info a")["href"] == at(route, "/revoke-old-key")
    assert page.all(".page-head a") == []


async def test_a_part_of_another_page_is_the_key_alone(app: App) -> None:
    route = await app.route()
    page = await get(app, at(route), headers=PART)
    assert page.words(":root code, code") == [route["verification_key"]]
    assert "<html" not in page.html
    assert "verify" not in page.text


async def test_too_many_looks_are_put_off_on_a_page_that_says_what_to_do(app: App) -> None:
    app.client.app[TENANT_LIMITS]._allowances = {RateLimit.REVEAL: Allowance(burst=2, per_second=0.01)}
    mine, theirs = await app.route(), await app.route("globex")
    for _ in range(2):
        assert (await get(app, at(mine))).status == 200
    page = await get(app, at(mine))
    assert page.status == 429
    assert page.words("h1") == ["One moment, please"]
    assert f"try again in {page.headers['Retry-After']} s" in page.text
    assert "Nothing was changed." in page.text
    assert mine["verification_key"] not in page.html
    part = await get(app, at(mine), headers=PART)
    assert part.status == 429
    assert "<html" not in part.html
    assert (await get(app, at(theirs))).status == 200


async def test_a_deleted_webhook_has_no_key_to_show(app: App) -> None:
    route = await app.route()
    await app.ask("DELETE", path(route))
    page = await get(app, at(route))
    assert (page.status, page.location) == (303, at(route, ""))
    assert route["verification_key"] not in page.html


async def test_only_who_may_manage_webhooks_sees_it(app: App) -> None:
    route = await app.route()
    for scope, status in (("auditor:acme", 403), ("auditor", 403), ("tenant:globex", 404), ("tenant:acme", 200)):
        headers = BROWSER | bearer(await token(app.database, scope))
        page = await get(app, at(route), headers=headers)
        assert page.status == status
        assert (route["verification_key"] in page.html) is (status == 200)
