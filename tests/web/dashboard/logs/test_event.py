"""The page of one event: what was published, and why it was delivered to each webhook or was not."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID, uuid4

import pytest

from daemon.core.delivery.answer import delivery_id
from daemon.web.dashboard.html.text import in_merchants_words
from daemon.web.dashboard.logs import event as screen
from daemon.web.dashboard.logs import route_lookup
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent
from eventstore.queries.events import sample_events
from tests.support.rows.delivery_log import delivery_log
from tests.support.rows.recorded import age_events, recorded
from tests.support.values.builders import new_event
from tests.support.web import pages
from tests.support.web.application import App, app, path
from tests.support.web.pages import A_DATE, Page
from tests.support.web.tokens import bearer, token

EVENTS = "/t/acme/events"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


async def publish_events(app: App, *events: NewEvent) -> None:
    """Publishes events that are read at once."""
    await domain_events.publish(app.database, events)
    await ticks.make(app.database)


def verdicts(page: Page) -> list[tuple[str, str, str]]:
    """Name, verdict and sentence of each listed webhook."""
    return list(
        zip(
            page.words(".verdicts h3"),
            page.words(".verdicts .pill"),
            page.words(".verdicts .row + p"),
            strict=True,
        )
    )


async def explained(app: App, event: str, route: str | None = None) -> list[dict[str, Any]]:
    """The explanations that the API returns."""
    of_one = f"&route={route}" if route else ""
    answer = await app.ask("GET", f"/v1/tenants/acme/explain?event={quote(event)}&limit=200{of_one}")
    assert answer.status == 200, answer.text
    return [answer.json] if route else list(answer.json["items"])


def query_of(link: object) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(link)).query).items()}


# ---- what was published ----


async def test_what_was_published_is_laid_out_part_by_part(app: App) -> None:
    data = b'{"price":1.10,"big":123456789012345678901234567890,"lines":[],"text":"<gr\xc3\xbc\xc3\x9f>"}'
    await publish_events(
        app, new_event(id="a/b c%", data=data, context=b'{"by":"admin"}', snapshot=b'{"customer":{"n":1}}')
    )
    page = await pages.get(app, f"{EVENTS}/a%2Fb%20c%25")
    assert page.status == 200
    assert page.words("h1") == ["order.create"]
    assert {str(each["aria-label"]): each.get_text() for each in page.all("pre")} == {
        "Data": '{\n  "price": 1.10,\n  "big": 123456789012345678901234567890,\n  "lines": [],\n  "text": "<grüß>"\n}',
        "Context": '{\n  "by": "admin"\n}',
        "Snapshot": '{\n  "customer": {\n    "n": 1\n  }\n}',
    }
    assert page.words("#published + a") == ["As JSON"]
    json = await app.ask("GET", str(page.one("#published + a")["href"]))
    assert (json.status, json.json["id"]) == (200, "a/b c%")
    assert "Its beginning" not in page.text


async def test_what_it_did_not_have_is_left_out(app: App) -> None:
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert {str(each["aria-label"]): each.get_text() for each in page.all("pre")} == {"Data": "{}"}


async def test_large_parts_are_shown_by_their_beginning_with_a_link_to_the_whole(app: App) -> None:
    large = b'{"text":"%s"}' % (b"<" * 200_000)
    await publish_events(app, new_event(id="e1", data=large, context=large, snapshot=large))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert page.text.count("Its beginning: all of it is there as JSON.") == 3
    assert page.all("pre")[0].get_text().startswith('{\n  "text": "<<<')
    assert len(page.html.encode()) < 60_000


async def test_the_facts_of_an_event_are_beside_it(app: App) -> None:
    ago = datetime.now(UTC) - timedelta(days=2)
    await publish_events(app, new_event(id="e1", occurred_at=ago))
    page = await pages.get(app, f"{EVENTS}/e1")
    (facts,) = page.words("aside dl")
    assert f"Happened {ago:%-d %b %Y, %H:%M:%S} UTC" in facts
    assert f"Recorded {(await app.events())[0]['recorded_at']:%-d %b %Y, %H:%M:%S} UTC" in facts
    assert facts.endswith("Read in tick 1")
    assert "Published as of" not in facts
    assert page.one("aside dd > a")["href"] == f"{EVENTS}?type=order.create"
    assert page.one("[data-copy]")["data-copy"] == "e1"
    assert page.one(".page-head a.button")["href"] == "/t/acme/deliveries?event=e1"


async def test_an_event_that_claims_the_future_shows_what_it_claimed(app: App) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=20)
    await publish_events(app, new_event(id="e1", occurred_at=ahead))
    (facts,) = (await pages.get(app, f"{EVENTS}/e1")).words("aside dl")
    assert f"Published as of {ahead:%-d %b %Y, %H:%M:%S} UTC" in facts


async def test_tests_and_imports_are_marked(app: App) -> None:
    route = await app.route()
    test = NewEvent(tenant="acme", id="test_1", type="a.b", data=b"{}")
    await sample_events.publish(app.database, UUID(route["id"]), [test])
    await publish_events(app, new_event(id="old", backfill=True))
    assert (await pages.get(app, f"{EVENTS}/test_1")).words(".page-head .tag") == ["Test"]
    assert (await pages.get(app, f"{EVENTS}/old")).words(".page-head .tag") == ["Backfill"]


# ---- the explanations ----


async def test_each_webhook_that_it_concerned_says_why_in_plain_words(app: App) -> None:
    gone = await app.route(name="Gone", event_types=["order.*"])
    await app.ask("DELETE", path(gone))
    await app.route(name="Filtered", payload={"filter": "data.n == `1`"})
    due = await app.route(name="Due", event_types=["order.create"])
    off = await app.route(name="Off")
    await app.ask("POST", path(off, "/disable"))
    changed = await app.route(name="Changed", event_types=["shop.open", "cart.*"])
    await app.route(name="Never wanted", event_types=["shop.*"])
    await publish_events(app, new_event(id="e1", data=b'{"n":2}'))
    await app.ask("PATCH", path(changed), {"event_types": ["order.create"]})
    await app.route(name="Later", event_types=["order.*"])
    await app.route("globex", name="Theirs")

    page = await pages.get(app, f"{EVENTS}/e1")
    assert [(name, verdict) for name, verdict, _ in verdicts(page)] == [
        ("Gone", "After its deletion"),
        ("Filtered", "Filtered out"),
        ("Due", "Pending"),
        ("Off", "Skipped: disabled"),
        ("Changed", "Not subscribed"),
        ("Later", "Before its creation"),
    ]
    sentences = {name: sentence for name, _, sentence in verdicts(page)}
    assert sentences["Due"] == "It will be sent once a daemon runs: no running process sends for this tenant now."
    assert re.search("while the webhook was disabled: it had been disabled at " + A_DATE, sentences["Off"])
    assert "the webhook subscribed to shop.open, cart.*, not to order.create." in sentences["Changed"]
    assert "the webhook's filter “data.n == `1`” did not let this event pass." in sentences["Filtered"]
    assert "route" not in page.text.lower()
    links = [str(each["href"]) for each in page.all(".verdicts p a")]
    assert links == [f"/t/acme/deliveries/{delivery_id(UUID(due['id']), 'e1', datetime.now(UTC))}?event=e1"]
    assert (await pages.get(app, links[0])).status == 200
    assert page.one(".verdicts li:first-child h3 a")["href"] == f"/t/acme/webhooks/{gone['id']}"
    assert "Listed are the webhooks that subscribe to its type, or did once." in page.text
    assert page.words("#where") == ["Where it went, and why"]


async def test_it_says_in_which_window_and_version_the_webhook_was(app: App) -> None:
    route = await app.route()
    await app.ask("PATCH", path(route), {"name": "Renamed"})
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert "ever since · version 2 of the webhook" in page.words(".verdicts li")[0]
    await app.ask("POST", path(route, "/disable"))
    page = await pages.get(app, f"{EVENTS}/e1")
    times = [str(each["datetime"]) for each in page.all(".verdicts time")]
    assert times == [str(row["effective_at"].isoformat()).replace("+00:00", "Z") for row in await app.log()][::2]
    assert "ever since" not in page.words(".verdicts li")[0]


async def test_a_test_event_lists_only_the_webhook_that_it_was_sent_to(app: App) -> None:
    route, other = await app.route(name="Tried"), await app.route(name="Other")
    test = NewEvent(tenant="acme", id="test_1", type="a.b", data=b"{}")
    await sample_events.publish(app.database, UUID(route["id"]), [test])
    await ticks.make(app.database)
    assert [name for name, _, _ in verdicts(await pages.get(app, f"{EVENTS}/test_1"))] == ["Tried"]
    page = await pages.get(app, f"{EVENTS}/test_1?route={other['id']}")
    assert verdicts(page) == [
        ("Other", "Not subscribed", "It was a test event, sent on purpose to another webhook only.")
    ]


async def test_explanations_are_those_of_the_api(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        compared = 0
        for event in sorted({expected.event_id for expected in log.deliveries}):
            explanations = {item["route"]: item for item in await explained(log.app, event)}
            page = await pages.get(log.app, f"{EVENTS}/{event}")
            items = page.all(".verdicts li")
            for each, (_, verdict, sentence) in zip(items, verdicts(page), strict=True):
                its = explanations[str(each.select_one("h3 a")["href"]).rpartition("/")[2]]  # type: ignore[index] # it has one
                assert (its["decision"], in_merchants_words(its["detail"])) == (
                    WORDS.get(verdict, verdict.lower()),
                    sentence,
                )
                link = each.select_one("p a")
                assert (its.get("delivery") or {}).get("id") == (
                    None if link is None else urlsplit(str(link["href"])).path.rpartition("/")[2]
                )
                compared += 1
        assert compared > 50


WORDS = {
    "Not subscribed": "not_subscribed",
    "Filtered out": "filtered",
    "Not read yet": "not_yet_read",
    "Before its creation": "before_creation",
}


async def test_what_failed_says_so_in_words_of_the_receivers_side(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("failed", status_code=None, error="timeout"))
    ((_, verdict, sentence),) = verdicts(await pages.get(app, f"{EVENTS}/e1"))
    assert verdict == "Failed"
    assert sentence == (
        "Failed for good at 23 Nov 2026, 08:00:00.042 UTC, after 1 attempt: the receiver did not answer within the time limit. "
        "It is not sent any more, unless somebody has it sent again."
    )


async def test_only_what_may_change_soon_offers_to_look_again(app: App) -> None:
    it = await recorded(app)
    page = await pages.get(app, f"{EVENTS}/e1")
    assert page.words(".page-head .button") == ["Refresh", "Its deliveries"]
    await it.record(it.row("delivered"))
    assert (await pages.get(app, f"{EVENTS}/e1")).words(".page-head .button") == ["Its deliveries"]


async def test_an_event_that_is_not_read_yet_says_so(app: App) -> None:
    await app.route()
    await domain_events.publish(app.database, [new_event(id="e1")])
    page = await pages.get(app, f"{EVENTS}/e1")
    assert [verdict for _, verdict, _ in verdicts(page)] == ["Not read yet"]
    assert page.words("aside dl")[0].endswith("Read not yet")
    assert "Refresh" in page.words(".page-head .button")


async def test_an_event_that_concerned_no_webhook_says_so(app: App) -> None:
    await app.route(event_types=["shop.*"])
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert page.words(".empty") == ["It went nowhere No webhook subscribes, or ever subscribed, to order.create."]


async def test_a_process_that_has_not_heard_of_a_webhook_asks_the_log(empty_url: str) -> None:
    async with app(empty_url) as behind:
        async with app(empty_url) as ahead:
            await ahead.route(name="New")
            await publish_events(ahead, new_event(id="e1"))
        page = await pages.get(behind, f"{EVENTS}/e1")
        assert [name for name, _, _ in verdicts(page)] == ["New"]


# ---- one webhook ----


async def test_a_webhook_that_it_did_not_concern_can_be_asked_about(app: App) -> None:
    await app.route(name="Orders")
    route = await app.route(name="Shop", event_types=["shop.*"])
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert [name for name, _, _ in verdicts(page)] == ["Orders"]
    assert page.one("main form.search")["action"] == f"{EVENTS}/e1"
    for text in (route["id"], "shop", "HO"):
        page = await pages.get(app, f"{EVENTS}/e1?route={text}")
        assert page.status == 200
        ((name, verdict, sentence),) = verdicts(page)
        assert (name, verdict) == ("Shop", "Not subscribed")
        assert sentence == in_merchants_words((await explained(app, "e1", route["id"]))[0]["detail"])
        assert page.form_data("main form.search") == {"route": [route["id"]]}
        assert page.words("#where") == ["What it was to Shop"]
        assert page.one("#where + a")["href"] == f"{EVENTS}/e1"


async def test_if_several_webhooks_match_the_page_asks_to_choose(app: App) -> None:
    made = [await app.route(name=f"Orders {each}") for each in "ab"]
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1?route=order&after=1")
    assert page.status == 200
    assert page.words("#route-wrong p") == ["It may be one of these:"]
    assert page.one("#route")["aria-describedby"] == "route-wrong"
    assert [query_of(each["href"]) for each in page.all(".matches a")] == [{"route": each["id"]} for each in made]


async def test_neither_a_foreign_webhook_nor_an_unknown_one_is_explained(app: App) -> None:
    await app.route(name="Ours")
    foreign = await app.route("globex", name="Theirs")
    await publish_events(app, new_event(id="e1"))
    for text in (foreign["id"], "Theirs", str(uuid4()), "<script>"):
        page = await pages.get(app, f"{EVENTS}/e1?route={quote(text)}")
        assert page.status == 422
        assert page.words("#route-wrong") == [f"“{text}” is neither the name nor the id of a webhook."]
        assert page.one("#route").has_attr("aria-invalid")
        assert page.form_data("main form.search") == {"route": [text]}
        assert [name for name, _, _ in verdicts(page)] == ["Ours"]
        assert len(page.all("script")) == 1


async def test_with_many_webhooks_one_types_a_name(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_lookup, "MAX_CHOICES", 1)
    for name in ("Orders", "Shop"):
        await app.route(name=name)
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1?route=shop")
    assert page.one("#route").name == "input"
    assert page.form_data("main form.search") == {"route": ["Shop"]}


async def test_without_webhooks_there_is_none_to_ask_about(app: App) -> None:
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert (page.status, page.all("main form")) == (200, [])


async def test_many_webhooks_are_explained_page_by_page(app: App) -> None:
    for number in range(27):
        await app.route(name=f"webhook {number:02}")
    await publish_events(app, new_event(id="after=1"))
    first = await pages.get(app, f"{EVENTS}/after%3D1")
    assert first.words(".pager a") == ["Next page"]
    second = await pages.get(app, str(first.one("a[rel=next]")["href"]))
    names = [name for page in (first, second) for name, _, _ in verdicts(page)]
    assert names == [f"webhook {number:02}" for number in range(27)]
    assert len(verdicts(first)) == screen.PAGE_SIZE == 25
    assert second.words(".pager a") == ["Previous page"]
    assert second.one(".pager a")["href"] == f"{EVENTS}/after=1"
    assert len(first.html) < 100_000


async def test_exactly_a_page_of_webhooks_has_no_next_one(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "PAGE_SIZE", 2)
    for number in range(2):
        await app.route(name=f"webhook {number}")
    await publish_events(app, new_event(id="e1"))
    page = await pages.get(app, f"{EVENTS}/e1")
    assert (len(verdicts(page)), page.all(".pager")) == (2, [])
    behind = await pages.get(app, f"{EVENTS}/e1?after=2")
    assert behind.words(".empty h2") == ["No further webhooks"]
    assert behind.one(".empty a")["href"] == f"{EVENTS}/e1"
    for after in ("x", "-1", "²", "9" * 19):
        assert len(verdicts(await pages.get(app, f"{EVENTS}/e1?after={after}"))) == 2


# ---- unknown events ----


@pytest.mark.parametrize("event", ["theirs", "%00", "x" * 500, "E1", "e1%0A"])
async def test_unknown_and_foreign_events_are_not_there(app: App, event: str) -> None:
    await app.route()
    await publish_events(app, new_event(id="e1"), new_event(tenant="globex", id="theirs", data=b'{"a":"secret"}'))
    page = await pages.get(app, f"{EVENTS}/{event}")
    assert (page.status, page.words("h1")) == (404, ["There is nothing here"])
    assert re.search(r"There is no (such event|event '.*')\.", page.text)
    assert "never published" not in page.text
    assert "secret" not in page.html


async def test_another_account_is_not_there(app: App) -> None:
    await publish_events(app, new_event(id="e1"))
    theirs = pages.BROWSER | bearer(await token(app.database, "tenant:globex"))
    assert (await pages.get(app, f"{EVENTS}/e1", headers=theirs)).status == 404
    assert (await pages.get(app, "/t/globex/events/e1", headers=theirs)).status == 404


async def test_an_id_that_was_used_twice_shows_the_newer_event(app: App) -> None:
    await publish_events(app, new_event(id="e1", type="order.create"))
    await age_events(app, datetime.now(UTC) - timedelta(days=2))
    await publish_events(app, new_event(id="e1", type="order.pay"))
    assert (await pages.get(app, f"{EVENTS}/e1")).words("h1") == ["order.pay"]


async def test_everything_in_it_is_escaped(app: App) -> None:
    await app.route(name=HOSTILE)
    script = b'{"<script>":"</code></pre><script>alert(1)</script>{{ 7*7 }}"}'
    await publish_events(app, new_event(id=HOSTILE, data=script, context=script, snapshot=script))
    page = await pages.get(app, f"{EVENTS}/{quote(HOSTILE, safe='')}")
    assert page.status == 200
    assert len(page.all("script")) == 1
    assert "</script>49" not in page.text
    assert page.words(".verdicts h3") == [HOSTILE]
    assert [each.get_text().count("</pre><script>") for each in page.all("pre")] == [1, 1, 1]
