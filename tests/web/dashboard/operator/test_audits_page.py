"""The page of audits: it begins one, lists the earlier ones, and shows how far one is and what it found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.core.drafts.login_link_draft import DashboardRole, LoginLinkDraft
from daemon.web.http import paging
from daemon.web.service.auditing.audit_jobs import JOBS, MAX_JOBS
from tests.support.audit.seals import seal
from tests.support.rows.audits import audit_row, deliver, tamper
from tests.support.web.application import App, app
from tests.support.web.pages import BROWSER, PART, Page, get, get_all, post
from tests.support.web.sessions import browser
from tests.support.web.tokens import bearer, token

PLACE = "/operator/audits"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def begin(opened: App, **fields: str) -> Page:
    """Opens the page, fills in the form and sends it."""
    return await post(opened, PLACE, {**(await get(opened, PLACE)).form_data("#new-audit"), **fields})


async def ended(opened: App, place: str) -> Page:
    """The page of an audit, once page.js would stop to ask for it."""
    async with asyncio.timeout(60):
        while not (page := await get(opened, place)).all("[data-settled]"):
            await asyncio.sleep(0.005)
    return page


def finding(**more: object) -> dict[str, object]:
    return {
        "kind": "unexplained", "table": "attempt", "key": None, "event": None, "tenant": None, "route": None,
        "detail": "the row is not what was sealed", **more,
    }  # fmt: skip


async def test_without_audits_it_says_what_will_be_listed(app: App) -> None:
    page = await get(app, PLACE)
    assert page.words(".empty h2") == ["No audit yet"]
    assert page.words(".main-nav [aria-current]") == ["Audit"]
    assert set(page.form_data("#new-audit")) == {"once", "tenant", "from", "to"}
    assert page.words(".spans a") == ["Last 24 hours", "Last 7 days", "All that is kept"]
    whole = await get(app, str(page.all(".spans a")[-1]["href"]))
    assert (whole.form_data("#new-audit") | {"once": []}) == {"once": [], "tenant": [""], "from": [""], "to": [""]}


async def test_an_audit_is_run_and_finds_nothing(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    await seal(app.database)
    begun = await begin(app)
    assert begun.status == 303
    page = await ended(app, begun.location)
    assert page.words(".pill") == ["No findings"]
    assert page.words("[data-summary]") == ["1 event judged. What is recorded is what the logs lead to."]
    assert page.all(".verdicts") == []
    listed = await get(app, PLACE)
    assert listed.words("#audit-list tbody .pill") == ["No findings"]
    assert str(listed.one("#audit-list tbody a")["href"]) == begun.location


async def test_its_findings_lead_to_the_route_the_event_and_the_delivery(app: App) -> None:
    route = await app.route(name="Orders")
    await deliver(app, "e1")
    await seal(app.database)
    await tamper(app)
    page = await ended(app, (await begin(app, **{"from": "", "to": ""})).location)
    assert page.words(".pill") == ["2 findings"]
    assert page.words(".verdicts h3") == ["Altered", "Unexplained"]
    assert "Outcome 1 (delivered): delivered does not go with status 500." in page.words(".verdicts li p")
    links = [str(each["href"]) for each in page.all(".verdicts li a")]
    assert links == [
        "/t/acme/webhooks",
        f"/t/acme/webhooks/{route['id']}",
        "/t/acme/events/e1",
        f"/t/acme/deliveries?event=e1&route={route['id']}",
    ]
    for place in links:
        assert (await get(app, place)).status == 200
    assert len((await get(app, links[-1])).all("tbody tr")) == 1


async def test_a_finding_about_what_no_log_knows_leads_nowhere(app: App) -> None:
    stray = "5b1f6d0e-7a5b-4a37-9d5c-0d3f2f2f7d11"
    findings = [finding(), finding(key="seal 4"), finding(event="e1"), finding(tenant="a/b", event="<e>", route=stray)]
    page = await get(app, f"{PLACE}/{await audit_row(app, findings=findings)}")
    assert page.words(".verdicts .tag") == ["attempt", "attempt seal 4", "attempt", "attempt"]
    assert [str(each["href"]) for each in page.all(".verdicts a")] == ["/t/a%2Fb/webhooks", "/t/a%2Fb/events/%3Ce%3E"]
    assert f"{stray}, which no log knows" in page.text


async def test_of_many_findings_the_first_are_shown_and_their_number_is_told(app: App) -> None:
    place = f"{PLACE}/{await audit_row(app, findings=[finding()] * 100, found=12_345)}"
    page = await get(app, place)
    assert page.words(".pill") == ["12,345 findings"]
    assert page.words("#progress .hint") == ["The first 100 of 12,345. hookledger audit lists all."]


@pytest.mark.parametrize(
    ("columns", "pill", "summary"),
    [
        ({"state": "running"}, "Running", "No event is judged yet. An audit waits until the one before it has ended."),
        (
            {"state": "running", "events": 1200, "reached": NOON},
            "Running",
            "1,200 events judged, those recorded up to 24 Nov 2026, 12:00:00 UTC.",
        ),
        ({"state": "failed", "detail": "position 3 is gone"}, "Failed", "It proves nothing: position 3 is gone."),
        (
            {"state": "running", "beat_at": NOON},
            "Failed",
            "It proves nothing: the daemon that ran it ended: ask for it again.",
        ),
        (
            {"gaps": '["no event of this period was judged"]'},
            "Incomplete",
            "0 events judged. What is recorded is what the logs lead to, as far as it was compared.",
        ),
    ],
)
async def test_it_says_how_an_audit_stands(app: App, columns: dict[str, Any], pill: str, summary: str) -> None:
    job = await audit_row(app, **columns)
    page = await get(app, f"{PLACE}/{job}")
    assert (page.words(".pill"), page.words("[data-summary]")) == ([pill], [summary])
    assert (await get(app, PLACE)).words("#audit-list .pill") == [pill]
    is_running = pill == "Running"
    assert bool(page.all("[data-settled]")) is not is_running
    assert bool(page.all("#progress[data-poll]")) is is_running
    assert ("No event of this period was judged." in page.text) is (pill == "Incomplete")


async def test_what_page_js_asks_for_is_a_part(app: App) -> None:
    job = await audit_row(app, state="running", since=NOON, until=NOON + timedelta(hours=4), events=1,
                          reached=NOON + timedelta(hours=1))  # fmt: skip
    part = await get(app, f"{PLACE}/{job}", headers=PART)
    assert (part.all("h1"), part.one("progress")["value"]) == ([], "0.25")
    listed = await get(app, PLACE, headers=PART)
    assert (listed.all("h1"), listed.all("[data-settled]"), len(listed.all("tbody tr"))) == ([], [], 1)


async def test_the_list_has_the_newest_first_in_pages_with_a_way_back(app: App) -> None:
    for number in range(45):
        await audit_row(app, tenant=f"t{number}", created_at=NOON + timedelta(minutes=number // 2))
    pages = await get_all(app, PLACE)
    assert [len(page.all("#audit-list tbody tr")) for page in pages] == [20, 20, 5]
    named = [each for page in pages for each in page.words("#audit-list tbody td:nth-of-type(2)")]
    assert len(set(named)) == 45
    assert [int(name[1:]) // 2 for name in named] == sorted((n // 2 for n in range(45)), reverse=True)
    back = await get(app, str(pages[2].one("a[rel=prev]")["href"]))
    assert back.words("#audit-list tbody th") == pages[1].words("#audit-list tbody th")
    assert (await get(app, f"{PLACE}?after={paging.encoded('nonsense')}")).location == PLACE


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"tenant": "a b"}, {"tenant"}),
        ({"from": "yesterday"}, {"from"}),
        ({"from": "2026-11-24T10:00", "to": "2026-11-24T10:00"}, {"to"}),
        ({"tenant": "ü", "from": "x", "to": "y"}, {"tenant", "from", "to"}),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field_and_nothing_begins(
    app: App, fields: dict[str, str], wrong: set[str]
) -> None:
    page = await begin(app, **fields)
    assert page.status == 422
    assert {str(each["name"]) for each in page.all("[aria-invalid]")} == wrong
    assert {name: page.form_data("#new-audit")[name][0] for name in fields if name == "tenant"} == {
        name: value for name, value in fields.items() if name == "tenant"
    }
    assert await app.rows("SELECT FROM hookledger.audit_job") == []


async def test_a_form_that_is_sent_twice_begins_one_audit_and_another_period_another(app: App) -> None:
    form = (await get(app, PLACE)).form_data("#new-audit")
    first, second = [each.location for each in await asyncio.gather(*(post(app, PLACE, form) for _ in range(2)))]
    await ended(app, first)
    assert (await post(app, PLACE, form)).location == first
    other = (await post(app, PLACE, {**form, "tenant": "acme"})).location
    assert first == second != other
    await ended(app, other)
    assert len(await app.rows("SELECT FROM hookledger.audit_job")) == 2


async def test_when_too_many_run_the_form_keeps_what_was_entered(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.client.app[JOBS], "_is_bound", dict.fromkeys(range(MAX_JOBS), False))
    page = await begin(app, tenant="acme")
    assert page.status == 503
    assert page.words(".notice-bad") == ["No audit was begun. Too many audits run now: repeat this one later."]
    assert page.form_data("#new-audit")["tenant"] == ["acme"]


async def test_a_result_that_somebody_has_changed_proves_nothing(app: App) -> None:
    job = await audit_row(app, events=7)
    assert "It proves nothing" not in (await get(app, f"{PLACE}/{job}")).text
    await app.rows("UPDATE hookledger.audit_job SET events = 8")
    page = await get(app, f"{PLACE}/{job}")
    assert "It proves nothing: this result is not signed by a key of ours" in page.text
    assert "What is recorded is what the logs lead to" not in page.text


@pytest.mark.parametrize("job", ["x", "5b1f6d0e-7a5b-4a37-9d5c-0d3f2f2f7d11"])
async def test_an_audit_that_does_not_exist_is_not_found(app: App, job: str) -> None:
    assert (await get(app, f"{PLACE}/{job}")).status == 404


async def test_who_may_only_view_sees_audits_and_begins_none(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="correct horse") as guarded:
        await audit_row(guarded)
        viewer = await browser(guarded, None, LoginLinkDraft(role=DashboardRole.VIEW))
        page = await get(guarded, PLACE, headers=viewer)
        assert (len(page.all("#audit-list tbody tr")), page.all("#new-audit")) == (1, [])
        assert (await post(guarded, PLACE, {}, headers=viewer)).status == 403
        auditor = BROWSER | bearer(await token(guarded.database, "auditor"))
        assert (await get(guarded, PLACE, headers=auditor)).all("#new-audit") != []
        assert (await post(guarded, PLACE, {}, headers=auditor)).status == 303
        of_acme = BROWSER | bearer(await token(guarded.database, "auditor:acme"))
        assert (await get(guarded, PLACE, headers=of_acme)).status == 403
