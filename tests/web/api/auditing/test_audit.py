"""Explanations and the digest of the projection."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from daemon import audit
from daemon.core.webhook import payload
from eventstore.domain_events import ticks
from tests.support.rows.delivery_log import delivery_log
from tests.support.web.application import Answer, App, app, path

EXPLAIN = "/v1/tenants/acme/explain"


async def publish(app: App, event_id: str, *, read: bool = True, **more: Any) -> None:
    event = {"tenant": "acme", "type": "order.create", "data": {"total": 5}, "id": event_id} | more
    answer = await app.ask("POST", "/v1/events", event)
    assert answer.status == 202, answer.text
    if read:
        await ticks.make(app.database)


async def explained(app: App, event_id: str, route: dict[str, Any]) -> dict[str, Any]:
    answer = await app.ask("GET", f"{EXPLAIN}?event={event_id}&route={route['id']}")
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def test_a_due_event_is_pending_in_its_window(app: App) -> None:
    made = await app.route()
    await publish(app, "e1")

    found = await explained(app, "e1", made)

    assert set(found) >= {
        "decision",
        "detail",
        "event_time",
        "window",
        "route_version",
        "route_pos",
        "tick",
        "delivery",
    }
    assert found["decision"] == "pending"
    assert found["window"] == made["windows"][0]
    assert (found["route_version"], found["route_pos"], found["tick"]) == (1, 1, 1)


async def test_each_reason_has_its_word(app: App) -> None:
    await publish(app, "too-early")
    made = await app.route(event_types=["order.*"], payload={"filter": "data.object.total > `9`"})
    await publish(app, "filtered")
    await publish(app, "other-type", type="shop.open")
    await publish(app, "imported", backfill=True)
    await app.ask("POST", path(made, "/disable"))
    await publish(app, "while-off")
    await app.ask("DELETE", path(made))
    await publish(app, "after")
    await publish(app, "unread", read=False)

    decisions = {
        event_id: (await explained(app, event_id, made))["decision"]
        for event_id in ("too-early", "filtered", "other-type", "imported", "while-off", "after", "unread")
    }

    assert decisions == {
        "too-early": "before_creation",
        "filtered": "filtered",
        "other-type": "not_subscribed",
        "imported": "backfill",
        "while-off": "disabled_at_event_time",
        "after": "after_deletion",
        "unread": "not_yet_read",
    }


async def test_without_a_route_every_route_of_the_tenant_is_explained(app: App) -> None:
    made = [await app.route(), await app.route()]
    await app.route(tenant="other")
    await publish(app, "e1")

    answer = await app.ask("GET", f"{EXPLAIN}?event=e1")

    assert [item["route"] for item in answer.json["items"]] == [route["id"] for route in made]


@pytest.mark.parametrize("event", ["e2", "%00", "x" * 500, "e1%0A"])
async def test_an_unknown_event_is_404(app: App, event: str) -> None:
    await app.route()
    await publish(app, "e1")

    assert (await app.ask("GET", f"{EXPLAIN}?event={event}")).status == 404


async def test_foreign_and_unknown_events_and_routes_are_404(app: App) -> None:
    made = await app.route()
    foreign = await app.route(tenant="other")
    await publish(app, "e1")

    def asked(tenant: str, route: str) -> Any:
        return app.ask("GET", f"/v1/tenants/{tenant}/explain?event=e1&route={route}")

    answers: list[Answer] = [
        await asked("other", made["id"]),
        await asked("acme", foreign["id"]),
        await asked("acme", str(uuid4())),
        await asked("acme", "x"),
    ]
    assert [answer.status for answer in answers] == [404] * 4


async def test_an_explanation_needs_an_event(app: App) -> None:
    answer = await app.ask("GET", EXPLAIN)

    assert (answer.status, list(answer.errors)) == (422, ["event"])


async def test_the_projection_changes_with_each_command_and_is_what_a_rebuild_gives(app: App) -> None:
    digests = []
    made = await app.route()
    for rest in ("/disable", "/enable", "/rotate-key"):
        await app.ask("POST", path(made, rest))
        digests.append((await app.ask("GET", "/v1/projection")).json)
    rebuilt = await audit.rebuild(app.database)

    assert [it["position"] for it in digests] == [2, 3, 4]
    assert len({it["state_sha256"] for it in digests}) == 3
    assert digests[-1] == {"position": 4, "routes": 1, "state_sha256": rebuilt.state_sha256}


async def test_a_projection_that_is_behind_is_not_asked(empty_url: str) -> None:
    """Another process created the route, and the event's tick has its position."""
    async with app(empty_url) as behind:
        async with app(empty_url) as ahead:
            made = await ahead.route()
            await publish(ahead, "e1")

        assert behind.services.index.position == 0
        assert (await explained(behind, "e1", made))["decision"] == "pending"


async def test_of_many_routes_a_page_is_explained_at_a_time(app: App) -> None:
    made = [await app.route() for _ in range(3)]
    await publish(app, "e1")

    first = (await app.ask("GET", f"{EXPLAIN}?event=e1&limit=2")).json
    second = (await app.ask("GET", f"{EXPLAIN}?event=e1&limit=2&cursor={first['next']}")).json

    assert [item["route"] for item in first["items"] + second["items"]] == [route["id"] for route in made]
    assert second["next"] is None
    for cursor in ("x", "MTIz", "MDAwMDAwMDB4"):
        assert (await app.ask("GET", f"{EXPLAIN}?event=e1&cursor={cursor}")).status == 422


async def test_between_two_filters_others_have_their_turn(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        await app.route(payload={"filter": f"data.object.n == `{number}`"})
    event = {"tenant": "acme", "type": "order.create", "id": "e1", "data": {"n": 1}}
    await app.ask("POST", "/v1/events", event)
    order: list[str] = []
    result = payload.EventFilters.result

    def noted(filters: payload.EventFilters, expression: str) -> payload.FilterResult:
        order.append("filter")
        asyncio.get_running_loop().call_soon(order.append, "another")
        return result(filters, expression)

    monkeypatch.setattr(payload.EventFilters, "result", noted)
    await app.ask("GET", "/v1/tenants/acme/explain?event=e1")

    assert order[:5] == ["filter", "another", "filter", "another", "filter"]


async def test_an_explanation_stands_as_the_list_does(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        for expected in log.expected():
            answer = await log.app.ask("GET", f"{EXPLAIN}?event={expected.event_id}&route={expected.route_id}")
            is_read = answer.json["tick"] is not None
            assert answer.json["decision"] == (expected.status if is_read else "not_yet_read"), answer.text
            assert len(answer.json["delivery"]["attempts"]) >= expected.attempts
