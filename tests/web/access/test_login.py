"""The login link, the session that it begins, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from pathlib import PurePosixPath

import pytest
import pytest_asyncio

from daemon.core.drafts.login_link_draft import LoginLinkDraft
from daemon.core.gcra import Allowance
from daemon.web.access import sessions
from daemon.web.access.guesses import GUESSES
from tests.support.web.application import Answer, App, path
from tests.support.web.application import app as opened_door
from tests.support.web.pages import get
from tests.support.web.tokens import bearer, id_in, token

ADMIN = "correct horse battery staple"
OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(empty_url: str) -> AsyncIterator[App]:
    """A daemon with an admin token."""
    async with opened_door(empty_url, server__admin_token=ADMIN) as opened:
        yield opened


async def link(opened: App, tenant: str | None = "acme") -> str:
    """The path of a new login link."""
    made = await sessions.new_link(
        opened.database,
        opened.services.config.server,
        LoginLinkDraft(),
        tenant=tenant,
        created_by="test",
        macs=opened.services.keychain.macs,
    )
    return f"/login/{PurePosixPath(made.url).name}"


async def open_link(opened: App, place: str, **more: str) -> Answer:
    """The answer to the button of the page that the link leads to."""
    return await opened.ask("POST", place, headers=OURS | more, allow_redirects=False)


def cookie(answer: Answer) -> Morsel[str]:
    (morsel,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    return morsel


async def logged_in(opened: App, tenant: str | None = "acme") -> dict[str, str]:
    """The header of a browser with a session."""
    found = cookie(await open_link(opened, await link(opened, tenant)))
    opened.client.session.cookie_jar.clear()  # a request without this header has no session
    return {"Cookie": f"{found.key}={found.value}"}


async def test_a_link_leads_to_the_dashboard_with_a_session(guarded: App) -> None:
    answer = await open_link(guarded, await link(guarded))

    assert answer.status == 303
    assert answer.headers["Location"] == "/"
    found = cookie(answer)
    assert found.key == "hookledger"
    assert (found["httponly"], found["samesite"], found["path"], found["domain"]) == (True, "Lax", "/", "")
    assert found["max-age"] == "86400"
    assert not found["secure"]


async def test_behind_https_the_cookie_is_bound_to_it_and_to_this_host(empty_url: str) -> None:
    settings = {"server__admin_token": ADMIN, "server__public_url": "https://hooks.example.com/webhooks"}
    async with opened_door(empty_url, **settings) as opened:
        made = await sessions.new_link(
            opened.database,
            opened.services.config.server,
            LoginLinkDraft(),
            tenant=None,
            created_by="test",
            macs=opened.services.keychain.macs,
        )
        assert made.url.startswith("https://hooks.example.com/webhooks/login/")
        answer = await open_link(opened, f"/login/{PurePosixPath(made.url).name}")
        assert answer.headers["Location"] == "/webhooks/"
        found = cookie(answer)
        assert found.key == "__Host-hookledger"
        assert (found["secure"], found["httponly"], found["path"], found["domain"]) == (True, True, "/", "")
        whole, plain = ({"Cookie": f"{name}={found.value}"} for name in ("__Host-hookledger", "hookledger"))
        assert (await opened.ask("GET", "/v1/session", headers=whole)).status == 200
        assert (await opened.ask("GET", "/v1/session", headers=plain)).status == 401


async def test_a_link_of_a_revoked_token_begins_no_session(guarded: App) -> None:
    kept, revoked = [await token(guarded.database, "tenant:acme") for _ in range(2)]

    async def link_by(text: str) -> str:
        body = {"actor": "jane", "valid_seconds": 3600}
        made = await guarded.ask("POST", "/v1/tenants/acme/login-links", body, headers=bearer(text))
        return f"/login/{PurePosixPath(made.json['url']).name}"

    works, stolen = await link_by(kept), await link_by(revoked)
    assert (await guarded.ask("DELETE", f"/v1/tokens/{id_in(revoked)}", headers=bearer(ADMIN))).status == 204
    assert (await get(guarded, stolen)).status == 410
    assert (await open_link(guarded, stolen)).status == 410
    assert (await open_link(guarded, works)).status == 303


async def test_the_database_has_neither_link_nor_session_as_text(guarded: App) -> None:
    place = await link(guarded)
    stored = str(
        await guarded.rows("SELECT l::text AS row, encode(hash, 'escape') AS hash FROM hookledger.login_link l")
    )
    assert PurePosixPath(place).name not in stored
    found = cookie(await open_link(guarded, place))
    assert found.value not in str(await guarded.rows("SELECT s::text AS row FROM hookledger.session s"))


async def test_a_link_works_once(guarded: App) -> None:
    place = await link(guarded)
    assert (await open_link(guarded, place)).status == 303
    again = await open_link(guarded, place)
    assert again.status == 410
    assert "hookledger login-link" in again.json["detail"]
    page = await guarded.ask("GET", place, headers={"Accept": "text/html"})
    assert page.status == 410
    assert "This link was used before, or has expired." in page.text
    assert "Open your webhooks from your shop’s settings again" in page.text
    assert "login-link" not in page.text
    assert "Set-Cookie" not in again.headers


async def test_a_link_that_has_expired_or_never_was_is_gone(guarded: App) -> None:
    place = await link(guarded)
    await guarded.rows("UPDATE hookledger.login_link SET expires_at = clock_timestamp()")
    for each in (place, "/login/x", f"{place}x", "/login/%F0%9F%98%80"):
        assert (await open_link(guarded, each)).status == 410, each


async def test_a_link_is_good_for_a_minute(guarded: App) -> None:
    await link(guarded)
    (row,) = await guarded.rows(
        "SELECT expires_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '60 s' AS so FROM hookledger.login_link"
    )
    assert row["so"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*", "User-Agent": "Slackbot-LinkExpanding 1.0"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    ],
)
async def test_looking_at_a_link_does_not_use_it_up(guarded: App, headers: dict[str, str]) -> None:
    place = await link(guarded)
    for method in ("HEAD", "GET", "GET"):
        answer = await guarded.ask(method, place, headers=headers, allow_redirects=False)
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
    assert (await open_link(guarded, place)).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
    ],
)
async def test_only_the_button_of_our_own_page_uses_a_link_up(guarded: App, headers: dict[str, str]) -> None:
    """Another page could sign its reader in as somebody else."""
    place = await link(guarded)
    answer = await guarded.ask("POST", place, headers=headers, allow_redirects=False)
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers
    own = {"Origin": f"http://{guarded.client.host}:{guarded.client.port}"}
    assert (await guarded.ask("POST", place, headers=own, allow_redirects=False)).status == 303


async def test_the_page_of_a_link_is_one_of_ours(guarded: App) -> None:
    page = await get(guarded, await link(guarded))
    assert page.words("h1") == ["Sign in"]
    assert "the account acme" in page.text
    assert page.words("main button") == ["Sign in"]
    assert page.form_data() == {}
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin", "no-referrer would take the Origin from the form"


async def test_a_running_session_of_another_tenant_is_replaced_only_by_one_who_was_asked(guarded: App) -> None:
    for before, after in (("acme", "globex"), ("acme", None), (None, "acme")):
        place, headers = await link(guarded, after), await logged_in(guarded, before)
        page = await guarded.ask("GET", place, headers=headers)
        assert "your present session ends" in page.text
        unasked = await open_link(guarded, place, **headers)
        assert unasked.status == 409
        assert "your present session ends" in unasked.text
        assert (await guarded.ask("GET", "/v1/session", headers=headers)).json["tenant"] == before

        answer = await open_link(guarded, f"{place}?instead=1", **headers)
        assert answer.status == 303
        guarded.client.session.cookie_jar.clear()
        found = cookie(answer)
        told = await guarded.ask("GET", "/v1/session", headers={"Cookie": f"{found.key}={found.value}"})
        assert told.json["tenant"] == after
        assert (await guarded.ask("GET", "/v1/session", headers=headers)).status == 401, "the old one has ended"


async def test_a_session_of_the_same_tenant_is_replaced_without_a_question(guarded: App) -> None:
    headers = await logged_in(guarded)
    assert (await open_link(guarded, await link(guarded), **headers)).status == 303
    assert len(await guarded.rows("SELECT hash FROM hookledger.session")) == 1


async def test_a_link_that_does_not_work_ends_no_session(guarded: App) -> None:
    headers = await logged_in(guarded)
    assert (await open_link(guarded, "/login/x?instead=1", **headers)).status == 410
    assert (await guarded.ask("GET", "/v1/session", headers=headers)).status == 200


async def test_wrong_links_are_slowed(guarded: App) -> None:
    guarded.client.app[GUESSES]._allowance = Allowance(burst=2, per_second=0.01)
    assert [(await guarded.ask("GET", f"/login/{n}")).status for n in range(3)] == [410, 410, 429]


@pytest.mark.parametrize(("tenant", "scope"), [("acme", "tenant:acme"), (None, "admin")])
async def test_a_session_says_who_one_is_and_until_when(guarded: App, tenant: str | None, scope: str) -> None:
    answer = await guarded.ask("GET", "/v1/session", headers=await logged_in(guarded, tenant))
    assert answer.status == 200
    assert (answer.json["actor"], answer.json["scope"], answer.json["tenant"]) == ("dashboard", scope, tenant)
    assert answer.json["idle_until"] < answer.json["expires_at"]


async def test_a_session_of_a_tenant_sees_that_tenant_alone(guarded: App) -> None:
    headers = await logged_in(guarded)
    assert (await guarded.ask("GET", "/v1/tenants/acme/routes", headers=headers)).status == 200
    assert (await guarded.ask("GET", "/v1/tenants/globex/routes", headers=headers)).status == 404
    assert (await guarded.ask("GET", "/v1/tenants", headers=headers)).status == 403
    assert (await guarded.ask("GET", "/v1/tenants", headers=await logged_in(guarded, None))).status == 200


async def test_a_session_commands_from_our_own_pages(guarded: App) -> None:
    body = {"name": "a route", "target_url": "https://shop.example.com/", "event_types": ["*"]}
    headers = await logged_in(guarded)
    made = await guarded.ask("POST", "/v1/tenants/acme/routes", body, headers=headers | OURS)
    assert made.status == 201
    own = {"Origin": f"http://{guarded.client.host}:{guarded.client.port}"}
    assert (await guarded.ask("POST", path(made.json, "/disable"), headers=headers | own)).status == 200
    assert [(event["actor"], event["origin"]) for event in await guarded.log()] == [("dashboard", "dashboard")] * 2


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
    ],
)
async def test_a_session_commands_from_nowhere_else(guarded: App, more: dict[str, str]) -> None:
    headers = await logged_in(guarded) | more
    body = {"name": "a route", "target_url": "https://shop.example.com/", "event_types": ["*"]}
    assert (await guarded.ask("POST", "/v1/tenants/acme/routes", body, headers=headers)).status == 403
    assert await guarded.log() == []


async def test_no_page_from_elsewhere_reads_with_a_session(guarded: App) -> None:
    headers = await logged_in(guarded)
    inside = await guarded.ask("GET", "/v1/tenants/acme/routes", headers=headers | {"Sec-Fetch-Site": "cross-site"})
    assert inside.status == 403


async def test_logging_out_ends_the_session_for_good(guarded: App) -> None:
    headers = await logged_in(guarded)
    answer = await guarded.ask("POST", "/logout", headers=headers | OURS, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert cookie(answer)["max-age"] == "0"
    assert (await guarded.ask("GET", "/v1/session", headers=headers)).status == 401
    assert await guarded.rows("SELECT hash FROM hookledger.session") == []


async def test_no_page_from_elsewhere_logs_one_out(guarded: App) -> None:
    headers = await logged_in(guarded)
    refused = await guarded.ask(
        "POST", "/logout", headers=headers | {"Sec-Fetch-Site": "cross-site"}, allow_redirects=False
    )
    assert refused.status == 403
    assert (await guarded.ask("GET", "/v1/session", headers=headers)).status == 200


async def test_logging_out_without_a_session_is_no_mistake(guarded: App) -> None:
    assert (await guarded.ask("POST", "/logout", allow_redirects=False)).status == 303


@pytest.mark.parametrize("value", ["", "x", "a" * 5000, '"', "\\", "é", "x; hookledger=y"])
async def test_a_cookie_that_was_never_given_out_is_none(guarded: App, value: str) -> None:
    answer = await guarded.ask("GET", "/v1/session", headers={"Cookie": f"hookledger={value}"})
    assert answer.status == 401


async def test_a_session_ends_when_nobody_uses_it(guarded: App) -> None:
    headers = await logged_in(guarded)
    await guarded.rows("UPDATE hookledger.session SET last_seen_at = last_seen_at - interval '8 h'")
    assert (await guarded.ask("GET", "/v1/session", headers=headers)).status == 401


async def test_a_session_that_is_used_is_noted_to_be(guarded: App) -> None:
    headers = await logged_in(guarded)
    await guarded.rows("UPDATE hookledger.session SET last_seen_at = last_seen_at - interval '7 h'")
    await guarded.ask("GET", "/v1/session", headers=headers)
    (row,) = await guarded.rows(
        "SELECT last_seen_at > clock_timestamp() - interval '1 h' AS so FROM hookledger.session"
    )
    assert row["so"]


@pytest.mark.parametrize("by_itself", [{"X-Fragment": "1"}, {"Accept": "text/event-stream"}])
async def test_a_page_that_was_left_open_does_not_use_the_session(guarded: App, by_itself: dict[str, str]) -> None:
    headers = await logged_in(guarded)
    await guarded.rows("UPDATE hookledger.session SET last_seen_at = last_seen_at - interval '7 h'")
    answer = await guarded.ask("GET", "/v1/session", headers=headers | by_itself)
    assert answer.status == 200
    (row,) = await guarded.rows(
        "SELECT last_seen_at > clock_timestamp() - interval '1 h' AS so FROM hookledger.session"
    )
    assert not row["so"]


async def test_a_token_counts_more_than_a_session(guarded: App) -> None:
    headers = await logged_in(guarded) | {"Authorization": f"Bearer {ADMIN}"}
    assert (await guarded.ask("GET", "/v1/session", headers=headers)).json["actor"] == "admin"
    assert (await guarded.ask("GET", "/v1/session", headers=headers | {"Authorization": "Bearer x"})).status == 401


async def test_on_a_daemon_without_an_admin_token_a_session_is_what_it_was_made_for(app: App) -> None:
    headers = await logged_in(app)
    assert (await app.ask("GET", "/v1/session", headers=headers)).json["scope"] == "tenant:acme"
    assert (await app.ask("GET", "/v1/tenants/globex/routes", headers=headers)).status == 404
    await app.ask("POST", "/logout", headers=headers | OURS, allow_redirects=False)
    assert (await app.ask("GET", "/v1/session", headers=headers)).json["scope"] == "admin"


async def test_a_token_may_ask_who_it_is(guarded: App) -> None:
    answer = await guarded.ask("GET", "/v1/session", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.json == {"actor": "admin", "scope": "admin", "tenant": None, "expires_at": None, "idle_until": None}
