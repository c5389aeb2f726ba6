"""The page of one delivery: its status and the reason, its attempts, and sending it again."""

from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from bs4 import Tag

from daemon.core.delivery.answer import delivery_id
from daemon.core.delivery.tls_fault import TlsFault
from daemon.core.gcra import Allowance
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard.logs import timeline
from daemon.web.dashboard.logs.timeline import curl_command
from daemon.web.http.endpoints import RateLimit
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent
from eventstore.queries.events import sample_events
from tests.support.audit.seals import seal
from tests.support.rows.delivery_log import delivery_log
from tests.support.rows.recorded import Recorded, recorded
from tests.support.values.builders import new_event
from tests.support.web import pages
from tests.support.web.application import TARGET, App, path
from tests.support.web.pages import A_DATE, Page
from tests.support.web.tokens import bearer, token

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
NOT_FOUND = "There is no such delivery"


def at(it: Recorded, rest: str = "") -> str:
    return f"/t/acme/deliveries/{it.id}{rest}"


def attempts(page: Page) -> list[Tag]:
    return page.all(".timeline > li[value]")


def words(tag: Tag) -> str:
    return " ".join(tag.get_text(" ").split())


def code(page: Page, label: str) -> str:
    """The text of the only box of code whose label begins so."""
    return page.one(f"pre[aria-label^='{label}']").get_text()


def heads(page: Page, label: str) -> dict[str, str]:
    lines = code(page, label).strip().splitlines()[1:]
    return dict(line.strip().split(": ", 1) for line in lines)


async def api_delivery(it: Recorded) -> Any:
    """The delivery as the API returns it."""
    return (await it.app.ask("GET", f"/v1/tenants/acme/deliveries/{it.id}")).json


async def reader(app: App) -> dict[str, str]:
    return pages.BROWSER | bearer(await token(app.database, "auditor:acme"))


# ---- status and reason ----


@pytest.mark.parametrize(
    ("outcome", "number", "more", "title", "because"),
    [
        ("delivered", 2, {}, "It was delivered", "Delivered at 23 Nov 2026, 08:00:00.042 UTC: the receiver answered 200 OK to attempt 2."),
        (
            "failed", 60, {"status_code": 404, "error": "http_404"}, "It was not delivered",
            "Failed for good at 23 Nov 2026, 08:00:00.042 UTC, after 60 attempts: the receiver answered 404 Not Found.",
        ),
        (
            "suppressed", 0, {"status_code": None}, "It was held back",
            "Not sent: its window had closed, after the event and before it could be delivered.",
        ),
        (
            "expired", 0, {"status_code": None}, "It expired",
            "Expired at ",
        ),
        (None, 0, {}, "It is still to be delivered", "It will be sent once a daemon runs: no running process sends for this tenant now."),
    ],
)  # fmt: skip
async def test_it_says_its_status_and_the_reason(
    app: App, outcome: str | None, number: int, more: dict[str, Any], title: str, because: str
) -> None:
    it = await recorded(app, name="Orders")
    if number:
        await it.record(it.row("retrying", status_code=500, error="http_500"))
    if outcome is not None:
        await it.record(it.row(outcome, number=number, **more))
    page = await pages.get(app, at(it))
    assert page.status == 200
    assert page.words("h1") == ["order.create to Orders"]
    assert page.words(".page-head .pill") == [(outcome or "pending").capitalize()]
    assert page.words("#why") == [title]
    (message,) = page.words(".because")
    assert message.startswith(because)
    assert message.endswith((".", " UTC."))


async def test_what_failed_says_what_to_do_about_it(app: App) -> None:
    it = await recorded(app)
    failed = it.row("retrying", status_code=500, error="http_500")
    await it.record(failed, it.row("failed", number=2, status_code=None, error="timeout"))
    page = await pages.get(app, at(it))
    (message,) = page.words("section:has(#why)")
    assert "the receiver did not answer within the time limit. It is not sent any more" in message
    assert "Answer 200 as soon as the event is stored" in message
    # The last attempt is explained once, above; each other one beside it.
    assert page.text.count("did not answer within") == page.text.count("an error on its side") == 1
    assert "an error on its side" in page.words("#attempt-1")[0]


async def test_the_last_attempt_counts_also_if_an_older_one_is_selected(app: App) -> None:
    it = await recorded(app)
    failed = {"status_code": 500, "error": "http_500"}
    await it.record(*(it.row("retrying", number=number, **failed) for number in range(1, 40)))
    await it.record(it.row("failed", number=40, status_code=None, error="timeout"))
    page = await pages.get(app, at(it, "?attempt=1"))
    assert "did not answer within" in page.words("section:has(#why)")[0]
    assert "an error on its side" in words(attempts(page)[0])


async def test_a_delivery_that_succeeded_in_the_end_asks_for_no_action(app: App) -> None:
    it = await recorded(app)
    failed = {"status_code": 500, "error": "http_500"}
    await it.record(it.row("delivered"), it.row("failed", number=2, **failed))  # a manual retry that failed
    page = await pages.get(app, at(it))
    assert page.words("#why") == ["It was delivered"]
    assert "an error on its side" not in page.words("section:has(#why)")[0]
    assert "an error on its side" in page.words("#attempt-2")[0]


async def test_while_it_waits_it_counts_down_to_the_next_attempt(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("retrying", status_code=503, error="http_503"))
    await it.wait(after=timedelta(minutes=5))
    page = await pages.get(app, at(it))
    assert re.match(
        "Attempt 1 failed at 23 Nov 2026, 08:00:00.042 UTC: the receiver answered 503 Service Unavailable. "
        "Attempt 2 is due at " + A_DATE,
        page.words(".because")[0],
    )
    countdown = page.one("time[data-countdown]")
    assert countdown.text == "4 min"
    left = datetime.fromisoformat(str(countdown["datetime"])) - datetime.now(UTC)
    assert timedelta(minutes=4) < left < timedelta(minutes=5)
    assert page.words(".timeline > li")[0].startswith("Next attempt ")
    assert page.words(".timeline > li.next") == page.words(".timeline > li")[:1]


async def test_an_attempt_that_is_due_says_so_instead(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("retrying", status_code=503, error="http_503"))
    await it.wait(after=timedelta(0))
    page = await pages.get(app, at(it))
    assert page.all("[data-countdown]") == []
    assert "The next attempt is due: its answer is known at the latest 15.0 s after it starts." in page.text


async def test_before_the_first_attempt_there_is_none(app: App) -> None:
    it = await recorded(app)
    page = await pages.get(app, at(it))
    assert attempts(page) == []
    assert page.words("section:has(#attempts)") == ["Attempts 0 in all · time limit 15.0 s No request was made yet."]
    assert page.all(".page-head form") == [], "it cannot be hurried"
    assert "It cannot be hurried while it waits for its turn." in page.text
    (test,) = [link for link in page.all("#why ~ p a") if link.text == "send a test event"]
    assert test["href"] == f"/t/acme/webhooks/{it.route['id']}/test?type=order.create"


async def test_an_event_that_nobody_has_read_has_its_delivery_already(app: App) -> None:
    route = await app.route()
    await domain_events.publish(app.database, [new_event(id="e1")])
    page = await pages.get(app, f"/t/acme/deliveries/{delivery_id(UUID(route['id']), 'e1', datetime.now(UTC))}")
    assert page.words("#why") == ["It is still to be delivered"]
    (because,) = page.words(".because")
    assert re.match("The event was stored at " + A_DATE, because)
    assert because.endswith(" UTC, and has not been read yet: no running process sends for this tenant now.")


async def test_every_delivery_in_the_log_has_its_page(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        log.app.client.app[TENANT_LIMITS]._allowances = {RateLimit.SEARCH: Allowance(burst=1000, per_second=1)}
        for each in log.expected():
            which = delivery_id(each.route_id, each.event_id, each.event_time)
            page = await pages.get(log.app, f"/t/acme/deliveries/{which}?event={each.event_id}")
            assert (page.status, page.words(".page-head .pill"), len(attempts(page))) == (
                200, [each.status.capitalize()], each.attempts,
            )  # fmt: skip


async def test_it_says_what_it_is_about(app: App) -> None:
    it = await recorded(app, name="Orders", id="a/b c%")
    page = await pages.get(app, at(it))
    hrefs = [str(each["href"]) for each in page.all("aside a")]
    event = "/t/acme/events/a%2Fb%20c%25"
    assert hrefs == [event, f"/t/acme/webhooks/{it.route['id']}", "/t/acme/deliveries?event=a%2Fb+c%25", event]
    assert [each["data-copy"] for each in page.all("aside [data-copy]")] == ["a/b c%", it.id]
    assert "ever since" in page.words("aside")[0]
    for each in hrefs:
        assert (await pages.get(app, each)).status == 200
    assert page.words("aside dd .pill") == []
    await app.ask("POST", path(it.route, "/disable"))
    later = await pages.get(app, at(it))
    assert later.words("aside dd .pill") == ["Disabled"]
    assert "ever since" not in later.words("aside")[0]


async def test_it_says_when_it_was_sealed_and_has_the_proof_to_download(app: App) -> None:
    it = await recorded(app)
    url = f"{at(it)}?event=e1"
    assert "Not sealed yet" in (await pages.get(app, url)).text
    assert (await app.ask("GET", f"{at(it, '/proof')}?event=e1")).status == 409
    await seal(app.database)
    page = await pages.get(app, url)
    assert "Sealed at" in page.text
    answer = await app.ask("GET", str(page.one("a[href*='/proof']")["href"]))
    assert answer.headers["Content-Disposition"] == f'attachment; filename="proof-{it.id}.json"'
    assert answer.json["delivery"] == it.id


async def test_a_test_is_marked(app: App) -> None:
    route = await app.route()
    await sample_events.publish(
        app.database, UUID(route["id"]), [NewEvent(tenant="acme", id="test_1", type="a.b", data=b"{}")]
    )
    await ticks.make(app.database)
    page = await pages.get(app, f"/t/acme/deliveries/{delivery_id(UUID(route['id']), 'test_1', datetime.now(UTC))}")
    assert page.words(".page-head .tag") == ["Test"]


# ---- its attempts ----


async def test_attempts_are_shown_newest_first_and_the_last_is_open(app: App) -> None:
    it = await recorded(app)
    await it.record(
        it.row("retrying", status_code=500, error="http_500"),
        it.row("retrying", number=2, status_code=None, error="timeout", duration_ms=15_000),
        it.row("delivered", number=3, status_code=204, duration_ms=142),
    )
    page = await pages.get(app, at(it))
    assert [each["value"] for each in attempts(page)] == ["3", "2", "1"]
    assert page.words(".attempt-head") == [
        "Attempt 3 204 No Content 23 Nov 2026, 08:00:00 UTC",
        "Attempt 2 No answer in time 23 Nov 2026, 08:00:00 UTC",
        "Attempt 1 500 Internal Server Error 23 Nov 2026, 08:00:00 UTC",
    ]
    assert page.words(".attempt-time") == ["142 ms", "15.0 s", "42 ms"]
    assert [each["width"] for each in page.all(".bar-part")] == ["1", "100", "1"]
    assert [each.select("details[open]") != [] for each in attempts(page)] == [True, False, False]
    assert "3 in all, newest first" in page.text
    older = await pages.get(app, at(it, "?attempt=1"))
    assert [each.select("details[open]") != [] for each in attempts(older)] == [False, False, True]


@pytest.mark.parametrize("attempt", ["0", "-1", "x", "99", "", "١", "9999999"])
async def test_an_attempt_that_there_is_not_is_as_if_none_was_named(app: App, attempt: str) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    page = await pages.get(app, at(it, f"?attempt={attempt}"))
    assert len(page.all(".timeline > li > details[open]")) == 1


async def test_a_request_is_shown_as_it_was_sent_with_secrets_masked(app: App) -> None:
    it = await recorded(app, data={"price": 1.10, "text": "<grüß>"}, headers={"X-Shop": "geheim"})
    await it.record(it.row("delivered"))
    page = await pages.get(app, at(it))
    (attempt,) = (await api_delivery(it))["attempts"]
    sent = attempt["request"]
    assert code(page, "Request headers").strip().splitlines()[0] == f"POST {TARGET}"
    assert heads(page, "Request headers") == sent["headers"]
    assert heads(page, "Request headers")["X-Shop"] == "***"
    assert "geheim" not in page.html
    assert it.route["verification_key"] not in page.html
    assert code(page, "Request body").startswith('{\n  "id": "e1",\n  "type": "order.create",\n')
    assert '"price": 1.1,\n      "text": "<grüß>"' in code(page, "Request body")
    assert f"Request body, {len(sent['body'].encode())} B" in page.text
    assert "by version 1 of the webhook" in page.text


async def test_the_body_can_be_downloaded_byte_for_byte(app: App) -> None:
    route = await app.route()
    data = b'{"price":1.10,"text":"gr\xc3\xbc\xc3\x9f \\ud83d\\ude00","big":123456789012345678901234567890}'
    await domain_events.publish(app.database, [new_event(id="e1", data=data)])
    await ticks.make(app.database)
    it = Recorded(app, route, (await app.events())[-1])
    await it.record(it.row("retrying", status_code=500, error="http_500"), it.row("delivered", number=2))
    sent = (await api_delivery(it))["attempts"][0]["request"]["body"].encode()
    assert data in sent
    page = await pages.get(app, at(it))
    links = [str(each["href"]) for each in page.all("a[download]")]
    assert links == [at(it, f"/body?attempt={number}&event=e1") for number in (2, 1)]
    async with app.client.get(links[0], headers=pages.BROWSER) as response:
        assert (response.status, await response.read()) == (200, sent)
        assert response.headers["Content-Disposition"] == 'attachment; filename="body-2.json"'
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.content_type == "text/plain"


@pytest.mark.parametrize("query", ["", "?attempt=0", "?attempt=2", "?attempt=x"])
async def test_a_body_that_there_is_not_cannot_be_downloaded(app: App, query: str) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    assert (await pages.get(app, at(it, f"/body{query}"))).status == 404
    assert (await pages.get(app, at(it, "/body?attempt=1"))).status == 200


async def test_a_command_sends_the_same_again(app: App) -> None:
    it = await recorded(app, data={"text": "it's"}, headers={"X-Shop": "geheim"})
    await it.record(it.row("delivered"))
    page = await pages.get(app, at(it))
    (attempt,) = (await api_delivery(it))["attempts"]
    sent = attempt["request"]
    assert code(page, "cURL") == curl_command(sent["url"], sent["headers"], sent["body"].encode())
    (message,) = page.words("details.curl p")
    assert message.startswith("--data-raw sends the body as it is")
    assert "The values of X-Shop are secret: put yours in place of ***." in message


async def test_a_long_body_is_cut_and_the_command_takes_it_from_its_file(app: App) -> None:
    it = await recorded(app, data={"text": "<" * 30_000})
    await it.record(it.row("delivered"))
    page = await pages.get(app, at(it))
    assert "Its beginning. Laid out to be read" in page.text
    assert "--data-binary '@body-1.json'" in code(page, "cURL")
    assert "<<<" not in code(page, "cURL")
    assert [link["href"] for link in page.all("a[download]")] == [at(it, "/body?attempt=1&event=e1")] * 2
    assert len(page.html) < 100_000


@pytest.mark.parametrize(
    ("body", "label", "visible", "message"),
    [
        (b"", None, None, "The body was empty."),
        ("grüß <b>".encode(), "Response body", "grüß <b>", None),
        (b"\xff\xfe", "Response body, base64 because it is no text", base64.b64encode(b"\xff\xfe").decode(), None),
        (b"x" * 4096, "Response body", "x" * 4096, "Only its beginning is kept."),
        (b"<" * 4096, "Response body", "<" * 2560, "Only its beginning is shown."),
    ],
)
async def test_an_answer_is_shown_as_far_as_it_was_kept(
    app: App, body: bytes, label: str | None, visible: str | None, message: str | None
) -> None:
    it = await recorded(app)
    await it.record(it.row("failed", status_code=418, error="http_418", response_body=body))
    page = await pages.get(app, at(it))
    assert code(page, "Response headers").strip().splitlines() == [
        "HTTP 418", "Content-Type: text/plain", "X-Twice: a", "X-Twice: b",
    ]  # fmt: skip
    boxes = {str(each["aria-label"]): each.get_text() for each in page.all("pre[aria-label^='Response body']")}
    assert boxes == ({} if label is None else {label: visible})
    for sentence in ("The body was empty.", "Only its beginning is kept.", "Only its beginning is shown."):
        assert (sentence in page.text) == (sentence == message)


@pytest.mark.parametrize(
    ("content_type", "body", "label", "visible"),
    [
        ("text/plain; charset=iso-8859-1", "Größe – 5 €".encode("cp1252"), ", read as iso-8859-1", "Größe – 5 €"),
        ('text/html;charset="Shift_JIS"', "注文<b>".encode("shift_jis"), ", read as shift_jis", "注文<b>"),
        ("text/plain; charset=Shift_JIS", "注文".encode("shift_jis")[:-1], ", read as shift_jis", "注"),
        ("text/plain; charset=utf-8", b"Gr\xf6\xdfe", ", base64 because it is no text", "R3L232U="),
        ("text/plain; charset=unicode_escape", b"\\x41\xff", ", base64 because it is no text", "XHg0Mf8="),
        ("text/plain; charset=euc-jp", b"\xff\xff", ", base64 because it is no text", "//8="),
        ("text/plain", b"Gr\xf6\xdfe", ", base64 because it is no text", "R3L232U="),
    ],
)
async def test_an_answer_is_read_by_the_charset_that_it_declares(
    app: App, content_type: str, body: bytes, label: str, visible: str
) -> None:
    it = await recorded(app)
    head = json.dumps([["content-type", content_type]])
    await it.record(it.row("failed", status_code=422, error="http_422", response_head=head, response_body=body))
    page = await pages.get(app, at(it))
    boxes = {str(each["aria-label"]): each.get_text() for each in page.all("pre[aria-label^='Response body']")}
    assert boxes == {f"Response body{label}": visible}


async def test_what_is_packed_is_no_text_in_whatever_charset(app: App) -> None:
    it = await recorded(app)
    head = json.dumps([["Content-Type", "text/plain; charset=iso-8859-1"], ["Content-Encoding", "gzip"]])
    body = gzip.compress(b"Go away", mtime=0)
    await it.record(it.row("failed", status_code=422, error="http_422", response_head=head, response_body=body))
    page = await pages.get(app, at(it))
    assert code(page, "Response body").strip() == base64.b64encode(body).decode()


async def test_without_an_answer_it_says_why_there_is_none(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("failed", status_code=None, error="timeout", response_head=None, response_body=None))
    page = await pages.get(app, at(it))
    assert "Response None. No answer in time." in page.text


@pytest.mark.parametrize("fault", TlsFault)
async def test_a_merchant_is_told_what_to_mend_of_their_tls(app: App, fault: TlsFault) -> None:
    it = await recorded(app)
    error = f"tls_error: {fault.detail}"
    await it.record(it.row("failed", status_code=None, error=error, response_head=None, response_body=None))
    page = await pages.get(app, at(it))
    (because,) = page.words(".because")
    assert because.startswith(
        "Failed for good at 23 Nov 2026, 08:00:00.042 UTC, after 1 attempt: no trusted TLS connection"
    )
    assert f"could be made to the receiver: {fault.cause}." in because
    assert "Response None. TLS failed." in page.text
    assert f"{fault.step[0].upper()}{fault.step[1:]}." in page.text


async def test_a_request_that_could_not_be_made_is_not_shown(app: App) -> None:
    it = await recorded(app)
    error = "render_error: the transform gives no <JSON>"
    await it.record(
        it.row("failed", status_code=None, error=error, key_ids=None, response_head=None, response_body=None)
    )
    page = await pages.get(app, at(it))
    assert "could not be made by the webhook's payload settings: the transform gives no <JSON>." in page.text
    assert "Request as sent by version 1 of the webhook None was made." in page.text


async def test_the_answers_remain_after_the_event_is_deleted(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    await it.forget_event()
    page = await pages.get(app, at(it))
    assert (page.status, page.words("#why")) == (200, ["It was delivered"])
    assert "Its event is no longer kept, so only what was recorded of the attempts can be shown." in page.text
    assert "It can no longer be shown" in page.text
    assert code(page, "Response body") == "ok"
    assert (await pages.get(app, at(it, "/body?attempt=1"))).status == 404


async def test_of_many_attempts_those_around_the_selected_one_are_shown(app: App) -> None:
    it = await recorded(app)
    failed = {"status_code": 500, "error": "http_500"}
    await it.record(*(it.row("retrying", number=number, **failed) for number in range(1, 61)))
    last = await pages.get(app, at(it))
    assert [each["value"] for each in attempts(last)] == [str(number) for number in range(60, 30, -1)]
    assert last.words(".timeline > li:last-child") == ["30 earlier attempts"]
    older = await pages.get(app, str(last.one(".timeline > li:last-child a")["href"]))
    assert [each["value"] for each in attempts(older)] == [str(number) for number in range(45, 15, -1)]
    assert [each["value"] for each in attempts(older) if each.select("details[open]")] == ["30"]
    assert older.words(".timeline > li:first-child") == ["Newer attempts"]
    newer = await pages.get(app, str(older.one(".timeline > li:first-child a")["href"]))
    assert attempts(newer)[0]["value"] == "60"
    first = await pages.get(app, at(it, "?attempt=1"))
    assert [each["value"] for each in attempts(first)][-1] == "1"
    assert first.words(".timeline > li:last-child")[0].startswith("Attempt 1")


async def test_the_page_stays_short_with_the_longest_requests_and_answers(app: App) -> None:
    """Quotes take the most bytes in a page, and each of these parts has its largest size."""
    it = await recorded(app, data={"text": '"' * 100_000}, name="<&>" * 40)
    head = "[" + ",".join(f'["X-{n}","{"<" * 110}"]' for n in range(30)) + "]"
    failed = {"status_code": 500, "error": "http_500", "response_head": head, "response_body": b"'" * 4096}
    await it.record(*(it.row("retrying", number=number, **failed) for number in range(1, 101)))
    await it.wait(failures=100)
    last, page = await pages.get(app, at(it)), await pages.get(app, at(it, "?attempt=50"))
    for each in (last, page):
        assert len(attempts(each)) == timeline.MAX_ATTEMPTS
        assert len(each.html.encode()) < 100_000
    # An attempt that does not fit has a link that opens it.
    (bare, *_) = [each for each in attempts(page) if not each.select("details")]
    link = str(bare.select_one("p a")["href"])  # type: ignore[index] # it has one
    opened = await pages.get(app, link)
    (visible,) = [each for each in attempts(opened) if each.select("details[open]")]
    assert (visible["value"], visible["id"]) == (bare["value"], urlsplit(link).fragment)
    assert "Request as sent" in words(visible)


async def test_small_attempts_are_all_on_the_page_with_their_contents(app: App) -> None:
    it = await recorded(app)
    await it.record(*(it.row("retrying", number=number) for number in range(1, 11)))
    page = await pages.get(app, at(it))
    assert len(page.all(".timeline > li > details")) == 10


# ---- sending it again ----


async def resent(app: App) -> list[dict[str, Any]]:
    return await app.rows("SELECT actor, origin, seq FROM hookledger.resend")


async def failed_for_good(app: App, **route: Any) -> Recorded:
    it = await recorded(app, **route)
    await it.record(it.row("failed", status_code=500, error="http_500"))
    return it


async def test_sent_again_it_is_in_line_and_the_page_says_so(app: App) -> None:
    it = await failed_for_good(app)
    page = await pages.get(app, at(it))
    form = page.one(".page-head form")
    assert page.words(".page-head form button") == ["Retry now"]
    done = await pages.post(app, str(form["action"]), page.form_data(".page-head form"))
    assert (done.status, done.location) == (303, at(it, "?event=e1&done=retried"))
    after = await pages.get(app, done.location)
    assert after.words("[data-notice]") == ["You have had it sent again: its answer appears below."]
    assert after.words(".page-head .pill") == ["Pending"]
    assert "The next attempt is due: its answer is known at the latest 15.0 s after it starts." in after.text
    assert await resent(app) == [{"actor": "admin", "origin": "dashboard", "seq": it.event["seq"]}]
    assert re.search(r"Sent by hand\s+by Administrator, ", after.text)
    assert "Sent by hand" not in page.text
    assert "done" not in str(after.words(".page-head a"))


async def test_what_waits_for_its_first_attempt_is_not_said_to_be_sent(app: App) -> None:
    it = await recorded(app)
    done = await pages.post(app, at(it, "/retry?event=e1"))
    assert (done.status, done.location) == (303, at(it, "?event=e1&done=retried_in_line"))
    after = await pages.get(app, done.location)
    assert after.words("[data-notice]") == ["Nothing was sent: it waits for its first attempt, and keeps its turn."]
    assert await resent(app) == []


async def test_what_is_about_to_be_sent_is_not_said_to_be_sent_once_more(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("retrying", status_code=503, error="http_503"))
    await it.wait(after=timedelta(0))
    done = await pages.post(app, at(it, "/retry?event=e1"))
    assert (done.status, done.location) == (303, at(it, "?event=e1&done=retried_under_way"))
    assert (await pages.get(app, done.location)).words("[data-notice]") == [
        "Its request was under way already, or about to be made: none was added."
    ]
    assert await resent(app) == []


async def test_a_form_that_is_sent_twice_sends_once(app: App) -> None:
    it = await failed_for_good(app)
    page = await pages.get(app, at(it))
    fields = page.form_data(".page-head form")
    for _ in range(2):
        assert (await pages.post(app, at(it, "/retry"), fields)).status == 303
        await app.rows("DELETE FROM hookledger.retry RETURNING seq")  # as if it had been sent meanwhile
    assert len(await resent(app)) == 1
    another = (await pages.get(app, at(it))).form_data(".page-head form")
    assert (await pages.post(app, at(it, "/retry"), another)).status == 303
    assert len(await resent(app)) == 2


async def test_what_was_delivered_can_be_sent_again_too(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    page = await pages.get(app, at(it))
    assert page.words(".page-head form button") == ["Send again"]
    assert (await pages.post(app, at(it, "/retry"), page.form_data(".page-head form"))).status == 303
    assert (await pages.get(app, at(it))).words(".page-head .pill") == ["Delivered"]


async def test_what_may_not_be_sent_is_refused_on_the_page_with_the_reason(app: App) -> None:
    it = await failed_for_good(app)
    await app.ask("POST", path(it.route, "/disable"))
    page = await pages.get(app, at(it))
    assert page.all(".page-head form") == []
    assert re.search("It cannot be sent again: the webhook is disabled since " + A_DATE, page.text)
    refused = await pages.post(app, at(it, "/retry?event=e1"))
    assert refused.status == 409
    (alert,) = refused.words("[role=alert]")
    assert re.match("It was not sent again: the webhook is disabled since " + A_DATE, alert)
    assert alert.endswith(" UTC: what happened until it is enabled is never sent.")
    assert "It cannot be sent again" not in refused.text
    assert refused.words("#why") == ["It was not delivered"]
    assert await resent(app) == []


async def test_every_link_on_a_page_that_refuses_leads_somewhere(app: App) -> None:
    it = await recorded(app, data={"text": '"' * 60_000})
    await it.record(*(it.row("retrying" if number < 40 else "failed", number=number) for number in range(1, 41)))
    await it.forget_event()
    refused = await pages.post(app, at(it, "/retry"))
    assert refused.words("[role=alert]") == [
        "It was not sent again: its event is no longer kept, so there is nothing to send."
    ]
    links = {str(each["href"]) for each in refused.all("main a[href*='deliveries/']")}
    assert len(links) > 1
    for link in links:
        assert (await pages.get(app, link)).status == 200, link


async def test_what_happened_before_the_last_enable_cannot_be_sent_again(app: App) -> None:
    it = await failed_for_good(app)
    for command_ in ("/disable", "/enable"):
        await app.ask("POST", path(it.route, command_))
    page = await pages.get(app, at(it))
    assert page.all(".page-head form") == []
    assert re.search("It cannot be sent again: the webhook was disabled at " + A_DATE, page.text)
    assert "what happened before is never sent." in page.text


async def test_deliveries_of_a_deleted_webhook_cannot_be_sent_again(app: App) -> None:
    it = await failed_for_good(app, name="Gone")
    await app.ask("DELETE", path(it.route))
    page = await pages.get(app, at(it))
    assert page.words("h1") == ["order.create to Gone"]
    assert page.words("aside dd .pill") == ["Deleted"]
    assert "It cannot be sent again: the webhook was deleted: nothing is sent to it any more." in page.text
    assert (await pages.post(app, at(it, "/retry"))).status == 409


async def test_who_may_only_read_finds_no_button_and_is_refused(app: App) -> None:
    it = await failed_for_good(app)
    headers = await reader(app)
    page = await pages.get(app, at(it), headers=headers)
    assert (page.status, page.words("#why")) == (200, ["It was not delivered"])
    assert page.all("main form") == []
    assert (await pages.post(app, at(it, "/retry"), headers=headers)).status == 403
    await app.ask("POST", path(it.route, "/disable"))
    assert "It cannot be sent again" not in (await pages.get(app, at(it), headers=headers)).text


# ---- unknown deliveries ----


async def test_an_unknown_delivery_has_a_page_with_the_possible_reasons(app: App) -> None:
    await app.route()
    which = uuid4()
    page = await pages.get(app, f"/t/acme/deliveries/{which}")
    assert (page.status, page.words("h1")) == (404, [NOT_FOUND])
    assert page.one("main form")["action"] == f"/t/acme/deliveries/{which}"
    assert page.form_data() == {"event": [""]}


async def test_what_was_skipped_leads_to_its_event_which_says_why(app: App) -> None:
    route = await app.route(enabled=False)
    await domain_events.publish(app.database, [new_event(id="e1")])
    await ticks.make(app.database)
    which = delivery_id(UUID(route["id"]), "e1", datetime.now(UTC))
    page = await pages.get(app, f"/t/acme/deliveries/{which}?event=e1")
    assert (page.status, page.words("h1")) == (404, [NOT_FOUND])
    (link,) = page.all("main a.primary")
    assert link["href"] == "/t/acme/events/e1"
    assert page.all("main form") == []
    event = await pages.get(app, str(link["href"]))
    assert event.words(".verdicts .pill") == ["Skipped: disabled"]


async def test_a_search_that_takes_too_long_asks_for_the_event(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("daemon.deliveries.detail"), "SEARCH_SECONDS", -1.0)
    async with delivery_log(empty_url) as log:
        where = f"/t/acme/deliveries/{uuid4()}"
        page = await pages.get(log.app, where)
        assert (page.status, page.words("h1")) == (422, ["Which event was it?"])
        assert page.one("main form")["action"] == where
        assert page.words("main form label") == ["Event id"]
        assert (await pages.get(log.app, f"{where}?event=e1")).words("h1") == [NOT_FOUND]


async def test_foreign_deliveries_are_not_there(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    await app.route("globex")
    for rest in ("", "?event=e1", "/body?attempt=1", "/body?attempt=1&event=e1"):
        assert (await pages.get(app, f"/t/globex/deliveries/{it.id}{rest}")).status == 404
    assert (await pages.post(app, f"/t/globex/deliveries/{it.id}/retry?event=e1")).status == 404
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    for rest in ("", "/body?attempt=1"):
        assert (await pages.get(app, at(it, rest), headers=theirs)).status == 404
    assert (await pages.post(app, at(it, "/retry"), headers=theirs)).status == 404
    assert await resent(app) == []


@pytest.mark.parametrize("which", ["x", "%00", "1" * 32])
async def test_what_is_no_id_is_not_there(app: App, which: str) -> None:
    for query in ("", "?event=e1", "?event=%00"):
        page = await pages.get(app, f"/t/acme/deliveries/{which}{query}")
        assert (page.status, page.words("h1")) == (404, [NOT_FOUND])


async def test_everything_in_it_is_escaped(app: App) -> None:
    it = await recorded(
        app, data={"text": HOSTILE}, id=HOSTILE, name=HOSTILE, headers={"X-Shop": HOSTILE},
        target_url="https://shop.example.com/?<script>",
    )  # fmt: skip
    head = '[["X-<script>","<script>alert(1)</script>"]]'
    await it.record(
        it.row(
            "failed", status_code=None, error="render_error: <script>", response_head=head,
            response_body=b"<script>alert(1)</script>",
        ),
        it.row("failed", number=2, status_code=999, error=f"odd {HOSTILE}", response_head=head),
    )  # fmt: skip
    first = await pages.get(app, at(it))
    assert first.words("aside .copyable code")[0] == HOSTILE
    for page in (first, await pages.get(app, at(it, "?event=<script>"))):
        assert len(page.all("script")) == 1
        assert "</script>49" not in page.text
