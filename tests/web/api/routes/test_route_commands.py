"""Commands on a route: edit, disable, enable, delete, keys; repeated, concurrent, and with a wrong id."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

from tests.support.web.application import App, path

EVERY_ENDPOINT = (
    ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/disable"), ("POST", "/enable"), ("GET", "/key"),
    ("POST", "/rotate-key"), ("POST", "/revoke-old-key"), ("GET", "/history"),
)  # fmt: skip


async def test_an_edit_changes_what_it_names(app: App) -> None:
    route = await app.route(headers={"X-A": "1"}, rate_limit_per_second=5)
    edited = await app.ask(
        "PATCH", path(route), {"event_types": ["order.create", "order.create"], "rate_limit_per_second": None}
    )
    assert (edited.status, edited.headers["ETag"]) == (200, '"2"')
    expected = route | {"event_types": ["order.create"], "rate_limit_per_second": None, "version": 2}
    del expected["verification_key"]
    assert edited.json == expected | {"updated_at": edited.json["updated_at"]}


async def test_what_is_so_already_appends_nothing(app: App) -> None:
    route = await app.route()
    for method, rest, body in (("POST", "/enable", None), ("PATCH", "", {}), ("PATCH", "", {"name": "a route"})):
        answer = await app.ask(method, path(route, rest), body)
        assert (answer.status, answer.json["version"]) == (200, 1)
    first, second = [await app.ask("POST", path(route, "/disable")) for _ in range(2)]
    assert first.json == second.json
    assert (second.status, second.json["status"], second.json["version"]) == (200, "disabled", 2)
    assert second.json["windows"][0]["to"] == second.json["updated_at"]
    enabled = await app.ask("POST", path(route, "/enable"))
    assert (enabled.json["status"], len(enabled.json["windows"])) == ("enabled", 2)
    assert len(await app.log()) == 3


async def test_a_deleted_route_is_gone_everywhere_but_in_its_history(app: App) -> None:
    route = await app.route()
    answer = await app.ask("DELETE", path(route), {"reason": "done"})
    assert (answer.status, answer.text) == (204, "")
    for method, rest in EVERY_ENDPOINT:
        assert (await app.ask(method, path(route, rest))).status == (200 if rest == "/history" else 404), (
            method,
            rest,
        )
    assert (await app.ask("GET", "/v1/tenants/acme/routes")).json == {"items": [], "next": None}


async def test_foreign_unknown_and_malformed_ids_are_404_on_every_endpoint(app: App) -> None:
    route = await app.route()
    foreign = path(route).replace("/acme/", "/other/")
    unknown = f"/v1/tenants/acme/routes/{uuid4()}"
    malformed = ("x", "1", "%00", route["id"].replace("-", ""), f"%7B{route['id']}%7D", "a" * 5000)
    places = [foreign, unknown, *(f"/v1/tenants/acme/routes/{id}" for id in malformed)]
    for place in places:
        for method, rest in EVERY_ENDPOINT:
            answer = await app.ask(method, place + rest)
            assert answer.status == 404, (method, place + rest, answer.text)
            assert route["name"] not in answer.text
    assert len(await app.log()) == 1


async def test_a_key_is_revealed_rotated_and_revoked(app: App) -> None:
    route = await app.route()
    shown = await app.ask("GET", path(route, "/key"))
    assert shown.json == route["key"] | {"verification_key": route["verification_key"]}
    assert shown.headers["Cache-Control"] == "no-store"
    nothing = await app.ask("POST", path(route, "/revoke-old-key"))
    assert nothing.status == 409
    rotated = await app.ask("POST", path(route, "/rotate-key"))
    assert rotated.status == 200
    assert rotated.json["verification_key"] != route["verification_key"]
    assert rotated.json["previous_valid_until"] is not None
    again = await app.ask("POST", path(route, "/rotate-key"))
    assert again.status == 409
    assert "force" in again.json["detail"]
    forced = await app.ask("POST", path(route, "/rotate-key"), {"force": True})
    assert forced.json["id"] not in (rotated.json["id"], route["key"]["id"])
    revoked = await app.ask("POST", path(route, "/revoke-old-key"))
    assert revoked.json == {
        "id": forced.json["id"],
        "fingerprint": forced.json["fingerprint"],
        "previous_valid_until": None,
    }
    assert "verification_key" not in (await app.ask("GET", path(route))).json
    assert not any("whsec_" in str(row) for row in await app.log())


async def test_a_version_that_was_read_must_still_be_the_last(app: App) -> None:
    route = await app.route()
    for tag, status in (
        ('"1"', 200),
        ('"1"', 412),
        ('W/"2"', 200),
        ("*", 200),
        ("x", 400),
        ('"-1"', 400),
        ("", 400),
        ('"1", "2"', 400),
    ):
        body = {"name": f"edit {uuid4()}"}
        answer = await app.ask("PATCH", path(route), body, headers={"If-Match": tag})
        assert answer.status == status, (tag, answer.text)
    stale = await app.ask("DELETE", path(route), headers={"If-Match": '"1"'})
    assert (stale.status, stale.headers["Content-Type"]) == (412, "application/problem+json")


async def test_of_twenty_edits_of_one_version_exactly_one_wins(app: App) -> None:
    route = await app.route()
    tag = {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *[app.ask("PATCH", path(route), {"name": f"edit {number}"}, headers=tag) for number in range(20)]
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 412: 19}
    assert len(await app.log()) == 2


async def test_twenty_edits_that_insist_on_nothing_all_take_effect(app: App) -> None:
    route = await app.route()
    answers = await asyncio.gather(*[app.ask("PATCH", path(route), {"name": f"edit {n}"}) for n in range(20)])
    assert Counter(answer.status for answer in answers) == {200: 20}
    assert [row["version"] for row in await app.log()] == list(range(1, 22))


async def test_twenty_disables_at_once_append_one_event(app: App) -> None:
    route = await app.route()
    answers = await asyncio.gather(*[app.ask("POST", path(route, "/disable")) for _ in range(20)])
    assert Counter((answer.status, answer.json["status"]) for answer in answers) == {(200, "disabled"): 20}
    assert len(await app.log()) == 2


async def test_an_answer_is_seen_by_the_next_request(app: App) -> None:
    for _ in range(10):
        route = await app.route()
        assert (await app.ask("GET", path(route))).status == 200
        await app.ask("POST", path(route, "/disable"))
        assert (await app.ask("GET", path(route))).json["status"] == "disabled"
