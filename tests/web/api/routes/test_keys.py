"""Verification keys: revealed, rotated with a grace period, revoked."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from daemon.core.webhook.signing import fingerprint
from tests.support.web.application import App, path
from tests.support.web.application import app as application


async def test_the_key_is_shown_when_it_is_made_and_when_it_is_asked_for(app: App) -> None:
    made = await app.route()

    answer = await app.ask("GET", path(made, "/key"))

    assert answer.status == 200
    assert answer.json["verification_key"] == made["verification_key"]
    assert answer.json["id"] == made["key"]["id"]
    assert answer.headers["Cache-Control"] == "no-store"
    for where in (path(made), path(made, "/history"), "/v1/tenants/acme/routes", "/v1/projection", "/metrics"):
        assert made["verification_key"] not in (await app.ask("GET", where)).text


async def test_the_key_that_is_shown_is_that_of_the_answer_while_others_rotate(app: App) -> None:
    made = await app.route()

    rotated = await asyncio.gather(*[app.ask("POST", path(made, "/rotate-key"), {"force": True}) for _ in range(20)])

    assert {answer.status for answer in rotated} == {200}
    assert [fingerprint(answer.json["verification_key"]) for answer in rotated] == [
        answer.json["fingerprint"] for answer in rotated
    ]


async def test_another_process_shows_the_newest_key(app: App, empty_url: str) -> None:
    made = await app.route()
    async with application(empty_url) as other:
        rotated = await app.ask("POST", path(made, "/rotate-key"))

        shown = await other.ask("GET", path(made, "/key"))

    assert shown.json == rotated.json


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


TEXT, STANDARD = "Schlüssel von früher / 鍵", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(("key", "is_absent"), [(TEXT, True), (STANDARD, False), ("whsec_but no base64", True)])
async def test_a_key_may_be_brought_along_and_says_why_standard_webhooks_is_absent(
    app: App, key: str, is_absent: bool
) -> None:
    made = await app.route(verification_key=key)

    assert made["verification_key"] == key
    assert ("brought along" in made["key"].get("standard_webhooks_absent", "")) is is_absent
    assert (await app.ask("GET", path(made, "/key"))).json["verification_key"] == key
    for where in (path(made), path(made, "/history"), "/v1/tenants/acme/routes", "/v1/projection", "/metrics"):
        assert key not in (await app.ask("GET", where)).text
    everything = str(await app.log()) + str(await app.rows("SELECT * FROM hookledger.route_key"))
    assert key not in everything


async def test_a_rotation_may_bring_a_key_of_the_other_kind(app: App) -> None:
    made = await app.route()

    to_text = await app.ask("POST", path(made, "/rotate-key"), {"verification_key": TEXT})
    again = await app.ask("POST", path(made, "/rotate-key"), {"verification_key": TEXT, "force": True})
    back = await app.ask("POST", path(made, "/rotate-key"), {"verification_key": STANDARD, "force": True})

    assert (to_text.status, to_text.json["verification_key"]) == (200, TEXT)
    assert to_text.json["standard_webhooks_absent"]
    assert to_text.json["previous_valid_until"]
    assert (again.status, again.errors) == (
        422,
        {"verification_key": "is the present key: give another one, or leave it out for a random one"},
    )
    assert (back.status, "standard_webhooks_absent" in back.json) == (200, False)


@pytest.mark.parametrize("key", ["short", "x" * 257, "0123456789abcdef\n", " 0123456789abcdef", 5])
async def test_what_is_no_key_is_refused_at_both_places_and_not_repeated(app: App, key: object) -> None:
    made = await app.route()
    draft = {"name": "n", "target_url": "https://example.com/", "event_types": ["*"], "verification_key": key}

    created = await app.ask("POST", "/v1/tenants/acme/routes", draft)
    rotated = await app.ask("POST", path(made, "/rotate-key"), {"verification_key": key})

    assert [(each.status, list(each.errors)) for each in (created, rotated)] == [(422, ["verification_key"])] * 2
    assert str(key) == "5" or str(key) not in created.text + rotated.text


async def test_a_preview_has_the_headers_that_the_key_of_the_route_can_make(app: App) -> None:
    await app.ask("PUT", "/v1/event-types", {"event_types": [{"name": "order.create", "example": {}}]})
    event = {"type": "order.create", "data": {}}
    for key, is_absent in ((TEXT, True), (STANDARD, False)):
        made = await app.route(verification_key=key)
        shown = await app.ask("POST", "/v1/tenants/acme/preview", {"route_id": made["id"], "event": event})
        assert shown.status == 200, shown.text
        names = {name.lower() for name in shown.json["headers"]}
        assert {"webhook-id", "webhook-timestamp", "webhook-signature"}.isdisjoint(names) is is_absent
        assert "ordergroove-signature" in names
