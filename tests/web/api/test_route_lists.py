"""Reading routes: pages, filters, the past, history and tenants."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.web import Door, path

ROUTES = "/v1/tenants/acme/routes"


def shifted(moment: str, **by: float) -> str:
    at = datetime.fromisoformat(moment) + timedelta(**by)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def names(door: Door, query: str = "") -> list[str]:
    answer = await door.ask("GET", f"{ROUTES}{query}")
    assert answer.status == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


async def pages(door: Door, where: str, limit: int) -> list[list[dict[str, Any]]]:
    found, query = [], f"?limit={limit}"
    while True:
        answer = await door.ask("GET", f"{where}{query}")
        assert answer.status == 200, answer.text
        found.append(answer.json["items"])
        if answer.json["next"] is None:
            return found
        query = f"?limit={limit}&cursor={answer.json['next']}"


async def test_routes_come_in_pages_each_once(door: Door) -> None:
    for n in range(7):
        await door.route(name=f"r{n}")
    await door.route(tenant="other", name="foreign")

    found = await pages(door, ROUTES, 3)

    assert [[item["name"] for item in page] for page in found] == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r6"]]
    assert [len(page) for page in await pages(door, ROUTES, 7)] == [7]


async def test_what_is_deleted_between_two_pages_shifts_nothing(door: Door) -> None:
    made = [await door.route(name=f"r{n}") for n in range(6)]
    first = (await door.ask("GET", f"{ROUTES}?limit=3")).json

    for route in made[:3]:
        await door.ask("DELETE", path(route))
    await door.route(name="r6")

    assert await names(door, f"?cursor={first['next']}") == ["r3", "r4", "r5", "r6"]


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "", "1.5", "٣", "1" * 30, "0001999", "%201"])
async def test_a_wrong_limit_is_refused(door: Door, limit: str) -> None:
    answer = await door.ask("GET", f"{ROUTES}?limit={limit}")

    assert (answer.status, list(answer.errors)) == (422, ["limit"])


@pytest.mark.parametrize(
    "cursor",
    ["", "%21", "ü", "a", *(base64.urlsafe_b64encode(key).decode() for key in (b"\xff\xfe", b"no time")), "x" * 5000],
)
async def test_a_wrong_cursor_is_refused(door: Door, cursor: str) -> None:
    answer = await door.ask("GET", f"{ROUTES}?cursor={cursor}")

    assert (answer.status, list(answer.errors)) == (422, ["cursor"])


async def test_a_list_may_be_cut_to_a_status(door: Door) -> None:
    await door.route(name="on")
    await door.route(name="off", enabled=False)
    await door.ask("DELETE", path(await door.route(name="gone")))

    assert await names(door) == ["on", "off"]
    assert await names(door, "?status=enabled") == ["on"]
    assert await names(door, "?status=disabled") == ["off"]
    assert (await door.ask("GET", f"{ROUTES}?status=deleted")).status == 422


async def test_the_past_is_shown_as_it_was(door: Door) -> None:
    made = await door.route(name="before")
    edited = (await door.ask("PATCH", path(made), {"name": "after"})).json
    off = (await door.ask("POST", path(made, "/disable"))).json
    await door.ask("DELETE", path(made))
    deleted_at = (await door.log())[-1]["effective_at"]

    async def at(moment: str) -> tuple[int, str | None, str | None, list[Any] | None]:
        shown = await door.ask("GET", f"{path(made)}?as_of={quote(moment)}")
        body = shown.json
        assert await names(door, f"?as_of={quote(moment)}") == ([body["name"]] if shown.status == 200 else [])
        return shown.status, body.get("name"), body.get("status") if shown.status == 200 else None, body.get("windows")

    created, edit, disable = made["created_at"], edited["updated_at"], off["updated_at"]
    is_open = [{"from": created, "to": None}]
    assert (await at(shifted(created, microseconds=-1)))[0] == 404
    assert await at(created) == (200, "before", "enabled", is_open)
    assert await at(shifted(edit, microseconds=-1)) == (200, "before", "enabled", is_open)
    assert await at(edit) == (200, "after", "enabled", is_open)
    assert await at(shifted(disable, microseconds=-1)) == (200, "after", "enabled", is_open)
    assert await at(disable) == (200, "after", "disabled", [{"from": created, "to": disable}])
    assert (await at(deleted_at.isoformat()))[0] == 404
    assert (await at(shifted(created, days=365)))[0] == 404
    assert await names(door, f"?as_of={created}&status=disabled") == []


async def test_an_offset_may_have_a_plus_that_nobody_escaped(door: Door) -> None:
    made = await door.route()

    answer = await door.ask("GET", f"{path(made)}?as_of=2999-01-01T00:00:00+02:00")

    assert answer.status == 200


@pytest.mark.parametrize(
    "as_of", ["", "now", "2026-01-01", "2026-01-01T00:00:00", "1767225600", "0001-01-01T00:00%2B01"]
)
async def test_a_wrong_moment_is_refused(door: Door, as_of: str) -> None:
    for where in (ROUTES, path(await door.route())):
        answer = await door.ask("GET", f"{where}?as_of={as_of}")
        assert (answer.status, list(answer.errors)) == (422, ["as_of"])


async def test_history_tells_every_change_newest_first_and_no_secret(door: Door) -> None:
    made = await door.route(headers={"X-A": "canary-1"})
    key = made["verification_key"]
    await door.ask("PATCH", path(made), {"name": "new", "reason": "renamed"})
    await door.ask("PATCH", path(made), {"headers": {"X-A": "canary-2", "X-B": "canary-3"}})
    await door.ask("POST", path(made, "/disable"))
    await door.ask("POST", path(made, "/rotate-key"))
    await door.ask("DELETE", path(made))

    answer = await door.ask("GET", path(made, "/history"))

    items = answer.json["items"]
    assert [item["type"] for item in items] == ["deleted", "key_rotated", "disabled", "edited", "edited", "created"]
    assert [item["version"] for item in items] == [6, 5, 4, 3, 2, 1]
    assert set(items[0]) >= {"pos", "version", "type", "effective_at", "actor", "reason", "changes", "hash"}
    assert (items[4]["changes"], items[4]["reason"]) == ({"name": ["a route", "new"]}, "renamed")
    assert items[3]["changes"] == {"headers": [["X-A"], ["X-A", "X-B"]]}
    assert items[0]["changes"] == {}
    assert items[5]["changes"]["name"] == [None, "a route"]
    assert [item["hash"] for item in items] == [row["hash"].hex() for row in reversed(await door.log())]
    assert "canary" not in answer.text
    assert key not in answer.text


async def test_history_comes_in_pages(door: Door) -> None:
    made = await door.route()
    for n in range(11):
        await door.ask("PATCH", path(made), {"name": f"n{n}"})

    found = await pages(door, path(made, "/history"), 5)

    assert [item["version"] for page in found for item in page] == list(range(12, 0, -1))


async def test_tenants_are_listed_by_name(door: Door) -> None:
    for tenant in ("zoo", "acme", "mid", "acme"):
        await door.route(tenant=tenant)

    found = await pages(door, "/v1/tenants", 2)

    assert [item["tenant"] for page in found for item in page] == ["acme", "mid", "zoo"]
