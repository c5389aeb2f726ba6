"""POST /v1/tenants/{t}/deliveries/{id}/retry: send a delivery again now."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from daemon.core.delivery.answer import delivery_id
from daemon.deliveries import replays
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web.application import Answer, App, path


async def over(app: App, route: dict[str, Any], *outcomes: str, ago: timedelta = timedelta(0)) -> str:
    """Records a delivery with these outcomes, and returns its id."""
    route_id = UUID(route["id"])
    async with app.database.connection() as connection:
        await store_finished(connection, 1, *outcomes, route_id=route_id, ago=ago)
    return delivery_id(route_id, "e1", datetime.now(UTC) - ago)


async def again(app: App, delivery: str, tenant: str = "acme", body: Any = None, **more: Any) -> Answer:
    return await app.ask("POST", f"/v1/tenants/{tenant}/deliveries/{delivery}/retry", body, **more)


async def in_line(app: App, route: dict[str, Any]) -> int:
    rows = await app.rows("SELECT seq FROM hookledger.retry WHERE route_id = $1", UUID(route["id"]))
    return len(rows)


@pytest.mark.parametrize("outcomes", [["failed"], ["retrying", "failed"], ["delivered"]])
async def test_what_is_over_is_sent_again(app: App, outcomes: list[str]) -> None:
    route = await app.route()
    delivery = await over(app, route, *outcomes)
    answer = await again(app, delivery, body={"reason": "they asked for it"})
    assert answer.status == 202
    assert answer.json == {"id": delivery, "state": "due"}
    assert await in_line(app, route) == 1
    noted = await app.rows("SELECT actor, origin, reason FROM hookledger.resend WHERE route_id = $1", UUID(route["id"]))
    assert noted == [{"actor": "admin", "origin": "api", "reason": "they asked for it"}]
    shown = await app.ask("GET", f"/v1/tenants/acme/deliveries/{delivery}?event=e1")
    assert [(each["actor"], each["reason"]) for each in shown.json["manual_retries"]] == [
        ("admin", "they asked for it")
    ]


async def test_asked_again_before_it_is_sent_it_stands_in_line_once(app: App) -> None:
    route = await app.route()
    delivery = await over(app, route, "failed")
    await again(app, delivery)
    answer = await again(app, delivery)
    assert (answer.status, answer.json["state"]) == (202, "under_way")
    assert await in_line(app, route) == 1


async def test_repeated_with_its_key_it_is_carried_out_once(app: App) -> None:
    route = await app.route()
    delivery = await over(app, route, "failed")
    key = {"Idempotency-Key": str(uuid4())}
    assert (await again(app, delivery, headers=key)).status == 202
    async with app.database.connection() as connection:  # as if it had been sent meanwhile
        await connection.execute("DELETE FROM hookledger.retry WHERE route_id = $1", UUID(route["id"]))
    assert (await again(app, delivery, headers=key)).json == {"id": delivery, "state": "due"}
    assert await in_line(app, route) == 0
    other = await again(app, delivery, body={"reason": "another"}, headers=key)
    assert other.status == 409
    assert "Idempotency-Key" in other.json["detail"]


async def test_repeated_after_the_route_was_disabled_it_is_answered_like_the_first(app: App) -> None:
    """The receiver may have answered 410 to the retry."""
    route = await app.route()
    delivery = await over(app, route, "failed")
    key = {"Idempotency-Key": str(uuid4())}
    first = await again(app, delivery, headers=key)
    await app.ask("POST", path(route, "/disable"), {})
    repeated = await again(app, delivery, headers=key)
    assert (repeated.status, repeated.json) == (first.status, first.json) == (202, {"id": delivery, "state": "due"})
    assert (await again(app, delivery, body={"reason": "another"}, headers=key)).status == 409
    assert (await again(app, delivery)).status == 409


async def test_what_happened_before_the_last_enable_is_not_sent_again(app: App) -> None:
    route = await app.route()
    delivery = await over(app, route, "failed")
    await app.ask("POST", path(route, "/disable"), {})
    answer = await again(app, delivery)
    assert answer.status == 409
    assert "the route is disabled since" in answer.json["detail"]
    await app.ask("POST", path(route, "/enable"), {})
    answer = await again(app, delivery)
    assert answer.status == 409
    assert "what happened before is never sent" in answer.json["detail"]
    assert (await app.ask("DELETE", path(route))).status == 204
    answer = await again(app, delivery)
    assert (answer.status, answer.json["detail"]) == (409, "the route was deleted: nothing is sent to it any more")
    assert await in_line(app, route) == 0


async def test_what_happened_while_the_route_was_disabled_is_not_sent(app: App) -> None:
    """No such delivery is created. If there were one, it would be refused."""
    route = await app.route()
    delivery = await over(app, route, "failed", ago=timedelta(hours=1))
    answer = await again(app, delivery)
    assert answer.status == 409
    assert "what happened then is never sent" in answer.json["detail"]


async def test_of_what_was_skipped_it_is_said_why(app: App) -> None:
    route = await app.route()
    await app.ask("POST", path(route, "/disable"), {})
    event = {"tenant": "acme", "id": "skipped", "type": "order.create", "data": {}}
    assert (await app.ask("POST", "/v1/events", event)).status == 202
    delivery = delivery_id(UUID(route["id"]), "skipped", datetime.now(UTC))
    assert "the route is disabled since" in (await again(app, delivery)).json["detail"]
    await app.ask("POST", path(route, "/enable"), {})
    for query in ("", "?event=skipped"):
        answer = await app.ask("POST", f"/v1/tenants/acme/deliveries/{delivery}/retry{query}")
        assert answer.status == 409
        assert "the route was disabled when it happened" in answer.json["detail"]


async def test_what_the_route_never_wanted_is_not_found(app: App) -> None:
    route = await app.route(event_types=["order.*"])
    event = {"tenant": "acme", "id": "unwanted", "type": "customer.create", "data": {}}
    assert (await app.ask("POST", "/v1/events", event)).status == 202
    delivery = delivery_id(UUID(route["id"]), "unwanted", datetime.now(UTC))
    for query in ("", "?event=unwanted"):
        assert (await app.ask("POST", f"/v1/tenants/acme/deliveries/{delivery}/retry{query}")).status == 404


async def test_what_waits_for_its_first_attempt_stays_in_line(app: App) -> None:
    route = await app.route()
    event = {"tenant": "acme", "id": "waiting", "type": "order.create", "data": {}}
    assert (await app.ask("POST", "/v1/events", event)).status == 202
    delivery = delivery_id(UUID(route["id"]), "waiting", datetime.now(UTC))
    for query in ("", "?event=waiting"):
        answer = await app.ask("POST", f"/v1/tenants/acme/deliveries/{delivery}/retry{query}")
        assert (answer.status, answer.json) == (202, {"id": delivery, "state": "in_line"})
    assert await in_line(app, route) == 0


async def test_without_its_event_there_is_nothing_to_send(app: App) -> None:
    route = await app.route()
    delivery = await over(app, route, "failed")
    async with app.database.connection() as connection:
        await connection.execute("SET session_replication_role = replica; DELETE FROM hookledger.domain_event")
        await connection.execute("RESET session_replication_role")
    answer = await again(app, delivery)
    assert (answer.status, answer.json["detail"]) == (
        409,
        "its event is no longer kept, so there is nothing to send",
    )


async def test_foreign_and_unknown_deliveries_are_not_found(app: App) -> None:
    route = await app.route()
    delivery = await over(app, route, "failed")
    assert (await again(app, delivery, tenant="globex")).status == 404
    for named in (str(uuid4()), delivery[:-1] + ("0" if delivery[-1] != "0" else "1"), "x", "%00"):
        assert (await again(app, named)).status == 404
    assert await in_line(app, route) == 0


async def test_a_search_among_many_routes_lets_others_have_their_turn(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.route(enabled=False)
    for number in range(9):
        await app.ask("POST", "/v1/events", {"tenant": "acme", "id": f"e{number}", "type": "order.create", "data": {}})
    pieces, turns = list[int](), count()

    async def take_turns() -> None:
        for _ in turns:  # until it is cancelled; the number depends on the load of the machine
            await asyncio.sleep(0)

    def compared(*_: object) -> str:
        pieces.append(next(turns))
        return "another"

    monkeypatch.setattr("daemon.deliveries.replays.delivery_id", compared)
    others = asyncio.create_task(take_turns())
    assert await replays.skipped(app.database, app.services.index, "acme", str(uuid4())) is None
    others.cancel()
    assert len(pieces) == 9
    assert all(later - earlier > 1 for earlier, later in pairwise(pieces))
