"""The dashboard in somebody else's house: its name, its logo, its accent, its way back, and its frames."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from multidict import CIMultiDictProxy

from daemon.core.drafts.login_link_draft import LoginLinkDraft
from daemon.web.access import sessions
from eventstore import route_log
from tests.support.web.application import TARGET, App, app
from tests.support.web.pages import BROWSER, get, post
from tests.support.web.sessions import browser

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle r="4" fill="#e01e5a"/></svg>'
SHOP = "https://shop.example.com"
HOUSE = {
    "server__public_url": "https://hooks.example.com",
    "server__admin_token": "correct horse battery staple",
    "dashboard__frame_ancestors": f"{SHOP}, https://admin.shop.example.com",
    "dashboard__return_url": f"{SHOP}/settings",
}
FRAME = {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
FORM = {
    "name": "Orders",
    "target_url": "https://shop.example.com/hook",
    "event_types": "order.create",
    "headers": "X-A: b\nX-B: c",
}


async def link(opened: App, draft: LoginLinkDraft | None = None) -> str:
    made = await sessions.new_link(
        opened.database,
        opened.services.config.server,
        draft or LoginLinkDraft(),
        tenant="acme",
        created_by="test",
        macs=opened.services.keychain.macs,
    )
    return urlsplit(made.url).path


async def cookies(opened: App, draft: LoginLinkDraft | None = None) -> list[str]:
    """The Set-Cookie headers of a sign-in."""
    answer = await opened.ask("POST", await link(opened, draft), headers=BROWSER, allow_redirects=False)
    assert answer.status == 303
    opened.client.session.cookie_jar.clear()
    return cast("CIMultiDictProxy[str]", answer.headers).getall("Set-Cookie")


async def test_pages_have_the_name_the_logo_and_the_accent_of_the_house(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "logo.svg").write_text(SVG)
    look = {
        "dashboard__name": "Shop & Söhne",
        "dashboard__logo_file": str(tmp_path / "logo.svg"),
        "dashboard__accent": "#b3261e",
    }
    async with app(empty_url, **look) as opened:
        page = await get(opened, "/t/acme/webhooks")
        assert page.words("title") == ["Webhooks · Shop & Söhne"]
        assert page.words(".brand") == ["Shop & Söhne"]
        assert "Hookledger" not in page.text
        logo = str(page.one(".brand img")["src"])
        answer = await opened.ask("GET", logo)
        assert (answer.text, answer.headers["Content-Type"]) == (SVG, "image/svg+xml")
        policy = answer.headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        style = await opened.ask("GET", str(page.all("link[rel=stylesheet]")[1]["href"]))
        light, dark = style.text.split("@media (prefers-color-scheme: dark)")
        assert "--accent: #b3261e;" in light
        assert "--accent: #b3261e;" not in dark


async def test_no_sentence_for_a_merchant_has_our_name_in_it(empty_url: str) -> None:
    async with app(empty_url, dashboard__name="Söhne") as opened:
        route = await opened.route()
        where = f"/t/acme/webhooks/{route['id']}"
        async with opened.database.transaction() as connection:
            draft = route_log.NewRouteEvent(
                route_id=UUID(route["id"]), tenant="acme", version=2, type="disabled", actor="system", origin="daemon",
                body="{}", reason="the receiver answered 410 Gone",
            )  # fmt: skip
            await route_log.append(connection, draft)
        await opened.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "id": "e1", "data": {}})
        merchant = await browser(opened, "acme")
        entered = {"name": "a", "target_url": TARGET, "event_types": "*", "headers": "Host: x", "intent": "save"}
        shown = [await get(opened, where + tab, headers=merchant) for tab in ("", "/history", "/test", "/key")]
        shown += [
            await get(opened, f"/t/acme/{each}", headers=merchant) for each in ("activity", "events/e1", "nothing")
        ]
        shown.append(await get(opened, "/operator", headers=merchant))
        shown.append(await post(opened, "/t/acme/webhooks/new", entered, headers=merchant))
        assert [page.status for page in shown] == [200, 200, 200, 200, 200, 200, 404, 403, 422]
        for page in shown:
            assert "Hookledger" not in page.text.replace("Hookledger-Test: true", ""), page.text
        assert "by the system" in shown[1].text
        assert "by the system" in shown[4].text


async def test_without_a_house_pages_are_our_own(app: App) -> None:
    page = await get(app, "/t/acme/webhooks")
    assert page.words(".brand") == ["Hookledger"]
    assert len(page.all("link[rel=stylesheet]")) == 1
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


async def test_a_png_is_served_as_one(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "logo").write_bytes(b"\x89PNG\r\n\x1a\n")
    async with app(empty_url, dashboard__logo_file=str(tmp_path / "logo")) as opened:
        page = await get(opened, "/t/acme/webhooks")
        async with opened.client.get(str(page.one(".brand img")["src"])) as answer:
            assert answer.content_type == "image/png"
            assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_the_named_pages_may_frame_it_and_no_others(empty_url: str) -> None:
    async with app(empty_url, **HOUSE) as opened:
        headers = await browser(opened, "acme")
        for page in (
            await get(opened, "/t/acme/webhooks", headers=headers | FRAME),
            await get(opened, await link(opened), headers=FRAME | {"Accept": "text/html"}),
            await get(opened, "/login/x", headers=FRAME | {"Accept": "text/html"}),
        ):
            policy = page.headers["Content-Security-Policy"]
            assert f"frame-ancestors {SHOP} https://admin.shop.example.com;" in policy
            assert page.all("body.framed")
        alone = await get(opened, "/t/acme/webhooks", headers=headers)
        assert alone.all("body.framed") == []


async def test_without_such_pages_no_frame_is_answered(app: App) -> None:
    headers = await browser(app, "acme")
    assert (await get(app, "/t/acme/webhooks", headers=headers | FRAME)).status == 403


async def test_in_a_frame_the_cookies_are_for_frames(empty_url: str) -> None:
    async with app(empty_url, **HOUSE) as opened:
        session, way_back = await cookies(opened)
        assert session.startswith("__Host-hookledger=")
        for each in (session, way_back):
            attributes = each.split("; ")[1:]
            assert {"HttpOnly", "Path=/", "SameSite=None", "Secure", "Partitioned"} < set(attributes)
        headers = await browser(opened, "acme")
        answer = await opened.ask("POST", "/logout", headers=headers, allow_redirects=False)
        assert "Max-Age=0; Path=/; SameSite=None; Secure; Partitioned" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "more",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": SHOP},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://admin.shop.example.com"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", "Origin": SHOP},
        {"Sec-Fetch-Site": "", "Origin": SHOP},
        {"Sec-Fetch-Site": ""},
    ],
)
async def test_where_cookies_go_along_from_everywhere_commands_still_come_from_our_pages(
    empty_url: str, more: dict[str, str]
) -> None:
    """Not even the pages that may frame it can command: a frame is for looking at, and its own forms are ours."""
    async with app(empty_url, **HOUSE) as opened:
        headers = await browser(opened, "acme") | more
        headers = {name: value for name, value in headers.items() if value}
        for place in ("/t/acme/webhooks/new", "/v1/tenants/acme/routes", "/v1/tenants/acme/preview"):
            assert (await post(opened, place, FORM, headers=headers)).status == 403, place
        assert await opened.log() == []


@pytest.mark.parametrize("mode", ["cors", "no-cors", "websocket", "same-origin"])
async def test_no_page_that_frames_it_reads_it(empty_url: str, mode: str) -> None:
    async with app(empty_url, **HOUSE) as opened:
        headers = await browser(opened, "acme") | {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": mode,
            "Origin": SHOP,
        }
        for place in ("/v1/tenants/acme/routes", "/t/acme/webhooks"):
            answer = await opened.ask("GET", place, headers=headers | {"Sec-Fetch-Dest": "empty"})
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_session_leads_back_as_its_link_says_or_else_as_configured(empty_url: str) -> None:
    async with app(empty_url, **HOUSE) as opened:
        for of_link, expected in (
            (None, f"{SHOP}/settings"),
            ("https://other.example.com/?a=b;c", "https://other.example.com/?a=b;c"),
        ):
            pairs = [each.partition(";")[0] for each in await cookies(opened, LoginLinkDraft(return_url=of_link))]
            headers = BROWSER | {"Cookie": "; ".join(pairs)}
            page = await get(opened, "/t/acme/webhooks", headers=headers)
            assert page.one(".who a")["href"] == expected
            assert page.words(".who a") == [f"Back to {urlsplit(expected).netloc}"]

            await opened.rows("DELETE FROM hookledger.session")
            ended = await get(opened, "/t/acme/webhooks", headers=headers)
            assert (ended.status, ended.words("h1")) == (401, ["Your session has ended"])
            assert ended.one("main a.primary")["href"] == expected
            assert "hookledger login-link" not in ended.text


@pytest.mark.parametrize("forged", ["javascript%3Aalert(1)", "http%3A%2F%2Fevil.example.com", "%2F%2Fevil", '"><b>'])
async def test_a_forged_way_back_is_none(empty_url: str, forged: str) -> None:
    async with app(empty_url, **HOUSE) as opened:
        page = await get(opened, "/", headers=BROWSER | {"Cookie": f"__Host-hookledger-return={forged}"})
        assert page.one("main a.primary")["href"] == f"{SHOP}/settings"


async def test_without_a_session_before_one_is_asked_to_sign_in(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="correct horse battery staple") as opened:
        page = await get(opened, "/t/acme/webhooks")
        assert page.words("h1") == ["Please sign in"]
        assert "Open your webhooks from your shop’s settings again" in page.text


async def test_what_was_typed_survives_the_end_of_the_session(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="correct horse battery staple") as opened:
        headers = await browser(opened, "acme")
        await opened.rows("DELETE FROM hookledger.session")
        place = "/t/acme/webhooks/new?copy="
        typed: dict[str, str | list[str]] = {
            **FORM,
            "name": 'Orders "of" <Ada>',
            "event_types": ["order.create", "order.cancel"],
        }
        ended = await post(opened, place, typed, headers=headers)
        assert ended.status == 401
        assert "What you typed is kept on this page." in ended.text
        again, kept = str(ended.one("main form")["action"]), ended.form_data()
        assert again == place
        assert kept == {name: [value] if isinstance(value, str) else value for name, value in typed.items()}
        assert (await post(opened, again, kept, headers=headers)).form_data() == kept, "still nobody has signed in"

        saved = await post(opened, again, kept, headers=await browser(opened, "acme"))
        assert saved.status == 303
        (made,) = (await opened.ask("GET", "/v1/tenants/acme/routes", headers=await browser(opened, "acme"))).json[
            "items"
        ]
        assert (made["name"], made["event_types"]) == (typed["name"], typed["event_types"])
        assert made["headers"] == {"X-A": "***", "X-B": "***"}


@pytest.mark.parametrize(
    "more",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example.com"},
        {"Sec-Fetch-Site": ""},
    ],
)
async def test_what_another_site_put_into_a_form_is_not_kept(empty_url: str, more: dict[str, str]) -> None:
    """Its reader would sign in, and send it."""
    async with app(empty_url, server__admin_token="correct horse battery staple") as opened:
        headers = {name: value for name, value in (BROWSER | more).items() if value}
        page = await post(opened, "/t/acme/webhooks/new", FORM, headers=headers)
        assert page.status == 401
        assert page.all("main form") == []
        assert "shop.example.com/hook" not in page.html


@pytest.mark.parametrize(
    "form", [{"sample_event": "x" * 70_000}, {"event_types": [f"order.x{number}" for number in range(501)]}]
)
async def test_a_form_that_is_too_long_is_not_kept(empty_url: str, form: dict[str, str | list[str]]) -> None:
    """Nobody has signed in who sends it, and it would take a fiftieth of a second to show 5,000 fields again."""
    async with app(empty_url, server__admin_token="correct horse battery staple") as opened:
        page = await post(opened, "/t/acme/webhooks/new", form)
        assert page.status == 401
        assert page.all("main form") == []
        assert "when you reload this page" in page.text
