"""Idempotency-Key: a repeated command is executed once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web.application import TARGET, Answer, App, path

ROUTES = "/v1/tenants/acme/routes"
GOOD = {"name": "shop", "target_url": TARGET, "event_types": ["order.*"]}


async def ask(app: App, method: str, where: str, body: Any = None, key: str = "k1") -> Answer:
    return await app.ask(method, where, body, headers={"Idempotency-Key": key})


async def test_a_repeated_create_answers_with_the_same_route_and_key(app: App) -> None:
    first, second = [await ask(app, "POST", ROUTES, GOOD) for _ in range(2)]

    assert (first.status, second.status) == (201, 201)
    assert first.json == second.json
    assert len(await app.log()) == 1


async def test_concurrent_repetitions_make_one_route(app: App) -> None:
    answers = await asyncio.gather(*(ask(app, "POST", ROUTES, GOOD) for _ in range(10)))

    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(await app.log()) == 1


async def test_a_repeated_edit_does_not_undo_a_later_one(app: App) -> None:
    made = await app.route()

    await ask(app, "PATCH", path(made), {"name": "first"})
    await ask(app, "PATCH", path(made), {"name": "second"}, key="k2")
    repeated = await ask(app, "PATCH", path(made), {"name": "first"})

    assert (repeated.status, repeated.json["name"]) == (200, "second")
    assert len(await app.log()) == 3


async def test_a_repeated_disable_does_not_undo_an_enable(app: App) -> None:
    made = await app.route()

    await ask(app, "POST", path(made, "/disable"))
    await ask(app, "POST", path(made, "/enable"), key="k2")
    repeated = await ask(app, "POST", path(made, "/disable"))

    assert (repeated.status, repeated.json["status"]) == (200, "enabled")


async def test_a_repeated_rotation_rotates_once(app: App) -> None:
    made = await app.route()

    first, second = [await ask(app, "POST", path(made, "/rotate-key")) for _ in range(2)]

    assert (first.status, second.status) == (200, 200)
    assert first.json == second.json


async def test_a_repeated_delete_is_done_already(app: App) -> None:
    made = await app.route()

    assert [(await ask(app, "DELETE", path(made))).status for _ in range(2)] == [204, 204]
    assert len(await app.log()) == 2


async def test_a_key_stands_for_one_command_with_one_body(app: App) -> None:
    made = (await ask(app, "POST", ROUTES, GOOD)).json
    other = await app.route()

    assert (await ask(app, "POST", ROUTES, GOOD | {"name": "other"})).status == 409
    assert (await ask(app, "POST", path(made, "/disable"))).status == 409
    assert (await ask(app, "PATCH", path(other), {"name": "x"})).status == 409
    assert len(await app.log()) == 2


async def test_a_key_stands_for_one_command_whatever_sort_it_is(app: App) -> None:
    """The keys of retries and replays are in other tables than the route log."""
    made = await app.route()
    async with app.database.connection() as connection:
        await store_finished(connection, 1, "failed", route_id=UUID(made["id"]))
    retry = f"/v1/tenants/acme/deliveries/{delivery_id(UUID(made['id']), 'e1', datetime.now(UTC))}/retry"
    ever = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "failed"}
    requests = {
        "edit": ("PATCH", path(made), {"name": "other"}),
        "create": ("POST", ROUTES, GOOD),
        "retry": ("POST", retry, None),
        "replay": ("POST", path(made, "/replay"), ever),
    }
    for key in ("edit", "replay", "retry"):
        assert (await ask(app, *requests[key], key=key)).status < 300
    for key in ("edit", "replay", "retry"):
        for other in requests.keys() - {key}:
            assert (await ask(app, *requests[other], key=key)).status == 409, (key, other)
    (replay,) = (await app.ask("GET", path(made, "/replays"))).json["items"]
    assert (await ask(app, "POST", path(made, f"/replays/{replay['id']}/cancel"), key="edit")).status == 409
    assert [len(await app.rows(f"SELECT FROM hookledger.{table}")) for table in ("resend", "replay")] == [1, 1]
    assert len(await app.log()) == 2


async def test_another_tenant_may_use_the_same_key(app: App) -> None:
    answers = [await ask(app, "POST", f"/v1/tenants/{tenant}/routes", GOOD) for tenant in ("acme", "other")]

    assert [answer.status for answer in answers] == [201, 201]
    assert len(await app.log()) == 2


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_of_no_or_endless_length_is_refused(app: App, key: str) -> None:
    assert (await ask(app, "POST", ROUTES, GOOD, key=key)).status == 400


async def test_the_key_itself_is_not_in_the_log(app: App) -> None:
    await ask(app, "POST", ROUTES, GOOD, key="canary-key")

    assert "canary" not in str(await app.log())
