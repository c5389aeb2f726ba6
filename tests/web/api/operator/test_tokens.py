"""/v1/tokens, and the access that a token gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from daemon.credentials.tokens import id_of
from tests.support.rows.credentials import authenticate
from tests.support.web.application import App, path
from tests.support.web.application import app as opened_door
from tests.support.web.tokens import bearer, id_in, token

ADMIN = "correct horse battery staple"
EVENT = {"type": "order.create", "data": {}}


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(empty_url: str) -> AsyncIterator[App]:
    """A daemon with an admin token."""
    async with opened_door(empty_url, server__admin_token=ADMIN) as opened:
        yield opened


async def made(guarded: App, **body: Any) -> dict[str, Any]:
    answer = await guarded.ask("POST", "/v1/tokens", body, headers=bearer(ADMIN))
    assert answer.status == 201, answer.text
    document: dict[str, Any] = answer.json
    return document


async def test_a_token_is_shown_once_and_opens_what_it_is_for(guarded: App) -> None:
    answer = await guarded.ask(
        "POST",
        "/v1/tokens",
        {"scope": "tenant", "tenant": "acme", "name": "Shop", "expires": "30d"},
        headers=bearer(ADMIN),
    )
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/tokens/{answer.json['id']}"
    assert (answer.json["scope"], answer.json["name"], answer.json["status"]) == ("tenant:acme", "Shop", "active")
    assert answer.json["created_by"] == "admin"
    text = answer.json["token"]
    assert id_of(text) == answer.json["id"]
    assert (await guarded.ask("GET", "/v1/tenants/acme/routes", headers=bearer(text))).status == 200
    listed = await guarded.ask("GET", "/v1/tokens", headers=bearer(ADMIN))
    assert [each["id"] for each in listed.json["items"]] == [answer.json["id"]]
    assert text.split("_")[3] not in listed.text
    assert text.split("_")[3] not in str(await guarded.rows("SELECT * FROM hookledger.api_token"))


async def test_tokens_are_listed_newest_first_and_paged(guarded: App) -> None:
    ids = [(await made(guarded, scope="admin"))["id"] for _ in range(5)][::-1]
    pages: list[Any] = []
    for _ in range(3):
        cursor = f"&cursor={pages[-1]['next']}" if pages else ""
        pages.append((await guarded.ask("GET", f"/v1/tokens?limit=2{cursor}", headers=bearer(ADMIN))).json)
    assert [each["id"] for page in pages for each in page["items"]] == ids
    assert pages[-1]["next"] is None


@pytest.mark.parametrize(
    "cursor", ["x", "eA", "MjAyNi0xMS0yNFQxMjoxMjo1Ny41MDMyMTRa", "MjAyNi0xMS0yNFQxMjoxMjo1Ny41MDMyMTRaIHg"]
)
async def test_a_made_up_cursor_is_refused(guarded: App, cursor: str) -> None:
    answer = await guarded.ask("GET", f"/v1/tokens?cursor={cursor}", headers=bearer(ADMIN))
    assert answer.status == 422
    assert "cursor" in answer.errors


async def test_a_revoked_token_is_dead_at_once_and_stays_in_the_list(guarded: App) -> None:
    token = await made(guarded, scope="auditor")
    assert (await guarded.ask("GET", "/v1/tenants", headers=bearer(token["token"]))).status == 200
    assert (await guarded.ask("DELETE", f"/v1/tokens/{token['id']}", headers=bearer(ADMIN))).status == 204
    refused = await guarded.ask("GET", "/v1/tenants", headers=bearer(token["token"]))
    assert (refused.status, refused.json["detail"]) == (401, "this token was revoked")
    (listed,) = (await guarded.ask("GET", "/v1/tokens", headers=bearer(ADMIN))).json["items"]
    assert listed["status"] == "revoked"
    assert listed["revoked_at"] is not None
    assert listed["last_used_at"] is not None
    assert (await guarded.ask("DELETE", f"/v1/tokens/{token['id']}", headers=bearer(ADMIN))).status == 204


@pytest.mark.parametrize("token_id", ["000000000000", "x", "%00", "0" * 200])
async def test_an_unknown_token_cannot_be_revoked(guarded: App, token_id: str) -> None:
    assert (await guarded.ask("DELETE", f"/v1/tokens/{token_id}", headers=bearer(ADMIN))).status == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"scope"}),
        ({"scope": "root"}, {"scope"}),
        ({"scope": "tenant"}, {"tenant"}),
        ({"scope": "admin:acme"}, {"tenant"}),
        ({"scope": "tenant:a b", "expires": "soon", "name": "a\nb"}, {"tenant", "expires", "name"}),
        ({"scope": 1, "expires": 30, "nam": "x"}, {"scope", "expires", "nam"}),
        ({"scope": "admin", "expires": "1999-01-01T00:00:00Z"}, {"expires"}),
    ],
)
async def test_a_token_that_cannot_be_is_refused_by_its_fields(
    guarded: App, body: dict[str, Any], fields: set[str]
) -> None:
    answer = await guarded.ask("POST", "/v1/tokens", body, headers=bearer(ADMIN))
    assert answer.status == 422
    assert set(answer.errors) == fields
    assert await guarded.rows("SELECT id FROM hookledger.api_token") == []


async def test_an_admin_token_of_the_database_is_as_good_as_the_configured_one(guarded: App) -> None:
    first = await made(guarded, scope="admin")
    second = await guarded.ask("POST", "/v1/tokens", {"scope": "metrics"}, headers=bearer(first["token"]))
    assert second.status == 201
    assert second.json["created_by"] == f"token:{first['id']}"


async def test_the_history_names_the_token_that_commanded(guarded: App) -> None:
    tenant = await made(guarded, scope="tenant:acme")
    body = {"name": "a route", "target_url": "https://shop.example.com/", "event_types": ["*"]}
    route = (await guarded.ask("POST", "/v1/tenants/acme/routes", body, headers=bearer(tenant["token"]))).json
    await guarded.ask("POST", path(route, "/disable"), headers=bearer(ADMIN))
    history = (await guarded.ask("GET", path(route, "/history"), headers=bearer(ADMIN))).json["items"]
    assert [(event["actor"], event["origin"]) for event in history] == [
        ("admin", "api"),
        (f"token:{tenant['id']}", "api"),
    ]


async def test_a_producer_of_one_tenant_may_leave_it_out_and_name_no_other(guarded: App) -> None:
    headers = bearer((await made(guarded, scope="producer:acme"))["token"])
    assert (await guarded.ask("POST", "/v1/events", EVENT, headers=headers)).status == 202
    assert (await guarded.ask("POST", "/v1/events", EVENT | {"tenant": "acme"}, headers=headers)).status == 202
    refused = await guarded.ask("POST", "/v1/events", EVENT | {"tenant": "globex"}, headers=headers)
    assert refused.status == 422
    assert "another tenant" in refused.errors["tenant"]
    assert [event["tenant"] for event in await guarded.events()] == ["acme", "acme"]


async def test_a_producer_of_one_tenant_is_judged_line_by_line(guarded: App) -> None:
    headers = bearer((await made(guarded, scope="producer:acme"))["token"]) | {"Content-Type": "application/x-ndjson"}
    lines = b'{"type":"a.b","data":{}}\n{"tenant":"globex","type":"a.b","data":{}}\n{"tenant":"acme","type":"a.b","data":{}}\n'
    answer = await guarded.ask("POST", "/v1/events", data=lines, headers=headers)
    assert [each["status"] for each in answer.json["events"]] == ["accepted", "rejected", "accepted"]
    assert [event["tenant"] for event in await guarded.events()] == ["acme", "acme"]


async def test_a_producer_of_all_tenants_must_name_one(guarded: App) -> None:
    headers = bearer((await made(guarded, scope="producer"))["token"])
    assert (await guarded.ask("POST", "/v1/events", EVENT, headers=headers)).status == 422
    assert (await guarded.ask("POST", "/v1/events", EVENT | {"tenant": "globex"}, headers=headers)).status == 202


async def test_an_expired_token_says_so(guarded: App) -> None:
    text = await token(guarded.database, "admin", expires="1h")
    async with guarded.database.connection() as connection:
        await connection.execute("UPDATE hookledger.api_token SET expires_at = clock_timestamp()")
        await authenticate(connection)
    refused = await guarded.ask("GET", "/v1/tokens", headers=bearer(text))
    assert (refused.status, refused.json["detail"]) == (401, "this token has expired")


async def test_on_a_daemon_without_an_admin_token_a_token_still_counts(app: App) -> None:
    text = await token(app.database, "tenant:acme")
    await app.route("globex")
    assert (await app.ask("GET", "/v1/tenants/acme/routes", headers=bearer(text))).status == 200
    assert (await app.ask("GET", "/v1/tenants/globex/routes", headers=bearer(text))).status == 404
    assert (await app.ask("GET", "/v1/tenants", headers=bearer(text))).status == 403
    assert (await app.ask("GET", "/v1/tenants", headers=bearer(text[:-1]))).status == 401
    assert (await app.ask("GET", "/v1/tenants", headers={"Authorization": "Basic eDp5"})).status == 200


async def test_a_token_needs_no_loopback_name(app: App) -> None:
    text = await token(app.database, "tenant:acme")
    headers = bearer(text) | {"Host": "hooks.example.com"}
    assert (await app.ask("GET", "/v1/tenants/acme/routes", headers=headers)).status == 200


async def test_without_a_database_the_configured_token_works_and_others_are_put_off(guarded: App) -> None:
    known, unknown = await token(guarded.database, "metrics"), await token(guarded.database, "metrics")
    assert (await guarded.ask("GET", "/metrics", headers=bearer(known))).status == 200
    await guarded.disconnect()
    assert (await guarded.ask("GET", "/metrics", headers=bearer(ADMIN))).status == 200
    assert (await guarded.ask("GET", "/metrics", headers=bearer("hl_nonsense"))).status == 401
    refused = await guarded.ask("GET", "/metrics", headers=bearer(unknown))
    assert refused.status == 503
    assert "Retry-After" in refused.headers
    assert id_in(known) != id_in(unknown)


async def test_all_that_is_wrong_with_a_new_token_is_told_at_once(app: App) -> None:
    wrong = {"tenant": "\0", "name": "\0", "expires": "soon"}
    unknown = await app.ask("POST", "/v1/tokens", wrong | {"scope": "root"})
    malformed = await app.ask("POST", "/v1/tokens", wrong | {"scope": 7, "naem": "x"})
    missing = await app.ask("POST", "/v1/tokens", {"tenant": "acme", "expires": "soon"})
    assert [answer.status for answer in (unknown, malformed, missing)] == [422] * 3
    assert unknown.errors.keys() == {"scope", "tenant", "name", "expires"}
    assert malformed.errors.keys() == {"scope", "naem", "tenant", "name", "expires"}
    assert missing.errors.keys() == {"scope", "expires"}
    assert await app.rows("SELECT FROM hookledger.api_token") == []
