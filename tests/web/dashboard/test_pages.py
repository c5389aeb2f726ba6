"""What holds for every page: its headers, title and links, and how requests are refused.

The paths are literal on purpose: add each new page here.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio

from daemon.config.sections import DashboardSection
from daemon.web.dashboard import assets
from daemon.web.dashboard.assets import ASSETS
from daemon.web.dashboard.error_page import NEXT_STEPS, TITLES
from daemon.web.dashboard.form_data import MAX_BODY_BYTES, MAX_FIELDS
from daemon.web.dashboard.html.rendering import NOTICES
from daemon.web.http import paging
from daemon.web.http.endpoints import declared
from eventstore.domain_events import catalogue
from tests.support.rows.audits import audit_row
from tests.support.rows.recorded import recorded
from tests.support.web.application import App, path
from tests.support.web.application import app as opened_door
from tests.support.web.pages import BROWSER, OPERATOR_PAGES, PART, Page, get, post
from tests.support.web.sessions import browser
from tests.support.web.tokens import bearer, id_in, token

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
TEMPLATES = Path(assets.__file__).parent / "templates"
STATIC = Path(assets.__file__).parent / "static"

MERCHANT = [
    "/t/{tenant}/webhooks",
    "/t/{tenant}/webhooks/new",
    "/t/{tenant}/webhooks/{route}",
    "/t/{tenant}/webhooks/{route}/edit",
    "/t/{tenant}/webhooks/{route}/test",
    "/t/{tenant}/webhooks/{route}/replay",
    "/t/{tenant}/webhooks/{route}/replays/{replay}",
    "/t/{tenant}/webhooks/{route}/disable",
    "/t/{tenant}/webhooks/{route}/delete",
    "/t/{tenant}/webhooks/{route}/key",
    "/t/{tenant}/webhooks/{route}/rotate-key",
    "/t/{tenant}/webhooks/{route}/revoke-old-key",
    "/t/{tenant}/webhooks/{route}/history",
    "/t/{tenant}/deliveries",
    "/t/{tenant}/deliveries/{delivery}",
    "/t/{tenant}/event-types",
    "/t/{tenant}/event-types/{name}",
    "/t/{tenant}/events",
    "/t/{tenant}/events/{event}",
    "/t/{tenant}/activity",
]
# Paths that are not whole pages: redirects, parts and files.
OTHERS = [
    "/",
    "/assets/{digest}/{name}",
    "/t/{tenant}",
    "/t/{tenant}/deliveries/live",
    "/t/{tenant}/deliveries/{delivery}/body",
    "/t/{tenant}/deliveries/{delivery}/proof",
]

# A page without a session, and a form without fields: tests/web/access/test_login.py.
SIGN_IN = "/login/{link}"

FORMS = [
    "/t/{tenant}/webhooks/new",
    "/t/{tenant}/webhooks/{route}/edit",
    "/t/{tenant}/drafts/preview",
    "/t/{tenant}/drafts/target",
    "/t/{tenant}/webhooks/{route}/test",
    "/t/{tenant}/webhooks/{route}/replay",
    "/t/{tenant}/webhooks/{route}/replays/{replay}/cancel",
    "/t/{tenant}/deliveries/retry",
    "/t/{tenant}/deliveries/{delivery}/retry",
    "/operator",
    "/operator/tokens",
    "/operator/tokens/{token}/revoke",
    "/operator/event-types/new",
    "/operator/event-types/list",
    "/operator/event-types/{name}",
    "/operator/event-types/{name}/remove",
    "/operator/audits",
    "/t/{tenant}/webhooks/{route}/disable",
    "/t/{tenant}/webhooks/{route}/enable",
    "/t/{tenant}/webhooks/{route}/delete",
    "/t/{tenant}/webhooks/{route}/rotate-key",
    "/t/{tenant}/webhooks/{route}/revoke-old-key",
]

OURS = ["/t/acme/", "/operator", "/assets/", "/logout", "/v1/tenants/acme/"]

# Attributes with URLs, for browsers and for page.js.
LEADING = ["href", "src", "action", "formaction", "data-fragment", "data-poll", "data-live", "data-reveal"]


async def furnish(app: App) -> dict[str, str]:
    """Creates one object of each kind, and returns their ids by the placeholders in paths."""
    delivery = await recorded(app, name="Orders", headers={"X-Shop": "geheim"})
    await delivery.record(delivery.row("delivered"))
    route = delivery.route
    types = [{"name": "order.create", "description": "It happens.", "example": {"data": {"total": 1}}}]
    assert (await app.ask("PUT", "/v1/event-types", {"event_types": types})).status == 200
    await app.ask("POST", path(route, "/rotate-key"), {"reason": "somebody left"})
    span = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "all"}
    replay = await app.ask("POST", path(route, "/replay"), span)
    assert replay.status == 202, replay.text
    return {
        "tenant": "acme",
        "route": route["id"],
        "event": "e1",
        "delivery": str(delivery.id),
        "replay": replay.json["id"],
        "audit": await audit_row(app),
        "token": id_in(await token(app.database, "metrics", name="Prometheus")),
        "name": "order.create",
        "digest": app.client.app[ASSETS].digest,
    }


_SEEN: dict[str, Page] = {}


@pytest_asyncio.fixture(loop_scope="session")
async def everything(app: App) -> Mapping[str, Page]:
    """Every page, requested once; the tests do not change data."""
    if not _SEEN:
        names = await furnish(app)
        _SEEN.update({place: await get(app, place.format_map(names)) for place in (*MERCHANT, *OPERATOR_PAGES)})
    return _SEEN


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(empty_url: str) -> AsyncIterator[App]:
    """A daemon with an admin token."""
    async with opened_door(empty_url, server__admin_token="correct horse") as opened:
        yield opened


# ---- each page ----


async def test_every_page_is_one_of_those_that_are_tried_here(app: App) -> None:
    found: dict[str, list[str]] = {"GET": [], "POST": []}
    for route in app.client.app.router.routes():
        declaration = declared(route.handler)
        if declaration is not None and declaration.is_page and route.method in found:
            found[route.method].append(str(route.resource and route.resource.canonical))
    assert sorted(found["GET"]) == sorted([*MERCHANT, *OPERATOR_PAGES, *OTHERS, SIGN_IN])
    assert sorted(found["POST"]) == sorted([*FORMS, SIGN_IN])


def test_every_page_loads_from_here_only_and_is_neither_cached_nor_framed(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        assert page.status == 200, (place, page.text)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8", place
        assert page.headers["Content-Security-Policy"] == POLICY, place
        assert page.headers["X-Content-Type-Options"] == "nosniff", place
        assert page.headers["Cache-Control"] == "no-store", place
        assert page.headers["Referrer-Policy"] == "same-origin", place
        assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin", place


def test_no_page_has_a_script_or_style_within_it(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        assert [str(each.get_text()).strip() for each in page.all("script")] == [""], place
        assert str(page.one("script")["src"]).startswith("/assets/"), place
        assert (
            page.all("style") == page.all("[style]") == page.all("iframe, object, embed, base, meta[http-equiv]") == []
        )
        named = {name for each in page.soup.find_all(True) for name in each.attrs}
        assert [name for name in named if name.startswith("on")] == [], place
        assert not [each for each in page.all("[href], [src]") if "javascript:" in str(each.attrs).lower()], place


def test_no_template_has_a_script_or_style_within_it_or_trusts_a_text() -> None:
    found = sorted(TEMPLATES.rglob("*.html"))
    assert len(found) > 40
    for template in found:
        text = re.sub(r"\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)
        assert not re.search(
            r"<script(?![^>]*\bsrc=)|<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:", text, re.IGNORECASE
        ), template.name
        assert not re.search(r"\|\s*safe\b|\bautoescape\b|Markup", text), template.name
        assert not re.search(r"\s(href|src|action|value)=\{\{", text), f"{template.name}: an attribute without quotes"


def test_every_page_says_what_it_is_and_how_to_get_to_it_by_keyboard(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        assert len(page.all("h1")) == 1, place
        assert page.words("h1") != [""]
        assert page.one("html")["lang"] == "en"
        assert page.words("title")[0].endswith(" · Hookledger")
        assert page.all("body > a.skip[href='#content']"), place
        ids = [str(each["id"]) for each in page.all("[id]")]
        assert len(set(ids)) == len(ids), (place, ids)
        for label in page.all("label[for]"):
            assert label["for"] in ids, (place, label)
        for each in page.all("[aria-describedby], [aria-labelledby]"):
            for name in f"{each.get('aria-describedby', '')} {each.get('aria-labelledby', '')}".split():
                assert name in ids, (place, name)


def test_every_field_has_a_name_that_is_read_out(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        labelled = {str(each["for"]) for each in page.all("label[for]")}
        for each in page.all("input:not([type=hidden]), select, textarea"):
            has_name = (
                each.get("id") in labelled or each.has_attr("aria-label") or each.find_parent("label") is not None
            )
            assert has_name, (place, each)


def test_a_merchants_pages_speak_of_webhooks_and_no_page_of_secrets(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        assert "geheim" not in page.html, place
        if place in MERCHANT:
            assert not re.search(r"\b(route|lane|shard|projection)s?\b", page.text, re.IGNORECASE), (place, page.text)


def test_every_page_is_small(everything: Mapping[str, Page]) -> None:
    for place, page in everything.items():
        assert len(page.html.encode()) < 100_000, place


async def test_a_page_can_be_asked_for_without_its_body(app: App) -> None:
    names = await furnish(app)
    for place in (*MERCHANT, *OPERATOR_PAGES):
        answer = await app.ask("HEAD", place.format_map(names), headers=BROWSER)
        assert (answer.status, answer.text) == (200, ""), place
        assert answer.headers["Content-Security-Policy"] == POLICY


async def test_the_root_path_redirects_to_the_first_page_of_the_caller(app: App) -> None:
    assert (await get(app, "/")).location == "/operator"
    assert (await get(app, "/", headers=await browser(app, "acme"))).location == "/t/acme/webhooks"
    assert (await get(app, "/", headers=await browser(app, None))).location == "/operator"


async def test_types_that_only_somebodys_events_had_are_suggested_to_no_merchant(app: App) -> None:
    await furnish(app)
    await catalogue.note_seen(app.database, ["secret.project"])
    merchant = await browser(app, "acme")
    for place in ("/t/acme/deliveries", "/t/acme/events"):
        assert "secret.project" in (await get(app, place)).html
        page = await get(app, place, headers=merchant)
        assert "secret.project" not in page.html
        assert [each["value"] for each in page.all("#types option")] == ["order.create"]


# ---- links ----


@pytest.mark.parametrize("base", ["", "/hooks", "/a/b"])
async def test_all_links_are_under_the_path_that_a_proxy_shows_us_under(empty_url: str, base: str) -> None:
    async with opened_door(empty_url, server__public_url=f"https://hooks.example.com{base}") as proxied:
        names = await furnish(proxied)
        for place in (*MERCHANT, *OPERATOR_PAGES):
            page = await get(proxied, place.format_map(names))
            for name in LEADING:
                for each in page.all(f"[{name}]"):
                    target = str(each[name])
                    is_ours = target == f"{base}/" or target.startswith(tuple(f"{base}{each}" for each in OURS))
                    is_elsewhere = target.startswith("https://") and "noreferrer" in str(each.get("rel"))
                    assert is_ours or is_elsewhere or target.startswith("#"), (place, name, target)
        route = names["route"]
        for where, fields in (
            ("/", None),
            ("/operator?open=acme", None),
            (f"/t/acme/webhooks/{route}/enable", {}),
            (f"/t/acme/webhooks/{route}/delete", {"understood": "yes", "confirmation": "DELETE"}),
        ):
            led = await get(proxied, where) if fields is None else await post(proxied, where, fields)
            assert led.location.startswith(f"{base}/"), where
        lost = await get(proxied, "/t/acme/webhooks/nowhere")
        assert lost.one("main a.button")["href"] == f"{base}/t/acme/webhooks"


async def test_every_link_within_leads_to_a_page(app: App) -> None:
    names = await furnish(app)
    seen: set[str] = set()
    for place in (*MERCHANT, *OPERATOR_PAGES):
        page = await get(app, place.format_map(names))
        ids = {str(each["id"]) for each in page.all("[id]")}
        for anchor in page.all("a[href]"):
            target, _, within = str(anchor["href"]).partition("#")
            assert target or within in ids, (place, within)
            if target.startswith("/") and not target.endswith("/key") and target not in seen:
                seen.add(target)
                led = await get(app, target)
                assert led.status in (200, 303), (place, target, led.status)
    assert len(seen) > 30


@pytest.mark.parametrize("notice", [*NOTICES])
async def test_a_page_says_what_was_done_in_the_words_that_are_known(app: App, notice: str) -> None:
    page = await get(app, f"/t/acme/webhooks?done={notice}")
    assert page.words("[data-notice]") == [NOTICES[notice]]
    assert NOTICES[notice].endswith(".")


@pytest.mark.parametrize(
    "done", ["", "x", "CREATED", "created ", "__class__", "<script>alert(1)</script>", "Your+account+is+lost"]
)
async def test_the_query_cannot_put_words_into_a_page(app: App, done: str) -> None:
    for place in ("/t/acme/webhooks", "/operator", "/nowhere"):
        page = await get(app, f"{place}?done={done}")
        assert page.all("[data-notice]") == []
        assert "account is lost" not in page.text
        assert "alert" not in page.text


async def test_a_notice_does_not_go_along_to_the_next_page_of_a_list(app: App) -> None:
    for number in range(51):
        await app.route(name=f"route {number}")
    page = await get(app, "/t/acme/webhooks?q=route&done=deleted")
    (following,) = page.all("a[rel=next]")
    assert "done=" not in str(following["href"])
    assert "q=route" in str(following["href"])


# ---- style, script and icon ----


async def test_assets_are_kept_for_ever_under_their_digest(app: App) -> None:
    page = await get(app, "/operator")
    linked = {str(each.get("href") or each.get("src")) for each in page.all("head link, script, header img")}
    digest = app.client.app[ASSETS].digest
    assert linked == {f"/assets/{digest}/{file.name}" for file in STATIC.iterdir()}
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for place in linked:
        for encoding in ("identity", "gzip, br", "gzip;q=0"):
            async with app.client.get(place, headers={"Accept-Encoding": encoding}, auto_decompress=False) as answer:
                raw = await answer.read()
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.content_type == kinds[place.rpartition(".")[2]]
            is_packed = answer.headers.get("Content-Encoding") == "gzip"
            assert is_packed is (encoding == "gzip, br")
            assert (gzip.decompress(raw) if is_packed else raw) == (STATIC / place.rpartition("/")[2]).read_bytes()


async def test_an_asset_of_another_version_is_the_present_one_and_is_not_kept(app: App) -> None:
    answer = await app.ask("GET", "/assets/0123456789abcdef/style.css")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.text == (STATIC / "style.css").read_text()


@pytest.mark.parametrize(
    "name", ["nothing.css", "style", "STYLE.CSS", "..%2fpages.py", "%2e%2e", "style.css%00", "style.css%2f"]
)
async def test_what_is_no_asset_is_not_found(app: App, name: str) -> None:
    page = await get(app, f"/assets/{app.client.app[ASSETS].digest}/{name}")
    assert page.status == 404
    assert page.headers["Cache-Control"] == "no-store"


async def test_assets_need_no_session(guarded: App) -> None:
    assert (await guarded.ask("GET", f"/assets/{guarded.client.app[ASSETS].digest}/style.css")).status == 200


def test_the_digest_is_another_one_if_an_asset_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "static").mkdir()
    digests = set()
    for text in ("a", "b"):
        (tmp_path / "static" / "style.css").write_text(text)
        monkeypatch.setattr(assets, "files", lambda _package: tmp_path)
        digests.add(assets.load(DashboardSection()).digest)
    assert len(digests) == 2


def test_script_and_style_load_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|url\(|\beval\b|new Function|document\.write", text), file.name


# ---- refusals ----


async def test_no_form_is_taken_that_does_not_come_from_a_page_of_ours(guarded: App) -> None:
    operator_token = {"Authorization": "Bearer correct horse"}
    made = await guarded.ask(
        "POST", "/v1/tenants/acme/routes", {"name": "a", "target_url": "https://a.example.com/", "event_types": ["*"]},
        headers=operator_token,
    )  # fmt: skip
    names = {"tenant": "acme", "route": made.json["id"], "replay": "1", "delivery": "1", "token": "1", "name": "a.b"}
    session = await browser(guarded, None)
    cookie = {"Cookie": session["Cookie"], "Accept": "text/html"}
    before = await guarded.log()
    for place in FORMS:
        for site in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"},
                     {"Origin": "https://evil.example.com"}):  # fmt: skip
            page = await post(
                guarded, place.format_map(names), {"confirmation": "DELETE", "understood": "yes"}, headers=cookie | site
            )
            assert page.status == 403, (place, site)
            assert page.words("h1") == ["That is not allowed here"]
            assert NEXT_STEPS[403] in page.text
    assert await guarded.log() == before


async def test_on_loopback_no_page_from_elsewhere_commands_or_reads(app: App) -> None:
    route = await app.route(name="Orders")
    where = f"/t/acme/webhooks/{route['id']}"
    for site in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://evil.example.com"}):
        page = await post(app, f"{where}/disable", headers={"Accept": "text/html"} | site)
        assert (page.status, page.words("h1")) == (403, ["That is not allowed here"])
    framed = await get(
        app,
        where,
        headers={
            "Accept": "text/html",
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "iframe",
        },
    )
    assert framed.status == 403
    assert "Orders" not in framed.text
    assert len(await app.log()) == 1


async def test_on_loopback_another_name_is_refused_with_what_to_do(app: App) -> None:
    await app.route(name="Orders")
    page = await get(app, "/t/acme/webhooks", headers=BROWSER | {"Host": "rebound.example.com"})
    assert page.status == 421
    assert "answers to loopback names only" in page.text
    assert "Open it by the name localhost" in page.text
    assert "Orders" not in page.text


async def test_an_unknown_caller_is_asked_to_sign_in_and_sees_nothing(guarded: App) -> None:
    page = await get(guarded, "/t/acme/webhooks")
    assert (page.status, page.words("h1")) == (401, ["Please sign in"])
    assert "This page is for those who have signed in." in page.text
    assert "Open your webhooks from your shop’s settings again" in page.text
    assert "login-link" not in page.text
    assert "oken" not in page.text
    assert "acme" not in page.html
    operators = await get(guarded, "/operator/tokens")
    assert "hookledger login-link" in operators.text
    assert "your shop" not in operators.text
    assert page.all("nav") == page.all("main a") == []
    part = await get(guarded, "/t/acme/webhooks", headers=PART)
    assert part.status == 401
    assert "<html" not in part.html


async def test_a_caller_without_access_is_told_so_and_led_back(app: App) -> None:
    headers = BROWSER | bearer(await token(app.database, "auditor:acme"))
    page = await get(app, "/t/acme/webhooks/new", headers=headers)
    assert (page.status, page.words("h1")) == (403, ["That is not allowed here"])
    assert "Your access does not reach this page." in page.text
    assert "scope" not in page.text
    assert "If your access does not reach so far" in page.text
    assert page.one("main a.button")["href"] == "/t/acme/webhooks"
    operators = await get(app, "/operator/tokens", headers=headers)
    assert "This needs the scope admin; what you have is auditor:acme." in operators.text
    program = await app.ask("GET", "/t/acme/webhooks/new", headers={"Authorization": headers["Authorization"]})
    assert program.json["detail"] == "this needs the scope admin or tenant:<id>; what you have is auditor:acme"


@pytest.mark.parametrize(
    ("method", "where", "status", "message"),
    [
        ("GET", "/nowhere", 404, "There is nothing here."),
        ("GET", "/t/acme/nowhere", 404, "There is nothing here."),
        ("GET", "/t/acme/webhooks/x", 404, "There is no such webhook."),
        ("POST", "/t/acme/webhooks", 405, "This path does not take this method."),
        ("DELETE", "/operator", 405, "This path does not take this method."),
    ],
)
async def test_what_is_not_there_is_reported_in_words_with_a_next_step(
    app: App, method: str, where: str, status: int, message: str
) -> None:
    answer = await app.ask(method, where, headers=BROWSER)
    assert answer.status == status
    assert f"<p>{message}</p>" in answer.text
    assert NEXT_STEPS[status] in answer.text
    assert f"<h1>{TITLES[status]}</h1>" in answer.text
    assert "/v1" not in answer.text
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Cache-Control"] == "no-store"


async def test_only_who_looks_for_a_webhook_is_told_of_deleted_ones(app: App) -> None:
    of_deleted = "Deleted webhooks are still listed under Activity."
    assert of_deleted in (await get(app, "/t/acme/webhooks/x/edit")).text
    for where in ("/nowhere", "/t/acme/events/x", "/t/acme/deliveries/x"):
        assert of_deleted not in (await get(app, where)).text
    event = await get(app, "/t/acme/events/x")
    assert "There is no event 'x'." in event.text
    assert "The events that are kept are listed under Events." in event.text


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"x=" + b"y" * MAX_BODY_BYTES, "application/x-www-form-urlencoded", 413),
        (b"x=%ff", "application/x-www-form-urlencoded", 400),
        (b"x=\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"x=1"] * (MAX_FIELDS + 1)), "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"--x--", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_what_no_form_sends_is_refused_in_words_with_a_next_step(
    app: App, data: bytes, kind: str, status: int
) -> None:
    for where in ("/t/acme/webhooks/new", "/t/acme/drafts/target", "/operator", "/operator/event-types/list"):
        answer = await app.ask("POST", where, data=data, headers=BROWSER | {"Content-Type": kind})
        assert answer.status == status, answer.text
        assert NEXT_STEPS[status] in answer.text
        assert "Traceback" not in answer.text
    assert await app.log() == []


async def test_without_the_database_each_page_says_that_nothing_is_lost(database_url: str) -> None:
    async with opened_door(database_url) as cut:
        names = await furnish(cut)
        await cut.disconnect()
        for place in (*MERCHANT, *OPERATOR_PAGES):
            page = await get(cut, place.format_map(names))
            if page.status == 200:  # the page shows what is in memory
                continue
            assert (page.status, page.words("h1")) == (503, ["The database does not answer"]), place
            assert NEXT_STEPS[503] in page.text
            assert ("Idempotency-Key" in page.text) is place.startswith("/operator"), place
            assert page.headers["Retry-After"] == "2"
        saved = await post(cut, f"/t/acme/webhooks/{names['route']}/disable", {"reason": "x"})
        assert saved.status == 503


async def test_pages_take_no_connection_of_commands_and_publishing(database_url: str) -> None:
    """Except for secrets, which commands look up too."""
    async with opened_door(database_url) as half:
        names = await furnish(half)
        await half.database.close()
        without = [
            place for place in (*MERCHANT, *OPERATOR_PAGES) if (await get(half, place.format_map(names))).status == 503
        ]
    assert set(without) == {"/t/{tenant}/webhooks/{route}/key", "/t/{tenant}/deliveries/{delivery}"}


async def test_an_unexpected_error_is_shown_by_a_number_and_nothing_else(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_text: str) -> str:
        raise RuntimeError("geheim")

    monkeypatch.setattr(paging, "decoded", crash)
    page = await get(app, "/operator")
    assert (page.status, page.words("h1")) == (500, ["Something went wrong"])
    assert re.search(r"An unexpected error, number [0-9a-f]{12} in the daemon's log\.", page.text)
    assert NEXT_STEPS[500] in page.text
    assert "geheim" not in page.html


def test_a_next_step_is_known_for_each_error_that_a_person_can_run_into() -> None:
    assert {400, 401, 403, 404, 405, 410, 413, 415, 421, 429, 500, 503} <= set(NEXT_STEPS)
    assert all(text.endswith((".", "”.")) for text in NEXT_STEPS.values())
    assert not any(text.endswith(".") for text in TITLES.values())


@pytest.mark.parametrize(
    "where", ["/t/{}/webhooks", "/t/acme/webhooks?q={}", "/t/acme/webhooks/{}", "/operator?q={}", "/{}"]
)
async def test_everything_in_a_path_is_escaped(app: App, where: str) -> None:
    for hostile in ('"><script>alert(1)</script>', "{{7*7}}", "\u202e\u2028", "%00", "a" * 3000):
        page = await get(app, where.format(quote(hostile, safe="%")))
        assert page.status in (200, 404, 422), hostile
        assert len(page.all("script")) == 1
