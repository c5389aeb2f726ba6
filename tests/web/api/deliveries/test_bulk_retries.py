"""POST …/retries: sending all deliveries again that a filter matches."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from daemon.web.service.deliveries import bulk_retries
from eventstore.progress import replays
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web.application import App, path

RETRIES = "/v1/tenants/acme/retries"


async def store(app: App, route: dict[str, Any], outcomes: dict[int, str], *, is_test: bool = False) -> None:
    async with app.database.connection() as connection:
        for seq, outcome in outcomes.items():
            await store_finished(connection, seq, outcome, route_id=UUID(route["id"]), is_test=is_test)


async def waiting(app: App, shown: dict[str, Any]) -> list[int]:
    """Schedules the deliveries of all replays like the owner of their shard. Returns their seqs."""
    for each in shown["replays"]:
        found = await replays.find(app.database, UUID(each["id"]))
        assert found is not None
        await replays.schedule(app.database, found, limit=500)
    return [row["seq"] for row in await app.rows("SELECT seq FROM hookledger.retry ORDER BY seq")]


async def test_what_matches_is_counted_and_then_sent_by_a_replay_for_each_route(app: App) -> None:
    one, other = await app.route(), await app.route()
    await store(app, one, {1: "failed", 2: "delivered", 3: "failed"})
    await store(app, other, {4: "failed", 5: "suppressed"})
    await store(app, other, {6: "failed"}, is_test=True)
    counted = await app.ask("POST", RETRIES, {"dry_run": True})
    assert (counted.status, counted.json) == (200, {"count": 3, "routes": 2, "unsendable": 0, "complete": True})
    assert await app.rows("SELECT * FROM hookledger.replay") == []
    answer = await app.ask("POST", RETRIES, {"reason": "mended"})
    assert answer.status == 202, answer.text
    assert (answer.json["count"], answer.json["refused"]) == (3, [])
    assert {each["route"]: each["total"] for each in answer.json["replays"]} == {one["id"]: 2, other["id"]: 1}
    assert {each["reason"] for each in answer.json["replays"]} == {"mended"}
    assert await waiting(app, answer.json) == [1, 3, 4]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": "failed"}, [1, 3, 4]),
        ({"status": "delivered"}, [2]),
        ({"event": "e3"}, [3]),
        ({"type": "order.create"}, [1, 3, 4]),
        ({"type": "order.cancel"}, []),
        ({"until": "2020-01-01T00:00:00Z"}, []),
        ({"since": "2020-01-01T00:00:00Z"}, [1, 3, 4]),
        ({"where": "data.object.public_id = p1"}, []),
    ],
)
async def test_the_filters_are_those_of_the_list(app: App, filters: dict[str, str], expected: list[int]) -> None:
    one, other = await app.route(), await app.route()
    await store(app, one, {1: "failed", 2: "delivered", 3: "failed"})
    await store(app, other, {4: "failed"})
    answer = await app.ask("POST", RETRIES, filters)
    assert await waiting(app, answer.json) == expected


async def test_only_one_route_can_be_meant(app: App) -> None:
    one, other = await app.route(), await app.route()
    await store(app, one, {1: "failed"})
    await store(app, other, {2: "failed"})
    answer = await app.ask("POST", RETRIES, {"route": other["id"]})
    assert await waiting(app, answer.json) == [2]
    theirs = await app.route("globex")
    assert (await app.ask("POST", RETRIES, {"route": theirs["id"]})).status == 404


async def test_what_its_route_may_not_get_any_more_is_counted_apart(app: App) -> None:
    route = await app.route()
    await store(app, route, {1: "failed"})
    await app.ask("POST", path(route, "/disable"))
    await app.ask("POST", path(route, "/enable"))
    await store(app, route, {2: "failed"})
    counted = await app.ask("POST", RETRIES, {"dry_run": True})
    assert counted.json == {"count": 1, "routes": 1, "unsendable": 1, "complete": True}
    assert await waiting(app, (await app.ask("POST", RETRIES, {})).json) == [2]


async def test_more_than_may_be_sent_at_once_is_said(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_retries, "MAX_DELIVERIES", 2)
    route = await app.route()
    await store(app, route, dict.fromkeys((1, 2, 3), "failed"))
    counted = await app.ask("POST", RETRIES, {"dry_run": True})
    assert counted.json == {"count": 2, "routes": 1, "unsendable": 0, "complete": False}
    assert await waiting(app, (await app.ask("POST", RETRIES, {})).json) == [2, 3]


async def test_a_request_that_is_repeated_begins_nothing_again(app: App) -> None:
    route, other = await app.route(), await app.route()
    await store(app, route, {1: "failed"})
    key = {"headers": {"Idempotency-Key": "once"}}
    first = await app.ask("POST", RETRIES, {}, **key)
    assert await waiting(app, first.json) == [1]
    again = await app.ask("POST", RETRIES, {}, **key)
    assert [each["id"] for each in again.json["replays"]] == [each["id"] for each in first.json["replays"]]
    assert (await app.ask("POST", RETRIES, {"route": other["id"]}, **key)).status in (409, 422)


async def test_each_route_with_a_replay_already_is_named(app: App) -> None:
    routes = [await app.route(name="Busy one") for _ in range(2)]
    await store(app, routes[0], {1: "failed", 2: "failed"})
    await store(app, routes[1], {3: "failed"})
    await app.ask("POST", RETRIES, {"route": routes[0]["id"], "event": "e1"})
    await app.ask("POST", RETRIES, {"route": routes[1]["id"]})
    answer = await app.ask("POST", RETRIES, {})
    assert answer.status == 202
    assert answer.json["replays"] == []
    refused = sorted((each["route"], each["route_id"]) for each in answer.json["refused"])
    assert refused == sorted(("Busy one", route["id"]) for route in routes), "two may have one name"


async def test_wrong_filters_are_refused_all_at_once(app: App) -> None:
    body = {"status": "pending", "type": "Order", "event": "a\0", "where": "nothing", "since": "yesterday"}
    answer = await app.ask("POST", RETRIES, body)
    assert answer.status == 422
    assert set(answer.errors) == set(body)
    both = await app.ask("POST", RETRIES, {"event": "e1", "where": "data.object.x = 1"})
    assert list(both.errors) == ["where"]
