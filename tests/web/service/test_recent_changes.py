"""Requests that several processes answer know of every change that was answered before them."""

from __future__ import annotations

import asyncio

import pytest

from daemon.web.service import recent_changes
from tests.support.web.application import TARGET, App, app, path
from tests.support.web.pages import get, post

LIST = "/t/acme/webhooks"
FORM = {"name": "Orders", "target_url": TARGET, "event_types": "order.*"}
REPLAY = {"from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "failed", "dry_run": True}


async def created(opened: App) -> str:
    """Where the form of a new webhook leads to."""
    page = await post(opened, f"{LIST}/new", FORM)
    assert page.status == 303
    return page.location


async def test_the_page_after_a_command_shows_it_in_every_process(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        page = await get(other, await created(one))
        assert page.words("tbody th a") == ["Orders"]
        assert page.words(".saved-mark") == ["New"]


async def test_the_next_command_is_about_what_the_one_before_left(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        route = (await created(one)).rpartition("saved=")[2]
        page = await post(other, f"{LIST}/{route}/edit", {**FORM, "name": "Renamed", "version": "1"})
        assert page.status == 303


@pytest.mark.parametrize("part", ["", "/key", "/metrics", "/history", "/replays"])
async def test_the_api_shows_what_another_process_has_just_created(empty_url: str, part: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        answer = await other.ask("GET", f"{path(await one.route())}{part}")
        assert answer.status == 200, answer.text


async def test_what_another_process_has_just_created_can_be_sent_again(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        answer = await other.ask("POST", f"{path(await one.route())}/replay", REPLAY)
        assert answer.status == 200, answer.text


async def test_a_list_of_the_api_has_what_another_process_has_just_created(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        route = await one.route()
        found = await other.ask("GET", "/v1/tenants/acme/routes")
        assert [each["id"] for each in found.json["items"]] == [route["id"]]


async def test_another_process_tests_no_route_that_was_just_disabled(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        await one.ask("PUT", "/v1/event-types", [{"name": "order.create", "example": {"data": {}}}])
        route = await one.route()
        assert (await other.ask("POST", path(route, "/test"))).status == 202
        await one.ask("POST", path(route, "/disable"))
        refused = await other.ask("POST", path(route, "/test"))
        assert refused.status == 409
        assert "the route is disabled" in refused.json["detail"]


async def test_a_log_that_does_not_answer_keeps_nobody_from_what_is_known(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_changes, "WAIT_SECONDS", 0.05)
    async with app(empty_url) as one, app(empty_url) as other:
        route = await one.route()
        assert (await other.ask("GET", path(route))).status == 200
        await one.route(name="another")
        async with other.projection._lock:  # as of a look at the log that hangs
            shown = await asyncio.wait_for(other.ask("GET", path(route)), 10)
        assert (shown.status, shown.json["id"]) == (200, route["id"])
        assert len((await other.ask("GET", "/v1/tenants/acme/routes")).json["items"]) == 2


async def test_an_answer_has_the_last_change_whoever_made_it(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        route = await one.route()
        assert (await other.ask("GET", path(route))).json["status"] == "enabled"
        assert (await one.ask("POST", f"{path(route)}/disable", {})).status == 200
        assert (await other.ask("GET", path(route))).json["status"] == "disabled"
