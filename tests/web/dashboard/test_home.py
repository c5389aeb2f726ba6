"""The redirect from the root path."""

from __future__ import annotations

import pytest

from tests.support.web.application import app
from tests.support.web.pages import BROWSER, get
from tests.support.web.tokens import bearer, token


@pytest.mark.parametrize(
    ("scope", "place"),
    [
        ("admin", "/operator"),
        ("auditor", "/operator/status"),
        ("auditor:acme", "/t/acme/webhooks"),
        ("tenant:acme", "/t/acme/webhooks"),
    ],
)
async def test_everybody_is_led_to_a_page_that_lets_him_in(empty_url: str, scope: str, place: str) -> None:
    async with app(empty_url, server__admin_token="hl_admin_0123456789abcdef0123456789abcdef") as opened:
        headers = BROWSER | bearer(await token(opened.database, scope))
        front = await get(opened, "/", headers=headers)
        assert (front.status, front.location) == (303, place)
        assert (await get(opened, place, headers=headers)).status == 200


async def test_without_a_session_the_page_says_how_to_sign_in(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="hl_admin_0123456789abcdef0123456789abcdef") as opened:
        page = await get(opened, "/")
    assert (page.status, page.one("h1").text) == (401, "Please sign in")
    assert "hookledger login-link" in page.text


async def test_the_end_of_an_address_may_be_cut_off(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="hl_admin_0123456789abcdef0123456789abcdef") as opened:
        headers = BROWSER | bearer(await token(opened.database, "tenant:acme"))
        page = await get(opened, "/t/acme", headers=headers)
        assert (page.status, page.location) == (303, "/t/acme/webhooks")
        assert (await get(opened, "/t/other", headers=headers)).status == 404
