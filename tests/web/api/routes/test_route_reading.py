"""Routes: create, show, list, page, and `as_of`."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from yarl import URL

from tests.support.web.application import TARGET, App, path

NEW = {"name": "Orders", "target_url": TARGET, "event_types": ["order.*"]}
ALL_FIELDS = [
    "id", "tenant", "name", "target_url", "event_types", "status", "payload", "headers", "ordered",
    "rate_limit_per_second", "version", "created_at", "updated_at", "windows", "key", "health",
]  # fmt: skip


async def test_a_route_is_shown_as_the_contract_says(app: App) -> None:
    made = await app.ask("POST", "/v1/tenants/acme/routes", NEW)
    assert made.status == 201
    route = made.json
    assert list(route) == [*ALL_FIELDS, "verification_key"]
    assert made.headers["ETag"] == '"1"'
    assert made.headers["Location"] == path(route)
    assert route["verification_key"].startswith("whsec_")
    created = route["created_at"]
    assert created.endswith("Z")
    assert len(created) == len("2026-11-23T08:00:00.000000Z")
    assert route["windows"] == [{"from": created, "to": None}]
    assert set(route["key"]) == {"id", "fingerprint", "previous_valid_until"}
    assert {name: route[name] for name in ALL_FIELDS[1:11]} == {
        "tenant": "acme",
        **NEW,
        "status": "enabled",
        "payload": {"snapshot": None, "filter": None, "transform": None},
        "headers": {},
        "ordered": False,
        "rate_limit_per_second": None,
        "version": 1,
    }
    shown = await app.ask("GET", path(route))
    assert shown.status == 200
    assert shown.headers["ETag"] == '"1"'
    assert shown.json == {name: route[name] for name in ALL_FIELDS}


async def test_every_field_can_be_set_and_header_values_are_masked(app: App) -> None:
    more = {
        "payload": {
            "snapshot": {"orders": ["id", "total"], "customer": True},
            "filter": "data.total",
            "transform": None,
        },
        "headers": {"Authorization": "Bearer canary"},
        "ordered": True,
        "rate_limit_per_second": 2.5,
        "enabled": False,
        "reason": "because",
    }
    made = await app.ask("POST", "/v1/tenants/acme/routes", NEW | more)
    assert made.status == 201, made.text
    route = made.json
    assert (route["status"], route["windows"]) == ("disabled", [])
    assert route["headers"] == {"Authorization": "***"}
    assert (route["payload"], route["ordered"], route["rate_limit_per_second"]) == (more["payload"], True, 2.5)
    answers = [made, await app.ask("GET", path(route)), await app.ask("GET", path(route, "/history"))]
    answers.append(await app.ask("PATCH", path(route), {"headers": {"X-Other": "canary", "Bad Name": "canary\n"}}))
    assert not any("canary" in answer.text for answer in answers)
    assert not any("canary" in str(row) for row in await app.log())


async def test_a_tenant_with_every_character_that_a_url_may_quote(app: App) -> None:
    made = await app.ask("POST", URL("/v1/tenants/a%2Fb%3F%25%23/routes", encoded=True), NEW)
    assert made.status == 201, made.text
    assert made.json["tenant"] == "a/b?%#"
    assert made.headers["Location"] == f"/v1/tenants/a%2Fb%3F%25%23/routes/{made.json['id']}"
    request = f"GET {made.headers['Location']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 200 " in (await app.raw(request.encode())).split(b"\r\n")[0]


async def test_a_tenant_that_cannot_be_is_422_on_every_path(app: App) -> None:
    for method, rest in (
        ("GET", "routes"),
        ("POST", "routes"),
        ("GET", f"routes/{uuid4()}"),
        ("GET", "explain?event=e"),
    ):
        for tenant in ("a%20b", "%C3%A9", "x" * 129):
            answer = await app.ask(method, f"/v1/tenants/{tenant}/{rest}")
            assert (answer.status, list(answer.errors)) == (422, ["tenant"]), (method, rest, answer.text)


async def test_lists_are_paged_by_what_was_seen_and_not_by_number(app: App) -> None:
    names = [f"n{number}" for number in range(5)]
    made = [await app.route(name=name) for name in names]
    await app.route(tenant="other")
    first = await app.ask("GET", "/v1/tenants/acme/routes?limit=2")
    assert [item["name"] for item in first.json["items"]] == ["n0", "n1"]
    await app.ask("DELETE", path(made[1]))  # the last item of the page
    second = await app.ask("GET", f"/v1/tenants/acme/routes?limit=2&cursor={first.json['next']}")
    assert [item["name"] for item in second.json["items"]] == ["n2", "n3"]
    third = await app.ask("GET", f"/v1/tenants/acme/routes?limit=2&cursor={second.json['next']}")
    assert ([item["name"] for item in third.json["items"]], third.json["next"]) == (["n4"], None)


async def test_bad_queries_are_422_with_a_hint(app: App) -> None:
    for query, field in (
        ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("limit=000005111111", "limit"), ("limit=", "limit"),
        ("cursor=%21", "cursor"), ("cursor=", "cursor"), ("cursor=_w", "cursor"), ("status=deleted", "status"),
        ("as_of=yesterday", "as_of"), ("as_of=2026-01-01", "as_of"), ("as_of=2026-01-01T00:00:00", "as_of"),
        ("asof=2026-01-01T00:00:00Z", "asof"), ("limit=1&limit=2", "limit"),
    ):  # fmt: skip
        answer = await app.ask("GET", f"/v1/tenants/acme/routes?{query}")
        assert (answer.status, list(answer.errors)) == (422, [field]), (query, answer.text)
    assert "did you mean as_of?" in (await app.ask("GET", "/v1/tenants/acme/routes?asof=1")).text


async def test_lists_by_status(app: App) -> None:
    enabled, disabled, deleted = [await app.route(name=name) for name in ("enabled", "disabled", "deleted")]
    await app.ask("POST", path(disabled, "/disable"))
    await app.ask("DELETE", path(deleted))
    for query, names in (
        ("", ["enabled", "disabled"]),
        ("?status=enabled", ["enabled"]),
        ("?status=disabled", ["disabled"]),
    ):
        answer = await app.ask("GET", f"/v1/tenants/acme/routes{query}")
        assert [item["name"] for item in answer.json["items"]] == names
    assert enabled["name"] == "enabled"


async def test_routes_as_they_were(app: App) -> None:
    route = await app.route(name="first")
    edited = (await app.ask("PATCH", path(route), {"name": "second"})).json
    disabled = (await app.ask("POST", path(route, "/disable"))).json
    await app.ask("DELETE", path(route))
    moments = [route["created_at"], edited["updated_at"], disabled["updated_at"]]
    for moment, name, status in zip(
        moments, ("first", "second", "second"), ("enabled", "enabled", "disabled"), strict=True
    ):
        shown = await app.ask("GET", path(route, f"?as_of={moment}"))
        listed = await app.ask("GET", f"/v1/tenants/acme/routes?as_of={moment.replace('Z', '+00:00')}")
        assert (shown.json["name"], shown.json["status"]) == (name, status)
        assert listed.json["items"] == [shown.json]
    assert (await app.ask("GET", path(route, "?as_of=2020-01-01T00:00:00Z"))).status == 404
    assert (await app.ask("GET", path(route, "?as_of=2999-01-01T00:00:00Z"))).status == 404
    assert (await app.ask("GET", path(route))).status == 404


async def test_the_history_tells_everything_newest_first_also_of_a_deleted_route(app: App) -> None:
    route = await app.route(reason="new shop", headers={"X-A": "1"})
    await app.ask("PATCH", path(route), {"name": "better", "headers": {"X-B": "2"}})
    await app.ask("POST", path(route, "/disable"), {"reason": "too loud"})
    await app.ask("DELETE", path(route, "?reason=closed"))
    answer = await app.ask("GET", path(route, "/history"))
    shown = answer.json["items"]
    assert [(it["version"], it["type"], it["reason"]) for it in shown] == [
        (4, "deleted", "closed"),
        (3, "disabled", "too loud"),
        (2, "edited", None),
        (1, "created", "new shop"),
    ]
    assert shown[2]["changes"] == {"name": ["a route", "better"], "headers": [["X-A"], ["X-B"]]}
    assert {it["actor"] for it in shown} == {"admin"}
    assert all(datetime.fromisoformat(it["effective_at"]) for it in shown)
    assert [it["hash"] for it in shown[::-1]] == [row["hash"].hex() for row in await app.log()]
    page = await app.ask("GET", path(route, "/history?limit=3"))
    rest = await app.ask("GET", path(route, f"/history?limit=3&cursor={page.json['next']}"))
    assert [it["version"] for it in page.json["items"] + rest.json["items"]] == [4, 3, 2, 1]


async def test_tenants_are_listed_with_their_routes(app: App) -> None:
    *_, last = [await app.route(tenant=tenant) for tenant in ("b", "a", "a", "c")]
    await app.ask("DELETE", path(last))
    answer = await app.ask("GET", "/v1/tenants")
    assert answer.json == {
        "items": [{"tenant": "a", "routes": 2}, {"tenant": "b", "routes": 1}, {"tenant": "c", "routes": 0}],
        "next": None,
    }
