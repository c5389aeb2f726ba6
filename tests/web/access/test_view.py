"""A session that may only view: every endpoint with every method, and nothing is changed and no key is shown."""

from __future__ import annotations

import re

import orjson
import pytest

from daemon.core.drafts.login_link_draft import DashboardRole, LoginLinkDraft
from daemon.web.app import build_ops
from tests.support.web.application import App
from tests.support.web.pages import get
from tests.support.web.sessions import browser

VIEW = LoginLinkDraft(actor="jane", role=DashboardRole.VIEW)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

# What these requests leave: all that a command writes. The session itself may be noted as used, or ended by its owner.
_STATE = """
SELECT (SELECT count(*) FROM hookledger.route_event) AS commands, (SELECT count(*) FROM hookledger.domain_event) AS events,
       (SELECT count(*) FROM hookledger.api_token WHERE revoked_at IS NULL) AS tokens,
       (SELECT count(*) FROM hookledger.login_link) AS links, (SELECT count(*) FROM hookledger.event_type) AS types,
       (SELECT count(*) FROM hookledger.resend) AS resends, (SELECT count(*) FROM hookledger.replay) AS replays,
       (SELECT count(*) FROM hookledger.retry) AS retries, (SELECT count(*) FROM hookledger.audit_job) AS audits
"""

BODIES = {
    "POST /v1/events": {"tenant": "acme", "type": "order.create", "data": {}},
    "POST /v1/tenants/{tenant}/routes": {"name": "x", "target_url": "https://shop.example.com/", "event_types": ["*"]},
    "PUT /v1/event-types": [],
    "POST /v1/tokens": {"scope": "admin"},
    "POST /v1/tenants/{tenant}/login-links": {"actor": "mallory"},
    "POST /v1/tenants/{tenant}/routes/{route}/replay": {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"},
}
FORM = (
    b"name=x&target_url=https%3A%2F%2Fshop.example.com%2F&event_types=*&understood=yes&confirmation=DELETE&tenant=acme"
)


@pytest.mark.parametrize("tenant", ["acme", None])
async def test_a_view_session_changes_nothing_by_any_request(app: App, tenant: str | None) -> None:
    route = await app.route(headers={"X-Token": "canary-header"})
    await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {}, "id": "evt"})
    await app.ask("PUT", "/v1/event-types", [{"name": "order.create", "description": "x", "example": {"data": {}}}])
    made = (await app.ask("POST", "/v1/tokens", {"scope": "admin"})).json
    ids = {"tenant": "acme", "route": route["id"], "event": "evt", "token": made["id"], "name": "order.create"}
    headers = await browser(app, tenant, VIEW)
    (before,) = await app.rows(_STATE)
    asked = 0
    for application in (app.client.app, build_ops(app.services)):
        for resource in application.router.resources():
            template = resource.canonical
            if "live" in template or template == "/logout":  # a stream without an end; the end of the session itself
                continue
            place = re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "1"), template)
            for method in METHODS:
                body = BODIES.get(f"{method} {template}", {})
                is_page = not template.startswith("/v1/")
                content = {"Content-Type": "application/x-www-form-urlencoded" if is_page else "application/json"}
                answer = await app.ask(
                    method,
                    place,
                    data=(FORM if is_page else orjson.dumps(body)) if method in ("POST", "PUT", "PATCH") else None,
                    headers=headers | content,
                    allow_redirects=False,
                )
                asked += 1
                assert answer.status < 500, (method, template, answer.text)
                for secret in (route["verification_key"], "canary-header", made["token"]):
                    assert secret not in answer.text, (method, template)
                if method not in ("GET", "HEAD", "OPTIONS"):
                    assert answer.status in (403, 404, 405, 410), (method, template, answer.status)
    assert asked > 400
    (after,) = await app.rows(_STATE)
    assert after == before


async def test_pages_offer_a_viewer_no_command(app: App) -> None:
    route = await app.route()
    headers = await browser(app, "acme", VIEW)
    for place in ("webhooks", f"webhooks/{route['id']}", "deliveries", "events", "activity"):
        answer = await app.ask("GET", f"/t/acme/{place}", headers=headers)
        assert answer.status == 200
        posts = set(re.findall(r'<form method="post" action="([^"]*)"', answer.text))
        assert posts == {"/logout"}, place
        for command in ("/edit", "/disable", "/delete", "/rotate-key", "/key", "/webhooks/new"):
            assert f'{command}"' not in answer.text, (place, command)


async def test_who_views_all_tenants_finds_the_pages_that_are_for_them(app: App) -> None:
    await app.route()
    headers = await browser(app, None, VIEW)
    for place in ("/operator/status", "/operator/audits"):
        page = await get(app, place, headers=headers)
        assert page.words(".main-nav a") == ["Audit", "Status"], place
        for each in page.all(".main-nav a"):
            assert (await get(app, str(each["href"]), headers=headers)).status == 200
    merchants = await get(app, "/t/acme/webhooks", headers=headers)
    assert merchants.one(".who a")["href"] == "/operator/status"


async def test_pages_of_commands_all_answer_a_viewer_alike(app: App) -> None:
    route = await app.route()
    headers = await browser(app, "acme", VIEW)
    for page in ("edit", "test", "replay", "disable", "delete", "key", "rotate-key", "revoke-old-key"):
        answer = await app.ask("GET", f"/t/acme/webhooks/{route['id']}/{page}", headers=headers)
        assert answer.status == 403, page
        assert "checkbox" not in answer.text, page
    assert (await app.ask("GET", "/t/acme/webhooks/new", headers=headers)).status == 403
