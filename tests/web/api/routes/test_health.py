"""`health` in a route, and GET /v1/failing: how receivers do, for a merchant and over all tenants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.rows.healths import START, noted, wait
from tests.support.web.application import App, path


async def failing(app: App, query: str = "") -> dict[str, Any]:
    answer = await app.ask("GET", f"/v1/failing{query}")
    assert answer.status == 200, answer.text
    shown: dict[str, Any] = answer.json
    return shown


async def test_a_route_says_since_when_nothing_gets_through_and_what_waits(app: App) -> None:
    route = await app.route()
    await noted(app, route)
    await wait(app, route, parked_pairs=3, retries=2)
    shown = (await app.ask("GET", path(route))).json["health"]
    probe_at = datetime.fromisoformat(shown.pop("next_probe_at"))
    assert timedelta(0) < probe_at - datetime.now(UTC) < timedelta(seconds=16)
    assert shown == {
        "state": "down",
        "since": "2026-11-23T13:16:00.000000Z",
        "last_answer": {"at": "2026-11-23T13:21:00.000000Z", "status_code": 500, "error": "http_500"},
        "waiting": 5,
    }
    (listed,) = (await app.ask("GET", "/v1/tenants/acme/routes")).json["items"]
    assert (listed["health"]["state"], listed["health"]["waiting"]) == ("down", 5)


async def test_if_only_retries_wait_the_first_of_them_is_the_next_probe(app: App) -> None:
    route = await app.route()
    await noted(app, route)
    await wait(app, route, parked_pairs=0, retries=2)
    shown = (await app.ask("GET", path(route))).json["health"]
    assert datetime.fromisoformat(shown["next_probe_at"]) - datetime.now(UTC) > timedelta(minutes=4)


async def test_nothing_probes_a_receiver_for_which_nothing_waits(app: App) -> None:
    route = await app.route()
    await noted(app, route)
    assert (await app.ask("GET", path(route))).json["health"]["next_probe_at"] is None


async def test_a_receiver_that_is_well_shows_its_last_answer(app: App) -> None:
    route = await app.route()
    later = START + timedelta(hours=1)
    await noted(
        app, route, state="ok", since=later, run_since=later, failures=0, successes=30, delivered_at=later,
        delivered_status=204, delivered_event="e2", delivered_event_time=later,
    )  # fmt: skip
    shown = (await app.ask("GET", path(route))).json["health"]
    assert shown == {
        "state": "ok",
        "since": "2026-11-23T14:16:00.000000Z",
        "last_answer": {"at": "2026-11-23T14:16:00.000000Z", "status_code": 204, "error": None},
        "waiting": 0,
        "next_probe_at": None,
    }


async def test_a_merchant_never_sees_an_address_in_the_last_answer(app: App) -> None:
    route = await app.route()
    await noted(app, route, failed_status=None, failed_error="tls_error: it has expired")
    shown = (await app.ask("GET", path(route))).json["health"]
    assert shown["last_answer"]["error"] == "tls_error"


async def test_a_command_answers_with_the_health_and_the_past_has_none(app: App) -> None:
    route = await app.route()
    await noted(app, route)
    edited = await app.ask("PATCH", path(route), {"name": "other"})
    assert edited.json["health"]["state"] == "down"
    at = edited.json["updated_at"]
    assert "health" not in (await app.ask("GET", path(route, f"?as_of={at}"))).json
    (past,) = (await app.ask("GET", f"/v1/tenants/acme/routes?as_of={at}")).json["items"]
    assert "health" not in past


async def test_routes_that_fail_are_listed_over_all_tenants_worst_first(app: App) -> None:
    some = [await app.route(tenant, name=f"{tenant} {n}") for n in range(2) for tenant in ("acme", "globex")]
    well, disabled = await app.route(), await app.route()
    later = START + timedelta(hours=1)
    await noted(app, some[0], state="failing")
    await noted(app, some[1], since=later)
    await noted(app, some[2])
    await noted(app, some[3], state="failing", since=later)
    await noted(app, well, state="ok")
    await noted(app, disabled)
    assert (await app.ask("POST", path(disabled, "/disable"), {})).status == 200
    await noted(app, disabled)  # by a request that was under way
    expected = [some[2]["id"], some[1]["id"], some[0]["id"], some[3]["id"]]
    shown = await failing(app)
    assert [each["id"] for each in shown["items"]] == expected
    assert shown["items"][0]["tenant"] == "acme"
    assert shown["items"][0]["health"]["last_answer"]["status_code"] == 500
    found: list[str] = []
    query: str | None = "?limit=1"
    while query is not None:
        page = await failing(app, query)
        found += [each["id"] for each in page["items"]]
        query = None if page["next"] is None else f"?limit=1&cursor={page['next']}"
    assert found == expected


@pytest.mark.parametrize("cursor", ["x", "YQ", "ZG93biB4IHk", "AA"])
async def test_what_is_no_cursor_is_refused(app: App, cursor: str) -> None:
    answer = await app.ask("GET", f"/v1/failing?cursor={cursor}")
    assert answer.status == 422
    assert list(answer.errors) == ["cursor"]


async def test_nothing_fails_in_a_new_installation(app: App) -> None:
    assert await failing(app) == {"items": [], "next": None}


async def test_the_routes_of_a_tenant_that_fail_can_be_listed_alone(app: App) -> None:
    ill, disabled, _well = await app.route(), await app.route(), await app.route()
    for each in (ill, disabled, await app.route("globex")):
        await noted(app, each)
    await app.ask("POST", path(disabled, "/disable"))
    answer = await app.ask("GET", "/v1/tenants/acme/routes?status=failing")
    assert [each["id"] for each in answer.json["items"]] == [ill["id"]]
    past = await app.ask("GET", "/v1/tenants/acme/routes?status=failing&as_of=2026-01-01T00:00:00Z")
    assert past.errors == {"status": "is known of now alone: leave out as_of"}
