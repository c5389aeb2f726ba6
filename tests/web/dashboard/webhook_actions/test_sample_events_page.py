"""The page of sample events: the types to choose from, sending them, and the progress of their deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from tests.support.web.application import App, path
from tests.support.web.pages import PART, Page, get, post
from tests.support.web.tokens import bearer, token

EXAMPLE = '{"data":{"a":1},"context":{},"snapshot":{}}'


async def add_types(app: App, *names: str) -> None:
    await catalogue.replace(app.database, [TypeRow(name=name, description="", example=EXAMPLE) for name in names])


def page_path(route: dict[str, Any], query: str = "") -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}/test{query}"


def checked(page: Page) -> list[str]:
    return [str(box["value"]) for box in page.all("input[name=event_types][checked]")]


async def record_answers(app: App, route: dict[str, Any], outcome: str, status: int) -> None:
    """Records an answer to each test event."""
    for event in await app.events():
        await app.rows(
            """
            INSERT INTO hookledger.attempt (seq, tick, route_id, event_time, started_at, shard, number, duration_ms,
                   route_version, outcome, status_code, error, is_test, tenant, event_id, event_type)
            VALUES ($1, 1, $2, $3, $3, $4, 1, 142, 1, $5, $6, $7, true, 'acme', $8, $9)
            """,
            event["seq"],
            UUID(route["id"]),
            event["recorded_at"],
            event["shard"],
            outcome,
            status,
            None if outcome == "delivered" else f"http_{status}",
            event["id"],
            event["type"],
        )


async def test_the_catalogued_types_that_the_webhook_gets_are_offered_and_one_is_chosen(app: App) -> None:
    await add_types(app, "cart.create", "order.cancel", "order.create")
    page = await get(app, page_path(await app.route(event_types=["order.*", "unknown.type"])))
    assert page.status == 200
    assert [box["value"] for box in page.all("input[name=event_types]")] == ["order.cancel", "order.create"]
    assert checked(page) == ["order.cancel"]


async def test_another_page_may_say_what_is_to_be_chosen(app: App) -> None:
    await add_types(app, "a.b", "a.c")
    page = await get(app, page_path(await app.route(), "?type=a.c&type=no.such"))
    assert checked(page) == ["a.c"]


async def test_what_is_chosen_is_sent_and_the_page_leads_to_its_deliveries(app: App) -> None:
    await add_types(app, "a.b", "a.c", "a.d")
    route = await app.route()
    sent = await post(app, page_path(route), {"event_types": ["a.d", "a.b"]})
    stored = await app.events()
    assert [(event["type"], str(event["test_route"])) for event in stored] == [
        ("a.d", route["id"]),
        ("a.b", route["id"]),
    ]
    assert sent.status == 303
    assert urlsplit(sent.location).path == page_path(route)
    page = await get(app, sent.location)
    links = [str(link["href"]) for link in page.all("#arrivals tbody th a")]
    assert links == [
        f"/t/acme/deliveries/{delivery_id(UUID(route['id']), event['id'], event['recorded_at'])}?event={event['id']}"
        for event in stored
    ]
    assert checked(page) == ["a.b", "a.d"]
    assert app.hurried == [None]
    sent_at = datetime.fromisoformat(str(page.one("#arrivals-title time[data-ago]")["datetime"]))
    assert sent_at == stored[0]["recorded_at"], "page.js lets it age: the address may be opened again much later"


async def test_one_of_each_is_one_press_if_they_are_few(app: App) -> None:
    await add_types(app, "a.b", "a.c")
    route = await app.route()
    assert "Send one of each (2)" in (await get(app, page_path(route))).text
    await post(app, page_path(route), {"all": "1"})
    assert [event["type"] for event in await app.events()] == ["a.b", "a.c"]


async def test_fifty_at_once_fit_into_the_address(app: App) -> None:
    names = [f"a.n{n:03}" for n in range(60)]
    await add_types(app, *names)
    route = await app.route()
    sent = await post(app, page_path(route), {"event_types": names[:50]})
    assert sent.status == 303
    assert len(sent.location) < 2000
    assert len((await get(app, sent.location)).all("#arrivals tbody tr")) == 50


async def test_the_part_is_polled_until_each_was_tried(app: App) -> None:
    await add_types(app, "a.b", "a.c")
    route = await app.route()
    where = (await post(app, page_path(route), {"all": "1"})).location
    before = await get(app, where, headers=PART)
    assert "<html" not in before.html
    assert before.words("[data-summary]") == ["0 of 2 tried so far …"]
    assert before.all("[data-settled]") == []
    assert str((await get(app, where)).one("[data-poll]")["data-poll"]) == where
    await record_answers(app, route, "delivered", 200)
    after = await get(app, where, headers=PART)
    assert after.words("[data-settled]") == ["All 2 arrived: your receiver answered with success."]
    assert all("200" in row and "142 ms" in row for row in after.words("tbody tr"))


async def test_an_answer_that_is_no_success_settles_it_too_and_says_where_to_look(app: App) -> None:
    await add_types(app, "a.b")
    route = await app.route()
    where = (await post(app, page_path(route), {"all": "1"})).location
    await record_answers(app, route, "retrying", 500)
    page = await get(app, where, headers=PART)
    assert page.words("[data-settled]") == ["It did not arrive. Open it to see what was sent, and what came back."]


async def test_only_tests_of_this_webhook_are_shown(app: App) -> None:
    await add_types(app, "a.b")
    route, other, foreign = await app.route(), await app.route(), await app.route("globex")
    for each in (other, foreign):
        await post(app, page_path(each), {"all": "1"})
    ids = [event["id"].removeprefix("test_") for event in await app.events()]
    for sent in (",".join(ids), "f" * 32, "x", "%00", "'", "," * 5000):
        page = await get(app, page_path(route, f"?sent={sent}"))
        assert page.status == 200
        assert page.all("#arrivals") == []


async def test_without_a_choice_nothing_is_sent_and_it_says_what_to_do(app: App) -> None:
    await add_types(app, "a.b")
    page = await post(app, page_path(await app.route()), {})
    assert page.status == 422
    assert "Choose at least one event type" in page.text
    assert page.one("fieldset#event_types")["aria-invalid"] == "true"
    assert await app.events() == []


async def test_what_is_wrong_is_named_and_the_choice_is_kept(app: App) -> None:
    names = [f"a.n{n:03}" for n in range(400)]
    await add_types(app, *names)
    route = await app.route()
    page = await post(app, page_path(route), {"event_types": [names[399], "a.n3990"]})
    assert page.status == 422
    assert page.words(".notice-bad li") == ["a.n3990 is not in the catalogue of event types: did you mean a.n399?"]
    assert checked(page) == [names[399]]
    page = await post(app, page_path(route), {"event_types": names[:51]})
    assert "Has 51 entries, 50 are allowed at once" in page.text
    assert checked(page) == names[:51]


async def test_too_many_tests_are_put_off_on_the_page_with_the_choice_kept(app: App) -> None:
    await add_types(app, "a.b", "a.c")
    route = await app.route()
    for _ in range(20):
        assert (await post(app, page_path(route), {"event_types": ["a.c"]})).status == 303
    page = await post(app, page_path(route), {"event_types": ["a.c"]})
    assert page.status == 429
    assert f"Try again in {page.headers['Retry-After']} s" in page.text
    assert checked(page) == ["a.c"]
    assert len(await app.events()) == 20


async def test_a_disabled_webhook_says_so_and_offers_to_enable_it(app: App) -> None:
    await add_types(app, "a.b")
    route = await app.route(enabled=False)
    for page in (await get(app, page_path(route)), await post(app, page_path(route), {"event_types": ["a.b"]})):
        assert "The webhook is disabled" in page.text
        assert page.all("input[name=event_types]") == []
        assert (
            page.one(f"form[action='/t/acme/webhooks/{route['id']}/enable'] button").get_text() == "Enable the webhook"
        )
    assert await app.events() == []


async def test_without_examples_the_next_step_is_named(app: App) -> None:
    await add_types(app, "cart.create")
    page = await get(app, page_path(await app.route(event_types=["order.*"])))
    assert "There is no example to send" in page.text
    assert page.one(".empty a")["href"] == "/operator/event-types"


async def test_some_of_a_thousand_types_are_shown_and_the_others_found_by_search(app: App) -> None:
    names = [f"group_{n % 20:02}.something_that_happened_{n:04}" for n in range(1000)]
    await add_types(app, *names)
    route = await app.route()
    page = await get(app, page_path(route))
    assert len(page.html) < 100_000
    assert len(page.all("input[name=event_types]")) == 300
    assert "300 of 1,000 are shown" in page.text
    assert page.all("input[data-search]") == [], "scripts would search what is shown, and say that there is no other"
    found = await get(app, page_path(route, "?q=happened_0999"))
    assert "group_19.something_that_happened_0999" in found.words("#types label")
    none = await get(app, page_path(route, "?q=<script>"))
    assert "contains “<script>”" in none.text
    assert none.all("main script") == []


async def test_a_search_keeps_what_is_ticked(app: App) -> None:
    names = [f"happened_{n:04}" for n in range(400)]
    await add_types(app, *names)
    route = await app.route(event_types=["*"])
    page = await get(app, page_path(route))
    (form,) = page.all("main form[method=post]")
    button = form.find_all("button")[0]  # the one that Enter presses
    assert (button.get_text(), button["formmethod"]) == ("Search", "get")
    assert page.one("#q").find_parent("form") is form
    query = "?" + urlencode([("q", "_0399"), ("event_types", names[7]), ("event_types", names[350])])
    found = await get(app, page_path(route, query))
    assert found.words("#types label") == [names[7], names[350], names[399]]
    assert [each["value"] for each in found.all("#types input[checked]")] == [names[7], names[350]]
    assert "happened_0350" in str(found.one(".search a")["href"])
    assert (await get(app, page_path(route, "?q=_0399"))).all("#types input[checked]") == []


async def test_scripts_search_among_types_that_are_all_shown(app: App) -> None:
    await add_types(app, *(f"order.happened_{n:02}" for n in range(13)))
    route = await app.route()
    assert (await get(app, page_path(route))).one("#q")["data-search"] == "#types"
    assert "data-search" not in (await get(app, page_path(route, "?q=_01"))).one("#q").attrs


async def test_who_may_only_read_gets_no_form(app: App) -> None:
    await add_types(app, "a.b")
    route = await app.route()
    headers = bearer(await token(app.database, "auditor:acme")) | {"Accept": "text/html"}
    assert (await get(app, page_path(route), headers=headers)).status == 403
    assert (await post(app, page_path(route), {"event_types": ["a.b"]}, headers=headers)).status == 403


async def test_foreign_unknown_and_deleted_webhooks_are_not_found(app: App) -> None:
    await add_types(app, "a.b")
    route, deleted = await app.route(), await app.route()
    await app.ask("DELETE", path(deleted))
    for other in (route | {"tenant": "globex"}, route | {"id": str(UUID(int=7))}, deleted):
        assert (await get(app, page_path(other))).status == 404
        assert (await post(app, page_path(other), {"event_types": ["a.b"]})).status == 404
    assert await app.events() == []


async def test_hostile_names_are_only_text(app: App) -> None:
    await add_types(app, "a.b")
    route = await app.route(name="<img src=x onerror=alert(1)>")
    page = await get(app, page_path(route))
    assert page.all("main img") == []
    assert "<img src=x onerror=alert(1)>" in page.text
