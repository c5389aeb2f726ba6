"""A program sees what was acknowledged before it asked, whichever process answers."""

from __future__ import annotations

import asyncio

import pytest

from daemon.web.service import latest_routes
from tests.support.web.application import app, path

PERIOD = {"from": "2026-11-23T08:00:00Z", "to": "2026-11-23T09:00:00Z", "status": "failed", "dry_run": True}


async def test_another_process_knows_a_route_that_was_just_created(empty_url: str) -> None:
    async with app(empty_url) as one:
        for method, rest, body, status in (
            ("GET", "", None, 200),
            ("GET", "/key", None, 200),
            ("GET", "/metrics", None, 200),
            ("GET", "/replays", None, 200),
            ("POST", "/replay", PERIOD, 409),  # nothing of before its creation is sent
            ("POST", "/test", {}, 409),  # no type has an example
        ):
            async with app(empty_url) as other:
                route = await one.route()
                answer = await other.ask(method, path(route, rest), body)
                assert answer.status == status, (method, rest, answer.text)


async def test_another_process_lists_it(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        route = await one.route()
        listed = (await other.ask("GET", "/v1/tenants/acme/routes")).json["items"]
        assert [each["id"] for each in listed] == [route["id"]]
        of_route = await other.ask("GET", f"/v1/tenants/acme/deliveries?route={route['id']}")
        assert of_route.status == 200


async def test_another_process_tests_no_route_that_was_just_disabled(empty_url: str) -> None:
    async with app(empty_url) as one, app(empty_url) as other:
        await one.ask("PUT", "/v1/event-types", [{"name": "order.create", "example": {"data": {}}}])
        route = await one.route()
        assert (await other.ask("POST", path(route, "/test"))).status == 202
        await one.ask("POST", path(route, "/disable"))
        refused = await other.ask("POST", path(route, "/test"))
        assert refused.status == 409
        assert "the route is disabled" in refused.json["detail"]
        await one.ask("DELETE", path(route))
        assert (await other.ask("GET", path(route))).status == 404


async def test_a_log_that_does_not_answer_keeps_nobody_from_what_is_known(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_routes, "PATIENCE_SECONDS", 0.05)
    async with app(empty_url) as opened:
        route = await opened.route()
        async with opened.projection._lock:  # as of a look that hangs
            shown = await asyncio.wait_for(opened.ask("GET", path(route)), 10)
        assert (shown.status, shown.json["id"]) == (200, route["id"])
        await opened.disconnect()
        shown = await opened.ask("GET", path(route))
        assert (shown.status, shown.json["id"]) == (200, route["id"])
