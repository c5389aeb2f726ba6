"""Idempotency-Key: a repeated command is executed once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from daemon.core.delivery.answer import delivery_id
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.route_log.log import RouteEvent
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web.application import TARGET, Answer, App, path
from tests.support.web.application import app as application
from tests.support.web.tokens import bearer, token

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


async def test_a_repetition_after_the_route_was_deleted_finds_none(app: App) -> None:
    made = (await ask(app, "POST", ROUTES, GOOD)).json
    commands = [
        ("PATCH", path(made), {"name": "other"}, "k2"),
        ("POST", path(made, "/rotate-key"), {}, "k3"),
        ("POST", path(made, "/revoke-old-key"), {}, "k4"),
        ("POST", path(made, "/disable"), {}, "k5"),
        ("POST", path(made, "/enable"), {}, "k6"),
    ]
    for command in commands:
        assert (await ask(app, *command)).status == 200
    await app.ask("DELETE", path(made))

    answers = [await ask(app, *command) for command in [("POST", ROUTES, GOOD, "k1"), *commands]]

    assert [answer.status for answer in answers] == [404] * 6


async def test_a_repeated_delete_is_done_already(app: App) -> None:
    made = await app.route()

    assert [(await ask(app, "DELETE", path(made))).status for _ in range(2)] == [204, 204]
    assert len(await app.log()) == 2


def look_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next command finds no earlier one with its key: the same request is executed right after it has looked."""
    by_request, looks = route_log.by_request, count(1)

    async def found(database: Database, request_id: str) -> RouteEvent | None:
        return None if next(looks) == 1 else await by_request(database, request_id)

    monkeypatch.setattr(route_log, "by_request", found)


@pytest.mark.parametrize(
    ("method", "command", "body", "version"),
    [
        ("DELETE", "", None, None),
        ("POST", "/rotate-key", {}, None),
        ("POST", "/revoke-old-key", {}, None),
        ("PATCH", "", {"name": "other"}, '"2"'),
        ("PATCH", "", {"name": "other"}, None),
        ("POST", "/disable", {}, '"2"'),
    ],
)
async def test_a_repetition_at_the_same_time_is_answered_like_the_first(
    app: App, monkeypatch: pytest.MonkeyPatch, method: str, command: str, body: Any, version: str | None
) -> None:
    """What the first has done is no reason to refuse it: neither the state of the route nor its version."""
    made = await app.route()
    await app.ask("POST", path(made, "/rotate-key"), {"force": True})
    if command == "/rotate-key":
        await app.ask("POST", path(made, "/revoke-old-key"))
    headers = {"Idempotency-Key": "k1"} | ({} if version is None else {"If-Match": version})
    first = await app.ask(method, path(made, command), body, headers=headers)
    look_too_early(monkeypatch)
    repeated = await app.ask(method, path(made, command), body, headers=headers)
    assert first.status in (200, 204)
    assert (repeated.status, repeated.text) == (first.status, first.text)


async def test_a_repetition_at_the_same_time_is_none_too_many(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with application(empty_url, limits__routes_per_tenant="1") as limited:
        headers = {"Idempotency-Key": "k1"} | bearer(await token(limited.database, "tenant:acme"))
        first = await limited.ask("POST", ROUTES, GOOD, headers=headers)
        look_too_early(monkeypatch)
        repeated = await limited.ask("POST", ROUTES, GOOD, headers=headers)
        assert (repeated.status, repeated.json) == (201, first.json)
        other = await limited.ask("POST", ROUTES, GOOD, headers=headers | {"Idempotency-Key": "k2"})
        assert other.status == 409


async def test_a_repetition_is_not_checked_by_what_holds_since(empty_url: str) -> None:
    async with application(empty_url, events__strict_types="true") as strict:
        body = GOOD | {"event_types": ["order.create"]}
        await strict.ask("PUT", "/v1/event-types", [{"name": "order.create"}])
        first = await ask(strict, "POST", ROUTES, body)
        await strict.ask("PUT", "/v1/event-types", [])
        repeated = await ask(strict, "POST", ROUTES, body)
        assert (repeated.status, repeated.json) == (201, first.json)
        assert (await ask(strict, "POST", ROUTES, body, key="k2")).status == 422


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
