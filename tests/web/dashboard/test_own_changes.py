"""A person whose requests several processes answer sees what they have just changed."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from tests.support.web.application import TARGET, App, app
from tests.support.web.pages import BROWSER, get, post

LIST = "/t/acme/webhooks"
FORM = {"name": "Orders", "target_url": TARGET, "event_types": "order.*"}


async def created(opened: App) -> tuple[str, dict[str, str]]:
    """Where the form of a new webhook leads to, and the headers of the browser that sent it."""
    page = await post(opened, f"{LIST}/new", FORM)
    assert page.status == 303
    (morsel,) = SimpleCookie(page.headers["Set-Cookie"]).values()
    return page.location, {**BROWSER, "Cookie": f"{morsel.key}={morsel.value}"}


async def test_the_page_after_a_command_shows_it_in_every_process(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        place, cookie = await created(one)
        assert (await get(other, place)).words("tbody th a") == []
        page = await get(other, place, headers=cookie)
        assert page.words("tbody th a") == ["Orders"]
        assert page.words(".saved-mark") == ["New"]


async def test_the_next_command_is_about_what_the_one_before_left(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        place, cookie = await created(one)
        route = place.rpartition("saved=")[2]
        page = await post(other, f"{LIST}/{route}/edit", {**FORM, "name": "Renamed", "version": "1"}, headers=cookie)
        assert page.status == 303


@pytest.mark.parametrize("value", ["", "x", "-1", "٣", "9" * 18, "9" * 19, "9" * 3000])
async def test_any_other_position_does_no_harm(app: App, value: str) -> None:
    await app.route(name="Orders")
    page = await get(
        app, LIST, headers={**BROWSER, "Cookie": f"hookledger-position={value}".encode().decode("latin-1")}
    )
    assert page.words("tbody th a") == ["Orders"]


async def test_nobody_needs_the_cookie_who_changed_nothing(app: App) -> None:
    assert "Set-Cookie" not in (await get(app, LIST)).headers
