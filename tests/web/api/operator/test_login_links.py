"""POST /v1/tenants/{tenant}/login-links: what a link may say, and what the session does that it begins."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from tests.support.web.application import App, path
from tests.support.web.pages import BROWSER, get, post
from tests.support.web.sessions import opened
from tests.support.web.tokens import bearer, token

LINKS = "/v1/tenants/acme/login-links"


async def link(app: App, **body: object) -> str:
    made = await app.ask("POST", LINKS, {"actor": "jane@shop.example.com"} | body)
    assert made.status == 201, made.text
    url: str = made.json["url"]
    return url


async def test_a_link_says_where_it_leads_and_until_when(app: App) -> None:
    made = await app.ask("POST", LINKS, {"actor": "jane@shop.example.com", "role": "view", "valid_seconds": 600})
    assert made.status == 201
    assert set(made.json) == {"url", "expires_at"}
    assert made.json["url"].startswith(f"{app.services.config.server.url()}/login/")
    left = datetime.fromisoformat(made.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=540) < left <= timedelta(seconds=600)
    (row,) = await app.rows("SELECT tenant, created_by, actor, role FROM hookledger.login_link")
    assert row == {"tenant": "acme", "created_by": "admin", "actor": "jane@shop.example.com", "role": "view"}


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({}, "actor", "is missing"),
        ({"actor": ""}, "actor", "must not be empty"),
        ({"actor": "x" * 129}, "actor", "has 129 characters, 128 are allowed"),
        ({"actor": "a\u0007"}, "actor", "must not contain control characters"),
        ({"actor": "admin"}, "actor", "that Hookledger uses itself"),
        ({"role": "owner"}, "role", "must be manage or view"),
        ({"valid_seconds": 0}, "valid_seconds", "must be 1 to 3600"),
        ({"valid_seconds": 3601}, "valid_seconds", "must be 1 to 3600"),
        ({"valid_seconds": "60"}, "valid_seconds", "must be a whole number"),
        ({"return_url": "javascript:alert(1)"}, "return_url", "must begin with https://"),
        ({"return_url": "http://shop.example.com"}, "return_url", "http:// is for loopback only"),
        ({"path": "https://evil.example.com"}, "path", "must be a page of this tenant"),
        ({"path": "/t/globex/webhooks"}, "path", "must be a page of this tenant"),
        ({"tenant": "globex"}, "tenant", "is not a field of this request"),
    ],
)
async def test_what_is_wrong_with_a_link_is_said_by_field(
    app: App, body: dict[str, object], field: str, says: str
) -> None:
    answer = await app.ask("POST", LINKS, body if field == "actor" else {"actor": "jane"} | body)
    assert answer.status == 422
    assert says in answer.errors[field]
    assert await app.rows("SELECT hash FROM hookledger.login_link") == []


async def test_the_actor_stands_in_history_and_activity(app: App) -> None:
    headers = await opened(app, await link(app, actor="Jürgen <b>Weiß</b>"))
    fields = {"name": "Orders", "target_url": "https://shop.example.com/hook", "event_types": "order.create"}
    assert (await post(app, "/t/acme/webhooks/new", fields, headers=headers)).status == 303
    (logged,) = await app.log()
    assert (logged["actor"], logged["origin"]) == ("Jürgen <b>Weiß</b>", "dashboard")
    for page in ("/t/acme/activity", f"/t/acme/webhooks/{logged['route_id']}/history"):
        assert "Jürgen <b>Weiß</b>" in (await get(app, page, headers=headers)).text
    told = await app.ask("GET", "/v1/session", headers=headers)
    assert (told.json["actor"], told.json["scope"]) == ("Jürgen <b>Weiß</b>", "tenant:acme")


async def test_a_link_leads_to_its_page(app: App) -> None:
    place = urlsplit(await link(app, path="/webhooks/new?copy=1")).path
    answer = await app.ask("POST", place, headers=BROWSER, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/t/acme/webhooks/new?copy=1")


async def test_a_link_of_another_role_replaces_a_session_of_the_same_tenant(app: App) -> None:
    manager = await opened(app, await link(app))
    place = urlsplit(await link(app, role="view")).path
    answer = await app.ask("POST", place, headers=manager, allow_redirects=False)
    assert answer.status == 303
    app.client.session.cookie_jar.clear()
    assert len(await app.rows("SELECT hash FROM hookledger.session WHERE role = 'view'")) == 1
    assert len(await app.rows("SELECT hash FROM hookledger.session")) == 1


async def test_looking_at_a_link_tells_nothing_of_whom_it_is_for(app: App) -> None:
    url = await link(app, return_url="https://shop.example.com/secret", path="/webhooks/canary-page")
    page = await get(app, urlsplit(url).path)
    assert page.status == 200
    for told in ("jane@shop.example.com", "shop.example.com/secret", "canary-page"):
        assert told not in page.html


async def test_a_link_that_was_used_or_is_over_tells_nothing(app: App) -> None:
    used = urlsplit(await link(app)).path
    await app.ask("POST", used, headers=BROWSER, allow_redirects=False)
    app.client.session.cookie_jar.clear()
    over = urlsplit(await link(app)).path
    await app.rows("UPDATE hookledger.login_link SET expires_at = clock_timestamp()")
    answers = [
        await app.ask(method, place, headers=BROWSER)
        for place in (used, over, "/login/x")
        for method in ("GET", "POST")
    ]
    assert {answer.status for answer in answers} == {410}
    assert len({re.sub('data-now="[^"]*"', "", answer.text) for answer in answers}) == 1
    for told in ("jane", "acme"):
        assert told not in answers[0].text


async def test_a_token_of_the_tenant_makes_links_and_others_do_not(app: App) -> None:
    for scope, status in (("tenant:acme", 201), ("auditor:acme", 403), ("tenant:globex", 404), ("producer", 403)):
        headers = bearer(await token(app.database, scope))
        assert (await app.ask("POST", LINKS, {"actor": "jane"}, headers=headers)).status == status, scope


async def test_a_session_makes_no_link_that_would_outlive_it(app: App) -> None:
    headers = await opened(app, await link(app))
    answer = await app.ask("POST", LINKS, {"actor": "somebody else"}, headers=headers)
    assert answer.status == 403
    assert "send a token" in answer.text


async def test_a_session_that_views_reads_what_an_auditor_reads(app: App) -> None:
    route = await app.route()
    headers = await opened(app, await link(app, role="view"))
    assert (await app.ask("GET", path(route), headers=headers)).status == 200
    for place in ("", f"/{route['id']}", f"/{route['id']}/history"):
        assert (await get(app, f"/t/acme/webhooks{place}", headers=headers)).status == 200
    assert (await app.ask("GET", path(route, "/key"), headers=headers)).status == 403
    assert (await get(app, f"/t/acme/webhooks/{route['id']}/key", headers=headers)).status == 403
    assert (await app.ask("GET", "/v1/tenants/globex/routes", headers=headers)).status == 404
    assert (await app.ask("GET", "/v1/status", headers=headers)).status == 403
