"""Sending several deliveries again from their list."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import pytest

from tests.support.rows.finished_deliveries import store_finished
from tests.support.rows.recorded import recorded
from tests.support.web import pages
from tests.support.web.application import App, path
from tests.support.web.tokens import bearer, token

LOG = "/t/acme/deliveries"
FORM = "form#choice"
TURNED = "a\u202eb"


async def store(app: App, route: dict[str, Any], *failed: int) -> None:
    async with app.database.connection() as connection:
        for seq in failed:
            await store_finished(connection, seq, "failed", route_id=UUID(route["id"]))


async def test_all_that_match_are_counted_and_sent_once_that_is_confirmed(app: App) -> None:
    route = await app.route()
    await store(app, route, 1, 2, 3)
    log = await pages.get(app, f"{LOG}?status=failed&type=order.create")
    assert log.words(f"{FORM} button") == ["Retry chosen", "Retry all that match (3)"]
    asked = await pages.post(app, f"{LOG}/retry", log.form_data(FORM) | {"intent": ["count"]})
    assert asked.words("h1") == ["Send 3 deliveries again?"]
    assert asked.words(".tag") == ["Status failed", "Type order.create"]
    assert await app.rows("SELECT * FROM hookledger.replay") == []
    confirmed = asked.form_data() | {"intent": ["begin"]}
    sent = await pages.post(app, f"{LOG}/retry", confirmed)
    (replay,) = await app.rows("SELECT id, total FROM hookledger.replay")
    assert urlsplit(sent.location).path == f"/t/acme/webhooks/{route['id']}/replays/{replay['id']}"
    assert replay["total"] == 3
    begun = await pages.get(app, sent.location)
    assert dict(zip(begun.words("dt"), begun.words("dd"), strict=True))["Reason"] == "Only: Type order.create"
    again = await pages.post(app, f"{LOG}/retry", confirmed)
    assert again.location == sent.location
    assert len(await app.rows("SELECT id FROM hookledger.replay")) == 1


async def test_the_button_counts_what_its_confirmation_counts(app: App) -> None:
    """Neither test events nor what a webhook may not get any more are sent again."""
    route, off = await app.route(), await app.route()
    await store(app, route, 1, 2)
    await store(app, off, 3)
    await app.ask("POST", path(off, "/disable"))
    async with app.database.connection() as connection:
        await store_finished(connection, 4, "failed", route_id=UUID(route["id"]), is_test=True)
    log = await pages.get(app, f"{LOG}?status=failed")
    assert len(log.all(".deliveries tbody tr")) == 4
    assert log.words(f"{FORM} button") == ["Retry chosen", "Retry all that match (2)"]
    asked = await pages.post(app, f"{LOG}/retry", log.form_data(FORM) | {"intent": ["count"]})
    assert asked.words("h1") == ["Send 2 deliveries again?"]
    of_disabled = await pages.get(app, f"{LOG}?status=failed&route={off['id']}")
    assert of_disabled.words(f"{FORM} button") == ["Retry chosen"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", None),
        ("status=failed", None),
        ("event=e1&status=delivered", "Only: Status delivered, Event e1"),
        ("where=data.object.n+=+1", "Only: data.object.n = 1"),
        (f"where=data.object.right+=+{quote(TURNED)}", None),  # no character that reorders a text is in the log
    ],
)
async def test_a_replay_says_what_of_its_period_it_is(app: App, query: str, reason: str | None) -> None:
    it = await recorded(app, data={"n": 1, "right": TURNED})
    await it.record(it.row("delivered" if "delivered" in query else "failed"))
    log = await pages.get(app, f"{LOG}?{query}")
    asked = await pages.post(app, f"{LOG}/retry", log.form_data(FORM) | {"intent": ["count"]})
    await pages.post(app, f"{LOG}/retry", asked.form_data() | {"intent": ["begin"]})
    assert await app.rows("SELECT reason FROM hookledger.replay") == [{"reason": reason}]


async def test_several_webhooks_are_listed_with_their_replays(app: App) -> None:
    one, other = await app.route(name="One"), await app.route(name="Other")
    await store(app, one, 1, 2)
    await store(app, other, 3)
    log = await pages.get(app, LOG)
    assert log.words(f"{FORM} button") == ["Retry chosen", "Retry all that failed…"]
    asked = await pages.post(app, f"{LOG}/retry", log.form_data(FORM) | {"intent": ["count"]})
    sent = await pages.post(app, f"{LOG}/retry", asked.form_data() | {"intent": ["begin"]})
    assert sent.words("h1") == ["3 deliveries are sent again"]
    assert sorted(sent.words("main .card li")) == ["One: 2", "Other: 1"]


async def test_nothing_to_send_is_no_button(app: App) -> None:
    route = await app.route()
    await store(app, route, 1)
    await app.ask("POST", path(route, "/disable"))
    asked = await pages.post(app, f"{LOG}/retry", {"intent": ["count"]})
    assert asked.words("h1") == ["Nothing to send again"]
    assert "1 more matches, and is not sent: its webhook is disabled" in asked.text
    assert asked.all("main button") == []


async def test_the_chosen_ones_are_sent_at_once_and_the_others_are_not(app: App) -> None:
    route = await app.route()
    await store(app, route, 1, 2, 3)
    log = await pages.get(app, LOG)
    boxes = [str(box["value"]) for box in log.all("input[name=delivery]")]
    assert len(boxes) == 3
    form = log.form_data(FORM) | {"intent": ["chosen"], "delivery": boxes[:2]}
    sent = await pages.post(app, f"{LOG}/retry", form)
    assert sent.words("h1") == ["2 deliveries are sent again"]
    assert len(await app.rows("SELECT * FROM hookledger.retry")) == 2
    await pages.post(app, f"{LOG}/retry", form)
    assert len(await app.rows("SELECT * FROM hookledger.resend")) == 2


async def test_why_a_chosen_one_is_not_sent_is_said(app: App) -> None:
    delivery = await recorded(app)
    await delivery.record(delivery.row("failed"))
    await app.ask("POST", path(delivery.route, "/disable"))
    theirs = f"{delivery.id[:-1]}{'0' if delivery.id[-1] != '0' else '1'} e1"
    form = {"intent": ["chosen"], "delivery": [f"{delivery.id} e1", theirs, "nonsense", f"{delivery.id} \0"]}
    sent = await pages.post(app, f"{LOG}/retry", form)
    assert sent.words("h1") == ["Nothing is sent again"]
    assert "1 delivery is not sent: the webhook is disabled since" in sent.text
    assert "3 deliveries are not sent: there is no such delivery." in sent.text


async def test_nothing_chosen_is_said(app: App) -> None:
    sent = await pages.post(app, f"{LOG}/retry", {"intent": ["chosen"]})
    assert "None was chosen" in sent.text


async def test_who_only_looks_has_no_boxes(app: App) -> None:
    route = await app.route()
    await store(app, route, 1)
    looking = bearer(await token(app.database, "auditor:acme"))
    log = await pages.get(app, LOG, headers=pages.BROWSER | looking)
    assert len(log.all(".deliveries tbody tr")) == 1
    assert log.all("input[type=checkbox]") == log.all(FORM) == []


async def test_what_waits_cannot_be_retried_all_at_once(app: App) -> None:
    delivery = await recorded(app)
    await delivery.record(delivery.row("retrying"))
    await delivery.wait()
    log = await pages.get(app, f"{LOG}?status=retrying")
    assert log.words(f"{FORM} button") == ["Retry chosen"]
    refused = await pages.post(app, f"{LOG}/retry", {"intent": ["count"], "status": ["retrying"]})
    assert refused.status == 422
