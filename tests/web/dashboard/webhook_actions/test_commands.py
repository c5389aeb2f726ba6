"""Disable, enable, delete, rotate, revoke: what each page says, and what the command does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from daemon.web.dashboard.webhook_actions import commands
from eventstore import domain_events
from tests.support.rows.recorded import recorded
from tests.support.values.builders import new_event
from tests.support.web.application import TARGET, App, path
from tests.support.web.pages import BROWSER, Page, get, post
from tests.support.web.tokens import bearer, token

ASKING = ["/disable", "/delete", "/rotate-key", "/revoke-old-key"]
COMMANDS = [*ASKING, "/enable"]
CONFIRMED = {"understood": "yes", "confirmation": "DELETE"}
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


def at(route: Mapping[str, Any], rest: str = "") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}{rest}"


async def submit(app: App, route: Mapping[str, Any], rest: str, fields: Mapping[str, str] | None = None) -> Page:
    """Opens the page, fills in its form and sends it."""
    confirmation = await get(app, at(route, rest))
    assert confirmation.status == 200, confirmation.text
    form = confirmation.one("main form.card")
    assert form["action"] == at(route, rest)
    return await post(app, at(route, rest), {**confirmation.form_data("main form.card"), **(fields or {})})


async def lifecycle_events(app: App) -> list[str]:
    """The types of the lifecycle events after the creation of one webhook."""
    return [str(event["type"]) for event in await app.log()][1:]


async def key_of(app: App, route: Mapping[str, Any]) -> str:
    key: str = (await app.ask("GET", path(route, "/key"))).json["verification_key"]
    return key


# ---- disable and enable ----


async def test_disabling_says_what_it_means(app: App) -> None:
    page = await get(app, at(await app.route(name="Orders"), "/disable"))
    assert page.words("h1") == ["Disable “Orders”?"]
    assert page.words(".meaning li") == [
        f"From this moment nothing more is sent to {TARGET} by this webhook.",
        "No delivery waits now. What would still wait is not sent any more.",
        "Events that happen while it is disabled are skipped for good. After enabling it again, only what happens from then on is sent.",
    ]


@pytest.mark.parametrize(
    ("count", "rest", "message"),
    [
        (1, "/disable", "1 delivery waits now: it is not sent any more, not even after enabling it again."),
        (3, "/disable", "3 deliveries wait now: they are not sent any more, not even after enabling it again."),
        (1, "/delete", "1 delivery waits now: it is not sent any more."),
        (3, "/delete", "3 deliveries wait now: they are not sent any more."),
        (0, "/delete", "No delivery waits now."),
    ],
)
async def test_pending_deliveries_are_counted_before_they_are_given_up(
    app: App, count: int, rest: str, message: str
) -> None:
    route = await app.route()
    await domain_events.publish(app.database, [new_event() for _ in range(count)])
    await domain_events.publish(app.database, [new_event(tenant="globex")])
    assert (await get(app, at(route, rest))).words(".meaning li")[1] == message


async def test_a_delivery_that_is_tried_again_later_waits_and_one_that_arrived_does_not(app: App) -> None:
    one = await recorded(app)
    await one.record(one.row("delivered"))
    assert "No delivery waits now." in (await get(app, at(one.route, "/disable"))).text
    other = await recorded(app, id="e2")
    await other.wait()
    assert "1 delivery waits now" in (await get(app, at(other.route, "/disable"))).text


async def test_a_large_number_of_pending_deliveries_is_not_claimed_to_be_exact(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_LISTED", 2)
    route = await app.route()
    await domain_events.publish(app.database, [new_event() for _ in range(2)])
    assert "2 deliveries wait now" in (await get(app, at(route, "/disable"))).words(".meaning li")[1]
    await domain_events.publish(app.database, [new_event()])
    assert "About 2 deliveries wait now" in (await get(app, at(route, "/disable"))).words(".meaning li")[1]


@pytest.mark.parametrize("rest", ["/disable", "/delete"])
async def test_other_webhooks_that_go_on_sending_to_the_target_are_named(app: App, rest: str) -> None:
    route = await app.route(name="This")
    await app.route("globex", name="Theirs")
    await app.route(name="Elsewhere", target_url="https://other.example.com/")
    await app.route(name="Off", enabled=False)
    await app.ask("DELETE", path(await app.route(name="Gone")))
    assert "goes on receiving" not in (await get(app, at(route, rest))).text
    other = await app.route(name="Other")
    page = await get(app, at(route, rest))
    assert "The same target goes on receiving by another webhook: Other." in page.words(".meaning li")
    assert at(other) in [link["href"] for link in page.all(".meaning a")]
    for number in range(5):
        await app.route(name=f"No {number}")
    message = "The same target goes on receiving by other webhooks: Other, No 0, No 1, No 2, No 3 and 1 more."
    assert message in (await get(app, at(route, rest))).words(".meaning li")


async def test_disabling_disables_and_keeps_the_reason(app: App) -> None:
    route = await app.route()
    page = await submit(app, route, "/disable", {"reason": "  the receiver moves "})
    assert (page.status, page.location) == (303, at(route, "?done=disabled"))
    event = (await app.log())[-1]
    assert (event["type"], event["reason"], event["origin"]) == ("disabled", "the receiver moves", "dashboard")
    assert "The webhook is disabled. Nothing is sent to it from now on." in (await get(app, page.location)).text


async def test_one_that_is_disabled_already_is_shown_as_it_is(app: App) -> None:
    route = await app.route(enabled=False)
    confirmation = await get(app, at(route, "/disable"))
    assert (confirmation.status, confirmation.location) == (303, at(route))
    assert (await post(app, at(route, "/disable"))).location == at(route, "?done=disabled")
    assert await lifecycle_events(app) == []


async def test_enabling_enables_once(app: App) -> None:
    route = await app.route(enabled=False)
    for _ in range(2):
        page = await post(app, at(route, "/enable"))
        assert (page.status, page.location) == (303, at(route, "?done=enabled"))
    assert await lifecycle_events(app) == ["enabled"]
    assert (await get(app, at(route))).words("h1 + .pill") == ["Enabled"]


async def test_once_enabled_it_says_what_was_missed_since_it_was_created_or_last_disabled(app: App) -> None:
    route = await app.route(enabled=False)
    periods = [(route["created_at"], 1), (None, 2)]
    for since, count in periods:
        await domain_events.publish(app.database, [new_event() for _ in range(count)])
        page = await get(app, (await post(app, at(route, "/enable"))).location)
        *_, disabled, enabled = [row["effective_at"] for row in await app.log()]
        missed = page.one(".notice-ok a")
        assert missed.get_text(strip=True) == f"{count} event{'s' if count > 1 else ''}"
        query = parse_qs(urlsplit(str(missed["href"])).query)
        span = [datetime.fromisoformat(query[name][0]) for name in ("since", "until")]
        assert span == [disabled if since is None else datetime.fromisoformat(since), enabled]
        await post(app, at(route, "/disable"))


# ---- delete ----


async def test_deleting_says_what_it_means_and_offers_a_pause(app: App) -> None:
    route = await app.route(name="Orders")
    page = await get(app, at(route, "/delete"))
    assert page.words("h1") == ["Delete “Orders”?"]
    assert "This is final." in page.text
    assert page.one(".meaning a")["href"] == at(route, "/disable")
    await app.ask("POST", path(route, "/disable"))
    assert "a pause" not in (await get(app, at(route, "/delete"))).text


@pytest.mark.parametrize(
    ("fields", "wrong", "message"),
    [
        ({}, ["understood", "confirmation"], "is empty: type DELETE, in capital letters"),
        ({"confirmation": "DELETE"}, ["understood"], "please confirm that deleting is final"),
        ({"understood": "yes"}, ["confirmation"], "is empty: type DELETE, in capital letters"),
        ({"understood": "yes", "confirmation": "delete"}, ["confirmation"], "“delete” is not the word"),
        ({"understood": "yes", "confirmation": "DELETE it"}, ["confirmation"], "“DELETE it” is not the word"),
        ({"understood": "yes", "confirmation": "ＤＥＬＥＴＥ"}, ["confirmation"], "is not the word"),
        ({"understood": "yes", "confirmation": "x" * 99}, ["confirmation"], f"“{'x' * 40}” is not the word"),
    ],
)
async def test_without_the_tick_and_the_word_nothing_is_deleted(
    app: App, fields: dict[str, str], wrong: list[str], message: str
) -> None:
    route = await app.route()
    page = await submit(app, route, "/delete", fields | {"reason": "no shop"})
    assert page.status == 422
    assert [str(link["href"]) for link in page.all(".notice-bad a")] == [f"#{name}" for name in wrong]
    assert all(page.one(f"#{name}")["aria-describedby"] == f"{name}-wrong" for name in wrong)
    assert message in page.text
    if wrong[0] == "understood":
        assert page.words(".notice-bad li")[0] == "The tick: please confirm that deleting is final"
    entered = page.form_data("main form.card")
    assert entered.get("understood", [""])[0] == fields.get("understood", "")
    assert (entered["confirmation"], entered["reason"]) == ([fields.get("confirmation", "")], ["no shop"])
    assert await lifecycle_events(app) == []


async def test_with_both_it_is_deleted_and_the_list_says_so(app: App) -> None:
    route = await app.route(name="Orders")
    page = await submit(app, route, "/delete", CONFIRMED | {"confirmation": " DELETE ", "reason": "no shop any more"})
    assert (page.status, page.location) == (303, "/t/acme/webhooks?done=deleted")
    event = (await app.log())[-1]
    assert (event["type"], event["reason"]) == ("deleted", "no shop any more")
    listed = await get(app, page.location)
    assert listed.words("[data-notice]") == ["The webhook is deleted. Its history stays in Activity."]
    assert "Orders" not in listed.text
    assert (await post(app, at(route, "/delete"), CONFIRMED)).location == page.location
    assert await lifecycle_events(app) == ["deleted"]


# ---- keys ----


async def test_rotating_says_what_it_means(app: App) -> None:
    page = await get(app, at(await app.route(name="Orders"), "/rotate-key"))
    assert page.words("h1") == ["Rotate the verification key of “Orders”?"]
    assert page.words(".meaning strong") == [
        "A new key is made", "For 24 hours each request carries two signatures", "Then the old key stops signing.",
    ]  # fmt: skip
    assert page.all("#force") == []


async def test_rotating_makes_a_key_and_leads_to_it(app: App) -> None:
    route = await app.route()
    page = await submit(app, route, "/rotate-key", {"reason": "somebody left"})
    assert (page.status, page.location) == (303, at(route, "/key?done=rotated"))
    assert (await app.log())[-1]["reason"] == "somebody left"
    result = await get(app, page.location)
    assert await key_of(app, route) in result.text
    assert await key_of(app, route) != route["verification_key"]
    assert result.words("#present") == ["Your new verification key of “a route”"]
    assert result.words("[data-notice]") == [
        "The verification key is rotated. Put the new one in place within 24 hours."
    ]


async def test_a_key_may_be_brought_along_and_its_page_says_what_it_cannot_sign(app: App) -> None:
    route, text = await app.route(), "Schlüssel von früher / 鍵"
    wrong = await submit(app, route, "/rotate-key", {"verification_key": "short", "reason": "we move"})
    assert wrong.status == 422
    assert "has 5 characters, 16 to 256 are allowed" in wrong.text
    assert "we move" in wrong.html
    page = await submit(app, route, "/rotate-key", {"verification_key": f" {text} "})
    assert (page.status, page.location) == (303, at(route, "/key?done=rotated"))
    assert await key_of(app, route) == text
    shown = await get(app, page.location)
    assert shown.words("#headers ~ dl dt")[:2] == ["OrderGroove-Signature", "Standard Webhooks"]
    assert "Its headers are absent once the old key stops signing: the key was brought along" in shown.text
    await submit(app, route, "/revoke-old-key")
    shown = await get(app, at(route, "/key"))
    assert shown.words("#headers ~ dl dt") == ["OrderGroove-Signature", "Standard Webhooks"]
    assert "Its headers are absent: the key was brought along" in shown.text
    for place in ("", "/history", "/edit", "/rotate-key"):
        assert text not in (await get(app, at(route, place))).html


async def test_a_sheet_that_is_sent_twice_rotates_once(app: App) -> None:
    route = await app.route()
    fields = (await get(app, at(route, "/rotate-key"))).form_data("main form.card")
    places = [(await post(app, at(route, "/rotate-key"), fields)).location for _ in range(2)]
    assert places == [at(route, "/key?done=rotated")] * 2
    assert await lifecycle_events(app) == ["key_rotated"]


async def test_while_an_old_key_signs_another_rotation_is_refused_unless_forced(app: App) -> None:
    route = await app.route()
    await submit(app, route, "/rotate-key")
    between = await key_of(app, route)
    confirmation = await get(app, at(route, "/rotate-key"))
    assert "The old key is still valid for another 23 h 59 min" in confirmation.words(".notice-warn")[0]
    assert route["key"]["fingerprint"] in confirmation.words("label[for=force]")[0]
    assert at(route, "/revoke-old-key") in [link["href"] for link in confirmation.all(".row a")]

    refused = await submit(app, route, "/rotate-key", {"reason": "in a hurry"})
    assert refused.status == 409
    assert refused.words(".notice-warn strong") == ["The verification key was not rotated: the old key is still valid"]
    assert refused.one(".notice-warn").has_attr("data-focus")
    fields = refused.form_data("main form.card")
    assert fields["reason"] == ["in a hurry"]
    assert await key_of(app, route) == between

    forced = await post(app, at(route, "/rotate-key"), {**fields, "force": "yes"})
    assert forced.location == at(route, "/key?done=rotated")
    assert await lifecycle_events(app) == ["key_rotated", "key_rotated"]
    result = (await app.ask("GET", path(route))).json
    assert await key_of(app, route) != between
    assert route["key"]["fingerprint"] not in str(result)


async def test_revoking_says_which_key_ends_and_ends_it(app: App) -> None:
    route = await app.route(name="Orders")
    await submit(app, route, "/rotate-key")
    page = await get(app, at(route, "/revoke-old-key"))
    first, second = page.words(".meaning li")
    assert first.startswith("The old key stops signing at once, not only in 23 h 59 min.")
    assert route["key"]["fingerprint"] in first
    assert (await app.ask("GET", path(route))).json["key"]["fingerprint"] in second

    revoked = await submit(app, route, "/revoke-old-key", {"reason": "it leaked"})
    assert (revoked.status, revoked.location) == (303, at(route, "?done=revoked"))
    assert (await app.log())[-1]["reason"] == "it leaked"
    again = await post(app, at(route, "/revoke-old-key"))
    assert again.location == at(route, "?done=no_old_key")
    assert "There was no old key any more, so nothing had to be revoked." in (await get(app, again.location)).text
    assert await lifecycle_events(app) == ["key_rotated", "key_revoked"]


async def test_without_an_old_key_there_is_nothing_to_revoke(app: App) -> None:
    route = await app.route()
    page = await get(app, at(route, "/revoke-old-key"))
    assert page.status == 200
    assert "There is no old key" in page.text
    assert route["key"]["fingerprint"] in page.text
    assert page.all("main form") == []


# ---- all commands ----


@pytest.mark.parametrize("rest", ASKING)
@pytest.mark.parametrize(
    ("reason", "message"),
    [("y" * 1001, "Is longer than 1000 characters."), ("a\0b", "Must not contain control characters: remove U+0000.")],
)
async def test_a_reason_that_cannot_be_kept_is_reported_beside_its_field_with_the_input(
    app: App, rest: str, reason: str, message: str
) -> None:
    route = await app.route()
    await app.ask("POST", path(route, "/rotate-key"))
    fields = CONFIRMED | {"force": "yes"}
    page = await submit(app, route, rest, fields | {"reason": reason})
    assert page.status == 422
    assert page.words("#reason-wrong") == [message]
    assert page.one("#reason")["aria-invalid"] == "true"
    entered = page.form_data("main form.card")
    assert entered["reason"] == [reason.replace("\0", "\N{REPLACEMENT CHARACTER}")] or entered["reason"] == [reason]
    assert {name: entered[name][0] for name in fields if name in entered} == {
        n: fields[n] for n in fields if n in entered
    }
    assert await lifecycle_events(app) == ["key_rotated"]


@pytest.mark.parametrize("rest", COMMANDS)
async def test_a_command_for_a_deleted_webhook_leads_to_its_page(app: App, rest: str) -> None:
    route = await app.route()
    await app.ask("DELETE", path(route))
    if rest in ASKING:
        assert (await get(app, at(route, rest))).location == at(route)
    page = await post(app, at(route, rest), {"force": "yes"})
    assert (page.status, page.location) == (303, "/t/acme/webhooks?done=deleted" if rest == "/delete" else at(route))
    assert await lifecycle_events(app) == ["deleted"]


@pytest.mark.parametrize("rest", COMMANDS)
async def test_nothing_of_anothers_is_touched(app: App, rest: str) -> None:
    route = await app.route("globex", name="Theirs")
    place = at(route | {"tenant": "acme"}, rest)
    page = await post(app, place, CONFIRMED)
    assert page.status == 404
    assert "There is no such webhook." in page.text
    assert await lifecycle_events(app) == []


async def test_a_reader_is_refused_with_a_reason(app: App) -> None:
    route = await app.route()
    headers = BROWSER | bearer(await token(app.database, "auditor:acme"))
    for rest in COMMANDS:
        refused = [await post(app, at(route, rest), CONFIRMED, headers=headers)]
        if rest in ASKING:
            refused.append(await get(app, at(route, rest), headers=headers))
        for page in refused:
            assert page.status == 403
            assert page.words("h1") == ["That is not allowed here"]
    assert await lifecycle_events(app) == []


async def test_reasons_and_words_are_only_text(app: App) -> None:
    route = await app.route(name=HOSTILE)
    await app.route(name=HOSTILE)
    await app.ask("POST", path(route, "/rotate-key"))
    entered = {
        "reason": HOSTILE * 30,
        "confirmation": HOSTILE,
        "understood": HOSTILE,
        "once": HOSTILE,
        "force": HOSTILE,
    }
    for rest in ASKING:
        page = await post(app, at(route, rest), entered)
        assert page.status == 422
        assert len(page.all("script")) == 1
        assert "{{ 7*7 }}" in page.text
