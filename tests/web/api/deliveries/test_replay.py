"""POST …/routes/{id}/replay: the deliveries of a period are sent again, or counted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from daemon.web.http.shapes import moment
from tests.support.postgres.queries import until_waiting
from tests.support.rows.finished_deliveries import store_finished
from tests.support.rows.recorded import age_routes
from tests.support.web.application import Answer, App, path
from tests.support.web.application import app as opened

FROM, TO = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
EVER = {"from": FROM, "to": TO, "status": "failed"}


# Go's zero time, and the last one that Python has: the driver of PostgreSQL takes both for no bound.
ZERO_TIME, LAST_TIME = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"


async def history(app: App, route: dict[str, Any], *outcomes: str) -> None:
    """Records a delivery for each outcome."""
    async with app.database.connection() as connection:
        for seq, outcome in enumerate(outcomes, 1):
            await store_finished(connection, seq, outcome, route_id=UUID(route["id"]))


async def replay(app: App, route: dict[str, Any], body: dict[str, Any] | None = None, **more: Any) -> Answer:
    return await app.ask("POST", path(route, "/replay"), EVER if body is None else body, **more)


async def test_a_period_from_the_first_time_to_the_last_is_all_of_it(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed")
    answer = await replay(app, route, {"from": ZERO_TIME, "to": LAST_TIME, "status": "failed"})
    assert (answer.status, answer.json["total"]) == (202, 1), answer.text
    assert answer.json["from"].startswith("0001-01-01T00:00:00.")
    assert answer.json["to"].startswith("9999-12-31T23:59:59.")
    listed = await app.ask("GET", path(route, "/replays"))
    assert listed.json["items"] == [answer.json]
    assert (await app.ask("GET", f"/t/acme/webhooks/{route['id']}/replay")).status == 200


async def test_it_begins_and_says_what_belongs_to_it(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed", "delivered", "failed")
    answer = await replay(app, route, EVER | {"reason": "the shop was down"})
    assert answer.status == 202
    begun = answer.json
    assert str(UUID(begun["id"])) == begun["id"]
    assert datetime.fromisoformat(begun.pop("created_at")) <= datetime.now(UTC)
    assert answer.headers["Location"] == path(route, f"/replays/{begun['id']}")
    assert begun == {
        "id": begun["id"],
        "route": route["id"],
        "status": "failed",
        "from": "2020-01-01T00:00:00.000000Z",
        "to": "2100-01-01T00:00:00.000000Z",
        "replayable_from": route["windows"][0]["from"],
        "state": "running",
        "detail": None,
        "total": 2,
        "scheduled": 0,
        "waiting": 0,
        "withdrawn": 0,
        "actor": "admin",
        "reason": "the shop was down",
        "ended_at": None,
    }


async def test_all_are_those_that_were_delivered_too(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed", "delivered", "suppressed", "retrying")
    assert (await replay(app, route, EVER | {"status": "all"})).json["total"] == 2


async def test_a_dry_run_counts_and_does_nothing(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed", "delivered", "failed")
    answer = await replay(app, route, EVER | {"dry_run": True})
    assert answer.status == 200
    assert answer.json == {"count": 2, "replayable_from": route["windows"][0]["from"]}
    assert await app.rows("SELECT * FROM hookledger.replay WHERE route_id = $1", UUID(route["id"])) == []


async def test_what_happened_before_the_oldest_day_that_is_kept_and_was_recorded_later_is_sent_again(
    empty_url: str,
) -> None:
    """A producer was down for days, or tells of what happened then: events are dropped by when they were recorded."""
    async with opened(empty_url) as first:
        route = await first.route()
        await age_routes(first, timedelta(days=20))
    async with opened(empty_url) as app:
        async with app.database.connection() as connection:
            await store_finished(connection, 1, "failed", route_id=UUID(route["id"]), ago=timedelta(days=3))
            await connection.execute(
                "INSERT INTO hookledger.meta VALUES ('events_kept_from', date_trunc('day', now(), 'UTC')::text)"
            )
        old = EVER | {"to": moment(datetime.now(UTC) - timedelta(days=2))}
        assert (await replay(app, route, old | {"dry_run": True})).json["count"] == 1
        assert (await replay(app, route, old)).json["total"] == 1
        gone = EVER | {"to": moment(datetime.now(UTC) - timedelta(days=4))}
        assert (await replay(app, route, gone)).status == 409


async def test_with_nothing_to_send_it_is_done_at_once(app: App) -> None:
    begun = (await replay(app, await app.route())).json
    assert (begun["state"], begun["total"]) == ("done", 0)
    assert begun["ended_at"] is not None


async def test_only_what_happened_since_the_last_enable_can_be_sent(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed")
    await app.ask("POST", path(route, "/disable"), {})
    refused = await replay(app, route)
    assert refused.status == 409
    assert "is disabled since" in refused.json["detail"]
    again = (await app.ask("POST", path(route, "/enable"), {})).json
    enabled_at = again["windows"][1]["from"]
    counted = await replay(app, route, EVER | {"dry_run": True})
    assert counted.json == {"count": 0, "replayable_from": enabled_at}
    refused = await replay(app, route, EVER | {"to": enabled_at})
    assert refused.status == 409
    assert "when the route was enabled, is never sent" in refused.json["detail"]


async def test_a_route_has_one_at_a_time(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed")
    assert (await replay(app, route)).status == 202
    refused = await replay(app, route, EVER | {"status": "all"})
    assert refused.status == 409
    assert refused.json["detail"] == "a replay of this route is running: wait until it is done, or cancel it"


async def test_repeated_with_its_key_it_is_the_same_replay(app: App) -> None:
    route = await app.route()
    await history(app, route, "failed")
    key = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(replay(app, route, headers=key) for _ in range(5)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    other = await replay(app, route, EVER | {"status": "all"}, headers=key)
    assert other.status == 409
    assert "Idempotency-Key" in other.json["detail"]
    await app.ask("POST", path(route, "/disable"), {})
    assert (await replay(app, route, headers=key)).json["id"] == answers[0].json["id"]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"from": "is missing", "to": "is missing", "status": "is missing"}),
        (EVER | {"from": "yesterday"}, {"from": None}),
        (EVER | {"from": 5, "to": None}, {"from": "must be a text", "to": "must be a text"}),
        (EVER | {"to": "2020-01-01T00:00:00"}, {"to": None}),
        (EVER | {"to": FROM}, {"to": "must be later than from"}),
        (EVER | {"status": "pending"}, {"status": "must be failed or all"}),
        (EVER | {"status": ["failed"]}, {"status": "must be failed or all"}),
        (EVER | {"dry_run": "yes"}, {"dry_run": "must be true or false"}),
        (EVER | {"dryrun": True}, {"dryrun": "is not a field of this request: did you mean dry_run?"}),
        (EVER | {"form": FROM}, {"form": "is not a field of this request: did you mean from?"}),
        (EVER | {"since": FROM}, {"since": None}),
    ],
)
async def test_what_it_cannot_take_is_named(app: App, body: dict[str, Any], errors: dict[str, str | None]) -> None:
    answer = await replay(app, await app.route(), body)
    assert answer.status == 422
    assert answer.errors.keys() == errors.keys()
    assert {field: message for field, message in answer.errors.items() if errors[field] is not None} == {
        field: message for field, message in errors.items() if message is not None
    }


async def test_foreign_unknown_and_deleted_routes_have_none(app: App) -> None:
    route, deleted = await app.route(), await app.route()
    assert (await app.ask("DELETE", path(deleted))).status == 204
    unknown = route | {"id": "11111111-2222-3333-4444-555555555555"}
    for named in (route | {"tenant": "globex"}, unknown, route | {"id": "x"}, deleted):
        assert (await replay(app, named)).status == 404


async def test_an_offset_counts(app: App) -> None:
    now = datetime.now(UTC)
    period = {"from": FROM, "to": (now + timedelta(hours=1)).isoformat(), "status": "all", "dry_run": True}
    route = await app.route()
    await history(app, route, "failed")
    assert (await replay(app, route, period)).json["count"] == 1
    assert (await replay(app, route, period | {"to": now.isoformat().replace("+00:00", "-05:00")})).json["count"] == 1


async def test_many_that_count_at_once_leave_connections_for_others(app: App) -> None:
    route = await app.route()
    async with app.database.transaction() as connection:
        await connection.execute("LOCK TABLE hookledger.attempt")
        counting = [asyncio.create_task(replay(app, route, EVER | {"dry_run": True})) for _ in range(12)]
        await until_waiting(connection)
        assert (await app.ask("GET", path(route, "/replays"))).status == 200
    assert {answer.status for answer in await asyncio.gather(*counting)} == {200}
