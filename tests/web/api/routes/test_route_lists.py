"""Reading routes: pages, filters, the past, history and tenants."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from eventstore.route_log.log import RouteEvent
from tests.support.web.application import App, path

ROUTES = "/v1/tenants/acme/routes"


def shifted(moment: str, **by: float) -> str:
    at = datetime.fromisoformat(moment) + timedelta(**by)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def names(app: App, query: str = "") -> list[str]:
    answer = await app.ask("GET", f"{ROUTES}{query}")
    assert answer.status == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


async def pages(app: App, where: str, limit: int) -> list[list[dict[str, Any]]]:
    found, query = [], f"?limit={limit}"
    while True:
        answer = await app.ask("GET", f"{where}{query}")
        assert answer.status == 200, answer.text
        found.append(answer.json["items"])
        if answer.json["next"] is None:
            return found
        query = f"?limit={limit}&cursor={answer.json['next']}"


async def test_routes_come_in_pages_each_once(app: App) -> None:
    for n in range(7):
        await app.route(name=f"r{n}")
    await app.route(tenant="other", name="foreign")

    found = await pages(app, ROUTES, 3)

    assert [[item["name"] for item in page] for page in found] == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r6"]]
    assert [len(page) for page in await pages(app, ROUTES, 7)] == [7]


async def test_what_is_deleted_between_two_pages_shifts_nothing(app: App) -> None:
    made = [await app.route(name=f"r{n}") for n in range(6)]
    first = (await app.ask("GET", f"{ROUTES}?limit=3")).json

    for route in made[:3]:
        await app.ask("DELETE", path(route))
    await app.route(name="r6")

    assert await names(app, f"?cursor={first['next']}") == ["r3", "r4", "r5", "r6"]


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "", "1.5", "٣", "1" * 30, "0001999", "%201"])
async def test_a_wrong_limit_is_refused(app: App, limit: str) -> None:
    answer = await app.ask("GET", f"{ROUTES}?limit={limit}")

    assert (answer.status, list(answer.errors)) == (422, ["limit"])


@pytest.mark.parametrize(
    "cursor",
    ["", "%21", "ü", "a", *(base64.urlsafe_b64encode(key).decode() for key in (b"\xff\xfe", b"no time")), "x" * 5000],
)
async def test_a_wrong_cursor_is_refused(app: App, cursor: str) -> None:
    answer = await app.ask("GET", f"{ROUTES}?cursor={cursor}")

    assert (answer.status, list(answer.errors)) == (422, ["cursor"])


async def test_a_list_may_be_cut_to_a_status(app: App) -> None:
    await app.route(name="on")
    await app.route(name="off", enabled=False)
    await app.ask("DELETE", path(await app.route(name="gone")))

    assert await names(app) == ["on", "off"]
    assert await names(app, "?status=enabled") == ["on"]
    assert await names(app, "?status=disabled") == ["off"]
    assert (await app.ask("GET", f"{ROUTES}?status=deleted")).status == 422


async def test_the_past_is_shown_as_it_was(app: App) -> None:
    made = await app.route(name="before")
    edited = (await app.ask("PATCH", path(made), {"name": "after"})).json
    off = (await app.ask("POST", path(made, "/disable"))).json
    await app.ask("DELETE", path(made))
    deleted_at = (await app.log())[-1]["effective_at"]

    async def at(moment: str) -> tuple[int, str | None, str | None, list[Any] | None]:
        shown = await app.ask("GET", f"{path(made)}?as_of={quote(moment)}")
        body = shown.json
        assert await names(app, f"?as_of={quote(moment)}") == ([body["name"]] if shown.status == 200 else [])
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
    assert await names(app, f"?as_of={created}&status=disabled") == []


async def test_an_offset_may_have_a_plus_that_nobody_escaped(app: App) -> None:
    made = await app.route()

    answer = await app.ask("GET", f"{path(made)}?as_of=2999-01-01T00:00:00+02:00")

    assert answer.status == 200


@pytest.mark.parametrize(
    "as_of", ["", "now", "2026-01-01", "2026-01-01T00:00:00", "1767225600", "0001-01-01T00:00%2B01"]
)
async def test_a_wrong_moment_is_refused(app: App, as_of: str) -> None:
    for where in (ROUTES, path(await app.route())):
        answer = await app.ask("GET", f"{where}?as_of={as_of}")
        assert (answer.status, list(answer.errors)) == (422, ["as_of"])


async def test_history_tells_every_change_newest_first_and_no_secret(app: App) -> None:
    made = await app.route(headers={"X-A": "canary-1"})
    key = made["verification_key"]
    await app.ask("PATCH", path(made), {"name": "new", "reason": "renamed"})
    await app.ask("PATCH", path(made), {"headers": {"X-A": "canary-2", "X-B": "canary-3"}})
    await app.ask("POST", path(made, "/disable"))
    await app.ask("POST", path(made, "/rotate-key"))
    await app.ask("DELETE", path(made))

    answer = await app.ask("GET", path(made, "/history"))

    items = answer.json["items"]
    assert [item["type"] for item in items] == ["deleted", "key_rotated", "disabled", "edited", "edited", "created"]
    assert [item["version"] for item in items] == [6, 5, 4, 3, 2, 1]
    assert set(items[0]) >= {"pos", "version", "type", "effective_at", "actor", "reason", "changes", "hash"}
    assert (items[4]["changes"], items[4]["reason"]) == ({"name": ["a route", "new"]}, "renamed")
    assert items[3]["changes"] == {"headers": [["X-A"], ["X-A", "X-B"]]}
    assert items[0]["changes"] == {}
    assert items[5]["changes"]["name"] == [None, "a route"]
    assert [item["hash"] for item in items] == [row["hash"].hex() for row in reversed(await app.log())]
    assert "canary" not in answer.text
    assert key not in answer.text


async def test_history_comes_in_pages(app: App) -> None:
    made = await app.route()
    for n in range(11):
        await app.ask("PATCH", path(made), {"name": f"n{n}"})

    found = await pages(app, path(made, "/history"), 5)

    assert [item["version"] for page in found for item in page] == list(range(12, 0, -1))


async def test_a_page_of_a_history_tells_what_changed_since_the_configuration_before_it(app: App) -> None:
    made = await app.route()
    await app.ask("PATCH", path(made), {"name": "n1"})
    for _ in range(3):
        await app.ask("POST", path(made, "/disable"))
        await app.ask("POST", path(made, "/enable"))
    await app.ask("PATCH", path(made), {"name": "n2"})

    whole = (await app.ask("GET", path(made, "/history"))).json["items"]

    assert whole[0]["changes"] == {"name": ["n1", "n2"]}
    for limit in (1, 2, 4):
        assert [item for page in await pages(app, path(made, "/history"), limit) for item in page] == whole


async def test_of_a_long_history_a_page_is_read_and_no_more(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route may be disabled and enabled for ever: 50,000 events kept the event loop busy for half a second."""
    made = await app.route()
    for n in range(8):
        await app.ask("PATCH", path(made), {"name": f"n{n}"})
    read: list[RouteEvent] = []

    def counted(*fields: Any) -> RouteEvent:
        read.append(RouteEvent(*fields))
        return read[-1]

    monkeypatch.setattr("eventstore.route_log.log.RouteEvent", counted)
    found = await app.ask("GET", path(made, "/history?limit=2"))

    assert [item["version"] for item in found.json["items"]] == [9, 8]
    assert len(read) <= 5  # those two, the one that shows that there is more, the first one, and the one before


async def test_a_cursor_of_a_history_is_one_that_a_page_has_given(app: App) -> None:
    made = await app.route()
    for text in ("4", "x" * 20, "9" * 20, "²" * 20):
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        answer = await app.ask("GET", path(made, f"/history?cursor={cursor}"))
        assert (answer.status, list(answer.errors)) == (422, ["cursor"])


async def test_tenants_are_listed_by_name(app: App) -> None:
    for tenant in ("zoo", "acme", "mid", "acme"):
        await app.route(tenant=tenant)

    found = await pages(app, "/v1/tenants", 2)

    assert [item["tenant"] for page in found for item in page] == ["acme", "mid", "zoo"]
