"""The pages of replays: the form, which counts first, and the progress of a replay."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import pytest

from daemon.core.gcra import Allowance
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard.webhook_actions import replays as screen
from daemon.web.http.endpoints import RateLimit
from eventstore.progress import replays
from tests.support.rows.finished_deliveries import store_finished
from tests.support.web import pages
from tests.support.web.application import TARGET, App, path
from tests.support.web.pages import A_DATE, Page
from tests.support.web.tokens import bearer, token

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
EVER = {"from": "2020-01-01T00:00:00", "to": "2100-01-01T00:00:00", "which": "failed", "reason": ""}


def at(route: dict[str, Any], rest: str = "") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}/replay{rest}"


async def record_deliveries(app: App, route: dict[str, Any], *outcomes: str, ago: timedelta = timedelta(0)) -> None:
    """Stores a finished delivery for each outcome."""
    async with app.database.connection() as connection:
        for seq, outcome in enumerate(outcomes, 1):
            await store_finished(connection, seq, outcome, route_id=UUID(route["id"]), ago=ago)


async def counted(app: App, route: dict[str, Any], **fields: str) -> Page:
    return await pages.post(app, at(route), EVER | fields | {"intent": "count"})


async def begin_replay(app: App, route: dict[str, Any], **fields: str) -> str:
    """Begins a replay, and returns the path of its page."""
    page = await counted(app, route, **fields)
    sent = await pages.post(app, at(route), page.form_data(".counted form") | {"intent": "begin"})
    assert sent.status == 303, sent.text
    return sent.location


async def stored(app: App) -> list[dict[str, Any]]:
    return await app.rows("SELECT * FROM hookledger.replay ORDER BY created_at")


async def schedule(app: App, where: str, most: int) -> None:
    """Schedules deliveries of the replay, as the owner of the shard does."""
    found = await replays.find(app.database, id_in(where))
    assert found is not None
    await replays.schedule(app.database, found, limit=most)


def id_in(where: str) -> UUID:
    return UUID(urlsplit(where).path.rpartition("/")[2])


def query_of(link: object) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(link)).query).items()}


# ---- the form ----


async def test_the_form_begins_with_what_failed_in_the_last_day(app: App) -> None:
    page = await pages.get(app, at(await app.route()))
    assert page.status == 200
    fields = page.form_data("#form form")
    since, until = (datetime.fromisoformat(fields[name][0]).replace(tzinfo=UTC) for name in ("from", "to"))
    assert timedelta(0) <= until - datetime.now(UTC) <= timedelta(minutes=1)
    assert timedelta(hours=24) <= until - since <= timedelta(hours=24, minutes=1)
    assert (fields["which"], fields["reason"]) == (["failed"], [""])
    assert [each["type"] for each in page.all(".fields input")] == ["datetime-local"] * 2
    assert page.words(".tabs [aria-current]") == ["Replay"]
    assert page.all(".counted") == page.all("#past-title") == []


async def test_another_page_may_say_which_period_it_begins_with(app: App) -> None:
    route = await app.route()
    query = {"from": "2026-11-23T08:00:00.123456Z", "to": "2026-11-24T08:00:00+02:00", "which": "all"}
    page = await pages.get(app, at(route, f"?{urlencode(query)}"))
    assert page.form_data("#form form") == {
        "from": ["2026-11-23T08:00:00"],
        "to": ["2026-11-24T06:00:00"],
        "which": ["all"],
        "reason": [""],
    }
    assert (await pages.get(app, at(route, "?which=none"))).form_data("#form form")["which"] == ["failed"]


async def test_usual_periods_are_one_press_away_and_keep_what_was_chosen(app: App) -> None:
    page = await pages.get(app, at(await app.route(), "?which=all&after=x"))
    assert page.words(".spans a") == ["Last hour", "Last 24 hours", "Last 7 days"]
    for link, length in zip(page.all(".spans a"), (1, 24, 7 * 24), strict=True):
        query = query_of(link["href"])
        assert query.keys() == {"from", "to", "which"}
        assert query["which"] == "all"
        length_given = datetime.fromisoformat(query["to"]) - datetime.fromisoformat(query["from"])
        assert timedelta(hours=length) <= length_given <= timedelta(hours=length, minutes=1)
        then = (await pages.get(app, str(link["href"]))).form_data("#form form")
        assert {name: [value] for name, value in query.items()} == {name: then[name] for name in query}


# ---- counting ----


async def test_first_it_is_counted_and_nothing_is_sent(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "delivered", "failed", "suppressed")
    page = await counted(app, route, reason="the shop was down")
    assert page.status == 200
    assert page.words("#counted-title") == ["2 deliveries would be sent again"]
    (message,) = page.words(".counted > p")
    assert f"They are sent to {TARGET} , as the webhook is configured now" in message.replace(
        f"{TARGET},", f"{TARGET} ,"
    )
    assert page.words(".counted button") == ["Replay 2 deliveries"]
    hidden = page.form_data(".counted form")
    assert hidden.pop("once") != [""]
    assert hidden == {name: [value] for name, value in EVER.items()} | {"reason": ["the shop was down"]}
    assert page.form_data("#form form") == hidden
    assert await stored(app) == []


async def test_what_was_counted_is_what_is_sent_to_the_microsecond(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    period = {"from": "2026-01-01T00:00:00.000001Z", "to": "2099-01-01T00:00:00.999999Z"}
    page = await counted(app, route, **period)
    begins = page.form_data(".counted form")
    assert {name: begins[name] for name in period} == {name: [text] for name, text in period.items()}
    assert page.one("#to")["data-exact"] == period["to"]
    assert (page.one("#from")["value"], page.one("#to")["value"]) == ("2026-01-01T00:00:00", "2099-01-01T00:00:01")


async def test_one_delivery_is_counted_as_people_do(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    page = await counted(app, route)
    assert page.words("#counted-title") == ["1 delivery would be sent again"]
    assert page.words(".counted button") == ["Replay 1 delivery"]


async def test_all_are_those_that_were_delivered_too_with_a_warning(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "delivered", "delivered")
    page = await counted(app, route, which="all")
    assert page.words("#counted-title") == ["3 deliveries would be sent again"]
    assert page.words(".counted .notice-warn")[-1].startswith("Your receiver gets what it has already accepted")
    assert "already accepted" not in (await counted(app, route)).text


async def test_it_says_from_when_on_deliveries_can_be_sent_and_why_not_before(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    created = datetime.fromisoformat(route["created_at"])
    (message,) = (await counted(app, route)).words(".counted .notice-warn")
    assert (
        message
        == f"The webhook was created at {created:%-d %b %Y, %H:%M:%S} UTC: nothing that happened before is sent."
    )
    for command in ("/disable", "/enable"):
        await app.ask("POST", path(route, command))
    enabled = (await app.log())[-1]["effective_at"]
    page = await counted(app, route)
    assert page.words("#counted-title") == ["There is nothing to send again"]
    assert page.words(".counted > p")[-1] == (
        f"The webhook was enabled at {enabled:%-d %b %Y, %H:%M:%S} UTC: what happened before is never sent."
    )
    later = await counted(app, route, **{"from": f"{enabled + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}"})
    assert "never sent" not in later.words(".counted")[0]


@pytest.mark.parametrize(
    ("which", "message"),
    [("failed", "has failed for good. One that is still retried goes on by itself"), ("all", "was delivered, or has")],
)
async def test_if_there_is_nothing_to_send_it_says_so_and_offers_no_button(app: App, which: str, message: str) -> None:
    route = await app.route()
    await record_deliveries(app, route, "retrying")
    page = await counted(app, route, which=which)
    assert page.words("#counted-title") == ["There is nothing to send again"]
    assert message in page.words(".counted")[0]
    assert page.all(".counted form") == []
    for link in page.all(".counted a"):
        assert query_of(link["href"]) == {"route": route["id"], "status": "pending"}


async def test_a_period_of_which_nothing_can_be_sent_is_refused_and_stays(app: App) -> None:
    route = await app.route()
    page = await counted(app, route, to="2021-01-01T00:00:00")
    assert page.status == 409
    (alert,) = page.words("[role=alert]")
    assert re.match("Nothing was sent. Nothing of this period can be sent: what happened before " + A_DATE, alert)
    assert "route" not in alert
    assert page.form_data("#form form")["to"] == ["2021-01-01T00:00:00"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"from": "yesterday"}, {"from": "Must be a date and a time in UTC, like 2026-11-24 08:30."}),
        (
            {"from": "", "to": ""},
            dict.fromkeys(("from", "to"), "Is missing: give a date and a time."),
        ),
        ({"to": "2020-01-01T00:00:00"}, {"to": "Must be later than from."}),
        ({"which": "pending"}, {"which": "Choose which deliveries to send again."}),
        ({"reason": "x" * 1001}, {"reason": None}),
        ({"from": "x", "to": "y", "which": "", "reason": "x\0"}, dict.fromkeys(("from", "to", "which", "reason"))),
    ],
)
@pytest.mark.parametrize("intent", ["count", "begin"])
async def test_what_is_wrong_is_reported_beside_its_field_and_the_input_is_kept(
    app: App, fields: dict[str, str], message: dict[str, str | None], intent: str
) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    page = await pages.post(app, at(route), EVER | fields | {"intent": intent})
    assert page.status == 422
    found = {
        str(each["id"]).removesuffix("-wrong"): " ".join(each.get_text().split()).replace(" .", ".")
        for each in page.all(".wrong")
    }
    assert found.keys() == message.keys()
    assert {name: text for name, text in found.items() if message[name]} == {k: v for k, v in message.items() if v}
    for name in message:
        marked = page.one(f"#{name}")
        assert (marked["aria-invalid"], str(marked["aria-describedby"]).split()[-1]) == ("true", f"{name}-wrong")
        assert page.all(f"[role=alert] a[href='#{name}']") != []
    entered = page.form_data("#form form")
    for name in ("from", "to", "reason"):
        assert entered[name] == [(EVER | fields)[name]]
    assert page.all(".counted") == []
    assert await stored(app) == []


# ---- beginning ----


async def test_begun_it_leads_to_how_far_it_is(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "failed")
    where = await begin_replay(app, route, reason="the shop was down")
    (replay,) = await stored(app)
    assert where == f"/t/acme/webhooks/{route['id']}/replays/{replay['id']}"
    assert (replay["actor"], replay["origin"], replay["reason"], replay["wanted"], replay["total"]) == (
        "admin", "dashboard", "the shop was down", "failed", 2,
    )  # fmt: skip
    assert (replay["since"], replay["until"]) == (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    assert (await pages.get(app, where)).status == 200


async def test_a_form_that_is_sent_twice_begins_once(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    page = await counted(app, route)
    fields = page.form_data(".counted form") | {"intent": ["begin"]}
    first, second = [await pages.post(app, at(route), fields) for _ in range(2)]
    assert first.status == second.status == 303
    assert first.location == second.location
    assert len(await stored(app)) == 1


async def test_the_same_form_with_other_values_asks_for_another_replay(app: App) -> None:
    route = await app.route()
    fields = EVER | {"once": "the same", "intent": "begin"}
    locations = [
        (await pages.post(app, at(route), fields | more)).location
        for more in ({}, {"which": "all"}, {"to": "2099-01-01T00:00:00"}, {"reason": "again"}, {})
    ]
    assert len(set(locations)) == 4
    assert locations[0] == locations[-1]


async def test_while_one_runs_another_is_refused_and_the_input_is_kept(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "failed")
    where = await begin_replay(app, route)
    await schedule(app, where, 1)
    for page in (await pages.get(app, at(route)), await counted(app, route)):
        (notice,) = page.words(".notice-info")
        assert notice.startswith("A replay is running: 0 of 2 sent. A webhook has one at a time.")
        assert page.one(".notice-info a")["href"] == where
    fields = EVER | {"which": "all", "reason": "mine", "once": "x", "intent": "begin"}
    refused = await pages.post(app, at(route), fields)
    assert refused.status == 409
    assert refused.words("[role=alert]") == [
        "Nothing was sent. A replay of this webhook is running: wait until it is done, or cancel it."
    ]
    assert refused.form_data("#form form") == {name: [value] for name, value in fields.items() if name in EVER}
    assert refused.one(".notice-info a")["href"] == where
    assert len(await stored(app)) == 1


async def test_too_many_are_put_off(app: App) -> None:
    route = await app.route()
    app.client.app[TENANT_LIMITS]._allowances = {RateLimit.REPLAY: Allowance(burst=2, per_second=0.01)}
    answers = [await counted(app, route) for _ in range(3)]
    assert [page.status for page in answers] == [200, 200, 429]
    assert 0 < int(answers[2].headers["Retry-After"]) <= 100
    assert (await pages.get(app, at(route))).status == 200


# ---- progress ----


async def test_while_it_runs_a_part_has_its_progress_and_is_polled(app: App) -> None:
    route = await app.route(name="Orders")
    await record_deliveries(app, route, *["failed"] * 3)
    where = await begin_replay(app, route, reason="the shop was down")
    page = await pages.get(app, where)
    assert page.one("[data-poll]")["data-poll"] == where
    assert page.words("[data-poll-instead]") == ["Refresh"]
    assert page.one("[data-poll-instead]")["href"] == where
    assert page.words("#progress")[0].startswith("Running 0 of 3 sent, 3 to go. 0 of 3")
    assert page.words("#progress form button") == ["Cancel this replay"]
    assert page.all("[data-settled]") == []
    await schedule(app, where, 2)
    async with app.database.connection() as sql:  # as if one of the two had been sent
        await sql.execute("DELETE FROM hookledger.retry WHERE seq = 1 AND route_id = $1", UUID(route["id"]))
    part = await pages.get(app, where, headers=pages.PART)
    assert "<html" not in part.html
    assert part.words("[data-summary]") == ["1 of 3 sent, 2 to go."]
    assert (part.one("progress")["value"], part.one("progress")["max"]) == ("1", "3")
    (facts,) = page.words("dl.facts")
    assert "by Administrator" in facts
    assert "Reason the shop was down" in facts
    assert "Asked for from 1 Jan 2020, 00:00:00 UTC; what happened before could not be sent." in facts
    assert "Ended" not in page.words("#progress")[0]


async def test_once_it_is_done_it_says_what_was_sent_and_is_not_polled(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "failed")
    where = await begin_replay(app, route)
    await schedule(app, where, 2)
    await app.rows("DELETE FROM hookledger.retry RETURNING seq")
    await replays.finish(app.database, id_in(where))
    page = await pages.get(app, where)
    assert page.words("#progress .pill") == ["Done"]
    assert page.words("[data-settled]")[0].startswith("2 of 2 sent, ")
    assert page.all("[data-poll]") == page.all("main form") == page.all("[data-poll-instead]") == []
    assert "not sent" not in page.words("#progress")[0]
    assert "Ended" in page.words("#progress")[0]
    part = await pages.get(app, where, headers=pages.PART)
    assert (part.all("form"), "Ended" in part.text) == ([], True), "page.js shows it without being reloaded"


@pytest.mark.parametrize(("sent", "message"), [(2, "1 was not sent: "), (1, "2 were not sent: ")])
async def test_what_it_left_out_is_explained(app: App, sent: int, message: str) -> None:
    route = await app.route()
    await record_deliveries(app, route, *["failed"] * 3)
    where = await begin_replay(app, route)
    await schedule(app, where, sent)
    await app.rows("DELETE FROM hookledger.retry RETURNING seq")
    await replays.finish(app.database, id_in(where))
    page = await pages.get(app, where)
    assert page.words("[data-summary]")[0].startswith(f"{sent} of 3 sent, ")
    assert page.words("#progress .hint")[0].startswith(message)
    assert page.one("progress")["value"] == "3"


async def test_one_with_nothing_to_send_is_done_at_once(app: App) -> None:
    route = await app.route()
    sent = await pages.post(app, at(route), EVER | {"intent": "begin"})
    page = await pages.get(app, sent.location)
    assert page.words("[data-settled]") == ["There was nothing to send."]
    assert page.all("progress") == []


async def test_it_leads_to_the_deliveries_of_its_period(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    body = {"from": route["created_at"], "to": "2100-01-01T00:00:00.123456Z", "status": "failed"}
    replay = (await app.ask("POST", path(route, "/replay"), body)).json
    page = await pages.get(app, f"/t/acme/webhooks/{route['id']}/replays/{replay['id']}")
    links = [str(each["href"]) for each in page.all("main p.row a")]
    assert [query_of(link).get("status") for link in links] == [None, "failed"]
    for link in links:
        query = query_of(link)
        assert datetime.fromisoformat(query["since"]) == datetime.fromisoformat(route["created_at"])
        assert datetime.fromisoformat(query["until"]) == datetime.fromisoformat(body["to"])
        assert (await pages.get(app, link)).words(".deliveries .row-id") == ["e1"]


# ---- cancelling ----


async def test_cancelled_what_was_not_sent_stays_as_it_was(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, *["failed"] * 3)
    where = await begin_replay(app, route)
    await schedule(app, where, 2)
    form = (await pages.get(app, where)).one("main form")
    done = await pages.post(app, str(form["action"]))
    assert (done.status, done.location) == (303, f"{where}?done=replay_cancelled")
    page = await pages.get(app, done.location)
    assert page.words("[data-notice]") == ["The replay is cancelled: what was not sent yet stays as it was."]
    assert page.words("#progress .pill") == ["Cancelled"]
    assert page.words("[data-settled]")[0].startswith("0 of 3 were sent before it was cancelled, ")
    assert page.words("#progress .hint") == ["Cancelled by Administrator. What was not sent stayed as it was."]
    assert page.all("main form") == []
    assert await app.rows("SELECT * FROM hookledger.retry") == []
    again = await pages.post(app, f"{where}/cancel")
    assert (again.status, again.location) == (303, done.location)


async def test_one_that_is_done_cannot_be_cancelled_and_the_page_says_so(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    where = await begin_replay(app, route)
    await replays.finish(app.database, id_in(where))
    page = await pages.post(app, f"{where}/cancel")
    assert page.status == 409
    assert page.words("[role=alert]") == ["The replay is done: there is nothing left to cancel."]
    assert page.words("#progress .pill") == ["Done"]


# ---- a disabled webhook ----


async def test_a_disabled_webhook_says_so_and_offers_to_enable_it(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    await app.ask("POST", path(route, "/disable"))
    begin = await pages.post(app, at(route), EVER | {"intent": "begin"})
    for page, status in ((await pages.get(app, at(route)), 200), (await counted(app, route), 409), (begin, 409)):
        assert page.status == status
        assert page.words(".empty h2") == ["The webhook is disabled"]
        assert page.all("#form") == page.all(".counted") == page.all("[role=alert]") == []
        (form,) = page.all("main form")
        assert form["action"] == f"/t/acme/webhooks/{route['id']}/enable"
    assert await stored(app) == []


async def test_a_replay_that_a_disable_ended_says_so_in_a_merchants_words(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    where = await begin_replay(app, route)
    await app.ask("POST", path(route, "/disable"))
    found = await replays.find(app.database, id_in(where))
    assert found is not None
    await replays.cancel(app.database, found, detail="the route was disabled")
    page = await pages.get(app, where)
    assert page.words("#progress .hint") == ["The webhook was disabled. What was not sent stayed as it was."]


# ---- the list of replays ----


async def test_replays_are_listed_newest_first_page_by_page(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.PAGE_SIZE == 20
    monkeypatch.setattr(screen, "PAGE_SIZE", 2)
    route, other = await app.route(), await app.route()
    reasons = [f"reason {number}" for number in range(5)]
    for reason in reasons:
        sent = await pages.post(app, at(route), EVER | {"reason": reason, "intent": "begin"})
        assert sent.status == 303
    await pages.post(app, at(other), EVER | {"reason": "other", "intent": "begin"})
    found = await pages.get_all(app, at(route))
    assert [each for page in found for each in page.words("td[data-label=By] .muted")] == reasons[::-1]
    assert [page.words(".pager a") for page in found] == [
        ["Next page"],
        ["Previous page", "Next page"],
        ["First page", "Previous page"],
    ]


async def test_a_replay_in_the_list_says_what_it_was(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed", "delivered")
    where = await begin_replay(app, route, which="all", reason="the shop was down")
    page = await pages.get(app, at(route))
    (row,) = page.words("tbody tr")
    assert "Running 1 Jan 2020, 00:00:00 UTC to 1 Jan 2100, 00:00:00 UTC all 0 of 2 Administrator the shop" in row
    assert page.one("tbody a")["href"] == where
    part = await pages.get(app, at(route, "?after=MjAwMC0wMS0wMVQwMDowMDowMC4wMDAwMDBa"))
    assert "There are no older ones." in part.text
    assert part.words(".notice-info a") == ["Watch it"]
    assert part.words(".pager a") == ["Previous page"]


@pytest.mark.parametrize("cursor", ["x", "bm9uc2Vuc2U", "%00"])
async def test_a_cursor_that_no_page_has_given_out_begins_at_the_newest(app: App, cursor: str) -> None:
    route = await app.route()
    await pages.post(app, at(route), EVER | {"intent": "begin"})
    page = await pages.get(app, at(route, f"?after={cursor}"))
    assert (page.status, len(page.all("tbody tr"))) == (200, 1)


# ---- access and escaping ----


async def test_who_may_only_read_sees_a_replay_and_may_begin_and_end_none(app: App) -> None:
    route = await app.route()
    await record_deliveries(app, route, "failed")
    where = await begin_replay(app, route)
    headers = pages.BROWSER | bearer(await token(app.database, "auditor:acme"))
    assert (await pages.get(app, at(route), headers=headers)).status == 403
    progress = await pages.get(app, where, headers=headers)
    assert (progress.status, progress.all("main form"), progress.all(f"a[href='{at(route)}']")) == (200, [], [])
    for target, fields in ((at(route), EVER | {"intent": "count"}), (f"{where}/cancel", {})):
        assert (await pages.post(app, target, fields, headers=headers)).status == 403
    assert (await stored(app))[0]["state"] == "running"


async def test_foreign_unknown_and_deleted_webhooks_have_none(app: App) -> None:
    route, deleted = await app.route(), await app.route()
    await app.ask("DELETE", path(deleted))
    for other in (route | {"tenant": "globex"}, route | {"id": str(uuid4())}, deleted):
        assert (await pages.get(app, at(other))).status == 404
        assert (await counted(app, other)).status == 404


async def test_a_replay_of_another_webhook_is_not_there(app: App) -> None:
    route, other, foreign = await app.route(), await app.route(), await app.route("globex")
    await record_deliveries(app, route, "failed")
    replay = id_in(await begin_replay(app, route))
    for its, which in ((other, replay), (foreign, replay), (route, uuid4()), (route, "x"), (route, "%00")):
        where = f"/t/{its['tenant']}/webhooks/{its['id']}/replays/{which}"
        assert (await pages.get(app, where)).status == 404
        assert (await pages.post(app, f"{where}/cancel")).status == 404
    assert (await stored(app))[0]["state"] == "running"


async def test_everything_in_it_is_escaped(app: App) -> None:
    route = await app.route(name=HOSTILE, target_url="https://shop.example.com/?<script>")
    await record_deliveries(app, route, "failed")
    wrong = {"from": HOSTILE, "to": HOSTILE, "which": HOSTILE, "reason": HOSTILE, "intent": "count"}
    where = await begin_replay(app, route, reason=HOSTILE)
    for page in (
        await counted(app, route, reason=HOSTILE),
        await pages.post(app, at(route), wrong),
        await pages.get(app, at(route, f"?{urlencode({'from': HOSTILE, 'to': HOSTILE, 'which': HOSTILE})}")),
        await pages.get(app, where),
    ):
        assert len(page.all("script")) == 1
        assert "</script>49" not in page.text
    assert f"Reason {HOSTILE}" in (await pages.get(app, where)).text
