"""Access with the admin token, and on loopback without one. Other tokens and sessions are in files of their own."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from daemon.web.app import build, build_ops
from daemon.web.http import endpoints
from tests.support.web.application import App, app

TOKEN = "correct horse battery staple"

PROTECTED = [
    ("GET", "/v1/tenants"),
    ("GET", "/v1/tenants/acme/routes"),
    ("POST", "/v1/tenants/acme/routes"),
    ("GET", "/v1/projection"),
    ("POST", "/v1/events"),
    ("GET", "/metrics"),
]


async def test_every_route_of_the_application_declares_its_access(app: App) -> None:
    for application in (build(app.services), build_ops(app.services)):
        undeclared = [
            f"{route.method} {route.resource}"
            for route in application.router.routes()
            if endpoints.declared(route.handler) is None
        ]
        assert undeclared == []


async def test_an_endpoint_without_a_scope_answers_nobody(app: App) -> None:
    async def forgotten(_request: web.Request) -> web.Response:
        return web.Response(text="secret")

    application = build(app.services)
    application.router.add_get("/v1/forgotten", forgotten)
    async with TestClient(TestServer(application)) as client:
        answer = await client.get("/v1/forgotten")
        assert answer.status == 403


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \udcff\udcfe",
    ],
)
async def test_a_missing_or_wrong_token_is_refused(empty_url: str, method: str, path: str, header: str | None) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as guarded:
        lines = [f"{method} {path} HTTP/1.1", "Host: hooks.example.com", "Content-Length: 0", "Connection: close"]
        if header is not None:
            lines.append(f"Authorization: {header}")
        answer = await guarded.raw("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape"))

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Bearer" in answer
    assert TOKEN.encode() not in answer


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token_opens_under_any_host_name(empty_url: str, scheme: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as guarded:
        headers = {"Authorization": f"{scheme} {TOKEN}", "Host": "hooks.example.com"}
        answer = await guarded.ask("GET", "/v1/tenants", headers=headers)

    assert answer.status == 200


async def test_health_needs_no_token(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as guarded:
        assert (await guarded.ask("GET", "/healthz")).status == 200
        assert (await guarded.ask("GET", "/readyz")).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "localhost.evil.example.com",
        "127.0.0.1.evil.example.com",
        "evil.example.com:8080",
        "10.0.0.1",
        "0.0.0.0",
        "localhost@evil.example.com",
        "evil.example.com#localhost",
        "[::2]:8080",
        "[",
        "",
        "localhost:8080:8080",
    ],
)
async def test_without_a_token_another_host_name_is_refused(app: App, host: str) -> None:
    answer = await app.raw(f"GET /v1/tenants HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.split(b" ")[1] in (b"421", b"400"), answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:8080"])
async def test_without_a_token_loopback_names_are_admin(app: App, host: str) -> None:
    answer = await app.ask("GET", "/v1/tenants", headers={"Host": host})

    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_without_a_token_a_page_from_elsewhere_commands_nothing(app: App, headers: dict[str, str]) -> None:
    route = await app.route()

    answer = await app.ask("POST", f"/v1/tenants/acme/routes/{route['id']}/disable", headers=headers)

    assert answer.status == 403
    assert len(await app.log()) == 1


@pytest.mark.parametrize(
    "lines",
    [
        "Origin: {own}\r\nOrigin: http://evil.example.com",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site",
        "Authorization: Basic cHJveHk6\r\nAuthorization: Bearer wrong",
        'If-Match: "1"\r\nIf-Match: "99"',
        "Idempotency-Key: a\r\nIdempotency-Key: b",
    ],
)
async def test_a_header_that_says_two_things_is_refused(app: App, lines: str) -> None:
    route = await app.route()
    own = f"http://{app.client.host}:{app.client.port}"
    head = f"POST /v1/tenants/acme/routes/{route['id']}/disable HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"

    answer = await app.raw((head + lines.format(own=own) + "\r\n\r\n").encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"is given more than once" in answer
    assert len(await app.log()) == 1


async def test_without_a_token_our_own_pages_may_command(app: App) -> None:
    route = await app.route()
    path = f"/v1/tenants/acme/routes/{route['id']}"
    own = f"http://{app.client.host}:{app.client.port}"

    assert (await app.ask("POST", f"{path}/disable", headers={"Sec-Fetch-Site": "same-origin"})).status == 200
    assert (await app.ask("POST", f"{path}/enable", headers={"Origin": own})).status == 200


async def test_without_a_token_a_page_from_elsewhere_reads_nothing_but_may_lead_here(app: App) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    link = elsewhere | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert (await app.ask("GET", "/v1/tenants", headers=elsewhere)).status == 403
    assert (await app.ask("GET", "/v1/tenants", headers=link)).status == 200
    assert (await app.ask("GET", "/healthz", headers=elsewhere)).status == 200


async def test_with_a_token_it_does_not_matter_which_page_asks(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=TOKEN) as guarded:
        headers = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "cross-site"}
        assert (await guarded.ask("GET", "/v1/tenants", headers=headers)).status == 200
