"""The life of a route over HTTP: create, show, list, edit, disable, enable, delete."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import uuid4

import pytest

from tests.support.web.application import TARGET, Answer, App, path

ROUTES = "/v1/tenants/acme/routes"
GOOD = {"name": "shop", "target_url": TARGET, "event_types": ["order.*"]}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def names(app: App, query: str = "", tenant: str = "acme") -> list[str]:
    answer = await app.ask("GET", f"/v1/tenants/{tenant}/routes{query}")
    assert answer.status == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


async def test_a_route_is_created_whole(app: App) -> None:
    body = GOOD | {
        "event_types": ["order.*", "subscription.create", "order.*"],
        "payload": {"snapshot": {"orders": ["total", "public_id"], "customer": True, "shop": False}, "filter": "data"},
        "headers": {"X-Shop": "canary"},
        "ordered": True,
        "rate_limit_per_second": 5,
        "reason": "for the shop",
    }

    answer = await app.ask("POST", ROUTES, body)

    assert answer.status == 201, answer.text
    made = answer.json
    assert made.pop("verification_key").startswith("whsec_")
    assert answer.headers["Location"] == f"{ROUTES}/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert "canary" not in answer.text
    moments = made.pop("created_at"), made.pop("updated_at"), made.pop("windows")
    assert MOMENT.fullmatch(moments[0])
    assert moments[0] == moments[1]
    assert moments[2] == [{"from": moments[0], "to": None}]
    key = made.pop("key")
    assert set(key) == {"id", "fingerprint", "previous_valid_until"}
    assert key["previous_valid_until"] is None
    made.pop("id")
    assert made == {
        "tenant": "acme",
        "name": "shop",
        "target_url": TARGET,
        "event_types": ["order.*", "subscription.create"],
        "status": "enabled",
        "payload": {
            "snapshot": {"customer": True, "orders": ["total", "public_id"]},
            "filter": "data",
            "transform": None,
        },
        "headers": {"X-Shop": "***"},
        "ordered": True,
        "rate_limit_per_second": 5,
        "version": 1,
        "health": {"state": "unknown", "since": None, "last_answer": None, "waiting": 0, "next_probe_at": None},
    }


async def test_a_route_may_be_created_disabled(app: App) -> None:
    made = await app.route(enabled=False)

    assert (made["status"], made["windows"]) == ("disabled", [])


async def test_what_was_made_is_shown_and_listed_at_once(app: App) -> None:
    made = await app.route()
    made.pop("verification_key")

    shown = await app.ask("GET", path(made))

    assert (shown.status, shown.json, shown.headers["ETag"]) == (200, made, '"1"')
    assert (await app.ask("GET", ROUTES)).json == {"items": [made], "next": None}


async def test_a_tenant_may_have_any_sign_in_its_name(app: App) -> None:
    answer = await app.ask("POST", "/v1/tenants/a%2Fb%3F%7Bc%7D/routes", GOOD)

    assert (answer.status, answer.json["tenant"]) == (201, "a/b?{c}")
    assert (await app.ask("GET", answer.headers["Location"])).json["id"] == answer.json["id"]


async def test_an_edit_changes_what_it_names_and_nothing_else(app: App) -> None:
    made = await app.route(
        payload={"filter": "data", "transform": "data", "snapshot": {"shop": True}}, headers={"X-A": "1"}, ordered=True
    )

    for change, says in (
        ({"name": "new"}, ("name", "new")),
        ({"target_url": "https://SHOP.example.com/a b"}, None),
        ({"target_url": "https://SHOP.example.com/new"}, ("target_url", "https://shop.example.com/new")),
        ({"payload": {"filter": None}}, ("payload", {"filter": None, "transform": "data", "snapshot": {"shop": True}})),
        ({"headers": {"X-B": "2"}}, ("headers", {"X-B": "***"})),
        ({"rate_limit_per_second": 2.5}, ("rate_limit_per_second", 2.5)),
        ({"rate_limit_per_second": None}, ("rate_limit_per_second", None)),
    ):
        before = (await app.ask("GET", path(made))).json
        answer = await app.ask("PATCH", path(made), change)
        if says is None:
            assert answer.status == 422
            continue
        assert answer.status == 200, answer.text
        field, value = says
        assert answer.json == before | {
            field: value,
            "version": before["version"] + 1,
            "updated_at": answer.json["updated_at"],
        }


async def test_an_edit_that_changes_nothing_appends_nothing(app: App) -> None:
    made = await app.route()

    answers = [await app.ask("PATCH", path(made), body) for body in ({}, {"name": made["name"]})]

    assert [(answer.status, answer.json["version"]) for answer in answers] == [(200, 1), (200, 1)]
    assert len(await app.log()) == 1


async def test_disable_and_enable_move_the_windows_and_repeating_appends_nothing(app: App) -> None:
    made = await app.route()

    off = [await app.ask("POST", path(made, "/disable"), {"reason": "sale"}) for _ in range(2)]
    on = [await app.ask("POST", path(made, "/enable")) for _ in range(2)]

    assert [(a.status, a.json["status"], a.json["version"]) for a in off] == [(200, "disabled", 2)] * 2
    assert [(a.status, a.json["status"], a.json["version"]) for a in on] == [(200, "enabled", 3)] * 2
    first, second = on[0].json["windows"]
    assert first["to"] == off[0].json["updated_at"]
    assert second == {"from": on[0].json["updated_at"], "to": None}
    assert [(row["type"], row["reason"]) for row in await app.log()] == [
        ("created", None),
        ("disabled", "sale"),
        ("enabled", None),
    ]


async def test_a_deleted_route_is_gone_and_stays_gone(app: App) -> None:
    made = await app.route()

    answer = await app.ask("DELETE", path(made) + "?reason=closed")

    assert (answer.status, answer.text) == (204, "")
    assert (await app.log())[-1]["reason"] == "closed"
    assert await names(app) == []
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/disable", None),
        ("POST", "/enable", None),
        ("GET", "/key", None),
        ("POST", "/rotate-key", None),
        ("POST", "/revoke-old-key", None),
    ):
        assert (await app.ask(method, path(made, rest), body)).status == 404, (method, rest)
    assert (await app.ask("GET", path(made, "/history"))).status == 200


async def test_the_reason_of_a_delete_may_come_in_its_body(app: App) -> None:
    made = await app.route()

    await app.ask("DELETE", path(made), {"reason": "closed"})

    assert (await app.log())[-1]["reason"] == "closed"


@pytest.mark.parametrize("reason", ["%00", "a%00b", "x" * 1001])
async def test_a_reason_in_a_query_must_be_readable(app: App, reason: str) -> None:
    made = await app.route()

    assert (await app.ask("DELETE", f"{path(made)}?reason={reason}")).status == 422


FOREIGN = [
    ("GET", "", None),
    ("PATCH", "", {"name": "x"}),
    ("DELETE", "", None),
    ("POST", "/disable", {}),
    ("POST", "/enable", {}),
    ("GET", "/key", None),
    ("POST", "/rotate-key", {}),
    ("POST", "/revoke-old-key", {}),
    ("GET", "/history", None),
]


@pytest.mark.parametrize(("method", "rest", "body"), FOREIGN)
async def test_foreign_unknown_and_malformed_ids_are_all_404(app: App, method: str, rest: str, body: Any) -> None:
    made = await app.route(tenant="other")
    route_id = made["id"]

    malformed = ["x", "0", route_id[:-1], route_id.replace("-", ""), f"{{{route_id}}}", f"urn:uuid:{route_id}", "%00"]
    answers = [await app.ask(method, f"{ROUTES}/{which}{rest}", body) for which in [route_id, str(uuid4()), *malformed]]

    assert {(answer.status, answer.json["detail"]) for answer in answers} == {(404, "there is no such route")}
    assert len(await app.log()) == 1


async def test_commands_insist_on_a_version(app: App) -> None:
    made = await app.route()

    async def ask(method: str, rest: str, tag: str, body: Any = None) -> Answer:
        return await app.ask(method, path(made, rest), body, headers={"If-Match": tag})

    assert (await ask("PATCH", "", '"2"', {"name": "x"})).status == 412
    assert (await ask("DELETE", "", '"7"')).status == 412
    assert (await ask("POST", "/disable", '"0"')).status == 412
    for tag in ("one", '"x"', '"-1"', '"1", "2"', '"99999999999999999999"', ""):
        assert (await ask("PATCH", "", tag, {"name": "x"})).status == 400, tag
    assert len(await app.log()) == 1
    current = (await app.ask("GET", path(made))).headers["ETag"]
    assert (await ask("PATCH", "", current, {"name": "y"})).status == 200
    assert (await ask("POST", "/disable", "*")).status == 200


async def test_of_two_edits_of_one_version_one_wins(app: App) -> None:
    made = await app.route()

    answers = await asyncio.gather(
        *(app.ask("PATCH", path(made), {"name": f"n{n}"}, headers={"If-Match": '"1"'}) for n in range(8))
    )

    assert sorted(answer.status for answer in answers) == [200] + [412] * 7


async def test_edits_without_a_version_all_happen(app: App) -> None:
    made = await app.route()

    answers = await asyncio.gather(*(app.ask("PATCH", path(made), {"name": f"n{n}"}) for n in range(4)))

    assert sorted(answer.json["version"] for answer in answers) == [2, 3, 4, 5]


async def test_a_command_is_logged_with_who_and_whence(app: App) -> None:
    await app.route(reason="new shop")

    (row,) = await app.log()
    assert (row["actor"], row["origin"], row["reason"]) == ("admin", "api", "new shop")


async def test_without_the_database_a_command_is_503_and_reading_goes_on(app: App) -> None:
    made = await app.route()
    await app.disconnect()

    assert (await app.ask("POST", path(made, "/disable"))).status == 503
    shown = await app.ask("GET", path(made))
    assert shown.status == 200
    assert "health" not in shown.json
