"""Verification keys: revealed, rotated with a grace period, revoked."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.support.web import App, path


async def test_the_key_is_shown_when_it_is_made_and_when_it_is_asked_for(app: App) -> None:
    made = await app.route()

    answer = await app.ask("GET", path(made, "/key"))

    assert answer.status == 200
    assert answer.json["verification_key"] == made["verification_key"]
    assert answer.json["id"] == made["key"]["id"]
    assert answer.headers["Cache-Control"] == "no-store"
    for where in (path(made), path(made, "/history"), "/v1/tenants/acme/routes", "/v1/projection", "/metrics"):
        assert made["verification_key"] not in (await app.ask("GET", where)).text


async def test_the_key_is_nowhere_in_the_database_as_text(app: App) -> None:
    made = await app.route(headers={"X-A": "canary"})

    (sealed,) = await app.rows("SELECT sealed FROM hookledger.route_key")
    everything = str(await app.log()) + str(await app.rows("SELECT * FROM hookledger.route_headers"))

    assert made["verification_key"].encode() not in sealed["sealed"]
    assert made["verification_key"] not in everything
    assert "canary" not in everything


async def test_a_rotation_keeps_the_old_key_for_a_day(app: App) -> None:
    made = await app.route()

    answer = await app.ask("POST", path(made, "/rotate-key"), {"reason": "leaked"})

    assert answer.status == 200
    assert answer.json["verification_key"] != made["verification_key"]
    shown = (await app.ask("GET", path(made))).json
    assert shown["key"]["id"] == answer.json["id"] != made["key"]["id"]
    until = datetime.fromisoformat(shown["key"]["previous_valid_until"])
    assert until - datetime.fromisoformat(shown["updated_at"]) == timedelta(hours=24)


async def test_a_second_rotation_in_the_grace_must_be_forced(app: App) -> None:
    made = await app.route()
    await app.ask("POST", path(made, "/rotate-key"))

    refused = await app.ask("POST", path(made, "/rotate-key"))
    malformed = await app.ask("POST", path(made, "/rotate-key"), {"force": "yes"})
    forced = await app.ask("POST", path(made, "/rotate-key"), {"force": True})

    assert (refused.status, malformed.status, forced.status) == (409, 422, 200)
    assert "force" in refused.json["detail"]
    assert (await app.ask("GET", path(made, "/key"))).json["verification_key"] == forced.json["verification_key"]


async def test_the_old_key_may_be_revoked_once(app: App) -> None:
    made = await app.route()
    rotated = (await app.ask("POST", path(made, "/rotate-key"))).json

    revoked, again = [await app.ask("POST", path(made, "/revoke-old-key")) for _ in range(2)]

    assert (revoked.status, again.status) == (200, 409)
    assert revoked.json["previous_valid_until"] is None
    assert (await app.ask("GET", path(made, "/key"))).json["verification_key"] == rotated["verification_key"]


async def test_the_fingerprint_tells_keys_apart_and_is_not_the_key(app: App) -> None:
    one, two = await app.route(), await app.route()

    assert one["key"]["fingerprint"] != two["key"]["fingerprint"]
    assert one["key"]["fingerprint"] not in one["verification_key"]
