"""What the admin token guards, and what a token may be made of."""

from __future__ import annotations

from tests.support.web import door

TOKEN = "hl_admin_0123456789abcdef0123456789abcdef"


async def test_a_token_of_odd_bytes_is_401(empty_url: str) -> None:
    async with door(empty_url, server__admin_token=TOKEN) as opened:
        answer = await opened.raw(b"GET /v1/projection HTTP/1.0\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        assert b" 401 " in answer.split(b"\r\n")[0]


async def test_with_a_token_every_path_but_liveness_and_readiness_asks_for_it(empty_url: str) -> None:
    async with door(empty_url, server__admin_token=TOKEN) as opened:
        for route in opened.client.app.router.routes():
            place = str(route.resource and route.resource.canonical).format(tenant="acme", route="x")
            answer = await opened.ask(route.method, place)
            assert answer.status == (200 if place in ("/healthz", "/readyz") else 401), (route.method, place)
