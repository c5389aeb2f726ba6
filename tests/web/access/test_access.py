"""The access of every scope to every endpoint, for the scope's own tenant and for another.

The two tables are literal on purpose. A new endpoint must be added here, or a test fails. A scope that is given too much
access by mistake does not have it here.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from daemon.core.drafts.scope import ScopeKind
from daemon.web.access.auth import SCOPES
from daemon.web.app import build_ops
from daemon.web.http.endpoints import Access, declared
from tests.support.web.application import App, app
from tests.support.web.tokens import bearer, token

TOKEN = "hl_admin_0123456789abcdef0123456789abcdef"

ENDPOINTS = {
    "POST /v1/events": "publish",
    "GET /v1/tenants": "operations",
    "GET /v1/tenants/{tenant}/routes": "read",
    "POST /v1/tenants/{tenant}/routes": "manage",
    "GET /v1/tenants/{tenant}/routes/{route}": "read",
    "PATCH /v1/tenants/{tenant}/routes/{route}": "manage",
    "DELETE /v1/tenants/{tenant}/routes/{route}": "manage",
    "POST /v1/tenants/{tenant}/routes/{route}/disable": "manage",
    "POST /v1/tenants/{tenant}/routes/{route}/enable": "manage",
    "GET /v1/tenants/{tenant}/routes/{route}/key": "manage",
    "POST /v1/tenants/{tenant}/routes/{route}/rotate-key": "manage",
    "POST /v1/tenants/{tenant}/routes/{route}/revoke-old-key": "manage",
    "GET /v1/tenants/{tenant}/routes/{route}/history": "read",
    "GET /v1/tenants/{tenant}/routes/{route}/metrics": "read",
    "POST /v1/tenants/{tenant}/routes/{route}/test": "manage",
    "POST /v1/tenants/{tenant}/routes/{route}/replay": "manage",
    "GET /v1/tenants/{tenant}/routes/{route}/replays": "read",
    "GET /v1/tenants/{tenant}/routes/{route}/replays/{replay}": "read",
    "POST /v1/tenants/{tenant}/routes/{route}/replays/{replay}/cancel": "manage",
    "GET /v1/tenants/{tenant}/deliveries": "read",
    "GET /v1/tenants/{tenant}/deliveries/{delivery}": "read",
    "POST /v1/tenants/{tenant}/retries": "manage",
    "POST /v1/tenants/{tenant}/deliveries/{delivery}/retry": "manage",
    "GET /v1/tenants/{tenant}/events": "read",
    "GET /v1/tenants/{tenant}/events/{event}": "read",
    "GET /v1/tenants/{tenant}/feed": "read",
    "GET /v1/tenants/{tenant}/explain": "read",
    "POST /v1/tenants/{tenant}/preview": "manage",
    "GET /v1/tenants/{tenant}/deliveries/{delivery}/proof": "read",
    "GET /v1/seals": "catalogue",
    "GET /v1/seals/key": "anybody",
    "GET /v1/seals/{seal}": "catalogue",
    "GET /v1/seals/{seal}/consistency": "catalogue",
    "GET /v1/log": "operations",
    "POST /v1/tenants/{tenant}/login-links": "manage",
    "GET /v1/event-types": "catalogue",
    "PUT /v1/event-types": "admin",
    "POST /v1/audits": "audit",
    "GET /v1/audits/{audit}": "audit",
    "GET /v1/projection": "operations",
    "GET /v1/failing": "operations",
    "GET /v1/sources/refusals": "operations",
    "GET /v1/find": "operations",
    "GET /v1/status": "operations",
    "GET /v1/tokens": "admin",
    "POST /v1/tokens": "admin",
    "DELETE /v1/tokens/{token}": "admin",
    "GET /v1/session": "anybody",
    "GET /login/{link}": "open",
    "POST /login/{link}": "open",
    "POST /logout": "open",
    "GET /healthz": "open",
    "GET /readyz": "open",
    "GET /openapi.json": "open",
    "GET /metrics": "metrics",
    "GET /": "anybody",
    "GET /assets/{digest}/{name}": "open",
    "GET /t/{tenant}": "read",
    "GET /t/{tenant}/webhooks": "read",
    "GET /t/{tenant}/webhooks/new": "manage",
    "POST /t/{tenant}/webhooks/new": "manage",
    "GET /t/{tenant}/webhooks/{route}/edit": "manage",
    "POST /t/{tenant}/webhooks/{route}/edit": "manage",
    "POST /t/{tenant}/drafts/preview": "manage",
    "POST /t/{tenant}/drafts/target": "manage",
    "GET /t/{tenant}/webhooks/{route}/test": "manage",
    "POST /t/{tenant}/webhooks/{route}/test": "manage",
    "GET /t/{tenant}/webhooks/{route}/replay": "manage",
    "POST /t/{tenant}/webhooks/{route}/replay": "manage",
    "GET /t/{tenant}/webhooks/{route}/replays/{replay}": "read",
    "POST /t/{tenant}/webhooks/{route}/replays/{replay}/cancel": "manage",
    "GET /t/{tenant}/deliveries": "read",
    "GET /t/{tenant}/deliveries/live": "read",
    "POST /t/{tenant}/deliveries/retry": "manage",
    "GET /t/{tenant}/deliveries/{delivery}": "read",
    "GET /t/{tenant}/deliveries/{delivery}/body": "read",
    "GET /t/{tenant}/deliveries/{delivery}/proof": "read",
    "POST /t/{tenant}/deliveries/{delivery}/retry": "manage",
    "GET /t/{tenant}/event-types": "read",
    "GET /t/{tenant}/event-types/{name}": "read",
    "GET /t/{tenant}/events": "read",
    "GET /t/{tenant}/events/{event}": "read",
    "GET /t/{tenant}/activity": "read",
    "GET /operator": "admin",
    "POST /operator": "admin",
    "GET /operator/tokens": "admin",
    "POST /operator/tokens": "admin",
    "GET /operator/tokens/{token}/revoke": "admin",
    "POST /operator/tokens/{token}/revoke": "admin",
    "GET /operator/event-types": "admin",
    "GET /operator/event-types/new": "admin",
    "POST /operator/event-types/new": "admin",
    "GET /operator/event-types/list": "admin",
    "POST /operator/event-types/list": "admin",
    "GET /operator/event-types/{name}": "admin",
    "POST /operator/event-types/{name}": "admin",
    "GET /operator/event-types/{name}/remove": "admin",
    "POST /operator/event-types/{name}/remove": "admin",
    "GET /operator/audits": "operations",
    "POST /operator/audits": "operations",
    "GET /operator/audits/{audit}": "operations",
    "GET /operator/status": "operations",
    "GET /operator/failing": "operations",
    "GET /operator/refusals": "operations",
    "GET /operator/find": "operations",
    "GET /t/{tenant}/webhooks/{route}": "read",
    "GET /t/{tenant}/webhooks/{route}/disable": "manage",
    "POST /t/{tenant}/webhooks/{route}/disable": "manage",
    "POST /t/{tenant}/webhooks/{route}/enable": "manage",
    "GET /t/{tenant}/webhooks/{route}/delete": "manage",
    "POST /t/{tenant}/webhooks/{route}/delete": "manage",
    "GET /t/{tenant}/webhooks/{route}/key": "manage",
    "GET /t/{tenant}/webhooks/{route}/rotate-key": "manage",
    "POST /t/{tenant}/webhooks/{route}/rotate-key": "manage",
    "GET /t/{tenant}/webhooks/{route}/revoke-old-key": "manage",
    "POST /t/{tenant}/webhooks/{route}/revoke-old-key": "manage",
    "GET /t/{tenant}/webhooks/{route}/history": "read",
}

# Which scopes have which access. All others are answered 403.
ADMITTED = {
    "open": {"nobody", "admin", "producer", "producer:acme", "tenant:acme", "auditor", "auditor:acme", "metrics"},
    "anybody": {"admin", "producer", "producer:acme", "tenant:acme", "auditor", "auditor:acme", "metrics"},
    "metrics": {"admin", "metrics"},
    "publish": {"admin", "producer", "producer:acme"},
    "read": {"admin", "tenant:acme", "auditor", "auditor:acme"},
    "manage": {"admin", "tenant:acme"},
    "catalogue": {"admin", "producer", "producer:acme", "tenant:acme", "auditor", "auditor:acme"},
    "audit": {"admin", "auditor", "auditor:acme"},
    "operations": {"admin", "auditor"},
    "admin": {"admin"},
}

SCOPES_OF_TOKENS = ["admin", "producer", "producer:acme", "tenant:acme", "auditor", "auditor:acme", "metrics"]


def routed(opened: App) -> dict[str, str]:
    """Method and path → access, from the declarations in the application."""
    found = {}
    for application in (opened.client.app, build_ops(opened.services)):
        for route in application.router.routes():
            declaration = declared(route.handler)
            assert route.resource is not None
            assert declaration is not None, route
            if route.method != "HEAD":
                found[f"{route.method} {route.resource.canonical}"] = declaration.access.value
    return found


def expected(scope: str, access: str, *, is_foreign: bool) -> str:
    if scope not in ADMITTED[access]:
        return "unknown" if scope == "nobody" else "refused"
    return "nothing" if is_foreign and ":" in scope else "in"


async def verdict(opened: App, place: str, tenant: str, headers: dict[str, str]) -> str:
    """The result of a request with ids that do not exist."""
    method, _, template = place.partition(" ")
    path = re.sub(r"\{\w+\}", str(UUID(int=7)), template.replace("{tenant}", tenant))
    # A sign-in link takes its own page's button only.
    ours = {"Sec-Fetch-Site": "same-origin"}
    answer = await opened.ask(method, path, headers=headers | ours, allow_redirects=False)
    match answer.status:
        case 401:
            return "unknown"
        case 403:
            assert "this needs the scope" in answer.json["detail"], answer.text
            return "refused"
        case 404 if answer.json is not None and answer.json["detail"] == "there is no such tenant":
            return "nothing"
        case status:
            assert status < 500, answer.text
            return "in"


async def test_every_endpoint_has_the_access_that_it_should_have(app: App) -> None:
    assert routed(app) == ENDPOINTS


@pytest.mark.parametrize("scope", ["nobody", *SCOPES_OF_TOKENS])
async def test_a_scope_opens_what_it_is_for_and_nothing_else(empty_url: str, scope: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as opened:
        headers = {} if scope == "nobody" else bearer(await token(opened.database, scope))
        seen: Counter[str] = Counter()
        for place, access in ENDPOINTS.items():
            for tenant in ("acme", "globex") if "{tenant}" in place else ("-",):
                found = await verdict(opened, place, tenant, headers)
                assert found == expected(scope, access, is_foreign=tenant == "globex"), (place, tenant)
                seen[found] += 1
    assert seen.total() == sum(1 + ("{tenant}" in place) for place in ENDPOINTS)


def test_the_table_of_the_product_is_the_one_here() -> None:
    assert set(SCOPES) == set(Access) - {Access.OPEN}
    for access, kinds in SCOPES.items():
        assert {str(kind) for kind in kinds} == {scope.partition(":")[0] for scope in ADMITTED[access]}, access
    assert set(ScopeKind) == {scope.partition(":")[0] for scope in SCOPES_OF_TOKENS}


async def test_who_lacks_the_scope_is_told_which_would_do(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as opened:
        headers = bearer(await token(opened.database, "metrics"))
        answer = await opened.ask("GET", "/v1/tenants/acme/routes", headers=headers)
    assert answer.status == 403
    assert answer.json["detail"] == "this needs the scope admin or tenant:<id> or auditor; what you have is metrics"


async def test_what_spans_tenants_is_not_for_an_auditor_of_one(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as opened:
        headers = bearer(await token(opened.database, "auditor:acme"))
        answer = await opened.ask("GET", "/v1/status", headers=headers)
    assert answer.status == 403
    assert answer.json["detail"] == "this needs the scope admin or auditor; what you have is auditor:acme"


async def test_a_foreign_tenant_looks_like_none_whether_or_not_it_exists(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as opened:
        made = await opened.ask(
            "POST",
            "/v1/tenants/globex/routes",
            {"name": "theirs", "target_url": "https://shop.example.com/", "event_types": ["*"]},
            headers=bearer(TOKEN),
        )
        assert made.status == 201
        headers = bearer(await token(opened.database, "tenant:acme"))
        answers = [
            await opened.ask("GET", f"/v1/tenants/{tenant}/routes/{made.json['id']}", headers=headers)
            for tenant in ("globex", "nowhere")
        ]
        own = await opened.ask("GET", f"/v1/tenants/acme/routes/{made.json['id']}", headers=headers)
    assert answers[0].status == 404
    assert answers[0].text == answers[1].text
    assert own.status == 404


async def test_what_belongs_to_another_tenant_cannot_be_told_from_what_does_not_exist(app: App) -> None:
    """Every endpoint, with ids that belong to another tenant, under the caller's own tenant."""
    route = (await app.route("globex"))["id"]
    published = await app.ask("POST", "/v1/events", {"tenant": "globex", "type": "order.create", "data": {}})
    event = published.json["events"][0]["id"]
    span = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "all"}
    replay = (await app.ask("POST", f"/v1/tenants/globex/routes/{route}/replay", span)).json["id"]
    theirs = {
        "route": route,
        "event": event,
        "delivery": delivery_id(UUID(route), event, datetime.now(UTC)),
        "replay": str(replay),
    }
    headers = bearer(await token(app.database, "tenant:acme"))
    unknown_ids = {name: str(UUID(int=number)) for number, name in enumerate(theirs, 7)}
    before = await app.log()

    for place in ENDPOINTS:
        method, _, template = place.partition(" ")
        if not any(f"{{{name}}}" in template for name in theirs):
            continue
        foreign, unknown = [
            await app.ask(
                method, template.format(tenant="acme", **ids), span if "replay" in place else None, headers=headers
            )
            for ids in (theirs, unknown_ids)
        ]
        assert foreign.status == unknown.status, place
        assert anonymous(foreign.text, theirs) == anonymous(unknown.text, unknown_ids), place
        assert foreign.status == 404, (place, foreign.text)
    assert await app.log() == before


def anonymous(text: str, ids: dict[str, str]) -> str:
    """The text without the ids of the request, which a page may repeat, and without the time of the page."""
    for name, value in ids.items():
        text = text.replace(value, name)
    return re.sub('data-now="[^"]*"', "", text)
