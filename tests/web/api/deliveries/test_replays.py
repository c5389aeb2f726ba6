"""GET …/routes/{id}/replays and …/replays/{replay}, and cancelling a replay."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventstore.progress import replays
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web.application import App, path

EVER = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "failed"}


async def begun(app: App, route: dict[str, Any], failed: int = 2) -> dict[str, Any]:
    async with app.database.connection() as connection:
        for seq in range(1, failed + 1):
            await store_finished(connection, seq, "failed", route_id=UUID(route["id"]))
    answer = await app.ask("POST", path(route, "/replay"), EVER)
    assert answer.status == 202, answer.text
    shown: dict[str, Any] = answer.json
    return shown


async def scheduled(app: App, replay: dict[str, Any], most: int) -> None:
    """Schedules deliveries like the owner of the shard."""
    found = await replays.find(app.database, UUID(replay["id"]))
    assert found is not None
    await replays.schedule(app.database, found, limit=most)


async def test_one_says_how_far_it_is(app: App) -> None:
    route = await app.route()
    replay = await begun(app, route)
    where = path(route, f"/replays/{replay['id']}")
    assert (await app.ask("GET", where)).json == replay
    await scheduled(app, replay, 1)
    assert (await app.ask("GET", where)).json == replay | {"scheduled": 1, "waiting": 1}
    await replays.finish(app.database, UUID(replay["id"]))
    shown = (await app.ask("GET", where)).json
    assert shown["state"] == "done"
    assert shown["ended_at"] > shown["created_at"]


async def test_cancelled_it_takes_back_what_nobody_sends_yet(app: App) -> None:
    route = await app.route()
    replay = await begun(app, route)
    await scheduled(app, replay, 1)
    where = path(route, f"/replays/{replay['id']}")
    answer = await app.ask("POST", f"{where}/cancel", {"reason": "wrong period"})
    assert answer.status == 200
    expected = {"state": "cancelled", "scheduled": 1, "waiting": 0, "withdrawn": 1}
    assert {name: answer.json[name] for name in expected} == expected
    assert answer.json["detail"] == "cancelled by admin: wrong period"
    assert (await app.ask("GET", where)).json == answer.json
    assert (await app.ask("POST", f"{where}/cancel")).json == answer.json
    assert await app.rows("SELECT * FROM hookledger.retry WHERE route_id = $1", UUID(route["id"])) == []


async def test_one_that_is_done_cannot_be_cancelled(app: App) -> None:
    route = await app.route()
    replay = await begun(app, route, failed=0)
    answer = await app.ask("POST", path(route, f"/replays/{replay['id']}/cancel"))
    assert answer.status == 409
    assert answer.json["detail"] == "the replay is done: there is nothing left to cancel"


async def test_they_are_listed_newest_first_page_by_page(app: App) -> None:
    route, other = await app.route(), await app.route()
    ids = [(await begun(app, route, failed=0))["id"] for _ in range(5)]
    await begun(app, other, failed=0)
    listed: list[str] = []
    query = "?limit=2"
    while query:
        page = (await app.ask("GET", path(route, f"/replays{query}"))).json
        listed += [item["id"] for item in page["items"]]
        query = f"?limit=2&cursor={page['next']}" if page["next"] else ""
    assert listed == ids[::-1]


async def test_a_cursor_that_no_page_has_given_out_is_refused(app: App) -> None:
    route = await app.route()
    for cursor in ("x", "bm9uc2Vuc2U"):
        assert "cursor" in (await app.ask("GET", path(route, f"/replays?cursor={cursor}"))).errors


async def test_foreign_and_unknown_ones_are_not_found(app: App) -> None:
    route, other = await app.route(), await app.route()
    replay = await begun(app, route, failed=0)
    unknown = "11111111-2222-3333-4444-555555555555"
    for where in (
        path(other, f"/replays/{replay['id']}"),
        path(route | {"tenant": "globex"}, f"/replays/{replay['id']}"),
        path(route, f"/replays/{unknown}"),
        path(route, "/replays/x"),
    ):
        assert (await app.ask("GET", where)).status == 404
        assert (await app.ask("POST", f"{where}/cancel")).status == 404
    assert (await app.ask("GET", path(route | {"tenant": "globex"}, "/replays"))).status == 404
